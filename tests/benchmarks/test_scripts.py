"""Every benchmark script runs, and prints one object of figures, targets and machine."""

from __future__ import annotations

import json
import logging
import math
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if "report(options, figures" in path.read_text())
# These two start processes of their own, which takes longer than all others together.
LEFT_OUT = {"cluster", "memory"}
# Compilers are another half a minute.
ARGUMENTS = {"execution_options": ["--only", "channels_last", "bfloat16"]}


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    before = set(sys.modules)
    yield
    for module in (set(sys.modules) - before) & {path.stem for path in BENCHMARKS.glob("*.py")}:
        del sys.modules[module]
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in LEFT_OUT])
def test_it_prints_one_object(name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    # In this process, where torch and diffusers are imported already.
    given = ["--quick", "--json", "--device", "cpu", *ARGUMENTS.get(name, [])]
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", *given])
    capfd.readouterr()
    runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    printed = json.loads(capfd.readouterr().out)
    assert printed["figures"]
    assert all(math.isfinite(value) for value in printed["figures"].values())
    assert set(printed["targets"]) <= set(printed["figures"])
    assert printed["machine"]["accelerator"] is None and printed["machine"]["versions"]["torch"]
    assert printed["quick"] is True
    assert printed["command"] == " ".join(["python", f"benchmarks/{name}.py", *given])


def test_there_are_scripts() -> None:
    assert {"overhead", "aggregation_cost", "throughput"} <= set(SCRIPTS)
