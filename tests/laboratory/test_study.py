"""Searches that are interrupted, killed and taken up again; no models are needed for that."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from amdm_framework.errors import AMDMError, CheckpointError, IncompatibleProvidersError, InputError
from amdm_framework.laboratory.search_space import Point, parse_space
from amdm_framework.laboratory.study import Study, Suggest, Trial, require_optuna
from amdm_framework.laboratory.study_lock import locked

SPACE = parse_space(["a=0..10", "b=0.0..1.0", "c=x,y"])
IDENTITY = {"search space": "a and b", "seed": "0"}
START = {"a": 2, "b": 0.5}


def propose(suggest: Suggest) -> Point:
    return {dimension.key: suggest(dimension) for dimension in SPACE}


def objective(point: Point) -> float:
    """Highest (60) at a=7, b=0.3, c=y; settings with a=3 are not valid."""
    if not point:
        return 1.0
    if point["a"] == "3":
        raise InputError("three is not valid")
    return 50 - 5 * abs(int(point["a"]) - 7) - 20 * abs(float(point["b"]) - 0.3) + 10 * (point["c"] == "y")


class Interrupting:
    """The objective, until it was asked some times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, point: Point) -> float:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return objective(point)


def run(file: Path | None, trials: int, seed: int = 0, score: Callable[[Point], float] = objective) -> list[Trial]:
    """All trials, after as many as are wanted in total."""
    study = Study(file, IDENTITY, SPACE, START, seed)
    study.run(trials, propose, score, lambda trial: None)
    return study.trials()


@pytest.fixture(scope="module")
def uninterrupted() -> list[Trial]:
    return run(None, 25)


def test_the_first_trial_is_the_start_and_others_lead_to_the_optimum(uninterrupted):
    assert uninterrupted[0] == Trial({}, 1.0, is_start=True)
    assert len(uninterrupted) == 25 and [trial.is_start for trial in uninterrupted].count(True) == 1
    best = max(uninterrupted, key=lambda trial: trial.score or 0)
    assert best.settings["a"] == "7" and best.settings["c"] == "y" and abs(float(best.settings["b"]) - 0.3) < 0.1
    # The first are anywhere, the last near the best.
    late = [trial.score for trial in uninterrupted[15:] if trial.score is not None]
    early = [trial.score for trial in uninterrupted[1:11] if trial.score is not None]
    assert sum(late) / len(late) > sum(early) / len(early)


def test_the_seed_decides(uninterrupted):
    assert run(None, 8) == uninterrupted[:8]
    assert run(None, 8, seed=1)[1:] != uninterrupted[1:8]


def test_settings_that_are_not_valid_count_and_do_not_stop_it(uninterrupted):
    invalid = [trial for trial in uninterrupted if trial.score is None]
    assert invalid and all(trial.settings["a"] == "3" for trial in invalid)


@pytest.mark.parametrize("error", [InputError, IncompatibleProvidersError, CheckpointError, AMDMError])
def test_settings_that_cannot_be_scored_end_neither_this_search_nor_the_next(tmp_path, error):
    space = parse_space(["a=x,y"])

    def score(point: Point) -> float:
        if point.get("a") == "y":
            raise error("they do\nnot fit")
        return 1.0

    for total in (8, 10):
        study = Study(tmp_path / "study.db", {}, space, {}, 0)
        seen: list[Trial] = []
        study.run(total, lambda suggest: {"a": suggest(space[0])}, score, seen.append)
        trials = study.trials()
        assert len(trials) == total and trials[-len(seen) :] == seen
    assert {(trial.score, trial.reason) for trial in trials if trial.settings.get("a") == "y"} == {
        (None, "they do not fit")
    }


@pytest.mark.parametrize("fails", ["objective", "on_trial"])
def test_errors_that_are_not_of_the_file_stay_what_they_are(tmp_path, fails):
    def unreachable(_: object) -> float:
        raise ConnectionError("no network")

    study = Study(tmp_path / "study.db", IDENTITY, SPACE, START, 0)
    with pytest.raises(ConnectionError, match="no network"):
        study.run(3, propose, **{"objective": objective, "on_trial": lambda trial: None} | {fails: unreachable})
    assert len(study.trials()) == (fails == "on_trial")


def test_a_file_that_cannot_be_written_any_more_is_explained(tmp_path):
    file = tmp_path / "study.db"

    def lose(trial: Trial) -> None:
        file.write_bytes(b"something else" * 1000)

    with pytest.raises(InputError, match="--study: cannot keep the study here: "):
        Study(file, IDENTITY, SPACE, START, 0).run(3, propose, objective, lose)


def test_a_start_that_cannot_be_scored_stops_it():
    def fail(point: Point) -> float:
        raise InputError("nothing is asked for")

    with pytest.raises(InputError, match="nothing is asked for"):
        run(None, 3, score=fail)


def test_settings_that_come_again_are_not_scored_again():
    space = parse_space(["a=x,y"])
    asked: list[Point] = []
    study = Study(None, {}, space, {"a": "x"}, 0)

    def score(point: Point) -> float:
        asked.append(point)
        return 1.0

    study.run(12, lambda suggest: {"a": suggest(space[0])}, score, lambda trial: None)
    assert len(study.trials()) == 12
    assert sorted(point.get("a", "") for point in asked) == ["", "x", "y"]


def test_interrupted_and_taken_up_it_finds_what_an_uninterrupted_one_finds(tmp_path, uninterrupted):
    # Names that would mean something in an address.
    file = tmp_path / "a study?#.db"
    for times in (0, 5):
        with pytest.raises(KeyboardInterrupt):
            run(file, 16, score=Interrupting(times))
    assert run(file, 8) == uninterrupted[:8]
    assert run(file, 16) == uninterrupted[:16]
    # As many as there are, or fewer: nothing is left to do.
    assert run(file, 12, score=Interrupting(0)) == uninterrupted[:16]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_importance_tells_what_matters_from_what_does_not():
    space = parse_space(["matters=0.0..1.0", "idle=0.0..1.0"])
    study = Study(None, {}, space, {}, 0)

    def score(point: Point) -> float:
        return 100 * float(point["matters"]) if point else 0.0

    study.run(10, lambda suggest: {one.key: suggest(one) for one in space}, score, lambda trial: None)
    assert study.importance() == {}
    study.run(40, lambda suggest: {one.key: suggest(one) for one in space}, score, lambda trial: None)
    importance = study.importance()
    assert importance["matters"] > 0.6 > importance["idle"] and sum(importance.values()) == pytest.approx(1)


def test_a_file_of_another_search_is_refused(tmp_path):
    file = tmp_path / "study.db"
    # An empty file is as good as none.
    file.touch()
    run(file, 1)
    before = file.read_bytes()
    with pytest.raises(InputError) as raised:
        Study(file, {"search space": "a alone", "seed": "0"}, SPACE, START, 0)
    assert str(raised.value) == (
        f"{file}: --study: this study searched something else: search space was a and b, now a alone. "
        "Take another file for it"
    )
    assert file.read_bytes() == before


def test_what_is_no_study_is_refused_and_left_alone(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("no database at all\n" * 100)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE accounts (name TEXT)")
    connection.close()
    for file, message in (
        (text, "is not a study, which is an SQLite database"),
        (other, "something else than studies"),
    ):
        before = file.read_bytes()
        with pytest.raises(InputError, match=message):
            Study(file, IDENTITY, SPACE, START, 0)
        assert file.read_bytes() == before
    with pytest.raises(InputError, match="cannot keep the study here"):
        Study(tmp_path / "none" / "study.db", IDENTITY, SPACE, START, 0)


def test_somebody_elses_study_is_refused(tmp_path):
    optuna = require_optuna()
    file = tmp_path / "own.db"
    optuna.create_study(storage=f"sqlite:///{file}", study_name="own")
    with pytest.raises(InputError, match="this study is not one of `amdm tune`"):
        Study(file, IDENTITY, SPACE, START, 0)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'amdm-framework\[tune\]'"):
        Study(None, IDENTITY, SPACE, START, 0)


def test_a_file_system_without_locks_is_explained_and_nothing_is_left_open(tmp_path, monkeypatch):
    def refuse(descriptor: int, operation: int) -> None:
        opened.append(descriptor)
        raise OSError(errno.ENOLCK, "No locks available")

    opened: list[int] = []
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match="--study: cannot be locked here: No locks"), locked(tmp_path / "study.db"):
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
    assert list(tmp_path.iterdir()) == []


def test_one_search_at_a_time(tmp_path):
    file = tmp_path / "study.db"
    with locked(file), pytest.raises(InputError, match="another process works on this study"), locked(file):
        pass
    with locked(file):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="cannot write to this folder"), locked(tmp_path / "none" / "study.db"):
        pass
