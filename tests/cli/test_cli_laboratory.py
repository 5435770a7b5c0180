"""`amdm compare`, `amdm sweep` and `amdm ablate`: what they draw, write, say and leave alone."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from amdm_framework import picture_grid
from amdm_framework.laboratory.variants import VariantChecker
from amdm_framework.models.context import LoadContext
from amdm_framework.picture_grid import Grid, draw_grid
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import PluginRegistry
from amdm_framework.provider import ProviderReport
from amdm_framework.sampling.trace import Trace
from amdm_framework.scene import read_scene
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

COMPARE = ("compare", "mine.yaml", "--scene", "scene.yaml", "--strategies")

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
    labels = ["first alone", "second alone", "third alone", "slerp (defaults, steps 3)", "amdm (as written)"]
    assert [line["variant"] for line in result["lines"]] == [label for label in labels for _ in range(2)]
    with Image.open("scene-compare.png") as file:
        page = file.convert("RGB")
    slerp = own_picture(amdm, "--set", "aggregation={strategy: slerp}")
    own = own_picture(amdm)
    ((left, top),), ((own_left, own_top),) = places_of(slerp, page, 3), places_of(own, page, 3)
    assert own_left > left and own_top == top


def test_all_strategies_are_those_that_can_run_and_the_others_are_named(
    desk: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    draw = picture_grid.draw_grid
    monkeypatch.setattr(picture_grid, "draw_grid", lambda drawn: (written.append(drawn.footer), draw(drawn))[1])
    arguments = ("compare", "mine.yaml", "--scene", "scene.yaml", "--strategies", "all", "--seed", "1", "--json",
                 "--set", "sampler.steps=6")  # fmt: skip
    result = amdm(*arguments)
    content = json.loads(result.stdout)
    drawn = [line["variant"].split()[0] for line in content["lines"]]
    assert drawn[0] == "amdm" and {"slerp", "linear", "composable", "single"} <= set(drawn)
    assert list(content["left_out"]) == ["superdiff_and (defaults)", "superdiff_or (defaults)"]
    assert "left out: superdiff_or (defaults): sampler.eta: eta is 0, expected 1" in result.stderr
    assert any("Left out: superdiff_and (defaults), superdiff_or (defaults)." in line for line in written)
    # With noise they can.
    content = json.loads(amdm(*arguments, "--set", "sampler.eta=1").stdout)
    assert not content["left_out"] and content["grid"] == "scene-compare-2.png"


def test_the_compositions_own_strategy_is_checked_where_it_is_a_column(desk: Path, amdm: Amdm) -> None:
    # Its two steps do not fit into a run of one.
    arguments = ("compare", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--json", "--dry-run",
                 "--set", "sampler.steps=1", "--strategies")  # fmt: skip
    labels = [one["label"] for one in json.loads(amdm(*arguments, "slerp", "--alone").stdout)["variants"]]
    assert labels == ["first alone", "second alone", "third alone", "slerp (defaults, steps 1)"]
    assert "aggregation.steps: the window ends at step" in amdm(*arguments, "slerp,amdm", code=2).stderr
    plan = json.loads(amdm(*arguments, "all").stdout)
    assert "the window ends at step" in plan["left_out"]["amdm (as written)"]
    assert "slerp (defaults, steps 1)" in [one["label"] for one in plan["variants"]]


def test_where_no_strategy_can_run_the_reason_is_that_of_the_first(desk: Path, amdm: Amdm) -> None:
    result = amdm("compare", "mine.yaml", "--scene", "scene.yaml", "--strategies", "all", "--set", "device=x", code=2)
    assert "error: mine.yaml: device: unknown key" in result.stderr and "left out" not in result.stderr


def test_very_many_pictures_need_consent_and_are_counted_before_they_are_checked(
    desk: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = VariantChecker.check
    monkeypatch.setattr(VariantChecker, "check", lambda self, one: (checked.append(one.label), check(self, one))[1])
    arguments = ("sweep", "mine.yaml", "--scene", "scene.yaml", "--set", "aggregation.steps=1,2", "--set",
                 f"sampler.guidance_scale={','.join(map(str, range(25)))}",
                 *(part for seed in range(11) for part in ("--seed", str(seed))))  # fmt: skip
    # Of the first variant: four of the target, and one of each of two others.
    sentence = "this is 550 pictures with about 3300 network evaluations"
    assert f"{sentence}; --yes draws them all" in amdm(*arguments, code=2).stderr
    assert len(checked) == 1 and not LOADED
    result = amdm(*arguments, "--dry-run")
    assert sentence in result.stderr and "seed:" not in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "would draw 550 picture(s), 11 of each of 50 variant(s), with 3850 network evaluations"
    assert lines[21] == "  … and 30 more" and "evaluations per picture" in lines[20]
    assert sentence not in amdm(*arguments, "--dry-run", "--yes").stderr


def test_a_random_seed_is_printed_where_it_is_drawn_with(desk: Path, amdm: Amdm) -> None:
    arguments = ("compare", "mine.yaml", "--scene", "scene.yaml", "--strategies")
    assert "seed:" not in amdm(*arguments, "slerp", "--dry-run").stderr
    assert "seed:" not in amdm(*arguments, "slrep", code=2).stderr
    (line,) = lines_that_begin("seed: ", amdm(*arguments, "slerp").stderr)
    assert lines("scene-compare.csv")[0]["seed"] == line.removeprefix("seed: ")


def lines_that_begin(start: str, text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_a_grid_says_which_strategy_and_in_which_units(desk: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch) -> None:
    grids: list[Grid] = []
    draw = picture_grid.draw_grid
    monkeypatch.setattr(picture_grid, "draw_grid", lambda drawn: (grids.append(drawn), draw(drawn))[1])
    amdm("ablate", "mine.yaml", "--scene", "scene.yaml", "--seed", "1")
    install(monkeypatch, grey_registry())
    Path("grey.yaml").write_text(GREY)
    amdm("sweep", "grey.yaml", "--set", "sampler.guidance_scale=0,4", "--benchmark", "greys", "--cases", "2")
    ablation, scored = grids
    assert "first + second + third, amdm, T = 4 steps" in ablation.subtitle
    assert "norm: of the aggregate at the last aggregated step; 1 is that of unit noise." in ablation.footer
    meaning = grey_registry().benchmark("greys").figures["near"].rstrip(".")
    assert f"near: {meaning} (percent)." in scored.footer.splitlines()


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
        ((*COMPARE, "all,slerp"), "--strategies: 'all' stands alone"),
        ((*COMPARE, ""), "--strategies: no name given"),
        ((*COMPARE, ","), "--strategies: no name given"),
        ((*COMPARE, "slerp, slerp"), "--strategies: slerp is given twice"),
        (
            (*COMPARE, "slerp", "--set", "aggregation.steps=2"),
            "--set: aggregation.steps=2 belongs to amdm (the composition's strategy), which is not among the columns. "
            'To give options to slerp: --set "aggregation={strategy: slerp, steps: 2}"',
        ),
        ((*COMPARE, "amdm,slerp", "--set", "aggregation.stps=2"), "Known keys of amdm (the composition's strategy): "),
        (
            ("sweep", "mine.yaml", "--scene", "scene.yaml", "--set", "sampler.steps=1..5"),
            "--set: sweep takes values, not ranges: sampler.steps=1,2,3,4,5",
        ),
        (
            ("sweep", "mine.yaml", "--scene", "scene.yaml", "--set", "sampler.eta=0.0..1.0 log"),
            "--set: sweep takes values, not ranges: sampler.eta=0.0,0.5,1.0",
        ),
        (("sweep", "mine.yaml", "--scene", "scene.yaml"), "nothing varies: give --set KEY=V1,V2"),
        (("sweep", "mine.yaml", "--scene", "scene.yaml", "--set", "sampler.eta=1"), "nothing varies"),
        (("ablate", "mine.yaml", "--scene", "scene.yaml", "--cases", "4"), "--cases: goes with --benchmark"),
    ],
    ids=[
        "unknown strategy",
        "impossible strategy",
        "nothing to draw",
        "seed",
        "no file",
        "no value",
        "all and one",
        "no name",
        "commas",
        "twice",
        "options of the own one",
        "unknown option",
        "range",
        "range of numbers",
        "nothing varies",
        "one value",
        "cases",
    ],
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
    assert warning.startswith("warning: manifold steps of")
    assert warning.endswith("(in 1 of 2: aggregation.step_sizes = [900, 900, 900])")


@pytest.fixture
def grids(monkeypatch: pytest.MonkeyPatch) -> list[Grid]:
    """Every grid that is drawn."""
    drawn: list[Grid] = []

    def note(grid: Grid) -> Image.Image:
        drawn.append(grid)
        return draw_grid(grid)

    monkeypatch.setattr("amdm_framework.picture_grid.draw_grid", note)
    return drawn


def test_what_was_given_to_all_variants_stands_in_grid_and_table(desk: Path, amdm: Amdm, grids: list[Grid]) -> None:
    arguments = ("mine.yaml", "--scene", "scene.yaml", "--seed", "1")
    given = ("--set", "sampler.guidance_scale=9", "--set", "aggregation.steps=1")
    amdm("compare", *arguments, *given, "--strategies", "slerp,amdm")
    facts, line = grids[-1].subtitle.split("\n")
    assert line == "with sampler.guidance_scale=9, aggregation.steps=1" and "guidance scale 9" in facts
    slerp, own = lines("scene-compare.csv")
    assert own["sampler.guidance_scale"] == slerp["sampler.guidance_scale"] == "9"
    # It belongs to the composition's own strategy.
    assert (own["aggregation.steps"], slerp["aggregation.steps"]) == ("1", "")
    amdm("sweep", *arguments, "--set", "sampler.guidance_scale=9", "--set", "aggregation.steps=1,2")
    assert grids[-1].subtitle.split("\n")[1:] == ["with sampler.guidance_scale=9"]
    amdm("sweep", *arguments, "--set", "sampler.guidance_scale=8,9")
    assert "\n" not in grids[-1].subtitle and "guidance" not in grids[-1].subtitle


def test_whatever_a_plugin_raises_stays_with_its_variant(
    desk: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch, grids: list[Grid]
) -> None:
    def load(options: ToyOptions, context: LoadContext) -> ToyPromptProvider:
        if options.strength > 1:
            raise ValueError("too\nstrong")
        return ToyPromptProvider(options)

    install(monkeypatch, toy_registry(TOY.model_copy(update={"load": load})))
    arguments = ("sweep", "mine.yaml", "--scene", "scene.yaml", "--seed", "1", "--set", "providers.1.strength=1,2")
    result = amdm(*arguments, code=1)
    assert "failed: second.strength = 2: ValueError: too strong" in result.stderr
    assert "Traceback" not in result.stderr and grids[0].cells[0][1].caption == "failed: ValueError: too strong"
    assert [line["error"] for line in lines("scene-sweep.csv")] == ["", "ValueError: too strong"]
    assert 'raise ValueError("too\\nstrong")' in amdm("--debug", *arguments, code=1).stderr


@pytest.mark.parametrize("as_what", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_keeps_what_is_drawn(
    desk: Path, amdm: Amdm, monkeypatch: pytest.MonkeyPatch, grids: list[Grid], as_what: type[BaseException]
) -> None:
    predict_noise = ToyPromptProvider.predict_noise

    def interrupted(self: ToyPromptProvider, *arguments: Any) -> Any:
        if self.options.strength == 2:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except KeyboardInterrupt:
                # Native code may turn it into an error of its own.
                raise as_what from None
        return predict_noise(self, *arguments)

    monkeypatch.setattr(ToyPromptProvider, "predict_noise", interrupted)
    arguments = ("sweep", "mine.yaml", "--scene", "scene.yaml", "--seed", "1")
    result = amdm(*arguments, "--set", "providers.1.strength=1,2,3", code=130)
    assert result.stderr.endswith("interrupted\n")
    drawn, *others = lines("scene-sweep.csv")
    assert not drawn["error"] and drawn["evaluations"] and [line["evaluations"] for line in others] == ["", ""]
    assert others[1]["error"] == "interrupted"
    assert f"incomplete: interrupted after {1 + (as_what is RuntimeError)} of 3 variants" in grids[0].subtitle
