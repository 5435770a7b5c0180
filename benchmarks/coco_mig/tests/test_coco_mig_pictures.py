"""Pictures are found by their keys, read whole or not at all, and scaled as the published evaluation scales them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coco_mig_cases import content, draw_all, paint, write_benchmark_json
from PIL import Image

from amdm_bench_coco_mig.benchmark_file import read_benchmark
from amdm_bench_coco_mig.evaluation import examine_folder
from amdm_bench_coco_mig.pictures import find_pictures, read_picture
from amdm_framework.batch.coco_mig import Entry
from amdm_framework.errors import InputError


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, Entry]:
    draw_all(tmp_path / "out", content())
    return read_benchmark(write_benchmark_json(tmp_path / "b.json", content()))


def test_pictures_are_found_by_the_key_at_the_end_of_their_names(tmp_path: Path, entries: dict[str, Entry]) -> None:
    out = tmp_path / "out"
    (out / "001000_0.png").rename(out / "any thing_0.png")
    (out / "ledger.jsonl").touch()
    (out / "grid.png").touch()
    found = find_pictures(out, entries)
    assert {key: path.name for key, path in found.items()} == {
        "0": "any thing_0.png", "1": "001007_1.png", "2": "001014_2.png", "3": "001021_3.png", "4": "001028_4.png"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["12_0.png", "12345_0.png", "20240131120000_0.png", "0001000_0.png", "seed42_0.png"])
def test_other_digits_in_front_of_the_key_are_not_an_image(
    tmp_path: Path, entries: dict[str, Entry], name: str
) -> None:
    (tmp_path / "out" / "001000_0.png").rename(tmp_path / "out" / name)
    assert find_pictures(tmp_path / "out", entries)["0"].name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("001000_5.png", "the benchmark has no entry 5; is this another benchmark?"),
        ("001001_0.png", "entry 0 of the benchmark is of image 1000; is this another benchmark?"),
        ("1001000_0.png", "entry 0 of the benchmark is of image 1000; is this another benchmark?"),
        ("second_0.png", "is a second picture of entry 0, beside 001000_0.png"),
    ],
)
def test_pictures_of_another_benchmark_are_refused(
    tmp_path: Path, entries: dict[str, Entry], name: str, message: str
) -> None:
    (tmp_path / "out" / name).touch()
    with pytest.raises(InputError) as raised:
        find_pictures(tmp_path / "out", entries)
    assert message in str(raised.value)


def test_missing_and_unreadable_pictures_are_all_named(tmp_path: Path, entries: dict[str, Entry]) -> None:
    out = tmp_path / "out"
    (out / "001007_1.png").unlink()
    cut = out / "001014_2.png"
    cut.write_bytes(cut.read_bytes()[:-60])
    (out / "001021_3.png").write_text("nothing")
    with pytest.raises(InputError) as raised:
        examine_folder(out, entries, partial=False)
    text = str(raised.value)
    assert "1 of 5 pictures are missing, those of the entries 1" in text
    assert "001014_2.png: is not a picture that can be read" in text
    assert "001021_3.png: is not a picture that can be read" in text
    assert "score what is there with --partial" in text
    usable = examine_folder(out, entries, partial=True)
    assert (list(usable.pictures), usable.missing, usable.unreadable) == (["0", "4"], ("1",), ("2", "3"))


def test_a_folder_without_pictures_is_refused_even_in_part(tmp_path: Path, entries: dict[str, Entry]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="5 of 5 pictures are missing"):
        examine_folder(tmp_path / "empty", entries, partial=True)
    with pytest.raises(InputError, match="none: cannot be read: No such file"):
        examine_folder(tmp_path / "none", entries, partial=True)


def test_a_picture_is_read_as_red_green_blue(tmp_path: Path) -> None:
    picture = paint(content()["4"]["segment"])
    Image.fromarray(picture).save(tmp_path / "x_0.png")
    assert np.array_equal(read_picture(tmp_path / "x_0.png"), picture)


@pytest.mark.parametrize("size", [(1024, 1024), (256, 256), (512, 640), (640, 768)])
def test_another_size_is_scaled(tmp_path: Path, size: tuple[int, int]) -> None:
    # A picture whose left half is red stays one.
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "x_0.png")
    read = read_picture(tmp_path / "x_0.png")
    assert read.shape == (512, 512, 3)
    assert (read[:, :255] == [255, 0, 0]).all() and (read[:, 257:] == 0).all()


@pytest.mark.parametrize("width", [512, 640, 300])
def test_a_picture_of_the_right_height_is_judged_as_it_is(tmp_path: Path, width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (512, width, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "x_0.png")
    assert np.array_equal(read_picture(tmp_path / "x_0.png"), picture)


def test_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((512, 512), np.uint16)).save(tmp_path / "x_0.png")
    with pytest.raises(InputError, match="more than 8 bits"):
        read_picture(tmp_path / "x_0.png")
