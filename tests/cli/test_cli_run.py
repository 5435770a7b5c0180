"""`amdm run`: what it writes, prints and leaves alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import discover
from amdm_framework.scene import read_scene

Amdm = Callable[..., Result]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_picture_per_seed_equals_the_pipelines(home: Path, amdm: Amdm) -> None:
    result = amdm(
        "run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1", "--seed", "2", "--output", "out/deep"
    )
    assert result.stdout.splitlines() == ["out/deep/scene-1.png", "out/deep/scene-2.png"]
    assert sorted(os.listdir("out/deep")) == ["scene-1.png", "scene-2.png"]
    pipe = AMDMPipeline.from_composition("composition.yaml", device="cpu", plugins=discover({"AMDM_NO_PLUGINS": "1"}))
    scene = read_scene("scene.yaml")
    for seed in (1, 2):
        single = np.asarray(pipe(scene, generator=torch.Generator().manual_seed(seed)).images[0]).astype(int)
        # Alone and in a batch sums are rounded differently, which may move a value over the edge of an 8-bit step.
        assert abs(pixels(home / f"out/deep/scene-{seed}.png") - single).max() <= 1


def test_json_says_what_was_done(home: Path, amdm: Amdm) -> None:
    result = amdm("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "3", "--json")
    content = json.loads(result.stdout)
    # Nobody watches, so there is no progress bar either.
    assert result.stderr == ""
    assert content["pictures"] == [{"seed": 3, "file": "scene-3.png"}]
    assert content["evaluations"] == {"base": 3, "other": 2}
    assert content["warnings"] == [] and (content["device"], content["dtype"]) == ("cpu", "float32")
    assert content["seconds"]["sample"] > 0 and content["seconds"]["load"] > 0


def test_a_random_seed_is_told_and_names_an_ordinary_file(home: Path, amdm: Amdm) -> None:
    result = amdm("run", "composition.yaml", "--scene", "scene.yaml")
    seed = int(result.stderr.split("seed: ")[1].split()[0])
    assert result.stdout == f"scene-{seed}.png\n"
    Path("other").touch()
    assert Path(f"scene-{seed}.png").stat().st_mode == Path("other").stat().st_mode


def test_existing_files_are_never_overwritten(home: Path, amdm: Amdm) -> None:
    Path("scene-1.png").write_text("mine")
    names = [amdm("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1").stdout for _ in range(2)]
    assert names == ["scene-1-2.png\n", "scene-1-3.png\n"]
    assert Path("scene-1.png").read_text() == "mine"
    assert Path("scene-1-2.png").read_bytes() == Path("scene-1-3.png").read_bytes()


def test_overrides_reach_the_run(home: Path, amdm: Amdm) -> None:
    arguments = ("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "3", "--json")
    overrides = ("--set", "sampler.steps=2", "--set", "aggregation.steps=1", "--set", "sampler.width=32")
    content = json.loads(amdm(*arguments, *overrides).stdout)
    assert content["evaluations"] == {"base": 2, "other": 1}
    assert pixels(home / "scene-3.png").shape == (64, 32, 3)
    assert json.loads(amdm(*arguments, "--dtype", "bfloat16").stdout)["dtype"] == "bfloat16"


def test_a_trace_is_written_beside_the_picture(home: Path, amdm: Amdm) -> None:
    result = amdm("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1", "--seed", "2", "--trace")
    assert result.stdout.split() == [
        f"scene-{seed}{end}" for seed in (1, 2) for end in (".png", ".trace.json", ".trace.png")
    ]
    traces = [json.loads(Path(f"scene-{seed}.trace.json").read_text()) for seed in (1, 2)]
    assert [trace["seed"] for trace in traces] == [1, 2]
    assert traces[0]["evaluations"] == {"base": 3, "other": 2}
    cosines = [[row["metrics"]["cosine"] for row in trace["rows"] if "cosine" in row["metrics"]] for trace in traces]
    # One value per row: the picture's own, not those of the batch.
    assert all(len(values) == 1 for rows in cosines for values in rows) and cosines[0] != cosines[1]
    with Image.open("scene-1.trace.png") as plot:
        assert plot.size[0] > 600 and len(plot.convert("RGB").getcolors(10**6)) > 10


def test_a_plot_without_matplotlib_is_refused_before_anything_is_drawn(
    home: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amdm_framework.trace_plot.find_spec", lambda name: None)
    result = amdm("run", "composition.yaml", "--scene", "scene.yaml", "--trace", "--output", "out", code=2)
    assert "pip install 'amdm-framework[plots]'" in result.stderr and not Path("out").exists()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(home: Path, amdm: Amdm) -> None:
    before = sorted(os.listdir())
    arguments = ("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "7", "--dry-run", "--output", "out")
    text = amdm(*arguments).stdout
    assert "would draw 1 picture(s), 64x64 pixels, 3 steps" in text and "out/scene-7.png" in text
    assert "base (3 evaluations), other (2 evaluations)" in text
    plan = json.loads(amdm(*arguments, "--json").stdout)
    assert plan["pictures"] == ["out/scene-7.png"] and plan["cost"]["evaluations"] == 5
    assert set(os.listdir()) - set(before) <= {"cache"}


def test_warnings_are_single_lines_and_part_of_the_json(home: Path, amdm: Amdm) -> None:
    steps = ("--set", "aggregation={strategy: amdm, steps: 1, step_sizes: [900, 900]}")
    result = amdm("run", "composition.yaml", "--scene", "scene.yaml", "--seed", "1", "--json", *steps)
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("warning: manifold steps of base, other were longer")
    assert json.loads(result.stdout)["warnings"] == [lines[0].removeprefix("warning: ")]
