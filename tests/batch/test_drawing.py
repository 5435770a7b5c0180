"""A group is one batch; whatever cannot be drawn in it fails alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from amdm_framework.batch.drawing import Drawer
from amdm_framework.record import read_record

from .conftest import COMPOSITION, REGISTRY, job

MakeDrawer = Callable[[], Drawer]


def test_a_group_is_drawn_as_one_batch_and_the_order_is_kept(make_drawer: MakeDrawer, batches: list[int]) -> None:
    jobs = [job("one"), job("two"), job("three")]
    drawn = make_drawer().draw(jobs)
    assert [one.name for one in drawn] == ["one", "two", "three"] and batches == [3]
    single = [make_drawer().draw([each])[0].png for each in jobs]
    # Sums of a toy do not depend on the batch.
    assert [one.png for one in drawn] == single and len(set(single)) == 3


def test_one_refused_scene_is_found_by_halving(make_drawer: MakeDrawer, batches: list[int]) -> None:
    drawn = make_drawer().draw([job("one"), job("two"), job("refuse this"), job("four")])
    assert [one.error for one in drawn] == [None, None, "this model draws no such thing", None]
    assert [one.png is None for one in drawn] == [False, False, True, False]
    assert batches == [4, 2, 2, 1, 1]


def test_a_defect_of_a_model_tells_its_kind(make_drawer: MakeDrawer) -> None:
    crashed, other = make_drawer().draw([job("crash"), job("one")])
    assert crashed.error == "IndexError: index 3 is out of range" and other.png


def test_a_batch_too_large_for_memory_is_drawn_in_halves(make_drawer: MakeDrawer, batches: list[int]) -> None:
    drawn = make_drawer().draw([job(f"scene {number}") for number in range(7)])
    assert all(one.png for one in drawn) and batches == [7, 3, 4]
    (huge,) = make_drawer().draw([job("huge")])
    assert huge.error == "too little memory to draw it: CUDA out of memory"


def test_latents_that_are_not_finite_fail_alone_without_another_run(
    make_drawer: MakeDrawer, batches: list[int]
) -> None:
    with pytest.warns(UserWarning, match="not finite"):
        drawn = make_drawer().draw([job("one"), job("nan"), job("three")])
    assert [one.png is None for one in drawn] == [False, True, False] and batches == [3]
    assert (
        drawn[1].error
        == "the latents are not finite at the end: a smaller guidance scale, step size or weight may help"
    )


def test_a_scene_that_a_member_cannot_read_takes_no_part(make_drawer: MakeDrawer, batches: list[int]) -> None:
    no_caption, good, unread = make_drawer().draw([job("", name="empty"), job("one"), job("x", name="y", seed=1)])
    assert no_caption.error == "provider toy: a toy needs a caption"
    assert good.png and unread.png and batches == [2]


def test_a_device_that_failed_ends_the_drawer(make_drawer: MakeDrawer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    drawer = make_drawer()
    monkeypatch.setattr(drawer, "pipeline", fail)
    with pytest.raises(torch.AcceleratorError):
        drawer.draw([job("one"), job("two")])


def test_a_picture_records_its_own_scene_and_seed(make_drawer: MakeDrawer, tmp_path: Path) -> None:
    drawn = make_drawer().draw([job("one", seed=4), job("two", seed=5)])
    assert drawn[1].png is not None
    (tmp_path / "two.png").write_bytes(drawn[1].png)
    record = read_record(tmp_path / "two.png")
    assert (record.seeds, record.position, record.scene) == ((5,), 0, {"caption": "two"})
    assert record.composition == COMPOSITION
    plain = Drawer(COMPOSITION, ".", "cpu", "float32", False, REGISTRY).draw([job("two", seed=5)])[0].png
    assert plain is not None
    with Image.open(io.BytesIO(plain)) as picture, Image.open(tmp_path / "two.png") as with_record:
        assert picture.info == {} and picture.tobytes() == with_record.tobytes()
