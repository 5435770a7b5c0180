"""Compositions: names found among the installed plugins, options checked, every mistake named at once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from amdm_framework.composition import Composition, read_composition, resolve
from amdm_framework.errors import InputError
from amdm_framework.provider import ProviderSpec
from amdm_framework.scene import Reference, Scene
from amdm_framework.yaml_files import to_yaml
from toy_plugin import TOY, ToyCondition, ToyOptions, toy_registry

TOYS = toy_registry()

TWO: dict[str, Any] = {
    "providers": [{"use": "toy"}, {"use": "toy", "strength": 0.5}],
    "aggregation": {"strategy": "amdm", "steps": 2, "weights": [0.5]},
    "sampler": {"steps": 10, "guidance_scale": 5},
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**copy.deepcopy(TWO), **parts}


def message_of(content: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        read_composition(content, TOYS, overrides)
    return str(caught.value)


def aggregation(**options: Any) -> dict[str, Any]:
    return changed(aggregation={"strategy": "amdm", **options})


def test_a_composition_is_resolved() -> None:
    resolved = read_composition(TWO, TOYS)
    assert [member.name for member in resolved.members] == ["toy", "toy-2"]
    assert [member.options.strength for member in resolved.members] == [1.0, 0.5]
    assert resolved.strategy.name == "amdm"
    assert resolved.strategy.settings.weights == (0.5,)
    assert resolved.composition.sampler.steps == 10


def test_a_composition_survives_a_round_trip_through_yaml(tmp_path: Path) -> None:
    file = tmp_path / "composition.yaml"
    file.write_text(to_yaml(TWO))
    resolved = read_composition(file, TOYS)
    written = resolved.composition.model_dump(mode="json", exclude_unset=True)
    assert written == TWO
    file.write_text(to_yaml(written))
    assert read_composition(file, TOYS).composition == resolved.composition
    assert resolved.base_dir == tmp_path


def test_a_composition_from_python_resolves_like_one_from_a_file() -> None:
    composition = Composition(providers=[{"use": "toy"}])
    resolved = resolve(composition, TOYS)
    assert (resolved.strategy.name, resolved.composition.sampler.steps) == ("composable", 50)


def test_reading_leaves_the_given_content_alone() -> None:
    content = copy.deepcopy(TWO)
    read_composition(content, TOYS, ["sampler.steps=20", "providers.0.strength=2"])
    assert content == TWO


def test_overrides_are_applied_before_checking() -> None:
    resolved = read_composition(TWO, TOYS, ["aggregation.steps=5", "sampler.eta=1e-4", "providers.1.name=second"])
    assert resolved.strategy.settings.steps == 5
    assert resolved.composition.sampler.eta == 1e-4
    assert resolved.members[1].name == "second"
    assert "aggregation.steps" in message_of(TWO, "aggregation.steps=11")


def test_yaml_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("providers: [{use: toy, strength: 1e-4}]\nsampler: {eta: 1e-2, guidance_scale: 2e0}\n")
    resolved = read_composition(file, TOYS)
    assert resolved.members[0].options.strength == 1e-4
    assert (resolved.composition.sampler.eta, resolved.members[0].guidance.scale) == (0.01, 2.0)


def test_yaml_words_that_become_booleans_are_explained(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("providers: [{use: toy, name: no, notes: on}]\n")
    with pytest.raises(InputError) as caught:
        read_composition(file, TOYS)
    assert "providers.0.name: expected text, found False: YAML reads no, off" in str(caught.value)
    file.write_text("providers: [{use: toy, name: 'no', notes: 'on'}]\n")
    assert read_composition(file, TOYS).members[0].name == "no"


def test_unnamed_members_are_told_apart_and_given_names_are_kept() -> None:
    providers = [{"use": "toy"}, {"use": "toy", "name": "toy-2"}, {"use": "toy"}, {"use": "toy", "name": "x"}]
    resolved = read_composition({"providers": providers}, TOYS)
    assert [member.name for member in resolved.members] == ["toy", "toy-2", "toy-3", "x"]


@pytest.mark.parametrize(
    ("sampler", "block", "kind", "scale"),
    [
        ({}, {}, "cfg", 7.5),
        ({"guidance_scale": 3}, {}, "cfg", 3),
        ({"guidance": {"scale": 3, "kind": "apg"}}, {}, "apg", 3),
        ({"guidance_scale": 3}, {"guidance_scale": 4}, "cfg", 4),
        ({"guidance": {"scale": 3, "kind": "apg"}}, {"guidance_scale": 4}, "apg", 4),
        ({"guidance_scale": 3}, {"guidance": {"kind": "apg"}}, "apg", 3),
        ({"guidance_scale": 3}, {"guidance": {"kind": "apg", "scale": 5}}, "apg", 5),
        ({"guidance": {"rescale": 0.7}}, {"guidance": {"kind": "cfg_zero_star"}}, "cfg_zero_star", 7.5),
        ({"guidance_scale": 3}, {"guidance_scale": 1}, "cfg", 1),
    ],
)
def test_the_nearest_guidance_wins(sampler: dict, block: dict, kind: str, scale: float) -> None:
    content = {"providers": [{"use": "toy", **block}], "sampler": sampler}
    guidance = read_composition(content, TOYS).members[0].guidance
    assert (guidance.kind, guidance.scale) == (kind, scale)


def test_a_guidance_scale_stated_twice_is_refused_once() -> None:
    both = {"guidance_scale": 3, "guidance": {"scale": 3}}
    message = message_of(changed(sampler={"steps": 10, **both}))
    assert message == "sampler.guidance: give `guidance_scale` or `guidance.scale`, not both"
    assert message_of({"providers": [{"use": "toy", **both}]}).startswith("providers.0.guidance: give")


def test_step_sizes_may_stand_with_their_members() -> None:
    providers = [{"use": "toy", "step_size": 45}, {"use": "toy", "step_size": 55}]
    assert read_composition(changed(providers=providers), TOYS).strategy.settings.step_sizes == (45, 55)


def test_conditions_are_taken_from_the_scene_and_overridden(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "oil.png")
    file = tmp_path / "c.yaml"
    style = {"role": "style", "image": "oil.png"}
    providers = [{"use": "toy"}, {"use": "toy", "condition": {"prompt": "only blue", "style": style}}]
    file.write_text(to_yaml({"providers": providers}))
    resolved = read_composition(file, TOYS)
    scenes = [Scene(caption="a red circle", negative="blur"), Scene(caption="a star")]
    plain, overridden = resolved.conditions(scenes)
    assert plain == [ToyCondition(prompt="a red circle", negative="blur"), ToyCondition(prompt="a star")]
    assert [(one.prompt, one.negative) for one in overridden] == [("only blue", "blur"), ("only blue", "")]
    assert overridden[0].style.image == tmp_path / "oil.png"


def test_conditions_that_do_not_fit_are_named_with_their_member() -> None:
    resolved = read_composition(
        {"providers": [{"use": "toy", "name": "first", "condition": {"prompt": 3}}, {"use": "toy", "name": "second"}]},
        TOYS,
    )
    with pytest.raises(InputError) as caught:
        resolved.conditions([Scene(caption="x")])
    assert str(caught.value) == "provider first.condition.prompt: input should be a valid string, found 3"
    with pytest.raises(InputError) as caught:
        resolved.conditions([Scene(), Scene()])
    assert str(caught.value).splitlines() == [
        "provider first: a toy needs a caption",
        "provider second: a toy needs a caption",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"providers": [{"use": "toys"}]}, "providers.0.use: there is no provider 'toys'. Did you mean 'toy'?"),
        ({"providers": []}, "providers: "),
        ({}, "providers: is missing"),
        ({"providers": [{}]}, "providers.0.use: is missing"),
        ({"providers": {"use": "toy"}}, "providers: "),
        ({"providers": [{"use": "toy", "strenght": 1}]}, "providers.0.strenght: unknown key. Did you mean 'strength'?"),
        ({"providers": [{"use": "toy", "guidance_skale": 1}]}, "Did you mean 'guidance_scale'?"),
        ({"providers": [{"use": "toy", "strength": -1}]}, "providers.0.strength: "),
        (
            {"providers": [{"use": "toy", "condition": {"promt": "x"}}]},
            "providers.0.condition.promt: unknown key. Did you",
        ),
        ({"providers": [{"use": "toy", "name": "a"}, {"use": "toy", "name": "a"}]}, "providers.1.name: two providers"),
        ({"providers": [{"use": "toy"}], "smapler": {}}, "smapler: unknown key. Did you mean 'sampler'?"),
        (
            changed(aggregation={"strategy": "amd"}),
            "aggregation.strategy: there is no strategy 'amd'. Did you mean 'amdm'?",
        ),
        (changed(aggregation=None), "aggregation: "),
        (aggregation(step=3), "aggregation.step: unknown key. Did you mean 'steps'?"),
        (aggregation(weights=[0.5, 0.5]), "aggregation.weights: found 2 values [0.5, 0.5], expected 1 (one less than"),
        (aggregation(weights=[1.5]), "aggregation.weights.0: input should be less than or equal to 1, found 1.5"),
        (aggregation(weights=[-0.1]), "aggregation.weights.0: "),
        (aggregation(weights=[float("nan")]), "aggregation.weights.0: input should be a finite number, found nan"),
        (aggregation(step_sizes=[1]), "aggregation.step_sizes: found 1 values [1.0], expected 2 (one per provider"),
        (
            aggregation(step_sizes=[1, -1]),
            "aggregation.step_sizes.1: input should be greater than or equal to 0, found -1",
        ),
        (aggregation(step_sizes=[1, float("nan")]), "aggregation.step_sizes.1: "),
        (aggregation(steps=11), "aggregation.steps: the window ends at step 11, but the run has 10"),
        (aggregation(window=[2, 11]), "aggregation.window: the window ends at step 11"),
        (aggregation(steps=2, window=[0, 1]), "aggregation: give `steps` or `window`, not both"),
        (aggregation(steps=-1), "aggregation.steps: "),
        (changed(sampler={"steps": 0}), "sampler.steps: "),
        (changed(sampler={"eta": 1.5}), "sampler.eta: "),
        (changed(sampler={"steps": 10, "guidance_scale": float("nan")}), "sampler.guidance_scale: "),
        (changed(sampler={"steps": 10, "guidance": {"kind": "cgf"}}), "sampler.guidance.kind: "),
        (changed(sampler={"steps": 10, "guidance": {"rescal": 1}}), "Did you mean 'rescale'?"),
        (changed(sampler={"steps": "many"}), "sampler.steps: "),
    ],
)
def test_every_mistake_is_named(content: dict, expected: str) -> None:
    assert expected in message_of(content)


def step_sizes(*sizes: float | None, **options: Any) -> dict[str, Any]:
    providers = [{"use": "toy"} if size is None else {"use": "toy", "step_size": size} for size in sizes]
    return changed(providers=providers, aggregation={"strategy": "amdm", **options})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (step_sizes(45, -1), "providers.1.step_size: input should be greater than or equal to 0, found -1.0"),
        (step_sizes(float("nan"), 1), "providers.0.step_size: input should be a finite number, found nan"),
        (
            step_sizes(None, 55),
            "providers.1.step_size: give a step_size to every member or to none; providers.0 has none",
        ),
        (step_sizes(45, 55, step_sizes=[1, 2]), "providers.0.step_size: step sizes stand here and in"),
        (step_sizes(45, 55, strategy="slerp"), "providers.0.step_size: strategy slerp has no step sizes"),
    ],
)
def test_mistakes_in_step_sizes_of_members_are_named_at_the_member(content: dict, expected: str) -> None:
    assert expected in message_of(content)


def test_all_mistakes_of_a_composition_come_at_once() -> None:
    content = {
        "providers": [
            {"use": "toys"},
            {"use": "toy", "strenght": 1, "condition": {"promt": "x"}, "name": "a"},
            {"strength": 1},
            {"use": "toy", "name": "a", "guidance_scale": 1, "guidance": {"scale": 2}},
        ],
        "aggregation": {"strategy": "amdm", "weights": [0.5], "stepz": 3},
        "sampler": {"steps": -1},
        "relase": True,
    }
    keys = [line.split(":")[0] for line in message_of(content).splitlines()]
    assert sorted(keys) == sorted(
        ["providers.0.use", "providers.1.strenght", "providers.1.condition.promt", "providers.2.use", "providers.3.name",
         "providers.3.guidance", "aggregation.stepz", "sampler.steps", "relase"]
    )  # fmt: skip


def test_the_number_of_members_is_checked_even_where_a_provider_is_unknown() -> None:
    message = message_of(changed(providers=[{"use": "toys"}, {"use": "toy"}, {"use": "toy"}]))
    assert "providers.0.use" in message and "aggregation.weights: found 1 values" in message


def test_independent_noise_needs_members_that_start_at_the_first_step() -> None:
    message = message_of(
        changed(
            aggregation={"strategy": "amdm", "window": [2, 4]}, sampler={"steps": 10, "initial_noise": "independent"}
        )
    )
    assert message.startswith("sampler.initial_noise: is `independent`, but strategy amdm does not evaluate toy-2")


def test_values_of_any_size_and_depth_make_short_messages() -> None:
    deep: Any = "x"
    for _ in range(60):
        deep = [deep, deep]
    assert len(message_of({"providers": [{"use": "toy", "strength": deep}]})) < 1000


def test_a_provider_of_two_distributions_is_refused_naming_both() -> None:
    from amdm_framework import hookimpl
    from amdm_framework.plugins import Distribution, Plugin, PluginRegistry

    class Hooks:
        @hookimpl
        def register_providers(self, register: Any) -> None:
            register(TOY)

    pair = [Plugin(Distribution(name, "1.0"), name, Hooks) for name in ("amdm-one", "amdm-two")]
    with (
        pytest.warns(UserWarning, match="amdm-one 1.0 and amdm-two 1.0"),
        pytest.raises(InputError, match=r"providers.0.use: provider 'toy' is offered by amdm-one 1.0 and amdm-two 1.0"),
    ):
        read_composition({"providers": [{"use": "toy"}]}, PluginRegistry(pair))


def test_a_picture_that_cannot_be_read_is_told_with_the_member(tmp_path: Path) -> None:
    def opening(scene: Scene, options: ToyOptions) -> ToyCondition:
        scene.references[0].open()
        return ToyCondition(prompt=scene.caption)

    resolved = read_composition({"providers": [{"use": "toy"}]}, toy_registry(_with(opening)))
    (tmp_path / "notes.png").write_text("not a picture")
    scene = Scene(references=(Reference(role="style", image=tmp_path / "notes.png"),))
    with pytest.raises(InputError, match=r"^provider toy: notes\.png is not a picture that can be read: "):
        resolved.conditions([scene])


def test_errors_of_pydantic_inside_a_condition_do_not_escape() -> None:
    def broken(scene: Scene, options: ToyOptions) -> ToyCondition:
        return ToyCondition.model_validate({})

    resolved = read_composition({"providers": [{"use": "toy"}]}, toy_registry(_with(broken)))
    with pytest.raises(InputError, match="provider toy.condition.prompt: is missing"):
        resolved.conditions([Scene()])


def _with(condition_from_scene: Callable[[Scene, ToyOptions], ToyCondition]) -> ProviderSpec:
    return TOY.model_copy(update={"condition_from_scene": condition_from_scene})
