"""What bad input gets: exit code 2 and a sentence that helps, never a traceback, never half a file."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file

from amdm_framework.errors import CheckpointError
from amdm_framework.testing.tiny_models import TINY_UNET, write_diffusers_folder

Amdm = Callable[..., Result]


def refused(amdm: Amdm, *arguments: str, composition: str = "composition.yaml", scene: str = "scene.yaml") -> str:
    """Return what `amdm run` says about input that it refuses; nothing may have been written."""
    result = amdm("run", composition, "--scene", scene, "--seed", "1", *arguments, code=2)
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert not list(Path().rglob("*.png")) and not list(Path().rglob("*.part"))
    return result.stderr


def test_missing_files_are_all_named(home: Path, amdm: Amdm) -> None:
    message = refused(amdm, composition="compositoin.yaml", scene="scenes.yaml")
    assert "compositoin.yaml: no such file. Did you mean 'composition.yaml'?" in message
    assert "scenes.yaml: no such file. Did you mean 'scene.yaml'?" in message


def test_a_syntax_error_names_file_and_line(home: Path, amdm: Amdm) -> None:
    Path("scene.yaml").write_text("caption: x\ninstances: [1,\n")
    assert "scene.yaml: line 3: not valid YAML" in refused(amdm)


def test_mistakes_of_both_files_come_in_one_message(home: Path, amdm: Amdm) -> None:
    Path("scene.yaml").write_text("caption: x\ninstances: {a: {phrase: y, box: [0, 0, 64, 64]}}\n")
    message = refused(
        amdm, "--set", "providers.0.use=stable_difusion", "--set", "providers.1.name=base", "--set", "providers.0.name=base",
        "--set", "aggregation.strategy=amdm", "--set", "aggregation.weights=[1.5]", "--set", "sampler.steps=2",
    )  # fmt: skip
    assert (
        "composition.yaml: providers.0.use: there is no provider 'stable_difusion'. Did you mean 'stable_diffusion'?"
        in message
    )
    assert "composition.yaml: providers.1.name: two providers are named 'base'" in message
    assert "composition.yaml: aggregation.weights.0: input should be less than or equal to 1, found 1.5" in message
    assert "scene.yaml: instances.a.box" in message and "look like pixels" in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("aggregation={strategy: amdm, weights: [0.1, 0.2]}", "aggregation.weights: found 2 values"),
        ("aggregation={strategy: amdm, step_sizes: [1]}", "aggregation.step_sizes: found 1 values"),
        ("aggregation={strategy: amdm, step_sizes: [1, -2]}", "aggregation.step_sizes.1: "),
        (
            "aggregation={strategy: amdm, step_sizes: [1, .nan]}",
            "aggregation.step_sizes.1: input should be a finite number",
        ),
        ("aggregation.steps=4", "aggregation.steps: the window ends at step 4, but the run has 3"),
        ("sampler.steps=1001", "sampler.steps is 1001, expected 1 to 1000"),
        ("sampler.height=60", "sampler.height: found 60, expected a multiple of 8"),
        (
            "providers.0.checkpoint=models/bsae",
            "providers.0: models/bsae: no such file or folder. Did you mean 'base'?",
        ),
        ("providers.0.checkpoint=zo://base", "unknown kind of reference 'zo://'"),
        ("release=maybe", "release: expected true or false, found 'maybe'"),
        ("sampler.steps=abc", "sampler.steps: expected a whole number, found 'abc'"),
        ("sampler.steps=2.5", "sampler.steps: expected a whole number, found 2.5"),
        ("sampler.eta=abc", "sampler.eta: expected a number, found 'abc'"),
        ("providers=[]", "providers: expected at least one, found none"),
        ("sampler.steps=[5,6", "error: --set: sampler.steps: not valid YAML: a bracket is not closed\n"),
    ],
)
def test_values_that_do_not_fit(home: Path, amdm: Amdm, override: str, expected: str) -> None:
    assert expected in refused(amdm, "--set", override)


@pytest.mark.parametrize(
    ("box", "hint"),
    [("[10, 20, 300, 400]", "look like pixels"), ("[0.5, 0.2, 0.1, 0.9]", "did you mean [0.1, 0.2, 0.5, 0.9]?"),
     ("[-0.5, 0.2, 0.1, 0.9]", "lies outside [0, 1]")],
)  # fmt: skip
def test_boxes_get_a_hint(home: Path, amdm: Amdm, box: str, hint: str) -> None:
    Path("scene.yaml").write_text(f"caption: x\ninstances: {{a: {{phrase: y, box: {box}}}}}\n")
    assert hint in refused(amdm)


def test_a_seed_that_is_none(home: Path, amdm: Amdm) -> None:
    assert "given twice" in refused(amdm, "--seed", "1")
    for seed in ("x", "-1", "1.5", str(2**64)):
        message = " ".join(refused(amdm, f"--seed={seed}").split())
        assert f"expected a whole number from 0 to 18446744073709551615, found '{seed}'" in message


def test_composition_and_scene_swapped(home: Path, amdm: Amdm) -> None:
    message = refused(amdm, "--set", "sampler.steps=2", composition="scene.yaml", scene="composition.yaml")
    assert message.splitlines() == [
        "error: scene.yaml: this is a scene, not a composition (it has caption, negative): are two files swapped?",
        "composition.yaml: this is a composition, not a scene (it has providers): are two files swapped?",
    ]
    for command in (
        ("check",),
        ("sweep", "--set", "sampler.steps=1,2"),
        ("ablate",),
        ("compare", "--strategies", "slerp,amdm"),
    ):
        name, *options = command
        seed = [] if name == "check" else ["--seed", "1"]
        message = amdm(name, "scene.yaml", "--scene", "scene.yaml", *seed, *options, code=2).stderr
        assert "scene.yaml: this is a scene, not a composition (it has caption, negative)" in message


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.png", "this is a picture, expected a YAML file; `amdm rerun` draws a picture again"),
        ("models", "this is a folder, expected a YAML file"),
        ("empty.yaml", "the file is empty"),
    ],
)
def test_something_else_in_place_of_a_file(home: Path, amdm: Amdm, name: str, found: str) -> None:
    Path("empty.yaml").touch()
    Path("a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for given in ({"composition": name}, {"scene": name}):
        result = amdm("run", given.get("composition", "composition.yaml"), "--scene", given.get("scene", "scene.yaml"),
                      "--seed", "1", code=2)  # fmt: skip
        assert f"error: {name}: {found}" in result.stderr


def test_members_by_name(home: Path, amdm: Amdm) -> None:
    plan = amdm("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1", "--dry-run", "--json",
                "--set", "providers.other.name=second").stdout  # fmt: skip
    assert [member["name"] for member in json.loads(plan)["cost"]["members"]] == ["base", "second"]
    assert (
        "--set: providers.third.name: 'third' is no position in a list of 2, nor a member's name: providers.0 (base), "
        "providers.1 (other)"
    ) in refused(amdm, "--set", "providers.third.name=x")
    content = amdm("sweep", "composition.yaml", "--scene", "scene.yaml", "--seed", "1", "--dry-run", "--json",
                   "--set", "providers.other.guidance_scale=1,2").stdout  # fmt: skip
    assert content.count("providers.other.guidance_scale") >= 2


def test_devices_that_are_not_here(home: Path, amdm: Amdm) -> None:
    assert "none of auto, cpu, cuda" in refused(amdm, "--device", "gpu")
    assert "this machine has" in refused(amdm, "--device", "cuda:99")


@pytest.fixture
def own_models(home: Path, written_models: Path) -> Path:
    """A copy of the models that a test may damage."""
    Path("models").unlink()
    shutil.copytree(written_models, "models")
    return home / "models"


def test_a_truncated_checkpoint(own_models: Path, amdm: Amdm) -> None:
    file = own_models / "other" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    message = refused(amdm)
    assert "providers.1" in message and "diffusion_pytorch_model.safetensors" in message


def test_a_checkpoint_of_another_architecture(own_models: Path, amdm: Amdm) -> None:
    file = own_models / "other" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:, :3].contiguous()
    tensors["surplus.weight"] = torch.zeros(2)
    del tensors["conv_out.bias"]
    save_file(tensors, file)
    message = refused(amdm)
    for part in (
        "conv_in.weight: found [32, 3, 3, 3], expected [32, 4, 3, 3]",
        "surplus.weight",
        "conv_out.bias",
        "other",
    ):
        assert part in message


class Malicious:
    """Unpickles into a file being made."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("hacked"),)


def test_a_pickle_with_code_is_refused_and_not_run(home: Path, written_models: Path, amdm: Amdm) -> None:
    shutil.copytree(written_models / "tokenizer", "tokenizer")
    torch.save({"state_dict": {"x": torch.zeros(1)}, "evil": Malicious()}, "evil.ckpt")
    message = refused(amdm, "--set", "providers.1.checkpoint=evil.ckpt")
    assert "evil.ckpt: refused, this pickle holds more than tensors" in message
    Path("plain.ckpt").write_bytes(pickle.dumps(Malicious()))
    refused(amdm, "--set", "providers.1.checkpoint=plain.ckpt")
    assert not Path("hacked").exists()


def test_incompatible_models_get_a_table(home: Path, amdm: Amdm) -> None:
    unet = {**TINY_UNET, "cross_attention_dim": 64}
    write_diffusers_folder(home / "foreign", vae_seed=5, unet_config=unet)
    message = refused(amdm, "--set", "providers.1.checkpoint=foreign")
    header, row = message.splitlines()[1:3]
    assert header.split() == ["base", "other"] and row.split()[:2] == ["VAE", "encoder"]
    assert len(message.splitlines()) == 3


def test_a_full_disk_is_noticed_before_sampling(home: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    monkeypatch.setattr("amdm_framework.pipeline.denoise", lambda *arguments: pytest.fail("sampling began"))
    assert "no space: 16 MiB are needed on this disk, 1 MiB are left" in refused(amdm, "--output", "out")


def test_a_disk_that_fills_up_while_writing_leaves_no_file(
    home: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, file: Any, *arguments: Any, **options: Any) -> None:
        file.write(b"half a picture")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("PIL.Image.Image.save", full)
    message = refused(amdm, "--output", "out")
    assert f"{Path('out/scene-1.png')}: cannot write this: No space left on device" in message
    assert os.listdir("out") == []


@pytest.mark.parametrize("folder", ["scene.yaml", "scene.yaml/deeper", "/proc/amdm", "/dev/null/x"])
def test_an_output_folder_that_cannot_be_written_to(home: Path, amdm: Amdm, folder: str) -> None:
    message = refused(amdm, "--output", folder)
    assert "expected a folder to write to" in message or "cannot" in message


def test_a_scene_is_required(home: Path, amdm: Amdm) -> None:
    result = amdm("run", "composition.yaml", code=2)
    assert "Missing option '--scene'" in result.stderr


def test_debug_shows_the_traceback(home: Path, amdm: Amdm) -> None:
    result = amdm("--debug", "run", "none.yaml", "--scene", "scene.yaml", code=2)
    assert "Traceback" in result.stderr and "none.yaml: no such file" in result.stderr


@pytest.mark.parametrize("error", [ValueError("shape of object"), CheckpointError("damaged"), None])
def test_an_interruption_that_native_code_turns_into_an_error_is_still_one(
    home: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    def interrupted(*arguments: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            if error is not None:
                raise error from None
            raise

    monkeypatch.setattr("amdm_framework.pipeline.denoise", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = amdm("run", "composition.yaml", "--scene", "scene.yaml", "--output", "out", "--seed", "1", code=130)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.stderr == "interrupted\n" and result.stdout == "" and os.listdir("out") == []


def test_interruption_leaves_no_file_and_ends_with_130(home: Path) -> None:
    # A shell that runs the tests in the background lets its children ignore this signal.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{listening}; from amdm_framework.cli import main; main(prog_name='amdm')"]
    arguments = ["run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1", "--output", "out"]
    # Many steps, so that the signal comes while pictures are drawn; a marker says when that has begun.
    overrides = ["--set", "sampler.steps=900", "--set", "sampler.height=256", "--set", "sampler.width=256"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*command, *arguments, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 120
    while not Path("out").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == "" and stderr.splitlines()[-1] == "interrupted" and "Traceback" not in stderr
    assert os.listdir("out") == []
