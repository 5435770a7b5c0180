"""Previews show the picture that a step expects, which providers in closed form let us compute, within their share of time."""

from __future__ import annotations

import base64
import io
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amdm_framework.latents import NoiseSchedule
from amdm_framework.provider import Step
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.sampling.loop import StepReport
from amdm_framework.sampling.transition import Transition, transitions
from amdm_framework.strategies.base import ProviderState
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.linear import Linear
from amdm_framework.strategies.single import Single
from amdm_framework.studio.previews import LONGEST_SIDE, SHARE, Preview, Previewer, data_uri
from amdm_framework.testing.closed_form import (
    STABLE_DIFFUSION_SCHEDULER,
    initial_latents,
    make_strategy,
    run_toys,
    toy_providers,
)

STEPS = 8
SCHEDULE = NoiseSchedule.from_scheduler_config(STABLE_DIFFUSION_SCHEDULER)


class Clock:
    """Time that passes where the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("amdm_framework.studio.previews.time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def pixels_of(preview: Preview) -> np.ndarray:
    kind, content = preview.image.split(";base64,")
    assert kind == "data:image/png"
    with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
        return np.asarray(picture)


def decoded(latents: torch.Tensor) -> np.ndarray:
    """Return what the toys decode latents to, as 8-bit pixels."""
    return (latents[0, :3].clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def run(strategy: Any, count: int = 2, guidance: Guidance | None = None, seeds: tuple[int, ...] = (0,)) -> Any:
    """Run toys and return them, the reports of every step, and the previews after every step."""
    toys = toy_providers(count)
    shared = initial_latents(seeds, (4, 8, 8))
    previewer = Previewer([toy.name for toy in toys], toys[0])
    reports: list[StepReport] = []
    previews: list[list[Preview]] = []

    def on_step_end(report: StepReport) -> None:
        reports.append(report)
        previews.append(previewer.previews_of(report))

    run_toys(toys, strategy, [shared] * count, STEPS, guidance=guidance, on_step_end=on_step_end)
    return toys, reports, previews


def epsilon_of(toy: Any, latents: torch.Tensor, timestep: int) -> torch.Tensor:
    """Return the closed form of a toy's prediction."""
    return toy.a * latents + toy.b * math.cos(toy.c * timestep / 1000) * toy.pattern


def expected_original(latents: torch.Tensor, epsilon: torch.Tensor, alpha_cumprod: float) -> torch.Tensor:
    """Return x0 as x_t = sqrt(a) x0 + sqrt(1 - a) epsilon says."""
    return (latents - math.sqrt(1 - alpha_cumprod) * epsilon) / math.sqrt(alpha_cumprod)


def test_of_every_member_and_of_the_aggregate() -> None:
    toys, reports, previews = run(make_strategy(Linear, steps=3))
    for index in range(3):
        report = reports[index]
        assert [one.name for one in previews[index]] == ["", "toy0", "toy1"]
        assert {one.step for one in previews[index]} == {index + 1}
        alpha = report.transition.alpha_cumprod
        for toy, state, preview in zip(toys, report.states, previews[index][1:], strict=True):
            epsilon = epsilon_of(toy, state.latents, report.step.timestep)
            expected = decoded(expected_original(state.latents, epsilon, alpha))
            assert np.abs(pixels_of(preview).astype(int) - expected).max() <= 1
    # The target alone, as far as there is time; the last step's is the picture itself.
    assert all([one.name for one in step] in ([], [""]) for step in previews[3:])
    assert previews[-1] == []


def known(pattern: torch.Tensor, latents: torch.Tensor, transition: Transition) -> ProviderState:
    """Return a member that knows what the picture will be."""
    a = transition.alpha_cumprod
    epsilon = (latents - math.sqrt(a) * pattern) / math.sqrt(1 - a)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(9))
    return ProviderState(latents, epsilon, None, 1.0, lambda: noise)


def aggregate_of(
    patterns: list[torch.Tensor], strategy: Any, index: int, eta: float, count: int = STEPS
) -> tuple[np.ndarray, Transition]:
    """Return the aggregate's preview, as numbers from 0 to 1, after a step of members that know the picture."""
    transition = transitions(SCHEDULE, count, eta)[index]
    a = transition.alpha_cumprod
    noise = torch.randn((1, *patterns[0].shape), generator=torch.Generator().manual_seed(3))
    latents = math.sqrt(a) * patterns[0] + math.sqrt(1 - a) * noise
    states = [known(pattern, latents, transition) for pattern in patterns]
    strategy.begin(len(states), count)
    step = Step(index, count, transition.timestep)
    report = StepReport(step, transition, states, list(strategy.advance(step, states, transition).latents))
    toys = toy_providers(len(patterns))
    (preview, *_) = Previewer([toy.name for toy in toys], toys[0]).previews_of(report)
    assert preview.name == ""
    return pixels_of(preview) / 255, transition


SMOOTH = torch.linspace(0.3, 0.7, 64).expand(4, 64, 64)


@pytest.mark.parametrize("index", [0, 3, 6])
def test_the_aggregate_of_members_that_agree_is_what_they_know(index: int) -> None:
    shown, _ = aggregate_of([SMOOTH, SMOOTH], make_strategy(Linear, steps=STEPS), index, 0.0)
    assert np.abs(shown - SMOOTH[:3].permute(1, 2, 0).numpy()).max() < 1 / 255


@pytest.mark.parametrize("index", [0, 3, 6])
def test_the_aggregate_of_members_that_do_not_agree_lies_between(index: int) -> None:
    shown, transition = aggregate_of([SMOOTH, 1 - SMOOTH], make_strategy(Linear, steps=STEPS), index, 0.0)
    a, previous = transition.alpha_cumprod, transition.alpha_cumprod_previous
    # Half of each, and the more of the target's the less this step could change: the ratio of the noise to the picture
    # after the step to that before it.
    unmoved = math.sqrt((1 - previous) / previous / ((1 - a) / a))
    first, second = SMOOTH[:3].permute(1, 2, 0).numpy(), 1 - SMOOTH[:3].permute(1, 2, 0).numpy()
    expected = (first + second) / 2 + unmoved * (first - second) / 2
    assert np.abs(shown - expected).max() < 1 / 255


def test_the_aggregate_holds_the_noise_of_a_stochastic_step() -> None:
    level = torch.full((4, 64, 64), 0.5)
    spread = []
    for index in (160, 180):
        shown, transition = aggregate_of([level], make_strategy(Single), index, 1.0, count=200)
        a, previous = transition.alpha_cumprod, transition.alpha_cumprod_previous
        # DDPM's posterior (Ho et al. 2020, eq. 7) adds noise of this variance, in place of as much of the old noise.
        added = (1 - previous) / (1 - a) * (1 - a / previous)
        replaced = math.sqrt(1 - previous) - math.sqrt(1 - previous - added)
        expected = math.sqrt((added + replaced**2) / previous)
        assert abs(shown.mean() - 0.5) < 0.01 and abs(shown.std() / expected - 1) < 0.03
        spread.append(shown.std())
    # Of eta 0 it was less than a step of 8-bit pixels.
    assert spread[0] > spread[1] > 0.01


def test_of_one_model_they_agree() -> None:
    # A deterministic step explains both of its ends by one x0.
    toys, reports, previews = run(make_strategy(Single), count=1)
    shown = [(report, step[0]) for report, step in zip(reports, previews, strict=True) if step]
    assert shown
    for report, preview in shown:
        epsilon = epsilon_of(toys[0], report.states[0].latents, report.step.timestep)
        expected = decoded(expected_original(report.states[0].latents, epsilon, report.transition.alpha_cumprod))
        assert np.abs(pixels_of(preview).astype(int) - expected).max() <= 1


def test_halves_are_guided() -> None:
    # A strategy that gets both halves is shown what the member's own guidance makes of them.
    toys, reports, previews = run(make_strategy(Composable, steps=2, unconditional="own"), guidance=Guidance(scale=3.0))
    for index in range(2):
        report = reports[index]
        for toy, state, preview in zip(toys, report.states, previews[index][1:], strict=True):
            assert state.unconditional is not None
            conditional = epsilon_of(toy, state.latents, report.step.timestep)
            # The toys' unconditional half is half of that.
            guided = 0.5 * conditional + 3.0 * (conditional - 0.5 * conditional)
            expected = decoded(expected_original(state.latents, guided, report.transition.alpha_cumprod))
            assert np.abs(pixels_of(preview).astype(int) - expected).max() <= 1


def test_of_the_first_picture_of_a_batch() -> None:
    _, _, alone = run(make_strategy(Linear, steps=2), seeds=(5,))
    _, _, batch = run(make_strategy(Linear, steps=2), seeds=(5, 6, 7))
    assert alone[:2] == batch[:2]


def test_they_take_no_more_than_their_share(clock: Clock) -> None:
    toys, reports, _ = run(make_strategy(Single), count=1)
    previewer = Previewer(["toy0"], toys[0])
    decode, seconds = toys[0].decode, 3.0

    def slow(latents: torch.Tensor) -> torch.Tensor:
        clock.now += seconds
        return decode(latents)

    toys[0].decode = slow
    spent = 0.0
    shown = 0
    for _ in range(20):
        for report in reports[:-1]:
            clock.now += 1.0
            before = clock.now
            shown += bool(previewer.previews_of(report))
            spent += clock.now - before
            # Never another one while the share is used up.
            assert spent <= SHARE * clock.now + seconds
    assert shown >= 10


def test_aggregated_steps_are_always_shown(clock: Clock) -> None:
    toys, reports, _ = run(make_strategy(Linear, steps=3))
    previewer = Previewer(["a", "b"], toys[0])
    decode = toys[0].decode

    def slow(latents: torch.Tensor) -> torch.Tensor:
        clock.now += 100
        return decode(latents)

    toys[0].decode = slow
    assert [len(previewer.previews_of(report)) for report in reports] == [3, 3, 3, 0, 0, 0, 0, 0]


def test_pictures_as_addresses() -> None:
    small, large = Image.new("RGBA", (128, 3), "red"), Image.new("L", (129, 3))
    assert data_uri(small).startswith("data:image/png;base64,")
    assert data_uri(large).startswith("data:image/jpeg;base64,")


def test_large_ones_are_scaled_down() -> None:
    target = toy_providers(1, shape=(4, 8, 8))[0]
    target.decode = lambda latents: torch.zeros(1, 3, 4 * LONGEST_SIDE, 2 * LONGEST_SIDE)  # type: ignore[method-assign]
    _, reports, _ = run(make_strategy(Linear, steps=2))
    (first, *_) = Previewer(["a", "b"], target).previews_of(reports[0])
    with Image.open(io.BytesIO(base64.b64decode(first.image.partition(",")[2]))) as picture:
        assert picture.size == (LONGEST_SIDE // 2, LONGEST_SIDE)
