"""How a provider behaves over the calls of a run, and of several runs that take turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from ..errors import AMDMError
from ..provider import EpsilonProvider, NoisePrediction
from .model_under_test import STEPS, ModelUnderTest, Run, assert_alike


class RunChecks:
    """Tests of runs: what is computed when, and what outlives a call."""

    def test_seeds_alone_decide(self, model_under_test: ModelUnderTest) -> None:
        """Two equal runs differ: something is drawn without a generator seeded from `settings.seeds`, or dropout is on."""
        results = []
        for state in (1, 2):
            torch.manual_seed(state)
            results.append(model_under_test.run().predict())
        assert_alike(
            results[0], results[1], "the same run, with another state of torch's global random numbers", tolerance=0
        )

    def test_constants_are_computed_once(self, model_under_test: ModelUnderTest) -> None:
        """A layer gets the same input at every step: what depends on neither latents nor timestep belongs into `encode`."""
        run = model_under_test.run()
        other = Run(run.provider, run.conditioning, run.latents.flip(0) + 0.5)
        trained = run.provider.noise_schedule.num_train_timesteps
        excused = set()
        for index in (0, STEPS - 1):
            seen = _inputs_of_layers(run, index, trained * 9 // 10)
            again = _inputs_of_layers(other, index, trained * 3 // 10)
            constant = {name for name in seen if any(_holds(again[name], call) for call in seen[name])}
            excuses = {name: _excuses(name, model_under_test.constant_layers) for name in constant}
            excused |= {layer for layers in excuses.values() for layer in layers}
            found = sorted(name for name, layers in excuses.items() if not layers)
            assert not found, (
                f"step {index}: other latents and timestep, but the same input of {', '.join(found)}: compute it in "
                "`encode` (or, where the network is built so, name it in the contract's `constant_layers`)"
            )
        idle = sorted(set(model_under_test.constant_layers) - excused)
        assert not idle, f"`constant_layers` names what is not constant, or not there: {', '.join(idle)}"

    def test_a_prediction_leaves_the_conditioning_alone(self, model_under_test: ModelUnderTest) -> None:
        """`predict_noise` changed what it was given: asked again about an earlier step, it answers otherwise."""
        run = model_under_test.run()
        latents = run.latents.clone()
        first = run.predict(1)
        first = NoisePrediction(first.conditional.clone(), _clone(first.unconditional))
        for index in (0, 2, 3):
            run.predict(index)
        run.predict(1, guided=False)
        assert torch.equal(run.latents, latents), "`predict_noise` wrote into the latents"
        assert_alike(first, run.predict(1), "step 1, before and after other steps", tolerance=0)

    def test_the_unconditional_half_is_computed_only_when_wanted(self, model_under_test: ModelUnderTest) -> None:
        """Where `step.guided` or `settings.guided` is False, the unconditional half is None and costs nothing."""
        guided = model_under_test.run()
        with _counting_rows(guided.provider) as guided_rows:
            expected = NoisePrediction(guided.predict().conditional)
        for name, run in (("step.guided", guided), ("settings.guided", model_under_test.run(guided=False))):
            with _counting_rows(run.provider) as rows:
                prediction = run.predict(guided=False)
            assert prediction.unconditional is None, f"{name} is False, but there is an unconditional half"
            cheaper = 2 * sum(rows) <= sum(guided_rows)
            assert cheaper, f"{name} is False, and {sum(rows)} rows pass the UNet; with guidance {sum(guided_rows)}"
            assert_alike(prediction, expected, f"the conditional half, {name} False and True")

    def test_sequential_guidance_gives_the_same(self, model_under_test: ModelUnderTest) -> None:
        """With `settings.sequential_guidance` the halves are evaluated one after the other, to save memory."""
        images = len(model_under_test.conditions)
        expected = model_under_test.run().predict()
        run = model_under_test.run(sequential=True)
        with _counting_rows(run.provider) as rows:
            prediction = run.predict()
        assert_alike(prediction, expected, "sequential and joint guidance")
        most = max(rows, default=0)
        assert most <= images, f"one call of the UNet had {most} rows for {images} images: evaluate one half at a time"

    def test_two_runs_of_one_provider_do_not_disturb_each_other(self, model_under_test: ModelUnderTest) -> None:
        """State of a run was kept on the provider or its networks: it belongs into what `encode` returns."""
        first, *_, last = model_under_test.conditions
        expected = [model_under_test.run([one], seeds=[5]).predict() for one in (first, last)]
        large, small = model_under_test.sizes[-1], model_under_test.sizes[0]
        runs = [model_under_test.run([one], seeds=[5], size=size) for one, size in ((first, small), (last, small))]
        model_under_test.run([last], size=large, guided=False).predict(3, guided=False)
        for position in (0, 1, 0):
            found = runs[position].predict()
            assert_alike(found, expected[position], f"run {position}, between steps of another run", tolerance=0)

    def test_two_loaded_models_do_not_disturb_each_other(self, model_under_test: ModelUnderTest) -> None:
        """Two members of one composition share state of a module, a class, or a network that one of them changed."""
        first, *_, last = model_under_test.conditions
        expected = [model_under_test.run([one], seeds=[5]).predict() for one in (first, last)]
        # Loaded now, so that whatever loading does to the first one shows.
        equal = model_under_test.load(model_under_test.loaded_with)
        _assert_apart(model_under_test, equal, (first, last), expected, "model {} beside another")
        other = _with_other_numbers(model_under_test)
        if other is not None:
            expected = [expected[1], model_under_test.run([last], provider=other, seeds=[5]).predict()]
            what = "model {} beside one with other options"
            _assert_apart(model_under_test, other, (last, last), expected, what)


def _assert_apart(
    model_under_test: ModelUnderTest,
    other: EpsilonProvider,
    conditions: Sequence[BaseModel],
    expected: Sequence[NoisePrediction],
    what: str,
) -> None:
    # The usual model draws the first condition, the other one the second.
    runs = [
        model_under_test.run([condition], provider=provider, seeds=[5])
        for condition, provider in zip(conditions, (None, other), strict=True)
    ]
    for position in (0, 1, 0):
        assert_alike(runs[position].predict(), expected[position], what.format(position))


def _with_other_numbers(model_under_test: ModelUnderTest) -> EpsilonProvider | None:
    # With another value of every number and flag of its options; where these do not fit together, of one of them.
    every = dict(model_under_test.block)
    singles = []
    for name in model_under_test.spec.options.model_fields:
        value = getattr(model_under_test.options, name)
        for other in _other_values(value):
            try:
                model_under_test.spec.options.model_validate({**every, name: other})
            except ValidationError:
                continue
            every[name] = other
            singles.append({**model_under_test.block, name: other})
            break
    for block in (every, *singles) if singles else ():
        try:
            return model_under_test.load(model_under_test.loaded_with, block)
        except (ValidationError, AMDMError):
            continue
    return None


def _other_values(value: object) -> tuple[float, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value + 1, value - 1)
    return (value / 2 if value else 0.5, value + 0.5) if isinstance(value, float) else ()


def _excuses(name: str, constant_layers: Sequence[str]) -> list[str]:
    # A name stands for all that is inside as well.
    return [layer for layer in constant_layers if name == layer or name.startswith(f"{layer}.")]


Inputs = Mapping[str, list[tuple[torch.Tensor, ...]]]


def _inputs_of_layers(run: Run, index: int, timestep: int) -> Inputs:
    # Of everything with weights of its own but tables, whose lookup costs nothing.
    inputs: dict[str, list[tuple[torch.Tensor, ...]]] = defaultdict(list)
    handles = []
    for network, module in run.provider.modules().items():
        for name, layer in module.named_modules():
            if isinstance(layer, torch.nn.Embedding) or not any(True for _ in layer.parameters(recurse=False)):
                continue

            def note(
                _: torch.nn.Module, arguments: Any, keywords: Any, output: Any, name: str = f"{network}.{name}"
            ) -> None:
                tensors = (*arguments, *keywords.values())
                inputs[name].append(tuple(each.clone() for each in tensors if isinstance(each, torch.Tensor)))

            handles.append(layer.register_forward_hook(note, with_kwargs=True))
    try:
        run.predict(index, timestep=timestep)
    finally:
        for handle in handles:
            handle.remove()
    return inputs


def _holds(calls: Sequence[tuple[torch.Tensor, ...]], wanted: tuple[torch.Tensor, ...]) -> bool:
    return any(
        len(call) == len(wanted) and all(torch.equal(*pair) for pair in zip(call, wanted, strict=True))
        for call in calls
    )


@contextmanager
def _counting_rows(provider: EpsilonProvider) -> Iterator[list[int]]:
    rows: list[int] = []
    modules = provider.modules()
    if not modules:
        # A closed form: nothing to count.
        yield rows
        return
    unet = modules.get("unet")
    assert unet is not None, (
        f"`modules()` has {', '.join(modules)}: call the network that is evaluated at every step `unet`, by which name "
        "it is compiled and its rows are counted"
    )

    def note(_: torch.nn.Module, arguments: Any, keywords: Any) -> None:
        tensors = [value for value in (*arguments, *keywords.values()) if isinstance(value, torch.Tensor)]
        # Latents have more dimensions than timesteps and text states, wherever they stand.
        rows.append(len(max(tensors, key=torch.Tensor.dim)))

    handle = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()
    assert rows, "a prediction does not call `modules()['unet']`: call the network itself, not a method or a part of it"


def _clone(half: torch.Tensor | None) -> torch.Tensor | None:
    return None if half is None else half.clone()
