"""The denoising loop: precision, memory, waiting for the device, callbacks, and what it says about bad providers."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from amdm_framework.errors import InputError
from amdm_framework.provider import NoisePrediction, RunSettings, Step
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.sampling.loop import Member, StepReport, denoise
from amdm_framework.sampling.transition import transitions
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.base import AggregationStrategy
from amdm_framework.strategies.builtin import BUILTIN_STRATEGIES
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.single import Single
from amdm_framework.testing.closed_form import (
    STABLE_DIFFUSION_SCHEDULE,
    ToyProvider,
    initial_latents,
    make_strategy,
    run_toys,
    seeded_noise,
    toy_providers,
)

SHAPE = (4, 8, 8)
REGIONS = torch.zeros(2, 1, 8, 8)
REGIONS[:, :, 2:5, 1:6] = 1


def by_name(cls: type[AggregationStrategy]) -> str:
    return cls.name


@pytest.mark.parametrize("cls", BUILTIN_STRATEGIES, ids=by_name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["cfg", "apg", "cfg_zero_star"])
def test_latents_keep_their_precision(cls: type[AggregationStrategy], dtype: torch.dtype, kind: Any) -> None:
    """Networks may answer in any precision; here they answer in bfloat16."""

    class HalfProvider(ToyProvider):
        def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
            full = super().predict_noise(latents, step, conditioning)
            unconditional = None if full.unconditional is None else full.unconditional.bfloat16()
            return NoisePrediction(full.conditional.bfloat16(), unconditional)

    providers = [HalfProvider(torch.ones(SHAPE), b=b, name=f"half{b}") for b in (0.3, 0.6)]
    latents = initial_latents([1, 2], SHAPE).to(dtype)
    seen: list[StepReport] = []
    final, _ = run_toys(
        providers,
        make_strategy(cls),
        [latents, latents],
        6,
        1.0,
        guidance=Guidance(kind=kind, scale=3.0, rescale=0.2),
        regions=REGIONS,
        on_step_end=seen.append,
    )
    assert final.dtype == dtype
    assert all(one.dtype == dtype for report in seen for one in report.latents if one is not None)


class DeviceWaits(TorchDispatchMode):
    """Records every operation whose result Python must wait for."""

    WAITING = ("_local_scalar_dense", "equal", "nonzero", "masked_select", "is_nonzero", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("cls", BUILTIN_STRATEGIES, ids=by_name)
def test_nothing_in_the_loop_waits_for_the_device(cls: type[AggregationStrategy]) -> None:
    providers = toy_providers(3, SHAPE)
    latents = initial_latents([1, 2], SHAPE)
    draws = torch.randn(2, *SHAPE)
    waits = DeviceWaits()
    steps = 6
    found: list[list[str]] = []

    def watch(report: StepReport) -> None:
        found.append(list(waits.found))

    with waits:
        run_toys(
            providers,
            make_strategy(cls),
            [latents] * 3,
            steps,
            1.0,
            lambda provider, step: draws,
            guidance=Guidance(kind="apg", scale=3.0, rescale=0.2),
            regions=REGIONS,
            on_step_end=watch,
        )
    assert found == [[]] * steps
    with waits:
        assert float(draws.sum()) != 0
    assert "_local_scalar_dense" in waits.found


class Tracked:
    """A conditioning that can be watched."""


class WatchedProvider(ToyProvider):
    """Notes at every evaluation which of the watched objects are still alive."""

    watched: list[weakref.ref[Any]]
    alive: list[int]

    def encode(self, conditions: Sequence[Any], settings: RunSettings) -> None:
        return None

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
        self.alive.append(sum(reference() is not None for reference in self.watched))
        return super().predict_noise(latents, step, conditioning)


@pytest.mark.parametrize("cls", [cls for cls in BUILTIN_STRATEGIES if cls is not Single], ids=by_name)
def test_secondaries_are_freed_after_the_window(cls: type[AggregationStrategy]) -> None:
    """Conditioning, provider and all of a secondary's latents are gone when the first step after the window runs."""
    steps, stop = 8, 3
    target = WatchedProvider(torch.ones(SHAPE), name="target")
    target.watched, target.alive = [], []
    events: list[str] = []
    indices: list[int] = []

    def member(provider: ToyProvider, salt: int) -> Member:
        conditioning = Tracked()
        latents = initial_latents([1], SHAPE, salt=salt)
        if provider is not target:
            target.watched.extend([weakref.ref(conditioning), weakref.ref(latents), weakref.ref(provider)])
        return Member(provider, conditioning, latents, Guidance(scale=2.0), partial(events.append, provider.name))

    members = [member(target, 0)]
    members.append(member(ToyProvider(torch.zeros(SHAPE), name="first"), 1))
    members.append(member(ToyProvider(torch.ones(SHAPE), b=0.7, name="second"), 2))
    windows = {
        "amdm_authors": {"window": [1, stop]},
        "instance_relay": {"secondary_steps": stop - 1, "instance_steps": 1},
    }
    strategy = make_strategy(cls, **windows.get(cls.name, {"window": [0, stop]}))
    strategy.begin(3, steps)

    def watch(report: StepReport) -> None:
        indices.append(report.step.index)
        for latents in report.latents[1:]:
            if latents is not None and latents is not report.latents[0]:
                target.watched.append(weakref.ref(latents))

    denoise(
        members,
        strategy,
        transitions(STABLE_DIFFUSION_SCHEDULE, steps, 1.0),
        seeded_noise([1], SHAPE),
        REGIONS[:1],
        watch,
    )
    assert target.alive[-(steps - stop) :] == [0] * (steps - stop)
    assert events == ["first", "second"]
    assert members[1].conditioning is None and members[1].provider is None and members[1].latents is None
    assert members[0].conditioning is not None
    assert indices == list(range(steps))


def test_a_relays_first_runner_is_freed_before_the_second_has_finished() -> None:
    events: list[str] = []
    providers = toy_providers(3, SHAPE)
    latents = initial_latents([1], SHAPE)
    members = [
        Member(provider, None, latents, Guidance(scale=1.0), lambda name=provider.name: events.append(name))
        for provider in providers
    ]
    strategy = make_strategy(Relay, steps=4)
    strategy.begin(3, 6)
    at_step: dict[int, list[str]] = {}
    denoise(
        members,
        strategy,
        transitions(STABLE_DIFFUSION_SCHEDULE, 6),
        seeded_noise([1], SHAPE),
        on_step_end=lambda report: at_step.update({report.step.index: list(events)}),
    )
    assert at_step == {0: [], 1: [], 2: ["toy1"], 3: ["toy1"], 4: ["toy1", "toy2"], 5: ["toy1", "toy2"]}


def test_a_secondary_that_is_never_needed_is_freed_before_the_first_step() -> None:
    events: list[str] = []
    latents = initial_latents([1], SHAPE)
    members = [
        Member(provider, None, latents, Guidance(scale=1.0), lambda name=provider.name: events.append(name))
        for provider in toy_providers(2, SHAPE)
    ]
    strategy = make_strategy(AMDM, steps=0)
    strategy.begin(2, 4)
    seen: list[list[str]] = []
    denoise(
        members,
        strategy,
        transitions(STABLE_DIFFUSION_SCHEDULE, 4),
        seeded_noise([1], SHAPE),
        on_step_end=lambda report: seen.append(list(events)),
    )
    assert seen == [["toy1"]] * 4


def test_a_callback_may_replace_latents() -> None:
    latents = initial_latents([1], SHAPE)

    def blank(report: StepReport) -> None:
        if report.step.index == 3:
            report.latents[0] = torch.zeros_like(latents)

    found, _ = run_toys(toy_providers(1, SHAPE), make_strategy(Single), [latents], 4, on_step_end=blank)
    assert torch.equal(found, torch.zeros_like(latents))


def test_the_preview_of_the_last_step_is_the_picture() -> None:
    latents = initial_latents([1], SHAPE)
    previews: list[torch.Tensor] = []

    def preview(report: StepReport) -> None:
        previews.append(report.transition.original_sample(report.states[0].latents, report.states[0].epsilon))

    final, _ = run_toys(toy_providers(1, SHAPE), make_strategy(Single), [latents], 20, on_step_end=preview)
    errors = [float((one - final).norm()) for one in previews]
    assert errors[-1] < 0.1 * errors[0]


def test_members_may_predict_different_things() -> None:
    """Epsilon, v and x0 versions of one model, aggregated, equal the aggregate of three epsilon models."""
    from amdm_framework.latents import NoiseSchedule

    class Converted(ToyProvider):
        def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
            epsilon = super().predict_noise(latents, step, conditioning).conditional
            a = float(self.noise_schedule.alphas_cumprod[step.timestep])
            original = (latents - (1 - a) ** 0.5 * epsilon) / a**0.5
            if self.noise_schedule.prediction_type == "v_prediction":
                return NoisePrediction(a**0.5 * epsilon - (1 - a) ** 0.5 * original)
            return NoisePrediction(original)

    generator = torch.Generator().manual_seed(0)
    patterns = [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3)]
    plain = [ToyProvider(pattern, name=f"p{k}") for k, pattern in enumerate(patterns)]
    table = STABLE_DIFFUSION_SCHEDULE.alphas_cumprod
    velocity = NoiseSchedule(table, "v_prediction", final_alpha_cumprod=STABLE_DIFFUSION_SCHEDULE.final_alpha_cumprod)
    original = NoiseSchedule(table, "sample", final_alpha_cumprod=STABLE_DIFFUSION_SCHEDULE.final_alpha_cumprod)
    mixed = [plain[0], Converted(patterns[1], schedule=velocity), Converted(patterns[2], schedule=original)]
    latents = [initial_latents([1], SHAPE, salt=k).double() for k in range(3)]
    expected, _ = run_toys(plain, make_strategy(AMDM), latents, 10)
    found, _ = run_toys(mixed, make_strategy(AMDM), latents, 10)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_prediction_of_the_wrong_shape_is_named() -> None:
    class Doubled(ToyProvider):
        def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
            return NoisePrediction(torch.cat([latents, latents]))

    latents = initial_latents([1], SHAPE)
    with pytest.raises(InputError, match=r"provider twice returned a prediction of shape \[2, 4, 8, 8\] at step 0"):
        run_toys([Doubled(torch.ones(SHAPE), name="twice")], make_strategy(Single), [latents], 4)


def test_the_trace_holds_one_value_per_image_and_writes_as_json() -> None:
    import json

    latents = initial_latents([1, 2, 3], SHAPE)
    _, trace = run_toys(toy_providers(2, SHAPE), make_strategy(AMDM), [latents, latents], 6)
    aggregated = [row for row in trace.rows if row.index < 3]
    assert len(aggregated) == 6
    for row in aggregated:
        assert row.evaluated == "guided"
        assert row.seconds >= 0
        names = {"distance_to_mean", "step_over_distance", "cosine"}
        names |= {"pull"} if row.provider else {"norm_ratio", "displacement"}
        assert set(row.metrics) == names
        assert all(len(values) == 3 for values in row.metrics.values())
    assert all(value == pytest.approx(1.0) for row in aggregated[::2] for value in row.metrics["cosine"])
    data = json.loads(json.dumps(trace.to_dict()))
    assert data["evaluations"] == {"toy0": 6, "toy1": 3}
    assert len(data["rows"]) == 9
