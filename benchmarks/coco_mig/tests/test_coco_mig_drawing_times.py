"""How long pictures take is measured where they are drawn, and read again whatever became of the file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from amdm_bench_coco_mig.drawing_times import FILE_NAME, TimedEngine, read_times
from amdm_framework.batch.drawing import Drawn
from amdm_framework.batch.engine import Results
from amdm_framework.batch.jobs import Job, make_job
from amdm_framework.errors import InputError


class SlowEngine:
    """Needs some seconds for each group; of scenes with the caption `wrong` there is no picture."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._seconds = seconds
        self.closed = False

    def run(self, groups: Iterable[Sequence[Job]]) -> Results:
        try:
            for group, seconds in zip(groups, self._seconds, strict=False):
                time.sleep(seconds)
                wrong = [job.scene["caption"] == "wrong" for job in group]
                yield (
                    group,
                    [
                        Drawn(job.name, error="x") if bad else Drawn(job.name, b"")
                        for job, bad in zip(group, wrong, strict=True)
                    ],
                )
        finally:
            self.closed = True


def job(name: str, caption: str = "right") -> Job:
    return make_job(name, {"caption": caption}, Path())


def test_a_picture_takes_its_part_of_its_group_without_loading_and_writing(tmp_path: Path) -> None:
    engine = SlowEngine([0.6, 0.02, 0.2, 0.0])
    groups = [[job("a")], [job("b")], [job("c"), job("d"), job("e", "wrong")], [job("f", "wrong")]]
    for _ in TimedEngine(engine, tmp_path).run(groups):
        time.sleep(0.6)
    times = read_times(tmp_path)
    assert list(times) == ["b.png", "c.png", "d.png"]
    assert 0.02 <= times["b.png"] < 0.6
    assert times["c.png"] == times["d.png"] and 0.1 <= times["c.png"] < 0.3


def test_results_are_those_of_the_engine_and_closing_ends_it(tmp_path: Path) -> None:
    groups = [[job("a")], [job("b"), job("c", "wrong")], [job("d")]]
    expected = list(SlowEngine([0, 0, 0]).run(groups))
    assert list(TimedEngine(SlowEngine([0, 0, 0]), tmp_path).run(groups)) == expected
    assert list(TimedEngine(SlowEngine([]), tmp_path).run([])) == []
    for taken in (1, 2):
        engine = SlowEngine([0, 0, 0])
        results = TimedEngine(engine, tmp_path).run(groups)
        assert [next(results) for _ in range(taken)] == expected[:taken]
        results.close()
        assert engine.closed


def test_the_later_time_counts_and_damaged_lines_do_not(tmp_path: Path) -> None:
    assert read_times(tmp_path) == {}
    lines = [
        '{"picture": "a.png", "seconds": 1.5}',
        '{"picture": "b.png", "seconds": 2}',
        '{"picture": "a.png", "seconds": 3.5}',
        '{"picture": "c.png", "seconds": NaN}',
        '{"picture": "d.png", "seconds": -1}',
        '{"picture": "e.png", "seconds": "1"}',
        "[]",
        '{"picture": "f.png", "sec',
    ]
    (tmp_path / FILE_NAME).write_bytes("\n".join(lines).encode() + b"\xff")
    assert read_times(tmp_path) == {"a.png": 3.5, "b.png": 2.0}


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(InputError, match=f"{FILE_NAME}: cannot be read: Is a directory"):
        read_times(tmp_path)
    with pytest.raises(InputError, match=f"{FILE_NAME}: cannot be written: Is a directory"):
        list(TimedEngine(SlowEngine([0, 0]), tmp_path).run([[job("a")], [job("b")]]))
