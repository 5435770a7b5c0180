"""docs/performance.md is what the recorded results say, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import load_script

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def write_page() -> Any:
    return load_script(BENCHMARKS / "write_page.py")


def result(accelerator: str | None = None, quick: bool = False) -> dict[str, Any]:
    """What a benchmark prints."""
    versions = {"python": "3.11", "torch": "2.13", "diffusers": "0.42", "transformers": "5.0"}
    machine = {"processor": "EPYC", "cores": 2, "torch_threads": 2, "accelerator": accelerator, "versions": versions}
    figures = {"fast": 1.0, "slow": 1.23456, "bytes": 1234567.8}
    return {
        "figures": figures,
        "targets": {"fast": 1.0, "slow": 1.2},
        "machine": machine,
        "command": "python benchmarks/speed.py --json",
        "model": "a model",
        "quick": quick,
    }


def test_the_page_is_made_of_the_recorded_results() -> None:
    module = write_page()
    made = module.page(module.TEMPLATE.read_text(), module.RESULTS)
    assert module.PAGE.read_text() == made, "run python benchmarks/write_page.py"
    assert "{{" not in made


def test_every_benchmark_has_its_place_on_the_page() -> None:
    module = write_page()
    places = set(module.PLACEHOLDER.findall(module.TEMPLATE.read_text())) - {"summary"}
    measuring = {path.stem for path in BENCHMARKS.glob("*.py") if "report(options, figures" in path.read_text()}
    assert measuring <= places


def test_a_section_shows_command_figures_targets_and_machine(tmp_path: Path) -> None:
    module = write_page()
    (tmp_path / "speed_cpu.json").write_text(json.dumps(result()))
    made = module.page("{{ summary }}\n\n{{ speed }}\n", tmp_path)
    assert made == (
        "| benchmark | machine | targets met | missed |\n|---|---|---|---|\n| speed | CPU | 1 of 2 | `slow` |\n\n"
        "Measured on 2 cores of EPYC, 2 threads of torch, no GPU; torch 2.13, diffusers 0.42, transformers 5.0; with\n\n"
        "    python benchmarks/speed.py --json > benchmarks/results/speed_cpu.json\n\n"
        "A model.\n\n"
        "| figure | value | target | |\n|---|---|---|---|\n| `fast` | 1 | ≤ 1 | met |\n"
        "| `slow` | 1.235 | ≤ 1.2 | missed |\n| `bytes` | 1,234,568 |  |  |\n\n"
        "Not run on a GPU.\n"
    )


def test_a_result_from_a_gpu_stands_after_the_others_and_replaces_the_note(tmp_path: Path) -> None:
    module = write_page()
    (tmp_path / "speed_a.json").write_text(json.dumps(result("NVIDIA H200")))
    (tmp_path / "speed_b.json").write_text(json.dumps(result()))
    made = module.page("{{ speed }}", tmp_path)
    assert made.index("no GPU;") < made.index("Measured on NVIDIA H200, 2 cores")
    assert module.NOT_ON_A_GPU not in made


def test_a_quick_result_is_refused(tmp_path: Path) -> None:
    module = write_page()
    (tmp_path / "speed_cpu.json").write_text(json.dumps(result(quick=True)))
    with pytest.raises(ValueError, match=r"speed_cpu\.json was made with --quick"):
        module.page("{{ speed }}", tmp_path)
