"""How a provider behaves over the calls of a run, and of several runs that take turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

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
        for index in (0, STEPS - 1):
            seen, again = _inputs_of_layers(run, index, 900), _inputs_of_layers(other, index, 300)
            constant = [name for name in seen if any(_holds(again[name], call) for call in seen[name])]
            assert not constant, (
                f"step {index}: other latents and timestep, but the same input of {', '.join(constant)}"
            )

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
        providers = [model_under_test.provider, model_under_test.load(model_under_test.loaded_with)]
        runs = [
            model_under_test.run([one], provider=provider, seeds=[5])
            for one, provider in zip((first, last), providers, strict=True)
        ]
        for position in (0, 1, 0):
            assert_alike(runs[position].predict(), expected[position], f"model {position} beside another")


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
    unet = provider.modules().get("unet")
    if unet is None:
        yield rows
        return

    def note(_: torch.nn.Module, arguments: Any, keywords: Any) -> None:
        values = (*arguments, *keywords.values())
        # The first tensor of a call holds the latents.
        rows.extend([len(value) for value in values if isinstance(value, torch.Tensor)][:1])

    handle = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


def _clone(half: torch.Tensor | None) -> torch.Tensor | None:
    return None if half is None else half.clone()
