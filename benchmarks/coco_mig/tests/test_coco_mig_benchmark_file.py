"""Every rule of the benchmark's file, each broken once, and all mistakes together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_mig_cases import content, write_benchmark_json

from amdm_bench_coco_mig.benchmark_file import is_whole, read_benchmark, write_benchmark
from amdm_framework.batch.jobs import read_jobs
from amdm_framework.errors import InputError

Change = Callable[[dict[str, Any]], object]


def problems(path: Path, entries: Any, per_level: int | None = 1) -> list[str]:
    """What is wrong, without the file's name."""
    write_benchmark_json(path, entries)
    with pytest.raises(InputError) as raised:
        read_benchmark(path, per_level)
    assert all(problem.file == str(path) for problem in raised.value.problems)
    return [str(problem).removeprefix(f"{path}: ") for problem in raised.value.problems]


def test_a_correct_benchmark_is_read_in_its_order(tmp_path: Path) -> None:
    entries = read_benchmark(write_benchmark_json(tmp_path / "b.json", content(2)), 2)
    assert list(entries) == [str(number) for number in range(10)]
    assert [entry.level for entry in entries.values()] == [2, 3, 4, 5, 6, 2, 3, 4, 5, 6]
    segment = entries["0"].segment[1]
    assert (segment.label, segment.color, segment.thing) == ("a brown dining table", "brown", "dining table")
    assert entries["0"].caption == "a photo of a red chair and a brown dining table "
    assert not is_whole(list(entries.values()))


def test_the_whole_benchmark_has_800_entries(tmp_path: Path) -> None:
    entries = read_benchmark(write_benchmark_json(tmp_path / "b.json", content(160)), 160)
    assert len(entries) == 800 and is_whole(list(entries.values()))
    assert sum(entry.level for entry in entries.values()) == 3200


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    entries = read_benchmark(write_benchmark_json(tmp_path / "b.json", content()))
    write_benchmark(list(entries.values()), tmp_path / "again.json")
    assert read_benchmark(tmp_path / "again.json") == entries


BROKEN: list[tuple[Change, str]] = [
    (lambda b: b["1"].update(caption=b["1"]["caption"].rstrip()), "1.caption: expected 'a photo of a brown chair and a"),
    (lambda b: b["1"].update(caption="a chair "), "found 'a chair '"),
    (lambda b: b["1"].pop("caption"), "1.caption: is missing"),
    (lambda b: b["1"].update(seed=3), "1.seed: unknown key. Known keys: caption, segment, image_id"),
    (lambda b: b["1"].update(image_id="001153"), "1.image_id: string should match pattern"),
    (lambda b: b["1"].update(image_id=1153), "1.image_id: input should be a valid string, found 1153"),
    (lambda b: b["1"].update(image_id=b["0"]["image_id"]), "1.image_id: found '1000', the image of entry 0"),
    (lambda b: b["2"]["segment"][3].update(bbox=[0.1, 0.1, 0.22, 0.5]),
     "2.segment.3.bbox: expected sides of at least 1/8, found 0.1200 by 0.4000"),
    (lambda b: b["2"]["segment"][3].update(bbox=[0.1, 0.1, 0.5, 0.2]), "found 0.4000 by 0.1000"),
    (lambda b: b["2"]["segment"][3].update(bbox=[0.5, 0.1, 0.2, 0.5]), "2.segment.3.bbox: box [0.5, 0.1, 0.2"),
    (lambda b: b["2"]["segment"][3].update(bbox=[0.5, 0.1, 1.01, 0.5]), "0.5] lies outside [0, 1]"),
    (lambda b: b["2"]["segment"][3].update(bbox=[0.5, 0.1, float("nan"), 0.5]), "holds a number that is not finite"),
    (lambda b: b["2"]["segment"][3].update(bbox=["0.1", 0.1, 0.5, 0.5]), "2.segment.3.bbox: expected four numbers"),
    (lambda b: b["2"]["segment"][3].update(bbox=[True, 0.1, 0.5, 0.5]), "2.segment.3.bbox: expected four numbers"),
    (lambda b: b["2"]["segment"][3].update(bbox=[0.1, 0.1, 0.5]), "2.segment.3.bbox.3: is missing"),
    (lambda b: b["2"]["segment"][0].update(label="a pink chair"),
     "2.segment.0.label: expected 'a COLOR OBJECT' with one of the colors black, blue, brown, green, red, white, yellow"),
    (lambda b: b["2"]["segment"][0].update(label="an red chair"), "found 'an red chair'"),
    (lambda b: b["2"]["segment"][0].update(label="a red"), "found 'a red'"),
    (lambda b: b["0"].update(segment=b["0"]["segment"][:1]), "0.segment: expected 2 to 6 instances, found 1"),
    (lambda b: b["0"].update(segment=[]), "0.segment: expected at least one, found none"),
    (lambda b: b["4"].update(segment=b["4"]["segment"] * 2), "4.segment: expected 2 to 6 instances, found 12"),
    (lambda b: b.update({"3": b.pop("3")}), "4: stands where key 3 is expected"),
    (lambda b: b.update({"x": b.pop("4")}), "x: stands where key 4 is expected"),
    (lambda b: b.pop("4"), "found 0 entries of level L6, expected 1"),
    (lambda b: b.update({"1": 3}), "1: expected keys and values"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_each_mistake_is_named_with_its_key(tmp_path: Path, change: Change, message: str) -> None:
    entries = content()
    change(entries)
    assert any(message in problem for problem in problems(tmp_path / "b.json", entries))


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"label": label}
            for label in ("a red chair", "an red chair", "a red  chair", "a red chair ", "a red ", "red chair")
        ),
        *({"bbox": box} for box in ([0, 0, 1, 1], ["0", 0, 1, 1], [False, 0, 1, True], [0.5, 0, 0.5, 1], [0, 0, 2, 1])),
        *({"image_id": number} for number in ("1000", "001000", "", "12345678901234")),
    ],
    ids=str,
)
def test_amdm_batch_reads_labels_boxes_and_numbers_by_the_same_rules(tmp_path: Path, change: dict[str, Any]) -> None:
    entries = content()
    (entries["0"] if "image_id" in change else entries["0"]["segment"][0]).update(change)
    labels = [segment["label"] for segment in entries["0"]["segment"]]
    entries["0"]["caption"] = f"a photo of {' and '.join(labels)} "
    path = write_benchmark_json(tmp_path / "b.json", entries)
    job = read_jobs(path)[0]
    if not job.error:
        assert list(read_benchmark(path)) == list(entries)
        return
    with pytest.raises(InputError) as raised:
        read_benchmark(path)
    assert job.error == "; ".join(str(problem).removeprefix(f"{path}: ") for problem in raised.value.problems)


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    entries = content(2)
    entries["1"]["caption"] += " "
    entries["3"]["segment"][2]["label"] = "a violet cup"
    entries["3"]["segment"][4]["bbox"][2] = 2.0
    entries["7"]["image_id"] = entries["5"]["image_id"]
    del entries["9"]
    found = problems(tmp_path / "b.json", entries, 2)
    assert [problem.partition(":")[0] for problem in found] == [
        "1.caption", "3.segment.2.label", "3.segment.4.bbox", "3.caption", "7.image_id",
        "found 1 entries of level L6, expected 2",
    ]  # fmt: skip


def test_a_side_of_exactly_one_eighth_is_enough_however_it_is_rounded(tmp_path: Path) -> None:
    entries = content()
    left = 0.02
    assert (left + 0.125) - left < 0.125
    entries["0"]["segment"][0]["bbox"] = [left, 0.0, left + 0.125, 1.0]
    read_benchmark(write_benchmark_json(tmp_path / "b.json", entries), 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a JSON object, found list"),
        ("{", "not valid JSON"),
        ("{}", "holds no entries"),
        ('{"0": 1, "0": 2}', "key '0' stands there twice"),
    ],
)
def test_what_is_no_benchmark(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_benchmark(tmp_path / "b.json")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: no such file"):
        read_benchmark(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_benchmark(tmp_path)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_benchmark(tmp_path / "b.json")
