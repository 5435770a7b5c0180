"""The compositions of `examples/paper`: the paper's numbers, checked without any weights, run with tiny ones."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result

Amdm = Callable[..., Result]

EXAMPLES = Path(__file__).parents[2] / "examples" / "paper"
REVISION = "0" * 40

SCENES = {
    "interactdiffusion_migc": "coco_mig_style",
    "interactdiffusion_ip_adapter": "feeding",
    "interactdiffusion_migc_ip_adapter": "drinking",
}
# Steps, weights, step sizes (target first): section 4 of the paper, and what the published programs pass.
PRINTED: dict[str, tuple[int, list[float], list[int]]] = {
    "interactdiffusion_migc": (50, [0.5], [45, 55]),
    "interactdiffusion_ip_adapter": (10, [0.45], [45, 55]),
    "interactdiffusion_migc_ip_adapter": (10, [0.47, 0.5], [45, 40, 35]),
}
AS_PUBLISHED: dict[str, tuple[int, list[float], list[int]]] = PRINTED | {
    "interactdiffusion_ip_adapter": (10, [0.45], [55, 45]),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty cache of the Hub on a machine with HF_HUB_OFFLINE=1 and nothing to connect to."""

    def refuse(self: socket.socket, address: Any) -> None:
        pytest.fail(f"tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def compositions() -> list[Path]:
    return [EXAMPLES / f"{name}{variant}.yaml" for name in PRINTED for variant in ("", "_authors")]


def experiment(composition: Path) -> str:
    return composition.stem.removesuffix("_authors")


def scene(composition: Path) -> Path:
    return EXAMPLES / f"{SCENES[experiment(composition)]}.yaml"


def references(composition: Path) -> set[str]:
    return set(re.findall(r"hf://[^\s#]+", composition.read_text()))


def test_every_file_is_tested() -> None:
    files = {path.stem for path in EXAMPLES.glob("*.yaml")}
    assert files == {path.stem for path in compositions()} | set(SCENES.values())


@pytest.mark.parametrize("composition", compositions(), ids=lambda path: path.stem)
def test_the_numbers_are_the_papers_or_the_published_codes(composition: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(composition.read_text())
    as_published = composition.stem.endswith("_authors")
    steps, weights, step_sizes = (AS_PUBLISHED if as_published else PRINTED)[experiment(composition)]
    members, aggregation, sampler = content["providers"], content["aggregation"], content["sampler"]
    assert "_".join(member["use"] for member in members) == experiment(composition)
    assert [member["step_size"] for member in members] == step_sizes
    assert all(member["scale"] == 0.8 for member in members if member["use"] == "ip_adapter")
    window = {"strategy": "amdm_authors", "window": [1, 4]} if as_published else {"strategy": "amdm", "steps": 3}
    assert {key: aggregation[key] for key in window} == window
    assert aggregation["weights"] == weights
    assert aggregation.get("coefficients", "paper") == "paper"
    noise = "independent" if as_published else "shared"
    size = {"height": 512, "width": 512}
    assert sampler == {"steps": steps, "eta": 0, "guidance_scale": 7.5, "initial_noise": noise} | size


@pytest.mark.parametrize("composition", compositions(), ids=lambda path: path.stem)
def test_check_accepts_them_without_any_weights_and_says_what_it_would_download(
    hub: Path, amdm: Amdm, composition: Path
) -> None:
    command = ["check", composition, "--scene", scene(composition)]
    cost = json.loads(amdm(*command, "--json").stdout)
    assert cost["compatible"]
    assert {one for member in cost["members"] for one in member["downloads"]} == references(composition)
    # The paper's T + (N - 1) s; the published code's window ends one step later.
    steps, _, step_sizes = PRINTED[experiment(composition)]
    window = 4 if composition.stem.endswith("_authors") else 3
    assert cost["evaluations"] == steps + (len(step_sizes) - 1) * window
    assert (cost["height"], cost["width"]) == (512, 512)
    _, downloads = amdm(*command).stdout.split("would be downloaded first\n")
    assert set(downloads.split()) == references(composition)


@pytest.mark.parametrize("variant", ["", "_authors"])
def test_three_models_run_with_tiny_weights_in_the_hubs_cache(
    hub: Path, amdm: Amdm, models: Path, tmp_path: Path, variant: str
) -> None:
    contents = {
        "CompVis/stable-diffusion-v1-4": {"": models / "sd"},
        "stable-diffusion-v1-5/stable-diffusion-v1-5": {"": models / "sd"},
        "interactdiffusion/diffusers-v1-2": {"": models / "interactdiffusion"},
        "jiuntian/interactiondiffusion-weight": {"interact-diffusion-v1.pth": models / "interact-diffusion-v1.pth"},
        "thisiswooyeol/MIGC-diffusers": {
            "migc_adapter_weights.safetensors": models / "migc_adapter_weights.safetensors"
        },
        "h94/IP-Adapter": {
            "models/ip-adapter_sd15.safetensors": models / "ip-adapter_sd15.safetensors",
            "models/image_encoder": models / "image_encoder",
        },
    }
    for repository, files in contents.items():
        write_cached_repository(hub, repository, files)
    composition = EXAMPLES / f"interactdiffusion_migc_ip_adapter{variant}.yaml"
    cost = json.loads(amdm("check", composition, "--json").stdout)
    assert all(member["downloads"] == [] for member in cost["members"])
    assert cost["unique_bytes"] < 0.7 * cost["bytes"]
    small = ["--set", "sampler.height=64", "--set", "sampler.width=64"]
    where = ["--scene", scene(composition), "--output", tmp_path, "--seed", 1, "--device", "cpu"]
    report = json.loads(amdm("run", composition, *where, *small, "--json", "--no-progress").stdout)
    assert Path(report["pictures"][0]["file"]).is_file()
    window = 4 if variant else 3
    assert report["evaluations"] == {"interactdiffusion": 10, "migc": window, "ip_adapter": window}


def write_cached_repository(hub: Path, repository: str, files: dict[str, Path]) -> None:
    """Lay out files or folders as if they had been downloaded from a repository of the Hub."""
    root = hub / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / REVISION
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(REVISION)
    for name, source in files.items():
        target = snapshot / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
