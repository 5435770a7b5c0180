"""docs/troubleshooting.md: every message it shows is one that the program prints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from amdm_framework.cli import main
from amdm_framework.testing.tiny_models import write_diffusers_folder
from code_blocks import ROOT
from fake_distributions import provider_module, write_distribution

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SHOWN = dict(re.findall(r"^<!-- message: (\w+) -->\n```text\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE))

COMPOSITION = """
providers:
  - {use: interactdiffusion, checkpoint: "zoo://interactdiffusion"}
  - {use: migc, checkpoint: "zoo://migc", base: "zoo://base", condition: {negative: ""}}
aggregation: {strategy: amdm}
sampler: {steps: 4}
"""
ONE = """
providers:
  - {use: stable_diffusion, checkpoint: mine}
sampler: {steps: 2}
"""
SCENE = """caption: a red circle
instances:
  circle: {phrase: red circle, box: [0.1, 0.1, 0.5, 0.5]}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and one with another autoencoder."""
    folder = tmp_path_factory.mktemp("models")
    write_diffusers_folder(folder / "mine")
    write_diffusers_folder(folder / "foreign", vae_seed=5)
    return folder


@pytest.fixture
def home(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with compositions, a scene and models."""
    for name in ("mine", "foreign"):
        (tmp_path / name).symlink_to(models / name)
    for name, content in (("composition", COMPOSITION), ("one", ONE), ("scene", SCENE)):
        (tmp_path / f"{name}.yaml").write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def amdm(*arguments: str, code: int = 2) -> str:
    """What a command prints for people."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.stderr


def command(name: str, *overrides: str, composition: str = "composition.yaml", code: int = 2) -> str:
    """What `amdm check` or `amdm run` prints of a composition with some values replaced."""
    sets = [part for override in overrides for part in ("--set", override)]
    seed = ["--seed", "1"] if name == "run" else []
    return amdm(name, composition, "--scene", "scene.yaml", *seed, *sets, code=code)


def check_scene(text: str) -> str:
    """What `amdm check` prints of a scene."""
    Path("scene.yaml").write_text(text)
    return command("check")


def with_pickle() -> str:
    torch.save({"state_dict": {"x": torch.zeros(1)}, "evil": Path("x")}, "evil.ckpt")
    return command("check", "providers.0.checkpoint=evil.ckpt", composition="one.yaml")


def with_torn_file() -> str:
    save_file({"x": torch.zeros(1000)}, "whole.safetensors")
    Path("torn.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:-100])
    return command("check", "providers.0.checkpoint=torn.safetensors", composition="one.yaml")


def changed_unet(name: str, change: Callable[[torch.Tensor], torch.Tensor], code: int) -> str:
    """What `amdm run` prints of a model with one changed weight."""
    write_diffusers_folder(Path("other"))
    file = Path("other/unet/diffusion_pytorch_model.safetensors")
    tensors = load_file(file)
    tensors[name] = change(tensors[name]).contiguous()
    save_file(tensors, file)
    return command("run", "providers.0.checkpoint=other", composition="one.yaml", code=code)


def with_plugins(**sources: str) -> str:
    """What `amdm check` prints where these distributions are installed."""
    Path("plugins").mkdir()
    for name, source in sources.items():
        write_distribution(Path("plugins"), f"{name}-plugin", source)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path("plugins").absolute()))
        return command("check", "providers.0={use: toy}")


def batch(*arguments: str, code: int) -> str:
    lines = [{"caption": "x"}, {"caption": 5}]
    Path("scenes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return amdm("batch", "one.yaml", "--scenes", "scenes.jsonl", "--output", "many", *arguments, code=code)


def begun_batch(*arguments: str) -> str:
    Path("many").mkdir()
    batch(code=1)
    return batch(*arguments, code=2)


def rerun_of_a_photo() -> str:
    Image.new("RGB", (8, 8)).save("photo.png")
    return amdm("rerun", "photo.png")


def rerun_without_weights() -> str:
    """What `amdm rerun` prints of a picture whose weights are in a folder of their own; `--models` finds them."""
    Path("models").mkdir()
    Path("mine").rename("models/mine")
    command("run", "providers.0.checkpoint=models/mine", composition="one.yaml", code=0)
    printed = amdm("rerun", "scene-1.png")
    amdm("rerun", "scene-1.png", "--models", "models", "--output", "again", code=0)
    return printed


ONE_BOX = "caption: x\ninstances: {{circle: {{phrase: red circle, box: {}}}}}\n"
MEMBER = "{{use: stable_diffusion, checkpoint: {0}, name: {0}}}"
TWO = f"providers=[{MEMBER.format('mine')}, {MEMBER.format('foreign')}]"

PROVOKED: dict[str, Callable[[], str]] = {
    "no_such_file": lambda: command("check", composition="compositoin.yaml"),
    "not_valid_yaml": lambda: check_scene("caption: [a, b\n"),
    "unknown_key": lambda: command("check", "sampler.step=10"),
    "list_of_the_wrong_length": lambda: command("check", "aggregation.weights=[0.5, 0.5]"),
    "window_too_long": lambda: command("check", "aggregation.steps=10"),
    "not_a_multiple": lambda: command("check", "sampler.height=60"),
    "pixels": lambda: check_scene(ONE_BOX.format([10, 10, 300, 300])),
    "reversed_box": lambda: check_scene(ONE_BOX.format([0.5, 0.5, 0.1, 0.1])),
    "no_such_instance": lambda: check_scene(
        SCENE + "interactions: [{subject: circel, action: ring, object: circle}]\n"
    ),
    "no_such_picture": lambda: check_scene(SCENE + "references: [{role: style, image: oil.png}]\n"),
    "scene_without_instances": lambda: check_scene("caption: x\n"),
    "no_such_provider": lambda: command("check", "providers.0.use=interactdifusion"),
    "no_such_strategy": lambda: command("check", "aggregation.strategy=composible"),
    "no_such_checkpoint": lambda: command("check", "providers.0.checkpoint=models/layout"),
    "not_fetched": lambda: command("run", "providers.0.checkpoint=hf://somebody/layout", composition="one.yaml"),
    "no_such_variant": lambda: command("check", "providers.0.variant=fp16", composition="one.yaml"),
    "torn_file": with_torn_file,
    "pickle_with_code": with_pickle,
    "another_architecture": lambda: changed_unet("conv_in.weight", lambda weight: weight[:, :3], code=2),
    "cannot_be_aggregated": lambda: command("check", TWO, composition="one.yaml"),
    "clash": lambda: with_plugins(first=provider_module("toy"), second=provider_module("toy")),
    "broken_plugin": lambda: with_plugins(broken="import missing_library\n"),
    "no_such_device": lambda: amdm("check", "composition.yaml", "--scene", "scene.yaml", "--device", "cuda:1"),
    "options_that_exclude_each_other": lambda: command("check", "compile=true", "offload=model"),
    "overshoot": lambda: command(
        "run",
        "sampler.steps=10",
        "aggregation={strategy: amdm, step_size_unit: rms, step_sizes: [0.35, 0.43], steps: 3}",
        code=0,
    ),
    "not_finite": lambda: changed_unet("conv_out.bias", lambda bias: bias * float("nan"), code=0),
    "noise_without_effect": lambda: command(
        "check", "sampler.initial_noise=independent", "aggregation={strategy: composable}"
    ),
    "batch_there_already": lambda: begun_batch(),
    "another_composition": lambda: begun_batch("--resume", "--set", "sampler.steps=3"),
    "failed_scene": lambda: batch(code=1),
    "weights_not_found": rerun_without_weights,
    "no_settings": rerun_of_a_photo,
}


def test_every_message_of_the_page_is_provoked_here() -> None:
    assert SHOWN.keys() == PROVOKED.keys()
    assert PAGE.count("```text") == len(SHOWN)


@pytest.mark.parametrize("name", PROVOKED)
def test_a_message_is_shown_as_it_is_printed(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "no_such_device":
        # The page shows a machine without a GPU.
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    printed = PROVOKED[name]()
    parts = [re.escape(part) for part in SHOWN[name].split("…")]
    assert re.search("(?m:^)" + ".*".join(parts) + "(?m:$)", printed), printed
