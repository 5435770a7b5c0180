"""Members on different devices are evaluated at the same time, and all is as if they were not.

Tensors have one CPU, but a device may be called `cpu:1`: it groups the members like a second one.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch._dynamo

from amdm_framework.execution import ExecutionSettings, execution_of_networks
from amdm_framework.provider import NoisePrediction, Step
from amdm_framework.sampling.by_device import call_by_device
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.sampling.loop import Member, denoise
from amdm_framework.sampling.trace import Trace
from amdm_framework.sampling.transition import transitions
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.testing.closed_form import (
    STABLE_DIFFUSION_SCHEDULE,
    ToyProvider,
    initial_latents,
    make_strategy,
    seeded_noise,
)

HERE, THERE = torch.device("cpu"), torch.device("cpu", 1)
SHAPE = (4, 8, 8)


class MeetingProvider(ToyProvider):
    """Waits at every evaluation until another one has come as far; notes the thread and torch's modes."""

    def __init__(self, *arguments: Any, meeting: threading.Barrier | None = None, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.meeting = meeting
        self.found: list[tuple[int, tuple[bool, bool]]] = []

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        self.found.append((threading.get_ident(), modes))
        if self.meeting is not None and step.index < 3:
            self.meeting.wait(timeout=20)
        return super().predict_noise(latents, step, conditioning)


def sample(providers: list[ToyProvider], devices: list[torch.device | None]) -> tuple[torch.Tensor, Trace]:
    strategy = make_strategy(AMDM, steps=3)
    strategy.begin(len(providers), 6)
    latents = initial_latents([1, 2], SHAPE)
    members = [
        Member(provider, None, latents, Guidance(scale=2.0), device=device)
        for provider, device in zip(providers, devices, strict=True)
    ]
    return denoise(members, strategy, transitions(STABLE_DIFFUSION_SCHEDULE, 6, 0.5), seeded_noise([1, 2], SHAPE))


def providers(meeting: threading.Barrier | None = None) -> list[MeetingProvider]:
    generator = torch.Generator().manual_seed(0)
    return [
        MeetingProvider(torch.randn(SHAPE, generator=generator), a, name=f"toy{a}", meeting=meeting)
        for a in (0.97, 0.95, 0.985)
    ]


@pytest.mark.parametrize("inference", [True, False])
def test_members_on_two_devices_run_at_the_same_time_with_equal_results(inference: bool) -> None:
    with torch.inference_mode(inference), torch.no_grad():
        alone, _ = sample(providers(), [None, HERE, HERE])
        # Two of three share a device: of each round's two arrivals one is theirs.
        met = providers(threading.Barrier(2))
        met[2].meeting = None
        together, trace = sample(met, [HERE, THERE, THERE])
    assert torch.equal(alone, together) and together.is_inference() is inference
    target, second, third = ({thread for thread, _ in one.found} for one in met)
    assert target == {threading.get_ident()} and second == third and not target & second
    assert {modes for one in met for _, modes in one.found} == {(inference, False)}
    assert trace.evaluations == {"toy0.97": 6, "toy0.95": 3, "toy0.985": 3}
    assert all(row.seconds > 0 for row in trace.rows if row.evaluated)


def test_networks_on_every_device_are_compiled_with_the_same_settings() -> None:
    calls = dict.fromkeys(range(3), lambda: (threading.get_ident(), torch._dynamo.config.recompile_limit))
    devices = {0: HERE, 1: THERE, 2: torch.device("cpu", 2)}
    usual = torch._dynamo.config.recompile_limit
    with ThreadPoolExecutor() as threads:
        # Whatever threads are there already were started with other settings.
        call_by_device(calls, devices, threads)
        with execution_of_networks(ExecutionSettings(compile=True)):
            here = torch._dynamo.config.recompile_limit
            found = call_by_device(calls, devices, threads)
    assert here > usual and {limit for _, limit in found.values()} == {here}
    assert found[1][0] != found[0][0] != found[2][0]


def test_on_one_device_all_is_done_here_in_order() -> None:
    toys = providers()
    sample(toys, [None, HERE, None])
    assert {thread for toy in toys for thread, _ in toy.found} == {threading.get_ident()}


def test_an_error_is_itself_and_comes_when_the_others_are_done() -> None:
    done = []
    failing = threading.Event()

    def fails() -> None:
        failing.set()
        raise ValueError("no such thing")

    def waits() -> None:
        failing.wait(20)
        threading.Event().wait(0.1)
        done.append(True)

    with ThreadPoolExecutor() as threads:
        for calls in ({0: fails, 1: waits}, {0: waits, 1: fails}):
            done.clear()
            with pytest.raises(ValueError, match="no such thing"):
                call_by_device(calls, {0: HERE, 1: THERE}, threads)
            assert done == [True]
        with pytest.raises(ValueError, match="no such thing"):
            call_by_device({0: fails}, {0: HERE}, threads)
        # The third call is of the first one's device and comes after it.
        results = call_by_device({0: lambda: 0, 1: lambda: 1, 2: lambda: 2}, {0: HERE, 1: THERE, 2: HERE}, threads)
    assert results == {0: 0, 1: 1, 2: 2}


def test_an_error_of_a_member_names_it_from_whichever_thread() -> None:
    toys = providers()

    class Broken(ToyProvider):
        def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
            return NoisePrediction(latents[:, :2])

    broken = Broken(torch.ones(SHAPE), name="broken")
    with pytest.raises(Exception, match="provider broken returned") as caught:
        sample([toys[0], broken], [HERE, THERE])
    assert type(caught.value).__name__ == "InputError"
