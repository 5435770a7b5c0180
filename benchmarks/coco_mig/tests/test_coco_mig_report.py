"""Figures pooled as the published ones, and the table that sets them beside those."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from coco_mig_cases import content, write_benchmark_json

from amdm_bench_coco_mig.benchmark_file import read_benchmark
from amdm_bench_coco_mig.evaluation import Usable
from amdm_bench_coco_mig.judging import InstanceScore
from amdm_bench_coco_mig.published import PUBLISHED
from amdm_bench_coco_mig.report import make_report
from amdm_bench_coco_mig.table import table
from amdm_framework.batch.coco_mig import Entry

JUDGES = {"detector": "hf://a/dino", "segmenter": "hf://b/sam"}
SUCCESS = InstanceScore("a red chair", "success", 0.75, 0.75, 1.0)
ABSENT = InstanceScore("a red chair", "not_detected", 0.0, 0.0)
MISPLACED = InstanceScore("a red chair", "misplaced", 0.25, 0.25)
WRONG = InstanceScore("a red chair", "wrong_color", 0.75, 0.0, 0.1)
EMPTY = InstanceScore("a red chair", "empty_mask", 0.75, 0.0)


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, Entry]:
    """Ten entries, two of each level."""
    return read_benchmark(write_benchmark_json(tmp_path / "b.json", content(2)))


def report_of(
    entries: dict[str, Entry], scores: dict[str, list[InstanceScore]], seconds: dict[str, float] | None = None
) -> dict[str, Any]:
    missing = tuple(key for key in entries if key not in scores)
    usable = Usable(Path("out"), {key: Path(f"{key}.png") for key in scores}, missing, (), seconds or {})
    return make_report([(usable, scores)], entries, "b.json", JUDGES)


def test_levels_are_over_their_instances_and_the_average_over_all(entries: dict[str, Entry]) -> None:
    # All right where there are two instances, nothing elsewhere: 4 of 40, not one level of five.
    scores = {key: [SUCCESS if entry.level == 2 else ABSENT] * entry.level for key, entry in entries.items()}
    (row,) = report_of(entries, scores)["rows"]
    assert {level: figure["percent"] for level, figure in row["success_rate"].items()} == {
        "L2": 100.0, "L3": 0.0, "L4": 0.0, "L5": 0.0, "L6": 0.0, "Avg": 10.0
    }  # fmt: skip
    assert row["mean_iou"]["L2"]["percent"] == 75.0 and row["mean_iou"]["Avg"]["percent"] == 7.5
    assert [row["success_rate"][level]["instances"] for level in ("L2", "L6", "Avg")] == [4, 12, 40]
    # All pictures of a level are equal, and so drawing them again says nothing.
    assert row["success_rate"]["Avg"]["interval"] is None
    assert row["outcomes"] == {
        "success": 4, "not_detected": 36, "misplaced": 0, "empty_mask": 0, "wrong_color": 0
    }  # fmt: skip
    assert not row["partial"]


def test_every_outcome_counts_as_the_evaluation_code_counts_it(entries: dict[str, Entry]) -> None:
    scores = {key: [ABSENT] * entry.level for key, entry in entries.items()}
    scores["3"] = [SUCCESS, ABSENT, MISPLACED, WRONG, EMPTY]
    (row,) = report_of(entries, scores)["rows"]
    assert row["success_rate"]["L5"]["percent"] == pytest.approx(100 / 10)
    assert row["mean_iou"]["L5"]["percent"] == pytest.approx(100 * (0.75 + 0.25) / 10)
    low, high = row["success_rate"]["L5"]["interval"]
    assert (low, high) == (0.0, 20.0)
    assert row["instances"]["3"][3] == {
        "label": "a red chair", "outcome": "wrong_color", "detected_iou": 0.75, "iou": 0.0, "color_fraction": 0.1
    }  # fmt: skip


def test_the_papers_averages_are_those_of_counts_over_all_instances() -> None:
    # Whole counts of 320, 480, 640, 800 and 960 instances, cut to two digits: so "Avg" can be recomputed.
    sizes = {"L2": 320, "L3": 480, "L4": 640, "L5": 800, "L6": 960}
    for name in ("InteractDiffusion", "InteractDiffusion(+MIGC)"):
        rates = PUBLISHED[name]["success_rate"]
        counts = {level: -(-rates[level] * size // 100) for level, size in sizes.items()}
        assert all(int(10_000 * counts[level] / size) / 100 == rates[level] for level, size in sizes.items())
        # The last digit of the second is rounded up.
        assert 100 * sum(counts.values()) / 3200 == pytest.approx(rates["Avg"], abs=0.01)
        overlaps = PUBLISHED[name]["mean_iou"]
        pooled = sum(overlaps[level] * size for level, size in sizes.items()) / 3200
        assert pooled == pytest.approx(overlaps["Avg"], abs=0.01)


def test_the_table_has_the_layout_of_the_papers(entries: dict[str, Entry]) -> None:
    scores = {key: [SUCCESS] * entry.level for key, entry in entries.items()}
    lines = table(report_of(entries, scores)).splitlines()
    assert (
        lines[0].split("|")[1].strip() == "Instance success rate (%)"
        and lines[0].split("|")[2].strip() == "mIoU score (%)"
    )
    levels = ["L2", "L3", "L4", "L5", "L6", "Avg", "|"]
    assert lines[1].split() == ["Method", "|", *levels, *levels]
    assert lines[3].split() == ["out", "|", *["100.00"] * 6, "|", *["75.00"] * 6, "|", "-"]
    assert lines[5].split() == ["to", "|", *["-"] * 6, "|", *["-"] * 6, "|"]
    assert lines[4].split()[:5] == ["95", "%", "interval,", "from", "|"]
    paper = next(line for line in lines if line.startswith("InteractDiffusion(+MIGC) *"))
    assert paper.split()[3:9] == ["57.18", "52.91", "52.65", "49.62", "47.39", "50.81"]
    assert paper.split()[10:] == [*["50.73", "45.54", "44.66", "43.54", "43.23", "44.69"], "|", "19.45"]
    page = next(line for line in lines if line.startswith("GLIGEN **"))
    assert page.split()[3:9] == ["-"] * 5 + ["30.00"]
    text = "\n".join(lines)
    assert "*  not measured here: Aggregation of Multi Diffusion Models, Table 1" in text
    assert "** not measured here: LeyRio/MIG_Bench" in text
    assert "not the whole benchmark (2 of L2, 2 of L3, 2 of L4, 2 of L5, 2 of L6; the published one has 160" in text


def test_the_time_is_the_mean_of_the_pictures_whose_time_is_known(entries: dict[str, Entry]) -> None:
    scores = {key: [SUCCESS] * entry.level for key, entry in entries.items()}
    report = report_of(entries, scores, {"1": 1.5, "2": 2.5, "5": 1.0, "9": 2.0})
    assert (report["rows"][0]["seconds"], report["rows"][0]["timed_pictures"]) == (1.75, 4)
    lines = table(report).splitlines()
    assert lines[3].split()[-2:] == ["|", "1.75"] and lines[3].endswith("    1.75")
    assert any(
        line.endswith("without the loading of the models: measured of 4 of 10 pictures in out.") for line in lines
    )
    unknown = report_of(entries, scores)
    assert (unknown["rows"][0]["seconds"], unknown["rows"][0]["timed_pictures"]) == (None, 0)
    assert "Time of a picture" not in table(unknown)


def test_the_whole_benchmark_is_not_called_a_part(tmp_path: Path) -> None:
    entries = read_benchmark(write_benchmark_json(tmp_path / "b.json", content(160)))
    report = report_of(entries, {key: [SUCCESS] * entry.level for key, entry in entries.items()})
    assert report["benchmark"]["whole"] and "not the whole" not in table(report)
    assert report["rows"][0]["success_rate"]["Avg"]["instances"] == 3200


def test_a_part_says_that_it_is_one(entries: dict[str, Entry]) -> None:
    report = report_of(entries, {"0": [SUCCESS, ABSENT], "6": [SUCCESS] * 3})
    (row,) = report["rows"]
    assert row["partial"] and row["pictures"] == 2 and len(row["missing"]) == 8
    assert row["success_rate"]["L4"] is None and row["success_rate"]["Avg"]["percent"] == 80.0
    text = table(report)
    assert "out (only 2 pictures)" in text
    assert "out: scored on 2 of 10 pictures; 8 are missing, 0 cannot be read." in text
    assert json.loads(json.dumps(report)) == report
