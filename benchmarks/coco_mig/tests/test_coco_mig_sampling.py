"""Sampling on made-up annotations that exercise one rule each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from amdm_bench_coco_mig.benchmark_file import read_benchmark, write_benchmark
from amdm_bench_coco_mig.coco_annotations import AnnotatedImage, read_annotations
from amdm_bench_coco_mig.sampling import sample_benchmark
from amdm_framework.batch.coco_mig import Entry
from amdm_framework.errors import InputError

CATEGORIES = dict(enumerate(["person", "cat", "dog", "traffic light", "cup", "car", "bus", "sheep"], start=1))
# Images of this size: an eighth is 80 by 60 pixels.
WIDTH, HEIGHT = 640, 480


def annotations(*images: list[tuple[int, list[float]]]) -> dict[str, Any]:
    """A file of images 100, 101, ..., each with categories and boxes (left, top, width, height in pixels)."""
    return {
        "info": {"year": 2014},
        "images": [{"id": 100 + n, "width": WIDTH, "height": HEIGHT, "file_name": "x.jpg"} for n in range(len(images))],
        "annotations": [
            {"id": 9, "image_id": 100 + n, "category_id": category, "bbox": box, "iscrowd": 0, "segmentation": [[1, 2]]}
            for n, image in enumerate(images)
            for category, box in image
        ],
        "categories": [{"id": number, "name": name, "supercategory": "x"} for number, name in CATEGORIES.items()],
    }


def read(folder: Path, content: Any) -> list[AnnotatedImage]:
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return read_annotations(path)


def sample_one(folder: Path, *image: tuple[int, list[float]]) -> Entry | None:
    """The entry of an image, or None where it is skipped: beside images that fill each level once."""
    plain = [[(2, [0, 0, 100, 100])] * level for level in range(2, 7)]
    for seed in range(20):
        entries = sample_benchmark(read(folder, annotations(list(image), *plain)), seed, 1)
        for entry in entries:
            if entry.image_id == "100":
                return entry
    return None


LARGE = [0.0, 0.0, 320.0, 240.0]


def test_boxes_are_fractions_and_labels_have_colours(tmp_path: Path) -> None:
    entry = sample_one(tmp_path, (2, [64, 48, 128, 96]), (4, LARGE))
    assert entry is not None
    assert entry.segment[0].bbox == pytest.approx((0.1, 0.1, 0.3, 0.3)) and entry.segment[1].bbox == (0, 0, 0.5, 0.5)
    assert [segment.thing for segment in entry.segment] == ["cat", "traffic light"]


def test_small_instances_are_dropped(tmp_path: Path) -> None:
    narrow, low, exact = [0, 0, 79, 400], [0, 0, 400, 59], [0, 0, 80, 60]
    entry = sample_one(tmp_path, (2, narrow), (3, exact), (2, low), (4, LARGE))
    assert entry is not None and [segment.thing for segment in entry.segment] == ["dog", "traffic light"]
    assert sample_one(tmp_path, (2, narrow), (3, exact), (2, low)) is None


def test_images_with_a_person_are_skipped(tmp_path: Path) -> None:
    assert sample_one(tmp_path, (2, LARGE), (1, LARGE), (3, LARGE)) is None
    # One that was dropped for its size is not in the picture's layout.
    entry = sample_one(tmp_path, (2, LARGE), (1, [0, 0, 10, 10]), (3, LARGE))
    assert entry is not None and [segment.thing for segment in entry.segment] == ["cat", "dog"]


def test_of_more_than_six_the_first_six_are_taken_the_largest_first(tmp_path: Path) -> None:
    sizes = [100, 300, 200, 150, 250, 350, 400]
    entry = sample_one(tmp_path, *((2, [0, 0, size, size]) for size in sizes))
    assert entry is not None and entry.level == 6
    assert [round(segment.bbox[2] * WIDTH) for segment in entry.segment] == [350, 300, 250, 200, 150, 100]
    # Of six, the order is that of the file.
    entry = sample_one(tmp_path, *((2, [0, 0, size, size]) for size in sizes[:6]))
    assert entry is not None and [round(segment.bbox[2] * WIDTH) for segment in entry.segment] == sizes[:6]


def test_a_box_that_leaves_the_image_by_a_rounding_step_is_cut(tmp_path: Path) -> None:
    entry = sample_one(tmp_path, (2, [320, 240, 320.01, 240.01]), (3, LARGE))
    assert entry is not None and entry.segment[0].bbox == (0.5, 0.5, 1.0, 1.0)


def many(count: int) -> dict[str, Any]:
    """Images with two to seven instances of two kinds."""
    return annotations(*([(2 + (n // 6 + k * k) % 7, [10 * k, 0, 100 + k, 100 + n % 50]) for k in range(2 + n % 6)]
                         for n in range(count)))  # fmt: skip


def test_each_level_is_filled_and_captions_and_images_are_there_once(tmp_path: Path) -> None:
    # Of cats alone there are 49 captions of two.
    cats = annotations(*([(2, LARGE)] * level for level in (2,) * 400 + (3, 4, 5, 6) * 90))
    entries = sample_benchmark(read(tmp_path, cats), 0, 45)
    assert Counter(entry.level for entry in entries) == dict.fromkeys(range(2, 7), 45)
    assert len({entry.caption for entry in entries}) == len({entry.image_id for entry in entries}) == 225
    with pytest.raises(InputError, match="found 49 of level L2, .*expected 50 of each"):
        sample_benchmark(read(tmp_path, annotations(*([(2, LARGE)] * 2,) * 2000)), 0, 50)


def test_a_sample_is_a_correct_benchmark_and_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    images = read(tmp_path, many(1500))
    for name, seed, order in (("a", 3, images), ("b", 3, images[::-1]), ("c", 4, images)):
        write_benchmark(sample_benchmark(order, seed), tmp_path / name)
    entries = read_benchmark(tmp_path / "a", 160)
    assert len(entries) == 800
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
    # Not in the order of the file, levels mixed.
    numbers = [int(entry.image_id) for entry in entries.values()]
    assert numbers != sorted(numbers) and len({entry.level for entry in list(entries.values())[:20]}) > 1


def test_colours_are_uniform(tmp_path: Path) -> None:
    entries = sample_benchmark(read(tmp_path, many(1500)), 0)
    counts = Counter(segment.color for entry in entries for segment in entry.segment)
    # 3200 instances of 7 colours: 457 each with a standard deviation of 20.
    assert sum(counts.values()) == 3200 and len(counts) == 7
    assert all(abs(count - 3200 / 7) < 4 * 20 for count in counts.values())


def test_the_numbers_of_a_seed_are_those_of_pythons_promised_method(tmp_path: Path) -> None:
    # The first number of seed 0, by the documentation of `random`, orders the first image, and so on.
    (first, *_) = sample_benchmark(read(tmp_path, annotations(*([(2, LARGE)] * level for level in range(2, 7)))), 0, 1)
    numbers = [0.8444218515250481, 0.7579544029403025, 0.420571580830845, 0.25891675029296335, 0.5112747213686085]
    assert int(first.image_id) == 100 + numbers.index(min(numbers))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": None}, "annotations: expected a list"),
        ({"categories": [{"id": 1, "name": "a  b"}]}, r"categories\.0\.name: string should match pattern"),
        ({"images": [{"id": 1, "width": 0, "height": 5}]}, r"images\.0\.width: input should be greater than 0"),
        ({"images": []}, r"annotations\.0\.image_id: there is none with the id 100"),
        ({"categories": []}, r"annotations\.0\.category_id: there is none with the id 2"),
    ],
)
def test_wrong_annotations_are_refused_with_their_keys(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        read(tmp_path, {**annotations([(2, LARGE), (2, LARGE)]), **change})
    assert "expected the annotations of COCO's instances" in str(raised.value)


def test_another_file_of_coco_is_refused(tmp_path: Path) -> None:
    captions = {"images": [], "annotations": [{"image_id": 1, "id": 2, "caption": "x"}] * 50}
    with pytest.raises(InputError, match="annotations.0.category_id: is missing") as raised:
        read(tmp_path, captions)
    assert len(raised.value.problems) == 22 and "more mistakes" in str(raised.value)
