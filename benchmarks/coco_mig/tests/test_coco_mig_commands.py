"""The commands as somebody calls them: what they print, and what they say to wrong input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coco_mig_cases import bench, content, draw_all, write_benchmark_json
from PIL import Image

from amdm_bench_coco_mig.grounding_dino import GroundingDino


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a benchmark of one entry a level and a perfect picture of each."""
    monkeypatch.chdir(tmp_path)
    write_benchmark_json(Path("b.json"), content())
    draw_all(Path("out"), content())
    return tmp_path


@pytest.fixture
def models(judges: Path) -> list[str | Path]:
    return ["--detector", judges / "dino", "--segmenter", judges / "sam", "--device", "cpu"]


def write_annotations(path: Path) -> None:
    kinds = ["person", "cat", "dog", "cup", "car"]
    box = [0.0, 0.0, 30.0, 20.0]
    images = [{"id": 50 + n, "width": 100, "height": 100} for n in range(60)]
    annotations = [
        {"image_id": image["id"], "category_id": 2 + (n // 5 + k) % 4, "bbox": box}
        for n, image in enumerate(images)
        for k in range(2 + n % 5)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(kinds, start=1)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def test_prepare_checks_a_benchmark() -> None:
    lines = bench("prepare", "b.json", "--per-level", "1").stdout.splitlines()
    assert lines[0] == "correct: 5 pictures with 20 instances, 1 of each level"
    assert lines[1].startswith("colours: black 3, blue ") and lines[2].startswith(
        "objects: 6 kinds, most often chair 5"
    )
    assert lines[3] == "b.json"
    summary = json.loads(bench("prepare", "b.json", "--per-level", "1", "--json").stdout)
    assert summary["levels"] == {"L2": 1, "L3": 1, "L4": 1, "L5": 1, "L6": 1} and not summary["sampled"]
    errors = bench("prepare", "b.json", code=2).stderr.splitlines()
    assert errors[0] == "error: b.json: found 1 entries of level L2, expected 160" and len(errors) == 5


def test_prepare_samples_a_benchmark_and_never_over_another() -> None:
    write_annotations(Path("instances.json"))
    sample = ("--annotations", "instances.json", "--per-level", "3")
    assert bench("prepare", "new/a.json", *sample).stdout.startswith(
        "sampled: 15 pictures with 60 instances, 3 of each"
    )
    bench("prepare", "b2.json", *sample)
    bench("prepare", "c.json", *sample, "--seed", "1")
    assert Path("new/a.json").read_bytes() == Path("b2.json").read_bytes() != Path("c.json").read_bytes()
    assert "b.json: exists already" in bench("prepare", "b.json", *sample, code=2).stderr
    errors = bench("prepare", "d.json", "--annotations", "instances.json", code=2).stderr
    assert "do not fill each level: found 12 of level L2" in errors and not Path("d.json").exists()
    assert "none.json: no such file" in bench("prepare", "d.json", "--annotations", "none.json", code=2).stderr


def test_evaluate_prints_a_table_and_json_of_the_same_figures(models: list[str | Path]) -> None:
    report = json.loads(bench("evaluate", "b.json", "out", *models, "--json", "--output", "new/figures.json").stdout)
    assert json.loads(Path("new/figures.json").read_text()) == report
    (row,) = report["rows"]
    assert (row["name"], row["pictures"], row["partial"]) == ("out", 5, False)
    assert sum(row["outcomes"].values()) == 20 == sum(map(len, row["instances"].values()))
    # Random networks find little, but what they find is scored as it is.
    kept = [one["iou"] for picture in row["instances"].values() for one in picture]
    assert row["mean_iou"]["Avg"]["percent"] == pytest.approx(100 * sum(kept) / 20) and max(kept) > 0
    assert report["published"]["InteractDiffusion(+MIGC)"]["success_rate"]["Avg"] == 50.81
    shown = bench("evaluate", "b.json", "out", *models).stdout
    assert f"{row['mean_iou']['Avg']['percent']:.2f}" in shown and "InteractDiffusion(+MIGC) *" in shown


def test_evaluate_sets_several_folders_side_by_side(models: list[str | Path]) -> None:
    draw_all(Path("other"), content())
    lines = bench("evaluate", "b.json", "out", "other", *models).stdout.splitlines()
    assert [line.split()[0] for line in (lines[3], lines[6])] == ["out", "other"]
    assert lines[3].split()[1:] == lines[6].split()[1:]


def test_missing_pictures_are_not_scored_silently(models: list[str | Path]) -> None:
    Path("out/001007_1.png").unlink()
    draw_all(Path("other"), content())
    Path("other/001014_2.png").write_bytes(Path("other/001014_2.png").read_bytes()[:300])
    errors = bench("evaluate", "b.json", "out", "other", *models, code=2).stderr
    assert "out: 1 of 5 pictures are missing, those of the entries 1" in errors
    assert "other/001014_2.png: is not a picture that can be read" in errors
    part = bench("evaluate", "b.json", "out", *models, "--partial").stdout
    assert "out (only 4 pictures)" in part and "scored on 4 of 5 pictures; 1 are missing, 0 cannot be read." in part
    report = json.loads(bench("evaluate", "b.json", "out", *models, "--partial", "--json").stdout)
    assert report["rows"][0]["partial"] and report["rows"][0]["missing"] == ["1"]
    assert report["rows"][0]["success_rate"]["L3"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "none.json", "out"], "none.json: no such file"),
        (["evaluate", "b.json", "none"], "none: cannot be read: No such file or directory"),
        (["evaluate", "b.json"], "Missing argument 'PICTURES...'"),
        (["evaluate", "b.json", "out", "--detector", "nowhere"], "nowhere: no such file or folder."),
        (["evaluate", "b.json", "out", "--detector", "shapes"], "shapes: no such file or folder"),
        (["evaluate", "b.json", "out", "--detector", "zo://x"], "unknown kind of reference 'zo://', known are"),
        (["evaluate", "b.json", "out", "--detector", "hf://no"], "hf://no: expected hf://owner/repo"),
        (["evaluate", "b.json", "out", "--device", "toaster"], "'toaster' is none of auto, cpu, cuda"),
        (["evaluate", "b.json", "out", "--output", "/dev/null/f.json"], "/dev/null: is a file, expected a folder"),
        (["prepare", "b.json", "--per-level", "0"], "0 is not in the range x>=1"),
        (["prepare", "b.json", "--seed", "x"], "expected a whole number from 0 to"),
        (["prepare", "/dev/null/b.json", "--annotations", "b.json"], "/dev/null: is a file, expected a folder"),
        (["prepare", "new.json", "--annotations", "b.json"], "expected the annotations of COCO's instances"),
        (["prepare", "out"], "out: cannot be read: Is a directory"),
        (["generate", "none.json", "none.yaml", "--output", "new"], "none.json: no such file"),
        (["generate", "b.json", "none.yaml", "--output", "new"], "none.yaml: no such file"),
    ],
)
def test_wrong_input(arguments: list[str], message: str) -> None:
    errors = bench(*arguments, code=2).stderr
    assert message in errors and "Traceback" not in errors
    assert not Path("new.json").exists() and not Path("new").exists()


def test_a_folder_that_cannot_be_made_is_found_before_anything_is_judged(
    models: list[str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(GroundingDino, "detect", lambda detector, picture, name: asked.append(name))
    # What a link leads to nowhere is a name that is taken, though nothing is there.
    Path("link").symlink_to("nowhere")
    errors = bench("evaluate", "b.json", "out", *models, "--output", "link/figures.json", code=2).stderr
    assert "link: cannot make this: File exists" in errors and not asked
    write_annotations(Path("instances.json"))
    sample = ("--annotations", "instances.json", "--per-level", "3")
    assert "link: cannot make this: File exists" in bench("prepare", "link/a.json", *sample, code=2).stderr


def test_a_folder_that_is_lost_while_pictures_are_judged_is_an_error_of_one_line(
    models: list[str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detect = GroundingDino.detect

    def losing(detector: GroundingDino, picture: Any, name: str) -> Any:
        if Path("new").is_dir():
            Path("new").rmdir()
            Path("new").write_text("a file now")
        return detect(detector, picture, name)

    monkeypatch.setattr(GroundingDino, "detect", losing)
    errors = bench("evaluate", "b.json", "out", *models, "--output", "new/figures.json", code=2).stderr
    assert "new: is a file, expected a folder to write to" in errors


@pytest.mark.parametrize("size", [(768, 768), (640, 512)])
def test_a_picture_of_another_size_is_scored(models: list[str | Path], size: tuple[int, int]) -> None:
    for path in Path("out").iterdir():
        with Image.open(path) as picture:
            picture.resize(size, Image.Resampling.NEAREST).save(path)
    assert json.loads(bench("evaluate", "b.json", "out", *models, "--json").stdout)["rows"][0]["pictures"] == 5


def test_registration_imports_nothing_heavy() -> None:
    code = (
        "import sys, click; from amdm_bench_coco_mig import plugin; bench = click.Group('bench'); "
        "cli = click.Group(commands=[bench]); plugin.register_commands(cli); "
        "assert list(bench.commands['coco-mig'].commands) == ['prepare', 'generate', 'evaluate', 'table']; "
        "print([name for name in ('torch', 'numpy', 'cv2', 'pydantic', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
