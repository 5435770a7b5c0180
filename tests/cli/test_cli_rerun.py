"""`amdm rerun`: the same pixels from a picture alone, and what it says where an input is not what it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image, PngImagePlugin

from amdm_framework.record import RECORD_KEY, read_record

Amdm = Callable[..., Result]


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture
def elsewhere(home: Path, amdm: Amdm, written_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the picture of seed 2 of a batch of two, and the models under their names; the current folder."""
    amdm(
        "run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1", "--seed", "2", "--output", "drawn",
        "--set", "sampler.eta=0.7", "--set", "providers.1.checkpoint=models/base.safetensors",
        "--set", "providers.1.tokenizer=models/tokenizer", "--set", "providers.1.guidance_scale=3",
        "--set", "sampler.initial_noise=independent",
    )  # fmt: skip
    folder = home / "elsewhere"
    folder.mkdir()
    shutil.copy("drawn/scene-2.png", folder)
    shutil.copytree(written_models / "base", folder / "base")
    shutil.copytree(written_models / "tokenizer", folder / "tokenizer")
    shutil.copy(written_models / "base.safetensors", folder)
    monkeypatch.chdir(folder)
    return folder


def test_the_same_pixels_from_the_picture_alone(elsewhere: Path, amdm: Amdm) -> None:
    result = amdm("rerun", "scene-2.png")
    assert result.stdout == "scene-2-2.png\n" and result.stderr == ""
    np.testing.assert_array_equal(pixels("scene-2-2.png"), pixels("scene-2.png"))
    # What it draws can be drawn again.
    assert read_record(Path("scene-2-2.png")) == read_record(Path("scene-2.png"))


def test_models_are_found_where_they_are_said_to_be(elsewhere: Path, amdm: Amdm) -> None:
    Path("deep/models").mkdir(parents=True)
    for name in ("base", "tokenizer", "base.safetensors"):
        shutil.move(name, "deep/models")
    message = amdm("rerun", "scene-2.png", code=2).stderr
    assert "providers.0.checkpoint: there is no folder 'base' in any of" in message
    assert "providers.1.checkpoint: there is no file 'base.safetensors' in any of" in message
    content = json.loads(amdm("rerun", "scene-2.png", "--models", "deep/models", "--output", "again", "--json").stdout)
    assert content["pictures"] == [{"seed": 2, "file": "again/scene-2.png"}] and content["differences"] == []
    np.testing.assert_array_equal(pixels("again/scene-2.png"), pixels("scene-2.png"))


def test_other_weights_are_named_and_drawn_only_when_allowed(elsewhere: Path, amdm: Amdm, written_models: Path) -> None:
    shutil.rmtree("base")
    shutil.copytree(written_models / "other", "base")
    message = amdm("rerun", "scene-2.png", code=2).stderr
    assert "unet of base (diffusion_pytorch_model.safetensors) is sha256" in message
    assert "vae" not in message and "--allow-different" in message
    assert sorted(Path().glob("*.png")) == [Path("scene-2.png")]
    result = amdm("rerun", "scene-2.png", "--allow-different")
    assert "warning: unet of base" in result.stderr and "the picture may differ" in result.stderr
    assert (pixels("scene-2-2.png") != pixels("scene-2.png")).any()


def test_another_file_of_the_same_name_is_passed_over_for_the_right_one(elsewhere: Path, amdm: Amdm) -> None:
    Path("models").mkdir()
    Path("models/base.safetensors").write_bytes(b"something else")
    amdm("rerun", "scene-2.png", "--models", "models")
    Path("base.safetensors").unlink()
    message = amdm("rerun", "scene-2.png", "--models", "models", code=2).stderr
    assert "base.safetensors (providers.1.checkpoint) is sha256" in message


def test_reference_pictures_are_verified(home: Path, amdm: Amdm) -> None:
    Image.new("RGB", (8, 8), "red").save("oil.png")
    Path("scene.yaml").write_text("caption: x\nreferences: [{role: style, image: oil.png}]\n")
    amdm("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1")
    record = read_record(Path("scene-1.png"))
    assert record.scene["references"] == [{"role": "style", "image": "oil.png"}]
    assert amdm("rerun", "scene-1.png", "--models", "models").stdout == "scene-1-2.png\n"
    Image.new("RGB", (8, 8), "blue").save("oil.png")
    assert "oil.png (references.0.image) is sha256" in amdm("rerun", "scene-1.png", "--models", "models", code=2).stderr
    Path("oil.png").unlink()
    missing = amdm("rerun", "scene-1.png", "--models", "models", "--allow-different", code=2)
    looked = f"{home}/models, {home}"
    assert (
        f"references.0.image: there is no file 'oil.png' in any of {looked}: give the folder that has it with --models "
        "FOLDER (weights and reference pictures are looked for there)"
    ) in missing.stderr
    Path("pictures").mkdir()
    Image.new("RGB", (8, 8), "red").save("pictures/oil.png")
    amdm("rerun", "scene-1.png", "--models", "models", "--models", "pictures")


def test_pictures_hold_no_folders_tokens_or_environment(
    home: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    overrides = ("--set", f"providers.0.checkpoint={home}/models/base", "--set", "providers.0.vae=models/other")
    amdm("run", "composition.yaml", "--scene", str(home / "scene.yaml"), "--seed", "1", *overrides)
    with Image.open("scene-1.png") as picture:
        text = json.dumps(picture.info)
    assert "sha256" in text
    for secret in (str(home), "models/", "hf_secret", os.environ["HOME"] + "/", os.uname().nodename):
        assert secret not in text
    record = read_record(Path("scene-1.png"))
    assert [block["checkpoint"] for block in record.composition["providers"]] == ["base", "other"]
    assert {item.file for item in record.inputs} == {"base", "other"}


def test_the_text_that_other_tools_read(drawn: Path) -> None:
    with Image.open(drawn) as picture:
        lines = picture.info["parameters"].splitlines()
    assert lines[:2] == ["a red circle", "Negative prompt: blur"]
    settings = dict(part.split(": ") for part in lines[2].split(", "))
    assert settings["Steps"] == "3" and settings["Seed"] == "1" and settings["Size"] == "64x64"
    assert settings["CFG scale"] == "7.5" and settings["Model"] == "base + other" and settings["Aggregation"] == "slerp"


def test_no_metadata_leaves_nothing(home: Path, amdm: Amdm) -> None:
    amdm("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1", "--no-metadata")
    with Image.open("scene-1.png") as picture:
        assert picture.info == {}
    assert "carries no settings of `amdm run`" in amdm("rerun", "scene-1.png", code=2).stderr


def forged(path: str, text: str, **chunk: bool) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECORD_KEY, text, zip=True)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return Path(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "Invalid JSON"),
        ("[]", "expected keys and values"),
        ("{}", "composition: is missing"),
        ("__import__('os').system('touch hacked')", "Invalid JSON"),
        ("x" * (2**20 + 1), "data too large"),
        ("[" * 100_000, "Invalid JSON"),
    ],
)
def test_forged_records_are_refused(home: Path, amdm: Amdm, text: str, expected: str) -> None:
    message = amdm("rerun", forged("forged.png", text), code=2).stderr
    assert expected.lower() in message.lower() and len(message) < 2000
    assert not Path("hacked").exists()


def test_a_record_cannot_point_at_files_of_this_machine(home: Path, amdm: Amdm, drawn: Path) -> None:
    good = read_record(drawn).model_dump(mode="json")

    def message(**changes: object) -> str:
        return amdm("rerun", forged("forged.png", json.dumps({**good, **changes})), "--models", "models", code=2).stderr

    outside = {**good["inputs"][0], "file": "../models/base"}
    assert "inputs.0.file" in message(inputs=[outside])
    assert "not among the recorded inputs" in message(inputs=[])
    elsewhere = {**good["inputs"][0], "key": ["providers", 7, "checkpoint"]}
    assert "damaged" in message(inputs=[elsewhere])
    secret = {"caption": "x", "references": [{"role": "style", "image": "/etc/hostname"}]}
    assert "not among the recorded inputs" in message(scene=secret)
    assert "position 5 is not in a batch of 1" in message(position=5)
    assert "seeds" in message(seeds=["1"])
    assert "extra" in message(extra=1)
    assert "providers" in message(composition={"providers": 3})


def test_files_that_are_no_pictures(home: Path, amdm: Amdm, drawn: Path) -> None:
    Path("text.png").write_text("not a picture")
    Image.new("RGB", (8, 8)).save("photo.jpg")
    assert "no such file" in amdm("rerun", "none.png", code=2).stderr
    for name in ("text.png", "photo.jpg", "models"):
        assert "is not a PNG picture that can be read" in amdm("rerun", name, code=2).stderr
    Path("cut.png").write_bytes(drawn.read_bytes()[:200])
    assert "cut.png" in amdm("rerun", "cut.png", code=2).stderr


def test_versions_that_differ_are_told(home: Path, amdm: Amdm, drawn: Path) -> None:
    good = read_record(drawn).model_dump(mode="json")
    good["versions"] |= {"torch": "1.0", "amdm-plugin-gone": "3.1"}
    result = amdm("rerun", forged("forged.png", json.dumps(good)), "--models", "models")
    assert "warning: the picture was drawn with torch 1.0, here is" in result.stderr
    assert "amdm-plugin-gone 3.1, here is none" in result.stderr
    np.testing.assert_array_equal(pixels("forged-2.png"), pixels(drawn))


def test_a_picture_of_another_device_needs_permission(home: Path, amdm: Amdm, drawn: Path) -> None:
    good = read_record(drawn).model_dump(mode="json")
    picture = forged("forged.png", json.dumps({**good, "device": "mps"}))
    assert (
        "was drawn on mps, here on cpu"
        in amdm("rerun", picture, "--models", "models", "--device", "cpu", code=2).stderr
    )
    assert (
        amdm("rerun", picture, "--models", "models", "--device", "cpu", "--allow-different").stdout == "forged-2.png\n"
    )
