"""`amdm bench shapes`: what it prints, that it repeats, and what it says to wrong input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from amdm_framework.cli import main
from amdm_shapes_zoo.bench import measure
from amdm_shapes_zoo.bench.measure import Job, Painter
from amdm_shapes_zoo.bench.rows import rows_aggregated, rows_alone
from amdm_shapes_zoo.bench.table import table

SMALL = ["--scenes", "4", "--steps", "3", "--windows", "2", "--processes", "1"]


@pytest.fixture
def plain_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A composition in which the base model plays all three parts."""
    names = ("interactdiffusion", "migc", "ip_adapter")
    blocks = [{"use": "stable_diffusion", "name": name, "checkpoint": "zoo://base"} for name in names]
    path = tmp_path / "three_models.yaml"
    path.write_text(yaml.safe_dump({"providers": blocks, "sampler": {"guidance_scale": 3}}))
    monkeypatch.setattr(measure, "COMPOSITION", path)
    return path


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "shapes", *arguments])


def without_times(report: dict) -> dict:
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in report["rows"]]
    return {**report, "rows": rows, "elapsed": None}


def test_same_seed_same_report_as_table_json_and_file(plain_models: Path, tmp_path: Path) -> None:
    chosen = ["--models", "migc", "--strategies", "amdm_stochastic,instance_relay", "--steps", "4"]
    output = tmp_path / "figures.json"
    first = bench(*SMALL, *chosen, "--json")
    second = bench(*SMALL, *chosen, "--output", str(output))
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    report, written = json.loads(first.stdout), json.loads(output.read_text())
    assert without_times(report) == without_times(written)
    assert second.stdout == table(written) + "\n"
    assert not list(tmp_path.glob("*.part"))

    assert report["command"] == (
        "amdm bench shapes --scenes 4 --strategies amdm_stochastic,instance_relay --models migc --windows 2 --steps 4 "
        "--seed 0 --device cpu"
    )
    assert (report["scenes"], report["seed"], report["steps"], report["held_out"]) == (4, 0, 4, False)
    assert report["machine"]["threads_per_process"] >= 1
    assert [(row["label"], row["rule"], row["evaluations"]) for row in report["rows"]] == [
        ("InteractDiffusion", "alone", 4),
        ("InteractDiffusion", "alone_stochastic", 4),
        ("MIGC", "alone", 4),
        ("InteractDiffusion(+MIGC)", "amdm_stochastic", 6),
        ("InteractDiffusion(+MIGC)", "instance_relay", 6),
    ]
    aggregated = report["rows"][3]
    assert aggregated["strategy"] == "amdm" and aggregated["options"]["weights"] == [0.5]
    assert aggregated["sampler"]["eta"] == 1.0
    assert list(aggregated["levels"]) == ["1", "2", "3", "4"]
    assert 0 <= aggregated["isr_interval"][0] <= aggregated["isr"] <= aggregated["isr_interval"][1] <= 100
    # One model plays both parts here, so alone they draw the same pictures.
    same = [{name: row[name] for name in ("isr", "miou", "shape", "levels")} for row in report["rows"]]
    assert same[0] == same[2]


def test_a_scene_does_not_depend_on_its_batch(plain_models: Path) -> None:
    rows = (*rows_alone(["migc"], []), *rows_aggregated(["migc"], ["amdm_stochastic"], [2]))
    painter = Painter(Job(rows, 4, 0, False, 3, "cpu", plain_models))
    together = painter.draw(2, 0, 4).scores
    apart = [painter.draw(2, index, index + 1).scores for index in range(4)]
    for name in ("colour", "shape", "overlap", "style"):
        joined = np.concatenate([getattr(one, name) for one in apart])
        assert np.array_equal(getattr(together, name), joined, equal_nan=True)


def test_positions_are_drawn(plain_models: Path, tmp_path: Path) -> None:
    picture = tmp_path / "positions.png"
    result = bench(*SMALL, "--strategies", "slerp,instance_relay", "--positions", str(picture), "--json")
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    windows = [row["window"] for row in json.loads(result.stdout)["rows"] if row["rule"] == "slerp"]
    assert windows == [[0, 2], [1, 3]]
    assert "left out: InteractDiffusion(+MIGC) by instance_relay" in result.stderr


def test_help_names_every_rule() -> None:
    result = bench("--help")
    assert result.exit_code == 0
    for word in ("--held-out", "amdm_authors", "superdiff_and", "ip_adapter", "Table 1"):
        assert word in result.stdout
    assert "shapes" in CliRunner().invoke(main, ["bench", "--help"]).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "slurp"], "--strategies: there is no 'slurp'. Did you mean 'slerp'? Known: all, amdm"),
        (["--models", "mig"], "--models: there is no 'mig'. Did you mean 'migc'?"),
        (["--windows", "3,11"], "--windows: found '11', expected numbers from 1 to 10"),
        (["--windows", "x"], "--windows: found 'x', expected numbers"),
        (["--scenes", "6"], "--scenes: found 6, expected a multiple of 4"),
        (["--seed", "100000"], "--seed: found 100000, expected 0 to"),
        (["--device", "toaster"], "'toaster' is none of auto, cpu, cuda"),
        (["--output", "/dev/null/figures.json"], "/dev/null: is a file, expected a folder"),
    ],
)
def test_wrong_input(arguments: list[str], message: str) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_all_mistakes_are_reported_at_once() -> None:
    result = bench("--strategies", "slurp", "--models", "mig", "--scenes", "6")
    assert result.exit_code == 2
    assert [word in result.stderr for word in ("slurp", "mig", "--scenes")] == [True] * 3


def test_missing_weights_are_named(plain_models: Path) -> None:
    plain_models.write_text(plain_models.read_text().replace("zoo://base", "zoo://bose"))
    result = bench("--strategies", "slerp")
    assert result.exit_code == 2
    assert "zoo://bose: the shapes zoo has no such model. Did you mean 'base'?" in result.stderr


def test_registration_imports_nothing_heavy() -> None:
    code = (
        "import sys, click; from amdm_shapes_zoo import plugin; bench = click.Group('bench'); "
        "cli = click.Group(commands=[bench]); plugin.register_commands(cli); assert list(bench.commands) == ['shapes']; "
        "print([name for name in ('torch', 'numpy', 'diffusers', 'matplotlib') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
