"""What the models are told of an entry, and that drawing goes on where it was interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from coco_mig_cases import content, write_benchmark_json
from PIL import Image

from amdm_bench_coco_mig.benchmark_file import read_benchmark
from amdm_bench_coco_mig.commands.options import NEGATIVE_PROMPT
from amdm_bench_coco_mig.scenes import make_jobs
from amdm_framework.cli import main
from amdm_framework.plugins import discover
from amdm_framework.scene import Scene, read_scene

COMPOSITION = """
providers:
  - {use: interactdiffusion, checkpoint: "zoo://interactdiffusion"}
  - {use: migc, checkpoint: "zoo://migc", base: "zoo://base", condition: {negative: ""}}
aggregation: {strategy: amdm, steps: 1, weights: [0.5]}
sampler: {steps: 3, guidance_scale: 3}
"""
SHAPES = ("circle", "square", "star", "triangle")


def shapes() -> dict[str, Any]:
    """A benchmark in the zoo's words, without the levels that its small InteractDiffusion does not take: 18 entries."""
    entries = [entry for entry in content(6).values() if len(entry["segment"]) <= 4]
    for entry in entries:
        for segment, shape in zip(entry["segment"], SHAPES, strict=False):
            segment["label"] = " ".join([*segment["label"].split(" ")[:2], shape])
        entry["caption"] = f"a photo of {' and '.join(segment['label'] for segment in entry['segment'])} "
    return {str(number): entry for number, entry in enumerate(entries)}


def scenes(folder: Path, entries: dict[str, Any], negative: str = NEGATIVE_PROMPT) -> dict[str, Scene]:
    jobs = make_jobs(read_benchmark(write_benchmark_json(folder / "b.json", entries)), folder, negative, None, 0)
    assert not any(job.error for job in jobs)
    return {job.name: read_scene(job.scene, folder) for job in jobs}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """That of an entry with five instances; its labels repeat."""
    entries = content()
    segments = entries["3"]["segment"]
    segments[3]["label"] = segments[0]["label"]
    entries["3"]["caption"] = f"a photo of {' and '.join(segment['label'] for segment in segments)} "
    return scenes(tmp_path, entries)["001021_3"]


def test_migc_gets_the_caption_and_every_label_with_its_box_in_order(scene: Scene) -> None:
    spec = discover().provider("migc")
    condition = spec.condition_from_scene(scene, spec.options(checkpoint="x", base="y"))
    segments = content()["3"]["segment"]
    labels = [segment["label"] for segment in segments[:3]] + [segments[0]["label"], segments[4]["label"]]
    assert [condition.prompt, *(one.phrase for one in condition.instances)] == [
        f"a photo of {' and '.join(labels)} ", *labels
    ]  # fmt: skip
    assert [list(one.box) for one in condition.instances] == [segment["bbox"] for segment in segments]
    assert condition.negative == NEGATIVE_PROMPT


def test_interactdiffusion_gets_each_instance_with_itself_and_the_action_and(scene: Scene) -> None:
    spec = discover().provider("interactdiffusion")
    condition = spec.condition_from_scene(scene, spec.options(checkpoint="x"))
    assert condition.prompt == scene.caption and condition.negative == NEGATIVE_PROMPT
    assert [one.action for one in condition.interactions] == ["and"] * 5
    segments = content()["3"]["segment"]
    for one, segment in zip(condition.interactions, segments, strict=True):
        assert list(one.subject_box) == list(one.object_box) == segment["bbox"]
        assert one.subject == one.object
    assert condition.interactions[3].subject == segments[0]["label"]


def test_names_are_those_that_the_evaluation_reads(tmp_path: Path) -> None:
    entries = content()
    entries["2"]["image_id"] = "1153"
    entries["4"]["image_id"] = "580284"
    assert list(scenes(tmp_path, entries)) == ["001000_0", "001007_1", "001153_2", "001021_3", "580284_4"]
    assert {scene.negative for scene in scenes(tmp_path, entries, "blurry").values()} == {"blurry"}


def generate(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["bench", "coco-mig", "generate", "b.json", "composition.yaml", *arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a composition of the zoo's models and a benchmark in their words."""
    monkeypatch.chdir(tmp_path)
    Path("composition.yaml").write_text(COMPOSITION)
    write_benchmark_json(Path("b.json"), shapes())
    return tmp_path


SHORT = ["--negative", "", "--seed", "5"]


def test_interrupted_and_resumed_it_ends_with_the_same_files(folder: Path) -> None:
    generate("--output", "whole", *SHORT)
    command = [sys.executable, "-c", "from amdm_framework.cli import main; main()", "bench", "coco-mig", "generate"]
    command += ["b.json", "composition.yaml", "--output", "part", *SHORT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    ledger = Path("part/ledger.jsonl")
    deadline = time.monotonic() + 120
    while not (ledger.exists() and '"done"' in ledger.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command with --resume goes on" in errors
    drawn = len(list(Path("part").glob("*.png")))
    assert 1 <= drawn < 18
    assert f"{18 - drawn} drawn, {drawn} done before" in generate("--output", "part", "--resume", *SHORT).stdout
    pictures = {path.name: path.read_bytes() for path in Path("whole").glob("*.png")}
    assert len(pictures) == 18
    assert {path.name: path.read_bytes() for path in Path("part").glob("*.png")} == pictures


def test_a_wrong_benchmark_and_a_wrong_composition_are_reported_together(folder: Path) -> None:
    entries = shapes()
    entries["1"]["segment"][0]["label"] = "a pink star"
    write_benchmark_json(Path("b.json"), entries)
    Path("composition.yaml").write_text(COMPOSITION.replace("steps: 1", "step: 1"))
    errors = generate("--output", "out", code=2).stderr
    assert "b.json: 1.segment.0.label: expected 'a COLOR OBJECT'" in errors
    assert "step: unknown key" in errors.replace("aggregation.", "")
    assert not Path("out").exists()


def test_three_models_draw_with_a_style(folder: Path) -> None:
    Image.new("RGB", (64, 64), "teal").save("style.png")
    third = '  - {use: ip_adapter, checkpoint: "zoo://ip_adapter", image_encoder: "zoo://image_encoder", base: "zoo://base"}'
    three = COMPOSITION.replace("aggregation:", f"{third}\naggregation:").replace("[0.5]", "[0.47, 0.5]")
    Path("composition.yaml").write_text(three)
    assert "ip_adapter" in generate("--output", "without", "--limit", "1", *SHORT, code=1).stderr
    assert generate("--output", "with", "--limit", "1", "--style", "style.png", *SHORT).stdout.startswith("1 drawn")
    errors = generate("--output", "other", "--style", "none.png", *SHORT, code=2).stderr
    assert "none.png: --style: no such picture" in errors and not Path("other").exists()
