"""Options of execution on the command line: what they cost, and what becomes of them on another machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image, PngImagePlugin

from amdm_framework.composition import read_composition
from amdm_framework.devices import choose_device
from amdm_framework.plugins import discover
from amdm_framework.rebuild import on_this_machine
from amdm_framework.record import RECORD_KEY, read_record

Amdm = Callable[..., Result]


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def recorded_with(drawn: Path, providers: list[dict[str, Any]], **options: Any) -> str:
    """A picture whose record has these keys in its composition and its members' blocks, beside what it was drawn with."""
    record = read_record(drawn).model_dump(mode="json")
    composition = record["composition"]
    composition["providers"] = [a | b for a, b in zip(composition["providers"], providers, strict=True)]
    info = PngImagePlugin.PngInfo()
    info.add_itxt(RECORD_KEY, json.dumps(record | {"composition": composition | options}))
    with Image.open(drawn) as picture:
        picture.save("elsewhere.png", pnginfo=info)
    return "elsewhere.png"


def test_options_are_recorded_and_draw_the_same_pixels_again(home: Path, amdm: Amdm) -> None:
    arguments = ("--scene", "scene.yaml", "--seed", "1", "--device", "cpu", "--no-progress")
    amdm("run", "composition.yaml", *arguments, "--output", "plain")
    amdm("run", "composition.yaml", *arguments, "--output", "low", "--set", "offload=model", "--set", "vae_tiling=true")
    np.testing.assert_array_equal(pixels("low/scene-1.png"), pixels("plain/scene-1.png"))
    recorded = read_record(Path("low/scene-1.png")).composition
    assert recorded["offload"] == "model" and recorded["vae_tiling"] is True
    amdm("rerun", "low/scene-1.png", "--models", "models", "--output", "again")
    np.testing.assert_array_equal(pixels("again/scene-1.png"), pixels("plain/scene-1.png"))
    assert read_record(Path("again/scene-1.png")).composition == recorded


def test_what_another_machine_could_do_is_left_out_when_allowed(home: Path, amdm: Amdm, drawn: Path) -> None:
    options = {"compile": "reduce-overhead", "attention": "cudnn", "channels_last": True}
    picture = recorded_with(drawn, [{}, {"device": "cuda:63"}], **options)
    arguments = ("rerun", picture, "--models", "models", "--no-progress")
    message = amdm(*arguments, code=2).stderr
    assert "other ran on cuda when the picture was drawn, here on cpu" in message
    assert "drawn with `compile: reduce-overhead`, which is left out here: `reduce-overhead` needs CUDA" in message
    assert "drawn with `attention: cudnn`, which is left out here: `cudnn` is a kernel of CUDA devices" in message
    again = amdm(*arguments, "--allow-different").stdout.strip()
    assert np.abs(pixels(again).astype(int) - pixels(drawn)).max() <= 1
    kept = read_record(Path(again)).composition
    assert kept["channels_last"] is True and kept["compile"] is False and kept["attention"] == "auto"
    assert kept["providers"][1]["device"] is None


def test_another_number_of_a_device_makes_no_difference(home: Path) -> None:
    content = {
        "providers": [
            {"use": "stable_diffusion", "checkpoint": "models/base", "device": "cuda:62"},
            {"use": "stable_diffusion", "checkpoint": "models/other", "device": "cpu"},
        ],
        "aggregation": {"strategy": "slerp", "steps": 2},
        "offload": "none",
    }
    resolved = read_composition(content, discover({"AMDM_NO_PLUGINS": "1"}))
    adapted, differences = on_this_machine(resolved, torch.device("cuda", 0), "float16")
    assert [block.device for block in adapted.composition.providers] == [None, "cpu"] and differences == []
    here = {**content, "providers": [{**block, "device": "cpu"} for block in content["providers"]]}
    resolved = read_composition(here, discover({"AMDM_NO_PLUGINS": "1"}))
    assert on_this_machine(resolved, torch.device("cpu"), "float32") == (resolved, [])


def test_what_one_device_can_do_is_kept_however_the_device_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    content = {
        "providers": [
            {"use": "stable_diffusion", "checkpoint": "models/base", "device": name}
            for name in ("cuda", "cuda:0", None)
        ],
        "aggregation": {"strategy": "composable"},
    }
    for options in ({"offload": "model"}, {"compile": "reduce-overhead"}):
        resolved = read_composition(content | options, discover({"AMDM_NO_PLUGINS": "1"}))
        assert on_this_machine(resolved, choose_device("cuda"), "float16") == (resolved, [])


def test_a_forged_device_is_refused(home: Path, amdm: Amdm, drawn: Path) -> None:
    picture = recorded_with(drawn, [{"device": "lpt1"}, {}])
    assert "found 'lpt1', expected cpu, cuda" in amdm("rerun", picture, "--models", "models", code=2).stderr


def cost(amdm: Amdm, *arguments: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(
        amdm("check", "composition.yaml", "--device", "cpu", "--json", *arguments).stdout
    )
    return report


def test_check_counts_in_the_dtype_of_the_composition(home: Path, amdm: Amdm) -> None:
    usual, half = cost(amdm), cost(amdm, "--set", "dtype=bfloat16")
    assert (usual["dtype"], half["dtype"]) == ("float32", "bfloat16")
    # All but position ids, which are integers.
    assert usual["bytes"] * 0.5 <= half["bytes"] < usual["bytes"] * 0.501
    assert cost(amdm, "--set", "dtype=bfloat16", "--dtype", "float32") == usual


def test_check_counts_weights_once_per_device(home: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_second(name: str) -> torch.device:
        return torch.device("cpu", 1) if name == "cuda:1" else choose_device(name)

    together = cost(amdm)
    monkeypatch.setattr("amdm_framework.models.context.choose_device", with_a_second)
    apart = cost(amdm, "--set", "providers.1.device=cuda:1")
    assert together["unique_bytes"] < together["bytes"] == apart["bytes"] == apart["unique_bytes"]


def test_check_refuses_what_this_machine_cannot_do(home: Path, amdm: Amdm) -> None:
    message = amdm(
        *("check", "composition.yaml", "--device", "cpu", "--set", "providers.1.device=cuda:63"),
        *("--set", "compile=reduce-overhead"),
        code=2,
    ).stderr
    assert "providers.1.device: device 'cuda:63': this machine has" in message
    assert "compile: `reduce-overhead` needs CUDA graphs, which cpu has not" in message
