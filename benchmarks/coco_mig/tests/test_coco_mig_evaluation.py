"""A folder of pictures drawn by program gives exactly the scores that follow from how they were drawn."""

from __future__ import annotations

from pathlib import Path

from coco_mig_cases import GREY, PAINTS, FakeSegmenter, RectangleDetector, content, paint, write_benchmark_json
from PIL import Image

from amdm_bench_coco_mig.benchmark_file import read_benchmark
from amdm_bench_coco_mig.evaluation import examine_folder, judge_folder
from amdm_bench_coco_mig.report import make_report


def test_drawn_pictures_get_the_scores_that_were_drawn(tmp_path: Path) -> None:
    entries = read_benchmark(write_benchmark_json(tmp_path / "b.json", content()))
    pictures = {key: paint(entry.segment) for key, entry in entries.items()}
    # One of three has another's colour.
    first = entries["1"].segment[0]
    pictures["1"] = paint(entries["1"].segment, {first.label: PAINTS["blue"]})
    # Of one of four, only the left quarter is there.
    left, top, right, bottom = (round(512 * side) for side in entries["2"].segment[1].bbox)
    pictures["2"][top:bottom, left + (right - left) // 4 : right] = GREY
    # One of five is not there.
    left, top, right, bottom = (round(512 * side) for side in entries["3"].segment[2].bbox)
    pictures["3"][top:bottom, left:right] = GREY
    # There is nothing at all.
    pictures["4"][:] = GREY
    (tmp_path / "out").mkdir()
    for key, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / "out" / f"{int(entries[key].image_id):06}_{key}.png")

    usable = examine_folder(tmp_path / "out", entries, partial=False)
    scores = judge_folder(usable, entries, RectangleDetector(), FakeSegmenter(), progress=False)
    assert {key: [one.outcome for one in judged] for key, judged in scores.items()} == {
        "0": ["success"] * 2,
        "1": ["wrong_color", "success", "success"],
        "2": ["success", "misplaced", "success", "success"],
        "3": ["success", "success", "misplaced", "success", "success"],
        "4": ["not_detected"] * 6,
    }
    assert [one.iou for one in scores["2"]] == [1, 0.25, 1, 1] and scores["3"][2].iou == 0
    assert (scores["1"][0].detected_iou, scores["1"][0].iou) == (1, 0)
    (row,) = make_report([(usable, scores)], entries, "b.json", {})["rows"]
    assert [figure["percent"] for figure in row["success_rate"].values()] == [100, 200 / 3, 75, 80, 0, 55]
    assert [figure["percent"] for figure in row["mean_iou"].values()] == [100, 200 / 3, 81.25, 80, 0, 56.25]
