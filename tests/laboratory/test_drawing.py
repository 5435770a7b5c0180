"""The laboratory loads every model once and draws what the pipeline of each composition draws."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amdm_framework.composition import ResolvedComposition, read_composition
from amdm_framework.errors import AMDMError
from amdm_framework.laboratory.drawing import Laboratory
from amdm_framework.models.context import LoadContext
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.provider import RunSettings
from amdm_framework.scene import Scene
from toy_plugin import TOY, ToyCondition, ToyOptions, ToyPromptProvider, toy_registry

LOADED: list[tuple[ToyOptions, weakref.ref[ToyPromptProvider]]] = []
"""What was loaded since the test began."""


class PickyProvider(ToyPromptProvider):
    """Has no memory for some prompts."""

    def encode(self, conditions: Any, settings: RunSettings) -> list[torch.Tensor]:
        if any("huge" in condition.prompt for condition in conditions):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().encode(conditions, settings)


def _load(options: ToyOptions, context: LoadContext) -> ToyPromptProvider:
    provider = PickyProvider(options)
    LOADED.append((options, weakref.ref(provider)))
    return provider


REGISTRY = toy_registry(TOY.model_copy(update={"load": _load}))
SCENE = Scene(caption="a red circle", negative="blur")


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    LOADED.clear()


def composition(*overrides: str, members: int = 2) -> ResolvedComposition:
    content = {
        "providers": [{"use": "toy", "notes": str(k), "condition": {"prompt": f"p{k}"}} for k in range(members)],
        "aggregation": {"strategy": "amdm", "steps": 2},
        "sampler": {"steps": 4},
    }
    return read_composition(content, REGISTRY, overrides, Path())


VARIANTS = [
    composition(),
    composition("aggregation={strategy: slerp, weights: [0.2]}"),
    composition("providers.1.guidance_scale=2", "sampler.eta=1"),
    composition("providers.0.condition.prompt=other"),
    composition("aggregation.step_sizes=[1, 2]", "sampler.initial_noise=independent"),
    composition("aggregation={strategy: single}", "providers.0.name=renamed"),
    composition("release=true"),
]


def test_pictures_are_those_of_the_compositions_own_pipelines_and_nothing_is_loaded_twice() -> None:
    laboratory = Laboratory(REGISTRY, "cpu")
    drawn = [laboratory.draw(resolved, [SCENE] * 2, [3, 4]) for resolved in VARIANTS]
    assert [options.notes for options, _ in LOADED] == ["0", "1"]
    for resolved, one in zip(VARIANTS, drawn, strict=True):
        pipeline = AMDMPipeline.from_composition(resolved, "cpu", plugins=REGISTRY)
        pipeline.set_progress_bar_config(disable=True)
        expected = pipeline([SCENE] * 2, generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)])
        for picture, other in zip(one.pictures, expected.images, strict=True):
            assert np.array_equal(np.asarray(picture), np.asarray(other))
        assert one.figures[0].evaluations == expected.trace.total_evaluations
        assert one.warnings == expected.warnings
    pictures = {one.pictures[0].tobytes() for one in drawn}
    assert len(pictures) == len(VARIANTS) - 1  # `release` changes nothing


def test_an_option_of_a_member_loads_that_member_alone() -> None:
    laboratory = Laboratory(REGISTRY, "cpu")
    for strength in ("1.0", "0.5", "1.0"):
        laboratory.draw(composition(f"providers.1.strength={strength}"), [SCENE], [0])
    assert [(options.notes, options.strength) for options, _ in LOADED] == [("0", 1.0), ("1", 1.0), ("1", 0.5)]


def test_equal_members_of_one_composition_are_loaded_each_for_itself() -> None:
    laboratory = Laboratory(REGISTRY, "cpu")
    twins = composition("providers.1.notes='0'")
    pipeline = laboratory.pipeline(twins)
    assert pipeline.providers[0] is not pipeline.providers[1]
    assert laboratory.pipeline(twins).providers == pipeline.providers and len(LOADED) == 2


def test_members_that_nobody_needs_any_more_are_let_go() -> None:
    laboratory = Laboratory(REGISTRY, "cpu")
    usual, strong = composition(), composition("providers.1.strength=2")
    for resolved in (usual, strong):
        laboratory.draw(resolved, [SCENE], [0])
    laboratory.keep([usual])
    alive = [(options.notes, options.strength) for options, provider in LOADED if provider() is not None]
    assert alive == [("0", 1.0), ("1", 1.0)]


class Weights(torch.nn.Module):
    """Two layers, the first of which all members have in common."""

    def __init__(self, notes: str) -> None:
        super().__init__()
        self.common, self.own = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
        torch.nn.init.zeros_(self.common.weight)
        torch.nn.init.constant_(self.own.weight, float(notes) + 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.own(self.common(features))


class WeightyProvider(ToyPromptProvider):
    """A toy with weights."""

    def __init__(self, options: ToyOptions) -> None:
        super().__init__(options)
        self.network = Weights(options.notes)

    def predict_noise(self, latents: torch.Tensor, *rest: Any) -> Any:
        self.network(torch.zeros(2))
        return super().predict_noise(latents, *rest)

    def modules(self) -> dict[str, torch.nn.Module]:
        return {"network": self.network}


def _load_weights(options: ToyOptions, context: LoadContext) -> WeightyProvider:
    provider = WeightyProvider(options)
    context.weights.share(provider.network)
    WEIGHTS.extend((options.notes, weakref.ref(weight)) for weight in provider.network.parameters())
    return provider


WEIGHTS: list[tuple[str, weakref.ref[torch.nn.Parameter]]] = []


@pytest.mark.parametrize("offload", ["none", "model", "sequential"])
def test_weights_that_nobody_needs_any_more_are_let_go(offload: str) -> None:
    WEIGHTS.clear()
    registry = toy_registry(TOY.model_copy(update={"load": _load_weights}))
    laboratory = Laboratory(registry, "cpu")
    for notes in range(4):
        content = {
            "providers": [{"use": "toy", "notes": "9"}, {"use": "toy", "notes": str(notes)}],
            "sampler": {"steps": 2},
            "offload": offload,
        }
        resolved = read_composition(content, registry, (), Path())
        laboratory.keep([resolved])
        laboratory.draw(resolved, [SCENE], [0])
        gc.collect()
        # The first layer is one for all of them, the second each one's own.
        assert len({id(weight()) for _, weight in WEIGHTS if weight() is not None}) == 3
    with_other_options = resolved.composition.model_copy(update={"vae_tiling": True})
    laboratory.keep([replace(resolved, composition=with_other_options)])
    gc.collect()
    assert not [member for member, weight in WEIGHTS if weight() is not None]


def test_batches_have_the_size_that_was_asked_for_and_steps_are_told() -> None:
    laboratory = Laboratory(REGISTRY, "cpu")
    steps: list[int] = []
    scenes = [Scene(caption=f"scene {k}") for k in range(5)]
    resolved = composition("providers.0.condition={}", "release=true")
    drawn = laboratory.draw(resolved, scenes, range(5), batch_size=2, on_step=lambda: steps.append(1))
    assert len(LOADED) == 2 and len(steps) == 3 * 4 and len(drawn.pictures) == len(drawn.figures) == 5
    alone = [laboratory.draw(resolved, [scene], [seed]).pictures[0] for seed, scene in enumerate(scenes)]
    for picture, single in zip(drawn.pictures, alone, strict=True):
        assert abs(np.asarray(picture).astype(int) - np.asarray(single)).max() <= 1


def test_too_little_memory_is_explained() -> None:
    laboratory = Laboratory(REGISTRY, "cpu")
    with pytest.raises(AMDMError, match=r"too little memory to draw 1 picture\(s\) at once: .*--dtype float16"):
        laboratory.draw(composition("providers.0.condition.prompt=huge"), [SCENE], [0])


def test_conditions_of_a_toy_are_what_the_composition_says() -> None:
    # The variants above differ in what their members are asked for: without this they would prove less.
    (taken,), _ = composition("providers.0.condition.prompt=other").conditions([SCENE])
    assert taken == ToyCondition(prompt="other", negative="blur")
