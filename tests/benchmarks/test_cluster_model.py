"""The worked example of docs/cluster.md is arithmetic on recorded results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import load_script

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def cluster_model() -> Any:
    return load_script(BENCHMARKS / "cluster_model.py")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A GPU that draws 4 pictures per second, a CPU that is slower, and a driver that takes in 100."""
    drawing = {"model": "a model", "quick": False, "figures": {"images_per_second.N3_batch4": 4.0}}
    gpu = {"accelerator": "H200", "cores": 16}
    cpu = {"accelerator": None, "cores": 2}
    (tmp_path / "throughput_gpu.json").write_text(json.dumps(drawing | {"machine": gpu}))
    drawing["figures"] = {"images_per_second.N3_batch4": 0.1}
    (tmp_path / "throughput_slow.json").write_text(json.dumps(drawing | {"machine": cpu}))
    figures = {"driver.ray_pictures_per_second": 100.0, "drawing.seconds_to_first_group": 50.0}
    (tmp_path / "cluster_cpu.json").write_text(json.dumps({"figures": figures, "machine": cpu, "quick": False}))
    return tmp_path


def test_workers_add_up_until_the_driver_is_the_limit(cluster_model: Any, results: Path) -> None:
    rows = [line for line in cluster_model.worked_example(results).splitlines() if line.startswith("| ")][1:]
    # 50 s and 10^6 / 4, / 32 and / 100 seconds.
    assert rows == ["| 1 | 4 | 2.9 days |", "| 8 | 32 | 8.7 hours |", "| 25 | 100 | 2.8 hours |"]


def test_only_what_is_between_the_marks_is_replaced(cluster_model: Any, results: Path) -> None:
    text = cluster_model.PAGE.read_text()
    once = cluster_model.page(text, results)
    assert cluster_model.page(once, results) == once and "H200" in once
    beginning, end = text.index(cluster_model.BEGINNING), text.index(cluster_model.END)
    assert once.startswith(text[:beginning]) and once.endswith(text[end:])


def test_without_results_it_says_what_to_run(cluster_model: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"run python benchmarks/throughput.py --json first"):
        cluster_model.worked_example(tmp_path)
