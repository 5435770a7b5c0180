"""Variants of a composition: what is drawn, under which label, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field

from amdm_framework.errors import InputError
from amdm_framework.laboratory.ablation import ablation_variants
from amdm_framework.laboratory.strategy_variants import alone_variants, strategy_variants
from amdm_framework.laboratory.sweep import arrange, parse_settings, setting_label, split_values, sweep_variants
from amdm_framework.laboratory.variants import Source, VariantChecker
from amdm_framework.scene import Scene
from amdm_framework.strategies.base import WindowOptions
from amdm_framework.strategies.slerp import Slerp
from toy_plugin import toy_registry

REGISTRY = toy_registry()


def source(count: int = 3, **aggregation: Any) -> Source:
    content = {
        "providers": [{"use": "toy", "notes": f"number {k}"} for k in range(count)],
        "aggregation": {"strategy": "amdm", **aggregation},
        "sampler": {"steps": 4},
    }
    return Source(content, "mine.yaml", Path())


def checker(varied: Source) -> VariantChecker:
    return VariantChecker(varied, [Scene(caption="a")], REGISTRY, "cpu", "auto")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,1,3", ["0", "1", "3"]),
        ("[0.3, 0.5],[0.5]", ["[0.3, 0.5]", "[0.5]"]),
        ("{strategy: amdm, steps: 2},{strategy: slerp}", ["{strategy: amdm, steps: 2}", "{strategy: slerp}"]),
        ("'red, round',blue", ["'red, round'", "blue"]),
        ("it's,that", ["it's", "that"]),
        ("[a, 'b]', c],d", ["[a, 'b]', c]", "d"]),
        ("1", ["1"]),
    ],
)
def test_commas_split_outside_of_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_all_mistakes_of_settings_come_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse_settings(["steps", "a=1,,2", "b=1", "b=2", "c=1,1"])
    message = str(caught.value)
    for part in ("found 'steps'", "a: a value is empty", "b is given twice", "c: a value is given twice"):
        assert part in message
    assert len(caught.value.problems) == 4


def test_a_sweep_is_every_combination_and_its_arrangement_follows_it() -> None:
    settings = parse_settings(["aggregation.steps=1,2", "sampler.eta=0.5", "providers.1.notes=x,y,z"])
    variants = sweep_variants(source(), settings, ["a", "b", "c"])
    assert [variant.settings["aggregation.steps"] for variant in variants] == ["1"] * 3 + ["2"] * 3
    assert [variant.settings["providers.1.notes"] for variant in variants] == ["x", "y", "z"] * 2
    arrangement = arrange(settings, ["a", "b", "c"])
    assert [label.split() for label in arrangement.columns] == [["b.notes", "=", value] for value in "xyz"]
    assert [label.split() for label in arrangement.groups] == [["aggregation.steps", "=", value] for value in "12"]
    resolved = checker(source()).check_all(variants)[-1].resolved
    assert resolved.composition.sampler.eta == 0.5 and resolved.strategy.settings.steps == 2
    assert resolved.members[1].options.notes == "z" and resolved.members[0].options.notes == "number 0"


def test_a_block_is_labelled_in_words() -> None:
    settings = parse_settings(["aggregation={strategy: amdm, steps: 5, weights: [0.3, 0.5]},{strategy: single}"])
    assert arrange(settings, []).columns == ["amdm: steps 5, weights [0.3, 0.5]", "single"]
    assert setting_label("sampler", "{steps: 5, eta: 0}", []) == "sampler: steps 5, eta 0"
    assert setting_label("sampler", "{steps: 5", []) == "sampler = {steps: 5"


def test_all_mistakes_of_all_variants_come_at_once_and_say_where() -> None:
    settings = parse_settings(["aggregation.steps=1,9,11", "providers.0.strength=-1", "sampler.stepps=3"])
    variants = sweep_variants(source(), settings, ["a", "b", "c"])
    with pytest.raises(InputError) as caught:
        checker(source()).check_all(variants)
    lines = str(caught.value).splitlines()
    assert all(line.startswith("mine.yaml: ") for line in lines)
    # What is wrong everywhere is said once; what is wrong somewhere says where.
    assert sum("providers.0.strength" in line and "(in:" not in line for line in lines) == 1
    assert sum("sampler.stepps" in line and "did you mean 'steps'" in line.lower() for line in lines) == 1
    assert len(lines) == 2
    # With the sampler repaired, the windows are looked at too.
    variants = sweep_variants(source(), parse_settings(["aggregation.steps=1,9,11"]), ["a", "b", "c"])
    with pytest.raises(InputError) as caught:
        checker(source()).check_all(variants)
    lines = str(caught.value).splitlines()
    assert [line.split("(in: ")[1] for line in lines] == ["aggregation.steps = 9)", "aggregation.steps = 11)"]


def test_an_override_that_leads_nowhere_is_told() -> None:
    variants = sweep_variants(source(), parse_settings(["providers.7.notes=a,b"]), [])
    with pytest.raises(InputError, match="'7' is no position in a list of 3"):
        checker(source()).check_all(variants)


def test_other_strategies_run_with_their_defaults_and_the_own_one_as_written() -> None:
    varied = source(steps=2, weights=[0.3, 0.4])
    for block in varied.content["providers"]:
        block["step_size"] = 7.0
    own, other = checker(varied).check_all(strategy_variants(varied, "amdm", ["amdm", "slerp"]))
    assert own.resolved.strategy.settings.weights == (0.3, 0.4)
    assert own.resolved.strategy.settings.step_sizes == (7.0, 7.0, 7.0)
    assert other.resolved.strategy.name == "slerp" and other.resolved.strategy.settings.weights is None
    assert (own.variant.label, other.variant.label) == ("amdm (as written)", "slerp (defaults)")
    assert own.cost.evaluations == 4 + 2 * 2 and other.cost.evaluations == 4 + 2 * 3


def test_every_member_alone_keeps_its_name_and_options() -> None:
    varied = source()
    varied.content["providers"][2]["step_size"] = varied.content["providers"][1]["step_size"] = 1.0
    varied.content["providers"][0]["step_size"] = 1.0
    resolver = checker(varied)
    resolved = resolver.resolve(strategy_variants(varied, "amdm", ["amdm"])[0])
    checked = resolver.check_all(alone_variants(varied, resolved))
    assert [one.variant.label for one in checked] == ["toy alone", "toy-2 alone", "toy-3 alone"]
    assert [one.resolved.members[0].options.notes for one in checked] == ["number 0", "number 1", "number 2"]
    assert [one.cost.evaluations for one in checked] == [4, 4, 4]


def ablated(varied: Source) -> tuple[dict[str, Any], dict[str, str]]:
    resolver = checker(varied)
    resolved = resolver.resolve(strategy_variants(varied, "amdm", ["amdm"])[0])
    variants, refused = ablation_variants(varied, resolved, resolver)
    resolver.check_all(variants)
    return {variant.label: variant.content for variant in variants}, refused


def test_an_ablation_shortens_what_belongs_to_members_and_to_secondaries() -> None:
    contents, refused = ablated(source(weights=[0.1, 0.2], step_sizes=[1.0, 2.0, 3.0], window=[0, 2]))
    assert not refused
    assert list(contents) == [
        "all 3 members",
        "without toy (toy-2 is the target)",
        "without toy-2",
        "without toy-3",
        "toy alone",
        "toy-2 alone",
        "toy-3 alone",
    ]
    without = [contents[label] for label in list(contents)[1:4]]
    assert [[block["name"] for block in content["providers"]] for content in without] == [
        ["toy-2", "toy-3"],
        ["toy", "toy-3"],
        ["toy", "toy-2"],
    ]
    # The weight of the first secondary goes with the target, whose place that secondary takes.
    assert [content["aggregation"]["weights"] for content in without] == [[0.2], [0.2], [0.1]]
    assert [content["aggregation"]["step_sizes"] for content in without] == [[2.0, 3.0], [1.0, 3.0], [1.0, 2.0]]
    assert all(content["aggregation"]["window"] == [0, 2] for content in without)
    assert contents["all 3 members"]["aggregation"]["weights"] == [0.1, 0.2]


def test_an_ablation_renumbers_turns() -> None:
    contents, refused = ablated(source(strategy="alternate", order=[2, 0, 1]))
    orders = [content["aggregation"].get("order") for content in contents.values()]
    assert orders == [[2, 0, 1], [1, 0], [1, 0], [0, 1], None, None, None] and not refused


class OwnOptions(WindowOptions):
    """Options whose names say nothing."""

    turns: tuple[int, ...] = Field(default=(0,), description="Members.", json_schema_extra={"holds": "positions"})
    each: tuple[float, ...] = Field(default=(), description="Numbers.", json_schema_extra={"per": "member"})
    others: tuple[float, ...] = Field(default=(), description="Numbers.", json_schema_extra={"per": "secondary"})
    order: tuple[int, ...] = Field(default=(), description="Of anything.")


class Own(Slerp):
    """A strategy of a plugin."""

    name = "own"
    options = OwnOptions

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        """Take what there is."""


def test_an_option_says_itself_what_it_has_of_the_members() -> None:
    given = {"turns": [0, 1, 2, 1], "each": [0.1, 0.2, 0.3], "others": [4.0, 5.0], "order": [2, 1], "window": [1, 2]}
    varied = source(strategy="own", **given)
    resolved = checker(source()).resolve(strategy_variants(source(), "amdm", ["amdm"])[0])
    resolved = replace(resolved, strategy=Own(OwnOptions(**given)))
    # Whether the strategy takes what is left is not the question here.
    variants, _ = ablation_variants(varied, resolved, SimpleNamespace(resolve=lambda variant: None))
    expected = [
        ([0, 1, 0], [0.2, 0.3], [5.0]),
        ([0, 1], [0.1, 0.3], [5.0]),
        ([0, 1, 1], [0.1, 0.2], [4.0]),
    ]
    for variant, (turns, each, others) in zip(variants[1:4], expected, strict=True):
        assert variant.content["aggregation"] == varied.content["aggregation"] | {
            "turns": turns, "each": each, "others": others
        }  # fmt: skip


def test_an_ablation_leaves_out_what_the_strategy_cannot_do_and_says_why() -> None:
    contents, refused = ablated(source(strategy="alternate", order=[2, 2]))
    assert list(refused) == ["without toy-3"] and "without toy-3" not in contents
    assert "aggregation.order" in refused["without toy-3"] and len(contents) == 6


def test_two_members_are_ablated_once_each() -> None:
    contents, refused = ablated(source(2, weights=[0.4]))
    assert list(contents) == ["both members", "toy alone", "toy-2 alone"] and not refused


def test_one_member_cannot_be_ablated() -> None:
    with pytest.raises(InputError, match="mine.yaml: providers: there is one member, toy"):
        ablated(source(1))
