"""`amdm inspect`: what it says of a picture, on a machine without its models, and of pictures made to deceive."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from PIL import Image, PngImagePlugin

from amdm_framework.record import MAX_RECORD_BYTES, RECORD_KEY, TEXT_KEY

Amdm = Callable[..., Result]

RECORD: dict[str, Any] = {
    "format": 1,
    "composition": {
        "providers": [
            {"use": "mine", "name": "layout", "checkpoint": "layout.safetensors", "condition": {"prompt": "a cat"}},
            {"use": "theirs", "checkpoint": "hf://somebody/theirs", "guidance_scale": 2},
        ],
        "aggregation": {"strategy": "slerp", "steps": 4},
        "sampler": {"steps": 12, "step_noise": "shared"},
        "offload": "model",
    },
    "scene": {
        "caption": "eine größere Katze",
        "instances": {"cat": {"phrase": "a large cat", "box": [0.1, 0.2, 0.5, 0.75]}},
        "interactions": [{"subject": "cat", "action": "licking", "object": "cat"}],
        "references": [{"role": "style", "image": "oil.png", "instance": "cat"}],
    },
    "seeds": [7, 11, 2**63],
    "position": 1,
    "height": 96,
    "width": 64,
    "device": "cuda",
    "dtype": "float16",
    "versions": {"amdm-framework": "0.0.1", "pydantic": version("pydantic"), "amdm-plugin-theirs": "3"},
    "members": [
        {"name": "layout", "weights": [{"component": "unet", "file": "layout.safetensors", "sha256": "ab" * 32}]},
        {"name": "theirs", "weights": []},
    ],
    "inputs": [
        {"where": "composition", "key": ["providers", 0, "checkpoint"], "file": "layout.safetensors",
         "sha256": "ab" * 32},
        {"where": "scene", "key": ["references", 0, "image"], "file": "oil.png", "sha256": "cd" * 32},
    ],
}  # fmt: skip


def write(path: Path | str, record: object, text: str = "") -> Path:
    """A picture with a record, or whatever is given in its place, and the settings that other tools read."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECORD_KEY, record if isinstance(record, str) else json.dumps(record), zip=True)
    if text:
        info.add_itxt(TEXT_KEY, text)
    Image.new("RGB", (64, 96)).save(path, pnginfo=info)
    return Path(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(text: str) -> dict[str, str]:
    """The rows of a report by their names; of equal names the last."""
    return dict(found.groups() for line in text.splitlines() if (found := re.fullmatch(r"  (\S.*?)  +(.*)", line)))


def test_a_picture_of_run_says_what_made_it(drawn: Path, amdm: Amdm) -> None:
    said = rows(amdm("inspect", drawn).stdout)
    assert (said["caption"], said["negative"], said["seed"]) == ("a red circle", "blur", "1")
    # Neither is written in the composition.
    assert (said["eta"], said["guidance scale"]) == ("0.0", "7.5")
    assert said["strategy"] == "slerp" and said["size"] == "64x64" and said["computed"] == "on cpu in float32"
    assert said["torch"] == f"{version('torch')}  the same here"
    assert re.fullmatch(r"\S+\.safetensors  sha256 [0-9a-f]{12}…", said["unet weights"])


def test_every_fact_of_a_record_is_shown_where_no_model_is_installed(here: Path, amdm: Amdm) -> None:
    write("picture.png", RECORD, "x\nSteps: 99, Eta: 0.25, CFG scale: 6.5, Model: layout + theirs")
    (here / "oil.png").touch()
    report = amdm("inspect", "picture.png").stdout
    said = rows(report)
    assert report.startswith("picture.png: drawn by amdm-framework 0.0.1\n")
    assert said["caption"] == "eine größere Katze" and said["negative"] == "none"
    assert said["seed"] == f"11  (picture 2 of 3 that were drawn at once, seeds 7, 11, {2**63})"
    # What is written goes before what other tools are told, and that before nothing.
    sampler = rows(report.split("\naggregation\n")[0])
    assert (sampler["steps"], sampler["eta"], sampler["guidance scale"]) == ("12", "0.25", "6.5")
    assert said["sampler.step_noise"] == "shared" and said["offload"] == "model"
    assert said["size"] == "64x96" and said["computed"] == "on cuda in float16"
    target, secondary = (report.index(f"member {line}\n") for line in ("1: layout (target)", "2: theirs (secondary)"))
    assert target < report.index("condition.prompt") < secondary < report.index("hf://somebody/theirs")
    assert said["unet weights"] == "layout.safetensors  sha256 abababababab…"
    assert said["cat"] == "a large cat, in [0.1, 0.2, 0.5, 0.75]"
    assert said["interaction"] == "cat - licking -> cat" and said["reference"] == "oil.png  (style, of cat)"
    assert said["amdm-framework"] == f"0.0.1  here is {version('amdm-framework')}"
    assert said["amdm-plugin-theirs"] == "3  is not installed here"
    looked_for = report.split("will look for\n")[1]
    assert f"one of that name is in {here}" in looked_for.split("oil.png")[1]
    assert "amdm rerun --models FOLDER" in looked_for.split("oil.png")[0]
    # Where `amdm rerun` looks, the studio's uploads are among it.
    Path("uploads").mkdir()
    Path("oil.png").rename("uploads/oil.png")
    moved = amdm("inspect", "picture.png").stdout.split("will look for\n")[1]
    assert f"one of that name is in {here / 'uploads'}" in moved.split("oil.png")[1]


def test_json_is_the_record(here: Path, amdm: Amdm) -> None:
    assert json.loads(amdm("inspect", write("picture.png", RECORD), "--json").stdout) == RECORD


def test_composition_and_scene_become_files_again_and_spare_those_that_are_there(drawn: Path, amdm: Amdm) -> None:
    folder = drawn.parent / "files"
    for number in ("", "-2"):
        arguments = ("--composition", folder / "c.yaml", "--scene", folder / "s.yaml")
        told = amdm("inspect", drawn, *arguments).stderr.splitlines()
        assert told == [f"written: {folder}/c{number}.yaml", f"written: {folder}/s{number}.yaml"]
    written = yaml.safe_load((folder / "c.yaml").read_text())
    assert written == json.loads(amdm("inspect", drawn, "--json").stdout)["composition"]
    (folder / "base").symlink_to(drawn.parent / "models/base")
    (folder / "other").symlink_to(drawn.parent / "models/other")
    amdm("run", folder / "c.yaml", "--scene", folder / "s.yaml", "--seed", "1", "--output", folder)
    assert (folder / "s-1.png").read_bytes() == drawn.read_bytes()


@pytest.mark.parametrize("flag", ["--json", None])
def test_no_text_of_a_picture_steers_the_terminal(here: Path, amdm: Amdm, flag: str | None) -> None:
    attack = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt\r\x08é\u2028"
    record = json.loads(json.dumps(RECORD))
    record["scene"] = {"caption": attack, "instances": {attack: {"phrase": attack, "box": attack}}, attack: [attack]}
    record["composition"] |= {attack: attack, "aggregation": {"strategy": attack, attack: {attack: attack}}}
    record["versions"][attack] = attack
    record["members"][0]["name"] = f"{attack}\nversions"
    write("picture.png", record, f"Steps: {attack}, Eta: {attack}")
    shown = amdm("inspect", "picture.png", *([flag] if flag else [])).output
    assert all(character.isprintable() for line in shown.split("\n") for character in line)
    assert "é" in shown and "owned" in shown
    assert shown.count("\nversions\n") == (0 if flag else 1)
    if flag:
        assert json.loads(shown)["scene"]["caption"] == attack


def test_an_error_does_not_steer_the_terminal_either(here: Path, amdm: Amdm) -> None:
    said = amdm("inspect", write("picture.png", {**RECORD, "\x1b[2Jkey": "\x1b[31m"}), code=2).stderr
    assert "\\x1b[2Jkey" in said and "\x1b" not in said


def test_contents_of_any_shape_are_shown(here: Path, amdm: Amdm) -> None:
    for odd in (None, 5, "text", [], [[1]], {"a": [{"b": 1}]}):
        keys = ("instances", "interactions", "references", "caption")
        scene, composition = dict.fromkeys(keys, odd), {"providers": odd, "aggregation": odd, "sampler": odd}
        amdm("inspect", write("picture.png", {**RECORD, "scene": scene, "composition": composition}))
        scene = {"instances": {"a": odd}, "interactions": [odd], "references": [odd]}
        amdm("inspect", write("picture.png", {**RECORD, "scene": scene, "composition": {"providers": [odd]}}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "settings in picture.png"),
        ({**RECORD, "position": 3}, "position 3 is not in a batch of 3"),
        ({**RECORD, "device": "abacus"}, "device"),
        ("x" * (MAX_RECORD_BYTES + 1), ""),
    ],
)
def test_a_damaged_record_is_refused(here: Path, amdm: Amdm, content: object, message: str) -> None:
    said = amdm("inspect", write("picture.png", content), "--scene", "s.yaml", code=2).stderr
    assert said.startswith("error: ") and message in said and not Path("s.yaml").exists()


def test_what_is_no_picture_of_ours_is_refused(here: Path, amdm: Amdm) -> None:
    Image.new("RGB", (8, 8)).save("plain.png")
    Path("text.png").write_text("no picture")
    assert "carries no settings of `amdm run`" in amdm("inspect", "plain.png", code=2).stderr
    assert "text.png: is not a PNG picture that can be read" in amdm("inspect", "text.png", code=2).stderr
    assert "nowhere.png: no such file" in amdm("inspect", "nowhere.png", code=2).stderr
    assert "expected a folder" in amdm("inspect", write("a.png", RECORD), "--scene", "a.png/s.yaml", code=2).stderr


@pytest.mark.parametrize("command", ["inspect", "preview"])
def test_torch_is_not_loaded(here: Path, command: str) -> None:
    content = {**RECORD, "scene": {"caption": "eine größere Katze"}, "inputs": []}
    write("picture.png", content)
    code = "import sys; from amdm_framework.cli import main; main(sys.argv[1:], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, command, "picture.png"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr
