"""`amdm compare`, `amdm sweep` and `amdm ablate`: what they draw, write, say and leave alone."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from amdm_framework.composition import read_scene
from amdm_framework.models.context import LoadContext
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import PluginRegistry
from amdm_framework.provider import ProviderReport
from amdm_framework.sampling.trace import Trace
from pictures_in_grids import places_of
from toy_benchmark import grey_registry
from toy_plugin import TOY, ToyOptions, ToyPromptProvider, toy_registry

Amdm = Callable[..., Result]

COMPOSITION = """
providers:
  - {use: toy, name: first}
  - {use: toy, name: second, condition: {prompt: blue}}
  - {use: toy, name: third, condition: {prompt: green}}
aggregation: {strategy: amdm, steps: 2, weights: [0.5, 0.7]}
sampler: {steps: 4}
"""

GREY = """
providers: [{use: grey}]
aggregation: {strategy: single}
sampler: {steps: 2, guidance_scale: 4}
"""

LOADED: list[ToyOptions] = []


def _inspect(options: ToyOptions, context: LoadContext) -> ProviderReport:
    toy = ToyPromptProvider(options)
    return ProviderReport(toy.latent_space, toy.noise_schedule, toy.default_size)


def _load(options: ToyOptions, context: LoadContext) -> ToyPromptProvider:
    LOADED.append(options)
    return ToyPromptProvider(options)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a user who has toys, a composition of three of them, and a scene."""
    (tmp_path / "mine.yaml").write_text(COMPOSITION)
    (tmp_path / "scene.yaml").write_text("caption: a red circle\n")
    monkeypatch.chdir(tmp_path)
    LOADED.clear()
    install(monkeypatch, toy_registry(TOY.model_copy(update={"load": _load, "inspect": _inspect})))
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, registry: PluginRegistry) -> None:
    monkeypatch.setattr("amdm_framework.cli.group.discover", lambda: registry)


def lines(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def own_picture(amdm: Amdm, *arguments: str) -> Image.Image:
    """What `amdm run` draws with seed 1."""
    result = amdm("run", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--output", "own", *arguments)
    with Image.open(result.stdout.strip()) as picture:
        return picture.convert("RGB")


def own_trace(*overrides: str) -> Trace:
    """The trace of the pipeline of the composition with seed 1."""
    pipeline = AMDMPipeline.from_composition("mine.yaml", "cpu", plugins=toy_registry(), overrides=overrides)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(read_scene("scene.yaml"), generator=torch.Generator().manual_seed(1)).trace


def test_cells_and_figures_are_those_of_single_runs(desk: Path, amdm: Amdm) -> None:
    amdm(
        "sweep", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--set", "aggregation.steps=1,3",
        "--set", "aggregation.weights=[0.3, 0.4],[0.9, 0.2]", "--set", "sampler.eta=0.5"
    )  # fmt: skip
    assert len(LOADED) == 3
    assert sorted(path.name for path in desk.glob("scene-*")) == ["scene-sweep.csv", "scene-sweep.png"]
    with Image.open("scene-sweep.png") as file:
        page = file.convert("RGB")
    places = {}
    for line in lines("scene-sweep.csv"):
        steps, weights = line["aggregation.steps"], line["aggregation.weights"]
        settings = [f"aggregation.steps={steps}", f"aggregation.weights={weights}", "sampler.eta=0.5"]
        picture = own_picture(amdm, *(part for setting in settings for part in ("--set", setting)))
        (places[steps, weights],) = places_of(picture, page, 3)
        trace = own_trace(*settings)
        assert line["sampler.eta"] == "0.5" and line["seed"] == "1"
        assert int(line["evaluations"]) == trace.total_evaluations == 4 + 2 * int(steps)
        metrics = [{"provider": row.provider, **row.metrics} for row in trace.rows]
        largest = max(row["step_over_distance"][0] for row in metrics if "step_over_distance" in row)
        least = min(row["cosine"][0] for row in metrics if "cosine" in row and row["provider"])
        last = [row["norm_ratio"][0] for row in metrics if "norm_ratio" in row][-1]
        found = [float(line[name]) for name in ("step_over_distance", "cosine", "norm_ratio")]
        assert found == pytest.approx([largest, least, last], rel=1e-5)
    # One key is the rows, the other one the columns.
    (a, b), (c, d) = [[places[steps, weights] for weights in ("[0.3, 0.4]", "[0.9, 0.2]")] for steps in ("1", "3")]
    assert a[0] == c[0] < b[0] == d[0] and a[1] == b[1] < c[1] == d[1]


def test_a_comparison_has_a_column_per_strategy_and_a_row_per_seed(desk: Path, amdm: Amdm) -> None:
    arguments = ("compare", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--seed", "2", "--alone", "--json")
    result = json.loads(amdm(*arguments, "--strategies", "slerp,amdm").stdout)
    assert len(LOADED) == 3 and (result["grid"], result["table"]) == ("scene-compare.png", "scene-compare.csv")
    labels = ["first alone", "second alone", "third alone", "slerp (defaults)", "amdm (as written)"]
    assert [line["variant"] for line in result["lines"]] == [label for label in labels for _ in range(2)]
    with Image.open("scene-compare.png") as file:
        page = file.convert("RGB")
    slerp = own_picture(amdm, "--set", "aggregation={strategy: slerp}")
    own = own_picture(amdm)
    ((left, top),), ((own_left, own_top),) = places_of(slerp, page, 3), places_of(own, page, 3)
    assert own_left > left and own_top == top


def test_all_strategies_are_those_that_can_run_and_the_others_are_named(desk: Path, amdm: Amdm) -> None:
    arguments = ("compare", "mine.yaml", "--scene", "scene.yaml", "--strategies", "all", "--seed", "1", "--json",
                 "--set", "sampler.steps=6")  # fmt: skip
    result = amdm(*arguments)
    content = json.loads(result.stdout)
    drawn = [line["variant"].split()[0] for line in content["lines"]]
    assert drawn[0] == "amdm" and {"slerp", "linear", "composable", "single"} <= set(drawn)
    assert list(content["left_out"]) == ["superdiff_and (defaults)", "superdiff_or (defaults)"]
    assert "left out: superdiff_or (defaults): sampler.eta: eta is 0, expected 1" in result.stderr
    # With noise they can.
    content = json.loads(amdm(*arguments, "--set", "sampler.eta=1").stdout)
    assert not content["left_out"] and content["grid"] == "scene-compare-2.png"


def test_an_ablation_tells_how_far_each_variant_is_from_the_whole(desk: Path, amdm: Amdm) -> None:
    amdm("ablate", "mine.yaml", "--scene", "scene.yaml", "--seed", "1")
    table = lines("scene-ablate.csv")
    assert [line["variant"] for line in table] == [
        "all 3 members",
        "without first (second is the target)",
        "without second",
        "without third",
        "first alone",
        "second alone",
        "third alone",
    ]
    assert len(LOADED) == 3
    whole = own_picture(amdm)
    alone = own_picture(amdm, "--set", "aggregation={strategy: single}")
    expected = np.abs(np.asarray(whole).astype(int) - np.asarray(alone).astype(int)).mean()
    assert float(table[0]["mean_difference"]) == 0
    assert float(table[4]["mean_difference"]) == pytest.approx(expected, rel=1e-5) and expected > 1
    with Image.open("scene-ablate.png") as page:
        assert len(places_of(whole, page, 3)) == len(places_of(alone, page, 3)) == 1


def test_scores_are_means_over_the_benchmarks_own_cases(
    desk: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, grey_registry())
    Path("grey.yaml").write_text(GREY)
    arguments = ("sweep", "grey.yaml", "--set", "sampler.guidance_scale=0,4", "--benchmark", "greys", "--cases", "6")
    result = json.loads(amdm(*arguments, "--batch-size", "4", "--json").stdout)
    assert (result["grid"], result["table"]) == ("greys-sweep.png", "greys-sweep.csv")
    dark, bright = lines("greys-sweep.csv")
    # A picture of guidance g has brightness (1 + g / 10) / 2, in 8 bits; the cases ask for about 0.7.
    assert float(dark["greys_bright"]) == pytest.approx(50, abs=0.3)
    assert float(bright["greys_bright"]) == pytest.approx(70, abs=0.3)
    assert float(bright["greys_near"]) > 99 > 97 > float(dark["greys_near"])
    assert "seed" not in dark and bright["evaluations"] == "2"
    # With a scene the lines are those of its pictures, and carry the same scores.
    amdm(*arguments, "--scene", "scene.yaml", "--seed", "1", "--seed", "2")
    table = lines("scene-sweep.csv")
    assert [(line["sampler.guidance_scale"], line["seed"]) for line in table] == [
        ("0", "1"), ("0", "2"), ("4", "1"), ("4", "2")
    ]  # fmt: skip
    assert [line["greys_near"] for line in table] == [dark["greys_near"]] * 2 + [bright["greys_near"]] * 2


def test_a_dry_run_counts_and_draws_nothing(desk: Path, amdm: Amdm) -> None:
    before = sorted(os.listdir())
    settings = ("--set", "aggregation.steps=0,1,2", "--set", "sampler.eta=0,1")
    arguments = ("sweep", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--seed", "2", *settings, "--dry-run")
    text = amdm(*arguments).stdout
    # Six variants of two pictures; 4, 6 or 8 evaluations each.
    assert "would draw 12 picture(s), 2 of each of 6 variant(s), with 72 network evaluations" in text
    assert "scene-sweep.png" in text and sorted(os.listdir()) == before and not LOADED
    plan = json.loads(amdm(*arguments, "--json").stdout)
    assert plan["pictures"] == 12 and plan["evaluations"] == 72 and len(plan["variants"]) == 6


def test_existing_files_are_never_overwritten(desk: Path, amdm: Amdm) -> None:
    Path("scene-compare.png").write_text("mine")
    Path("scene-compare-2.csv").write_text("mine too")
    for _ in range(2):
        amdm("compare", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--strategies", "slerp")
    assert Path("scene-compare.png").read_text() == "mine" and Path("scene-compare-2.csv").read_text() == "mine too"
    assert Path("scene-compare-2.png").read_bytes() == Path("scene-compare-3.png").read_bytes()
    assert Path("scene-compare-2-2.csv").read_bytes() == Path("scene-compare-3.csv").read_bytes()


def test_all_mistakes_come_at_once_with_their_places(desk: Path, amdm: Amdm) -> None:
    Path("scene.yaml").write_text("captoin: x\n")
    result = amdm(
        "sweep", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--seed", "1", "--benchmark", "none",
        "--set", "aggregation.steps=1,9", "--set", "providers.1.strength=-1,1", "--output", "mine.yaml", code=2
    )  # fmt: skip
    for part in (
        "--seed: a seed is given twice",
        "scene.yaml: captoin: unknown key. Did you mean 'caption'?",
        "--benchmark: there is no benchmark 'none'",
        "mine.yaml: aggregation.steps: the window ends at step 9",
        "mine.yaml: providers.1.strength: ",
        "is a file, expected a folder",
    ):
        assert part in result.stderr
    assert "Traceback" not in result.stderr and not LOADED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "mine.yaml", "--scene", "scene.yaml", "--strategies", "slrep"), "Did you mean 'slerp'?"),
        (("compare", "mine.yaml", "--scene", "scene.yaml", "--strategies", "superdiff_and"), "eta is 0, expected 1"),
        (("ablate", "mine.yaml"), "nothing to draw: give --scene, or --benchmark"),
        (("sweep", "mine.yaml", "--benchmark", "x", "--seed", "1"), "--seed: goes with --scene"),
        (("sweep", "no.yaml", "--scene", "scene.yaml"), "no.yaml: no such file"),
        (("sweep", "mine.yaml", "--scene", "scene.yaml", "--set", "aggregation.steps"), "expected KEY=V1,V2"),
    ],
    ids=["unknown strategy", "impossible strategy", "nothing to draw", "seed", "no file", "no value"],
)
def test_bad_input_is_explained(desk: Path, amdm: Amdm, arguments: tuple[str, ...], message: str) -> None:
    result = amdm(*arguments, code=2)
    assert message in result.stderr and not list(desk.glob("*.png"))


def test_one_variant_that_fails_does_not_take_the_others_with_it(
    desk: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(options: ToyOptions, context: LoadContext) -> ToyPromptProvider:
        if options.strength > 1:
            raise MemoryError
        return ToyPromptProvider(options)

    install(monkeypatch, toy_registry(TOY.model_copy(update={"load": load})))
    arguments = ("sweep", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--json", "--set")
    result = amdm(*arguments, "providers.1.strength=1,2", code=1)
    good, bad = json.loads(result.stdout)["lines"]
    assert good["error"] is None and "too little memory to load the models" in bad["error"]
    assert "failed: second.strength" in result.stderr
    assert "too little memory" in lines("scene-sweep.csv")[1]["error"]
    assert "too little memory" in amdm(*arguments, "providers.1.strength=2,3", code=2).stderr


@pytest.mark.parametrize("moment", ["drawing", "writing"])
def test_an_interruption_leaves_nothing_behind(
    desk: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupted(self: Any, file: Any, *rest: Any, **more: Any) -> None:
        if moment == "writing":
            file.write(b"half")
        raise KeyboardInterrupt

    if moment == "writing":
        monkeypatch.setattr(Image.Image, "save", interrupted)
    else:
        monkeypatch.setattr(ToyPromptProvider, "predict_noise", interrupted)
    before = sorted(os.listdir())
    result = amdm("ablate", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", code=130)
    assert "interrupted" in result.stderr and sorted(os.listdir()) == before


def test_warnings_say_whose_they_are(desk: Path, amdm: Amdm) -> None:
    steps = "aggregation.step_sizes=[0, 0, 0],[900, 900, 900]"
    result = amdm("sweep", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--set", steps)
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning:")]
    assert "aggregation.step_sizes = [900, 900, 900]: manifold steps of" in warning
