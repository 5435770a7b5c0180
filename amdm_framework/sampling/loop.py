"""The denoising loop: evaluate whom the strategy needs, guide, convert to epsilon, let the strategy advance."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch

from ..errors import InputError
from ..provider import EpsilonProvider, NoisePrediction, Step
from ..strategies.base import AggregationStrategy, Evaluation, ProviderState
from .by_device import call_by_device
from .guidance import Guidance, Guider
from .trace import Trace, TraceRow
from .transition import Transition, to_epsilon


class NoiseSource(Protocol):
    """Draws the noise of stochastic steps."""

    def __call__(self, provider: int, step: Step) -> torch.Tensor:
        """Return (B, C, H, W) standard normal noise for a provider at a step, in the dtype of the latents."""
        ...


@dataclass
class Member:
    """One provider in one run.

    Attributes:
        provider: the loaded model; dropped once it is not needed any more.
        conditioning: what its `encode` returned; dropped once the provider is not needed any more.
        latents: (B, C, H, W) its x_T.
        guidance: how its two halves become one.
        release: called once after its last evaluation, so that its owner can let go of it too.
        device: where its networks compute; None is wherever the latents are.
    """

    provider: EpsilonProvider | None
    conditioning: Any
    latents: torch.Tensor | None
    guidance: Guidance
    release: Callable[[], object] | None = None
    device: torch.device | None = None


@dataclass(frozen=True)
class StepReport:
    """What a callback sees after a step.

    Attributes:
        step: the step that was just taken.
        transition: its transition; `transition.original_sample(latents, epsilon)` previews the picture.
        states: every provider before the step.
        latents: every provider's next latents, None where they are not needed any more. A callback may replace entries.
    """

    step: Step
    transition: Transition
    states: Sequence[ProviderState]
    latents: list[torch.Tensor | None]


def denoise(
    members: Sequence[Member],
    strategy: AggregationStrategy,
    grid: Sequence[Transition],
    noise: NoiseSource,
    regions: torch.Tensor | None = None,
    on_step_end: Callable[[StepReport], None] | None = None,
) -> tuple[torch.Tensor, Trace]:
    """Sample the target, aggregated with the other members as the strategy says.

    The strategy must have begun (`strategy.begin`). Only providers that it asks for are evaluated; a member's latents
    and conditioning are dropped after its last use. Members on different devices are evaluated at the same time. Nothing
    in here waits for a device.

    Args:
        members: target first, each with its own conditioning and x_T.
        strategy: says who is evaluated and how samples become one.
        grid: the transitions, noisiest first.
        noise: source of the noise of stochastic steps.
        regions: (B, K, H, W) instance masks for strategies that ask for them.
        on_step_end: called after every step.

    Returns:
        The target's final latents (B, C, H, W), and the trace.

    Raises:
        InputError: the strategy cannot work on this grid, or a provider's prediction has the wrong shape or lacks the
            unconditional half.
    """
    strategy.check_grid(grid)
    names = [member.provider.name if member.provider is not None else "" for member in members]
    guiders = [Guider(member.guidance, len(grid)) for member in members]
    plan = [strategy.evaluated(index) for index in range(len(grid))]
    last_use = {k: index for index, needed in enumerate(plan) for k in needed}
    latents = [members[0].latents if strategy.shared_latents else member.latents for member in members]
    for member in members:
        member.latents = None
    resident = set(range(1, len(members)))
    records: list[_Record] = []
    with ThreadPoolExecutor() as threads:
        for index, transition in enumerate(grid):
            for k in [k for k in sorted(resident) if last_use.get(k, -1) < index]:
                resident.remove(k)
                latents[k] = None
                _free(members[k])
            step = Step(index, len(grid), transition.timestep, regions=regions)
            record = _Record(step, plan[index])
            states = [
                ProviderState(_required(own, latents[0]), None, None, guider.guidance.scale, partial(noise, k, step))
                for k, (own, guider) in enumerate(zip(latents, guiders, strict=True))
            ]
            _evaluate(members, guiders, step, transition, states, record, threads)
            advance = strategy.advance(step, states, transition)
            latents = list(advance.latents)
            record.metrics = advance.metrics
            records.append(record)
            if on_step_end is not None:
                on_step_end(StepReport(step, transition, states, latents))
            # Tensors of this step would otherwise live on through the next one's evaluations.
            del states, advance
    for k in resident:
        _free(members[k])
    result = latents[0]
    if result is None:
        raise RuntimeError(f"strategy {strategy.name} returned no latents for the target")
    _read_metrics(records)
    return result, Trace([row for record in records for row in record.rows(names)], tuple(names))


def _free(member: Member) -> None:
    member.provider = None
    member.conditioning = None
    if member.release is not None:
        member.release()


def _required(own: torch.Tensor | None, target: torch.Tensor | None) -> torch.Tensor:
    # A provider whose latents were freed is never evaluated again; its state shows the target's.
    tensor = own if own is not None else target
    assert tensor is not None
    return tensor


def _evaluate(
    members: Sequence[Member],
    guiders: Sequence[Guider],
    step: Step,
    transition: Transition,
    states: Sequence[ProviderState],
    record: _Record,
    threads: ThreadPoolExecutor,
) -> None:
    calls: dict[int, Callable[[], NoisePrediction]] = {}
    devices: dict[int, torch.device] = {}
    # All latents are moved before anything is evaluated: a copy waits for everything its device was given before.
    for k, evaluation in record.evaluated.items():
        guided = evaluation is Evaluation.BOTH_HALVES
        if evaluation is Evaluation.GUIDED:
            guided = guiders[k].is_active(step.index)
        latents = states[k].latents.to(members[k].device)
        devices[k] = members[k].device or latents.device
        calls[k] = partial(_predict, members[k], latents, replace(step, guided=guided), record, k)
    predictions = call_by_device(calls, devices, threads)
    for k, evaluation in record.evaluated.items():
        _set_epsilon(states[k], predictions[k], evaluation, guiders[k], members[k], transition, step.index)


def _predict(member: Member, latents: torch.Tensor, step: Step, record: _Record, position: int) -> NoisePrediction:
    provider = member.provider
    assert provider is not None
    with record.timed(position, latents.device):
        prediction = provider.predict_noise(latents, step, member.conditioning)
    if step.guided and prediction.unconditional is None:
        raise InputError(
            f"provider {provider.name} returned no unconditional prediction at step {step.index}, where it was asked "
            "for one"
        )
    for half in (prediction.conditional, prediction.unconditional):
        if half is not None and half.shape != latents.shape:
            raise InputError(
                f"provider {provider.name} returned a prediction of shape {list(half.shape)} at step {step.index}, "
                f"expected the latents' shape {list(latents.shape)}"
            )
    return NoisePrediction(prediction.conditional, prediction.unconditional if step.guided else None)


def _set_epsilon(
    state: ProviderState,
    prediction: NoisePrediction,
    evaluation: Evaluation,
    guider: Guider,
    member: Member,
    transition: Transition,
    index: int,
) -> None:
    assert member.provider is not None
    predicts = member.provider.noise_schedule.prediction_type
    # Arithmetic on latents stays in the latents' precision whatever the networks compute in.
    conditional = prediction.conditional.to(state.latents)
    unconditional = None if prediction.unconditional is None else prediction.unconditional.to(state.latents)
    convert = partial(
        to_epsilon, latents=state.latents, alpha_cumprod=transition.alpha_cumprod, prediction_type=predicts
    )
    if evaluation is Evaluation.GUIDED:
        state.noise_prediction = convert(guider.combine(NoisePrediction(conditional, unconditional), index))
        return
    state.noise_prediction = convert(conditional)
    if unconditional is not None:
        state.unconditional = convert(unconditional)


def _read_metrics(records: Sequence[_Record]) -> None:
    # In one transfer, since every transfer waits for the device.
    columns = [
        column
        for record in records
        for per_provider in record.metrics.values()
        for column in per_provider
        if column is not None
    ]
    figures = iter(torch.cat(columns).tolist() if columns else [])
    for record in records:
        record.figures = {
            metric: [None if column is None else list(islice(figures, len(column))) for column in per_provider]
            for metric, per_provider in record.metrics.items()
        }


class _Record:
    """Raw figures of one step; metrics are read from the device when the run has ended."""

    def __init__(self, step: Step, evaluated: Mapping[int, Evaluation]) -> None:
        self.step = step
        self.evaluated = evaluated
        self.metrics: Mapping[str, Sequence[torch.Tensor | None]] = {}
        self.figures: Mapping[str, Sequence[list[float] | None]] = {}
        self._times: dict[int, tuple[Any, Any]] = {}

    @contextlib.contextmanager
    def timed(self, provider: int, device: torch.device) -> Iterator[None]:
        if device.type == "cuda":
            make_event: Any = torch.cuda.Event
            start, end = make_event(enable_timing=True), make_event(enable_timing=True)
            stream = torch.cuda.current_stream(device)
            start.record(stream)
            yield
            end.record(stream)
            self._times[provider] = (start, end)
        else:
            began = time.perf_counter()
            yield
            self._times[provider] = (began, time.perf_counter())

    def rows(self, names: Sequence[str]) -> Iterator[TraceRow]:
        for k, name in enumerate(names):
            values = {metric: own for metric, figures in self.figures.items() if (own := figures[k]) is not None}
            evaluation = self.evaluated.get(k)
            if evaluation is None and not values:
                continue
            yield TraceRow(
                self.step.index,
                self.step.timestep,
                k,
                name,
                evaluation.value if evaluation else "",
                self._seconds(k),
                values,
            )

    def _seconds(self, provider: int) -> float:
        start, end = self._times.get(provider, (0.0, 0.0))
        if isinstance(start, float):
            return float(end) - start
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000
