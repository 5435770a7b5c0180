"""`table` gives what `generate` and `evaluate` give one by one, goes on wherever it was interrupted, and checks first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from coco_mig_cases import bench, content, write_benchmark_json

from amdm_bench_coco_mig.grounding_dino import GroundingDino
from amdm_framework.batch.drawing import Drawer

TARGET = '{use: interactdiffusion, checkpoint: "zoo://interactdiffusion", name: base}'
SAMPLER = "sampler: {steps: 2, guidance_scale: 3, height: 64, width: 64"
TWO = f"""
providers:
  - {TARGET}
  - {{use: migc, checkpoint: "zoo://migc", base: "zoo://base", condition: {{negative: ""}}}}
aggregation: {{strategy: STRATEGY, steps: 1}}
{SAMPLER}}}
"""
ALONE = f"providers: [{TARGET}]\naggregation: {{strategy: single}}\n{SAMPLER}}}\n"
ROWS = ("base", "first", "second")
PICTURES = 3 * 6


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two compositions of one target, and a benchmark of 6 entries that the zoo can draw."""
    monkeypatch.chdir(tmp_path)
    few = [entry for entry in content(2).values() if len(entry["segment"]) <= 4]
    write_benchmark_json(Path("b.json"), dict(zip("012345", few, strict=True)))
    Path("first.yaml").write_text(TWO.replace("STRATEGY", "amdm"))
    # Noise of its own for each member changes nothing for a target alone.
    second = TWO.replace("STRATEGY", "slerp").replace("width: 64", "width: 64, initial_noise: independent")
    Path("second.yaml").write_text(second)
    return tmp_path


@pytest.fixture
def models(judges: Path) -> list[str | Path]:
    return ["--detector", judges / "dino", "--segmenter", judges / "sam", "--device", "cpu"]


@pytest.fixture
def table(models: list[str | Path]) -> Callable[..., Result]:
    """Runs the command on both compositions."""

    def run(output: str, *arguments: str | Path, code: int = 0) -> Result:
        return bench("table", "b.json", "first.yaml", "second.yaml", "--output", output, *models, *SHORT, *arguments,
                     code=code)  # fmt: skip

    return run


SHORT = ("--negative", "", "--seed", "3")


class Interruption:
    """Counts the pictures that are drawn and the questions to the detector, and interrupts at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drawn = self.detected = 0
        self.at_drawn = self.at_detected = -1
        draw, detect = Drawer.draw, GroundingDino.detect

        def drawing(drawer: Drawer, jobs: Any) -> Any:
            if self.drawn == self.at_drawn:
                raise KeyboardInterrupt
            self.drawn += len(jobs)
            return draw(drawer, jobs)

        def detecting(detector: GroundingDino, picture: Any, name: str) -> Any:
            if self.detected == self.at_detected:
                raise KeyboardInterrupt
            self.detected += 1
            return detect(detector, picture, name)

        monkeypatch.setattr(Drawer, "draw", drawing)
        monkeypatch.setattr(GroundingDino, "detect", detecting)


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Interruption:
    return Interruption(monkeypatch)


def files_of(folder: str) -> dict[str, bytes]:
    """Everything below a folder without times; of the report without the names of its rows, which hold the folder's."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    report = json.loads(found.pop("table.json"))
    for row in report["rows"]:
        row["name"] = Path(row["name"]).name
        del row["seconds"], row["timed_pictures"]
        del found[f"{row['name']}/drawing_times.jsonl"]
    return {**found, "table.json": json.dumps(report).encode()}


def test_it_gives_what_the_other_commands_give_one_by_one(
    table: Callable[..., Result], models: list[str | Path]
) -> None:
    result = table("whole")
    Path("alone.yaml").write_text(ALONE)
    for row, composition in zip(ROWS, ("alone.yaml", "first.yaml", "second.yaml"), strict=True):
        bench("generate", "b.json", composition, "--output", f"parts/{row}", *SHORT, "--device", "cpu")
    apart = bench("evaluate", "b.json", *(f"parts/{row}" for row in ROWS), *models, "--output", "parts/table.json")
    assert bench("evaluate", "b.json", *(f"whole/{row}" for row in ROWS), *models).stdout == result.stdout
    report, expected = (json.loads(Path(name, "table.json").read_text()) for name in ("whole", "parts"))
    assert [row.pop("name") for row in report["rows"]] == [f"whole/{row}" for row in ROWS]
    for row in expected["rows"]:
        row.pop("name")
    # Only here is it known how long drawing took; the first picture of a row is drawn while the models are loaded.
    assert all(row.pop("seconds") > 0 and row.pop("timed_pictures") == 5 for row in report["rows"])
    assert all(row.pop("seconds") is None and row.pop("timed_pictures") == 0 for row in expected["rows"])
    assert [line.split()[-1] for line in apart.stdout.splitlines()[3:12:3]] == ["-"] * 3
    assert report == expected
    assert len({json.dumps(row["instances"]) for row in report["rows"]}) == 3
    assert "whole/base (1 of 3): base of first.yaml alone" in result.stderr and "6 drawn" in result.stderr


def test_interrupted_anywhere_the_same_command_goes_on(
    table: Callable[..., Result], interruption: Interruption
) -> None:
    table("whole")
    asked = interruption.detected
    assert interruption.drawn == PICTURES
    interruption.drawn = interruption.detected = 0
    interruption.at_drawn = 7
    assert "the same command goes on" in table("part", code=130).stderr
    assert not Path("part/table.json").exists() and not Path("part/second").exists()
    # In the midst of a picture of the second row: what was found in it so far is looked for again.
    interruption.at_drawn, interruption.at_detected = -1, asked // 2
    assert "the same command goes on" in table("part", code=130).stderr
    assert not Path("part/table.json").exists()
    # A line that was being written when the power went.
    with Path("part/first/judgement.jsonl").open("ab") as file:
        file.write(b'{"picture": "001014_2.png", "of"')
    interruption.at_detected = -1
    judged = [len(Path(f"part/{row}/judgement.jsonl").read_bytes().splitlines()) for row in ("base", "first")]
    assert judged[0] == 6 and 0 < judged[1] <= 6
    table("part")
    assert interruption.drawn == PICTURES
    assert asked <= interruption.detected < asked + 6
    assert files_of("part") == files_of("whole")
    # The seventh picture was the first of its row, the interrupted row has lost one more.
    report = json.loads(Path("part/table.json").read_text())
    assert [row["timed_pictures"] for row in report["rows"]] == [5, 4, 5]
    interruption.detected = 0
    table("part", "--json")
    assert json.loads(Path("part/table.json").read_text()) == report
    assert (interruption.drawn, interruption.detected) == (PICTURES, 0)
    assert files_of("part") == files_of("whole")


def test_pictures_are_judged_by_the_file_that_they_were_drawn_from(
    table: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Drawer.draw

    def losing(drawer: Drawer, jobs: Any) -> Any:
        Path("b.json").write_text("{}")
        return draw(drawer, jobs)

    monkeypatch.setattr(Drawer, "draw", losing)
    report = json.loads(table("out", "--json").stdout)
    assert [row["pictures"] for row in report["rows"]] == [6, 6, 6] and report["benchmark"]["entries"] == 6


def test_scores_are_those_of_the_pictures_and_judges_at_hand(
    table: Callable[..., Result], interruption: Interruption, judges: Path, tmp_path: Path
) -> None:
    table("out")
    asked, interruption.detected = interruption.detected, 0
    picture = Path("out/first/001007_1.png")
    picture.write_bytes(Path("out/base/001007_1.png").read_bytes())
    report = json.loads(table("out", "--json").stdout)
    assert interruption.detected == 3
    assert report["rows"][1]["instances"]["1"] == report["rows"][0]["instances"]["1"]
    # An equal segmenter in another folder is the same one; one that was changed in its place is not.
    other = tmp_path / "other"
    other.mkdir()
    for file in (judges / "sam").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    interruption.detected = 0
    table("out", "--segmenter", other)
    assert interruption.detected == 0
    config = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**config, "image_mean": [0.1, 0.2, 0.3]}))
    table("out", "--segmenter", other)
    assert interruption.detected == asked
    Path("out/base/judgement.jsonl").write_text("{}\nnonsense\n")
    interruption.detected = 0
    table("out", "--segmenter", other)
    assert interruption.detected == asked // 3


def test_every_different_target_has_one_row(models: list[str | Path]) -> None:
    Path("other").mkdir()
    Path("other/first.yaml").write_text(TWO.replace("STRATEGY", "amdm").replace("steps: 2", "steps: 3"))
    Path("base.yaml").write_text(ALONE)
    files = ("base.yaml", "first.yaml", "other/first.yaml")
    report = json.loads(bench("table", "b.json", *files, "--output", "out", *models, *SHORT, "--json").stdout)
    assert [row["name"] for row in report["rows"]] == ["out/base", "out/first", "out/base-2", "out/first-2"]


def test_pictures_that_fail_are_told_and_left_out_only_where_that_is_wanted(models: list[str | Path]) -> None:
    write_benchmark_json(Path("b.json"), content())
    Path("alone.yaml").write_text(ALONE)
    start = ("table", "b.json", "alone.yaml", "--output", "out", *models, *SHORT)
    errors = bench(*start, code=1).stderr
    assert "failed: 001021_3: " in errors and "3 drawn, 2 failed" in errors
    assert "2 pictures failed: the same command tries them again, --partial does without" in errors
    assert not Path("out/table.json").exists()
    done = bench(*start, "--partial", code=1)
    assert "out/alone (only 3 pictures)" in done.stdout and Path("out/table.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.json", "first.yaml"], "none.json: no such file"),
        (["b.json"], "Missing argument 'COMPOSITION...'"),
        (["b.json", "first.yaml", "none.yaml"], "none.yaml: no such file"),
        (["b.json", "first.yaml", "./first.yaml"], "first.yaml: is the same composition as first.yaml"),
        (["b.json", "first.yaml", "unfit.yaml"], "unfit.yaml: providers.0"),
        (
            ["b.json", "first.yaml", "style.yaml"],
            "style.yaml: provider ip_adapter: IP-Adapter draws after reference pictures",
        ),
        (["b.json", "first.yaml", "--set", "sampler.step=1"], "sampler.step: unknown key"),
        (["b.json", "first.yaml", "--style", "none.png"], "none.png: --style: no such picture"),
        (["b.json", "first.yaml", "--detector", "nowhere"], "--detector: nowhere: no such file or folder."),
        (["b.json", "first.yaml", "--segmenter", "zo://x"], "--segmenter: zo://x: unknown kind of reference"),
        (["b.json", "first.yaml", "--segmenter", "hf://no"], "--segmenter: hf://no: expected hf://owner/repo"),
        (["b.json", "first.yaml", "--device", "toaster"], "'toaster' is none of auto, cpu, cuda"),
        (["b.json", "first.yaml", "--workers", "2", "--address", "auto"], "--address goes with --engine ray"),
        (["b.json", "first.yaml", "--output", "/dev/null/x"], "/dev/null is a file, expected a folder"),
        (["b.json", "first.yaml", "--output", "taken"], "taken/base: there are files that this batch did not draw"),
    ],
)
def test_wrong_input_is_found_before_anything_is_drawn(
    arguments: list[str], message: str, models: list[str | Path], interruption: Interruption
) -> None:
    Path("unfit.yaml").write_text(TWO.replace("STRATEGY", "amdm").replace("zoo://interact", "zoo://nothing"))
    adapter = (
        '{use: ip_adapter, checkpoint: "zoo://ip_adapter", image_encoder: "zoo://image_encoder", base: "zoo://base"}'
    )
    Path("style.yaml").write_text(ALONE.replace(TARGET, adapter))
    Path("taken/base").mkdir(parents=True)
    Path("taken/base/001000_0.png").write_bytes(b"mine")
    errors = bench("table", "--output", "new", *models, *SHORT, *arguments, code=2).stderr
    assert message in errors and "Traceback" not in errors
    assert not Path("new").exists() and interruption.drawn == 0


def test_all_mistakes_are_told_together(models: list[str | Path]) -> None:
    entries = content()
    entries["1"]["segment"][0]["label"] = "a pink chair"
    write_benchmark_json(Path("b.json"), entries)
    Path("first.yaml").write_text(TWO.replace("STRATEGY", "amd"))
    errors = bench("table", "b.json", "first.yaml", "second.yaml", "--output", "b.json/x", *models, code=2).stderr
    assert "b.json: 1.segment.0.label: expected 'a COLOR OBJECT'" in errors
    assert "first.yaml: aggregation.strategy" in errors and "expected a folder" in errors


def test_another_composition_in_a_begun_folder_is_found_before_the_first_row_is_drawn(
    table: Callable[..., Result], interruption: Interruption
) -> None:
    interruption.at_drawn = 12
    table("out", code=130)
    Path("second.yaml").write_text(Path("second.yaml").read_text().replace("steps: 1", "steps: 2"))
    Path("out/base/001000_0.png").unlink()
    errors = table("out", code=2).stderr
    assert "out/second/ledger.jsonl: the composition, or a local file that it names" in errors
    assert not Path("out/base/001000_0.png").exists()
