"""`amdm tune` on a model in closed form whose best setting is known."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import Result

import toy_benchmark
from amdm_framework.cli import group
from amdm_framework.offers import Distribution
from amdm_framework.pipeline import AMDMPipeline
from command_line import invoke
from toy_benchmark import BEST_GUIDANCE, GREYS, GreyProvider, cases, grey_registry, score

COMPOSITION = """
# A comment of the author's.
providers:
  - use: grey
    palette: colours/warm.txt
sampler: {steps: 2, guidance_scale: 7.5}
"""
GUIDANCE = "sampler.guidance_scale=1.0..8.0"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `grey.yaml`, in which the grey model and its benchmark are installed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(group, "discover", grey_registry)
    (tmp_path / "colours").mkdir()
    (tmp_path / "colours" / "warm.txt").write_text("warm")
    (tmp_path / "grey.yaml").write_text(COMPOSITION)
    return tmp_path


def tune(*arguments: str, code: int = 0) -> Result:
    return invoke("tune", "grey.yaml", "--benchmark", "greys", "--device", "cpu", *arguments, code=code)


def score_of(file: Path, count: int = 24, seed: int = 0) -> float:
    """The objective of a composition, drawn by a pipeline of its own."""
    judged = cases(count, seed)
    pipeline = AMDMPipeline.from_composition(file, "cpu", plugins=grey_registry())
    pipeline.set_progress_bar_config(disable=True)
    pictures = [np.asarray(picture) for picture in pipeline([case.scene for case in judged]).images]
    return GREYS.measure(np.stack(pictures), judged)["near"] or 0.0


def test_it_finds_the_optimum_and_writes_what_scores_as_it_says(home: Path) -> None:
    result = tune("--vary", GUIDANCE, "--trials", "25", "--json")
    found = json.loads(result.stdout)
    assert float(found["settings"]["sampler.guidance_scale"]) == pytest.approx(BEST_GUIDANCE, abs=0.3)
    lines = result.stderr.splitlines()
    assert lines[:2] == ["searched:", "  sampler.guidance_scale  1.0..8.0"]
    # The first trial is the composition as it is.
    start = score_of(home / "grey.yaml")
    assert lines[2] == f"trial 1/25   {start:.2f}  best {start:.2f}  the composition as it is"
    assert len(lines) == 27 and found["trials"] == 25
    best = home / found["file"]
    assert best == home / "grey_best.yaml"
    assert score_of(best) == pytest.approx(found["score"])
    searched, held_out = found["comparisons"]
    assert (searched["cases"], searched["seed"], held_out["cases"], held_out["seed"]) == (24, 0, 48, 1)
    assert searched["start"]["near"] == pytest.approx(start) and searched["best"]["near"] == pytest.approx(
        found["score"]
    )
    assert held_out["best"]["near"] == pytest.approx(score_of(best, 48, 1))
    assert held_out["interval"][0] < held_out["difference"] < held_out["interval"][1]
    comments = [line for line in best.read_text().splitlines() if line.startswith("#")]
    assert comments[0] == "# The best of 25 trials of `amdm tune` by near on the benchmark greys."
    assert f"{found['score']:.2f} on 24 cases of seed 0" in comments[1] and f"has {start:.2f}" in comments[1]


def test_the_best_is_written_before_the_comparison_and_again_with_its_figures(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two trials; the comparison is interrupted.
    command = ["--vary", "sampler.guidance_scale=3,4", "--trials", "2", "--cases", "4", "--study", "study.db"]
    with monkeypatch.context() as patches:
        patches.setitem(vars(GREYS), "score", Dying(2))
        tune(*command, code=130)
    early = (home / "grey_best.yaml").read_text()
    comments = [line for line in early.splitlines() if line.startswith("#")]
    assert "on 4 cases of seed 0, by which it was chosen; the comparison on others was not finished." in comments[1]
    assert score_of(home / "grey_best.yaml", 4) > score_of(home / "grey.yaml", 4)
    tune(*command)
    whole = (home / "grey_best.yaml").read_text()
    assert "not finished" not in whole and "8 other cases (seed 1)" in whole
    assert yaml.safe_load(whole) == yaml.safe_load(early)


def test_the_best_is_never_worse_than_the_start(home: Path) -> None:
    (home / "grey.yaml").write_text(COMPOSITION.replace("7.5", "4"))
    result = tune("--vary", "sampler.guidance_scale=7.0..8.0", "--trials", "4", "--cases", "8")
    assert "none of 4 trials was better than the composition as it is" in result.stdout
    written = yaml.safe_load((home / "grey_best.yaml").read_text())
    assert written == yaml.safe_load((home / "grey.yaml").read_text())


def test_the_table_for_people(home: Path) -> None:
    text = tune("--vary", GUIDANCE, "--trials", "20", "--cases", "8", "--output", "new/best.yaml").stdout
    lines = text.splitlines()
    assert lines[0] == "the cases of the search: 8 of greys, seed 0" and "other cases: 16 of greys, seed 1" in lines
    near = [line.split() for line in lines if line.split()[:1] == ["near"]]
    assert len(near) == 2 and all(float(row[2]) > float(row[1]) and row[3].startswith("+") for row in near)
    assert "95" in near[1][4] and "%:" in near[1]
    (setting,) = (line.split() for line in lines if line.strip().startswith("sampler.guidance_scale"))
    assert setting[1] == "7.5" and float(setting[2]) == pytest.approx(BEST_GUIDANCE, abs=0.5) and setting[3] == "1.00"
    assert "believe the 16 others" in text and "may be chance" not in text
    assert lines[-1] == "new/best.yaml"
    # Files are where they were, seen from the new folder.
    assert yaml.safe_load((home / "new" / "best.yaml").read_text())["providers"][0]["palette"] == "../colours/warm.txt"
    assert score_of(home / "new" / "best.yaml", 8) > score_of(home / "grey.yaml", 8)


def test_without_ranges_it_searches_the_usual_ones(home: Path) -> None:
    lines = tune("--trials", "1", "--cases", "2", "--set", "sampler.guidance_scale=3").stderr.splitlines()
    assert lines[:3] == ["searched:", "  aggregation.steps       0..2", "  sampler.guidance_scale  1.0..6.0"]


def test_a_models_own_options_can_vary(home: Path) -> None:
    (home / "space.yaml").write_text("providers.0.strength: [1, 0.5]\n")
    result = tune("--search", "space.yaml", "--trials", "4", "--cases", "4", "--json", "--no-progress")
    found = json.loads(result.stdout)
    # 7.5 with half the strength is 3.75, with all of it 7.5.
    assert found["settings"] == {"providers.0.strength": "0.5"} and result.stderr == ""


class Dying:
    """The benchmark's score, until it was asked some times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, pictures: Any, judged: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            self.die()
        return score(pictures, judged)

    def die(self) -> None:
        raise KeyboardInterrupt


KILLED = """
import os, signal, sys
from amdm_framework.cli import group, main
from test_tune import Dying
import toy_benchmark

Dying.die = lambda self: os.kill(os.getpid(), signal.SIGKILL)
vars(toy_benchmark.GREYS)["score"] = Dying(3)
group.discover = toy_benchmark.grey_registry
main(sys.argv[1:])
"""


def test_killed_and_taken_up_it_ends_as_if_nothing_had_happened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["tune", "grey.yaml", "--benchmark", "greys", "--vary", GUIDANCE, "--cases", "4", "--device", "cpu"]
    whole = invoke(*command, "--trials", "9", "--output", "whole.yaml")
    command += ["--study", "study.db", "--output", "study.yaml"]
    own = Path(__file__).parent
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *command, "--trials", "9"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(own), str(own.parent), *filter(None, sys.path)])},
        check=False,
    )
    assert killed.returncode == -9 and not (home / "study.yaml").exists()
    with monkeypatch.context() as patches:
        patches.setitem(vars(GREYS), "score", Dying(2))
        interrupted = invoke(*command, "--trials", "9", code=130)
    assert "5 of 9 trials are kept in study.db: the same command goes on" in interrupted.stderr
    assert interrupted.stderr.endswith("interrupted\n") and not (home / "study.yaml").exists()
    result = invoke(*command, "--trials", "9")
    trials = [line for line in whole.stderr.splitlines() if line.startswith("trial")]
    assert [line for line in result.stderr.splitlines() if line.startswith("trial")] == trials[5:]
    assert (home / "study.yaml").read_bytes() == (home / "whole.yaml").read_bytes()
    # What the kill and the interruption left unfinished is marked so.
    with closing(sqlite3.connect("study.db")) as database:
        states = [state for (state,) in database.execute("SELECT state FROM trials")]
    assert sorted(states) == ["COMPLETE"] * 9 + ["FAIL"] * 2
    # Nothing is left to try, but more can be asked for.
    more = invoke(*command, "--trials", "10")
    assert [line[:11] for line in more.stderr.splitlines() if line.startswith("trial")] == ["trial 10/10"]


def test_settings_that_cannot_be_drawn_count_and_the_reason_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = GreyProvider.encode

    def without_memory(self: GreyProvider, *arguments: Any) -> None:
        if self.options.strength > 1:
            raise MemoryError
        return encode(self, *arguments)

    monkeypatch.setattr(GreyProvider, "encode", without_memory)
    command = ["--vary", "providers.0.strength=1,2", "--cases", "2", "--study", "study.db"]
    lines = tune(*command, "--trials", "4").stderr.splitlines()
    failed = [line for line in lines if "providers.0.strength=2: the device has too little memory to draw" in line]
    assert failed and all("  no score  best" in line for line in failed)
    # A file with such a trial goes on.
    assert "trial 5/5" in tune(*command, "--trials", "5").stderr


def test_all_mistakes_are_named_before_anything_is_loaded(home: Path) -> None:
    (home / "space.yaml").write_text("providers.0.strength: 1\n")
    error = invoke("tune", "grye.yaml", "--benchmark", "grays", "--vary", "a=2..1", "--search", "space.yaml",
                   "--output", "grey.yaml/best.yaml", code=2).stderr  # fmt: skip
    assert "grye.yaml: no such file. Did you mean 'grey.yaml'?" in error
    assert "--benchmark: there is no benchmark 'grays'. Did you mean 'greys'?" in error
    assert "--vary: a: found 2..1" in error and "providers.0.strength: found '1'" in error
    assert "grey.yaml: is a file, expected a folder" in error
    error = tune("--vary", "aggregation.stpes=1..2", "--vary", "sampler.guidance=1..2", code=2).stderr
    assert "aggregation.stpes: 1 does not fit" in error and "Did you mean 'steps'?" in error
    assert "sampler.guidance: 1 does not fit" in error
    assert "is the composition itself" in tune("--vary", GUIDANCE, "--output", "grey.yaml", code=2).stderr
    assert sorted(path.name for path in home.iterdir()) == ["colours", "grey.yaml", "space.yaml"]


def test_only_its_own_results_are_overwritten(home: Path) -> None:
    arguments = ("--vary", GUIDANCE, "--trials", "1", "--cases", "2", "--output")
    tune(*arguments, "best.yaml", "--study", "study.db")
    tune(*arguments, "best.yaml", "--study", "study.db")
    (home / "notes.yaml").write_text("# The best of my ideas.\n")
    (home / "space.yaml").write_text("sampler.steps: 1..2\n")
    before = {path: path.read_bytes() for path in home.iterdir() if path.is_file()}
    for name, reason in (
        ("study.db", "is there already and was not written by amdm tune: choose another file or remove it"),
        ("notes.yaml", "is there already and was not written by amdm tune"),
        ("grey.yaml", "is the composition itself"),
    ):
        error = tune(*arguments, name, code=2).stderr
        assert reason in error and "--output" in error and "searched:" not in error
    assert "is the file of --study" in tune(*arguments, "new.db", "--study", "./new.db", code=2).stderr
    assert "is the file of --search" in tune(*arguments, "space.yaml", "--search", "space.yaml", code=2).stderr
    assert {path: path.read_bytes() for path in home.iterdir() if path.is_file()} == before


def test_a_study_of_another_search_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--trials", "1", "--cases", "2", "--study", "study.db"]
    tune("--vary", GUIDANCE, *arguments)
    error = tune("--vary", "sampler.guidance_scale=1.0..9.0", *arguments, "--seed", "1", code=2).stderr
    assert "search space was sampler.guidance_scale=1.0..8.0, now sampler.guidance_scale=1.0..9.0" in error
    assert "seed was 0, now 1" in error and "composition" not in error
    (home / "colours" / "warm.txt").write_text("cold")
    error = tune("--vary", GUIDANCE, *arguments, code=2).stderr
    assert "something else: the contents of providers.0.palette changed. Take another file" in error
    (home / "colours" / "warm.txt").write_text("warm")
    tune("--vary", GUIDANCE, *arguments)
    error = tune("--vary", GUIDANCE, *arguments, "--set", "sampler.steps=3", code=2).stderr
    assert "something else: composition sampler.steps was 2, now 3. Take another file" in error
    error = tune("--vary", GUIDANCE, *arguments, "--dtype", "bfloat16", code=2).stderr
    assert "something else: dtype was float32, now bfloat16. Take another file" in error
    with monkeypatch.context() as patches:
        patches.setattr(toy_benchmark, "FRAMEWORK", Distribution("amdm-framework", "999"))
        patches.setattr(group, "discover", lambda: grey_registry("888"))
        error = tune("--vary", GUIDANCE, *arguments, code=2).stderr
    assert re.search(
        r"else: version of amdm-framework was \S+, now 999; version of amdm-grey was 1.0, now 888. T", error
    )


def test_without_optuna_it_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'amdm-framework[tune]'" in tune("--vary", GUIDANCE, code=2).stderr
