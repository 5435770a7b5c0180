"""Wall time of a whole `AMDMPipeline` run over the time inside its networks.

    python benchmarks/overhead.py            the shapes zoo's models, and Stable Diffusion 1.5 of random weights
    python benchmarks/overhead.py --json     one JSON object
    python benchmarks/overhead.py --quick    random models of the shapes zoo's size alone, few steps

The networks' calls are clocked where they happen, so that both times come from one run, with the same tensors, dtype and
process: text and image encoders, grounding tokenizer, every UNet evaluation, and the autoencoder's decoder. On a GPU
events on its stream are the clock. What is left is everything else: tokenizing, masks, guidance, strategy, scheduler,
noise, trace, and the picture. `encoding_and_decoding` is the part of a run that is spent in networks other than UNets.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from measuring import arguments, report, synchronize
from random_models import FULL, PROMPT, QUARTER_PICTURE, TINY, Size, random_providers

from amdm_framework.composition import SamplerSettings
from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.provider import EpsilonProvider
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.base import AggregationStrategy
from amdm_framework.strategies.composable import Composable
from amdm_framework.strategies.epsilon_average import EpsilonAverage
from amdm_framework.strategies.relay import Relay
from amdm_framework.strategies.single import Single
from amdm_framework.strategies.slerp import Slerp
from amdm_shapes_zoo.demo import COMPOSITION, demo_scenes

TINY_TARGET, FULL_TARGET = 1.20, 1.03
QUICK_STEPS, QUICK_REPEATS = 4, 1
TINY_STEPS, TINY_REPEATS, FULL_REPEATS = 10, 15, 5
STRATEGIES = (AMDM, Slerp, EpsilonAverage, Composable, Relay)
FULL_STEPS_ON_CPU, FULL_STEPS_ON_GPU = 4, 50

Run = Callable[[], object]


class NetworkClock:
    """Adds up the time inside the outermost calls of networks, between `start` and `stop`.

    Args:
        providers: whose networks are clocked, each once.
        device: where they are.
    """

    def __init__(self, providers: Sequence[EpsilonProvider], device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._calls: list[tuple[str, Any, Any]] = []
        self._inside = False
        self._methods: dict[tuple[int, str], tuple[torch.nn.Module, str, str]] = {}
        for provider in providers:
            for name, module in provider.modules().items():
                method = "decode" if name == "vae" else "forward"
                self._methods[id(module), method] = module, method, name

    @contextmanager
    def running(self) -> Iterator[None]:
        """Clock the calls inside the `with` block."""
        self._calls.clear()
        for module, method, name in self._methods.values():
            setattr(module, method, self._clocked(name, getattr(module, method)))
        try:
            yield
        finally:
            for module, method, _ in self._methods.values():
                delattr(module, method)

    def seconds(self) -> dict[str, float]:
        """Return the time inside networks by kind; the device must have done its work."""
        seconds: dict[str, float] = {}
        for name, start, end in self._calls:
            elapsed = start.elapsed_time(end) / 1000 if self._on_gpu else end - start
            seconds[name] = seconds.get(name, 0.0) + elapsed
        return seconds

    def _clocked(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*positional: Any, **named: Any) -> Any:
            if self._inside:
                return call(*positional, **named)
            self._inside = True
            start = self._now()
            result = call(*positional, **named)
            self._calls.append((name, start, self._now()))
            self._inside = False
            return result

        return clocked

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def main() -> None:
    """Measure all cases in turns, and print."""
    options = arguments(__doc__).parse_args()
    device = torch.device(options.device)
    figures: dict[str, float] = {}
    targets: dict[str, float] = {}
    details: dict[str, Any] = {}
    cases = random_cases("tiny", TINY, QUICK_STEPS if options.quick else TINY_STEPS, device)
    if not options.quick:
        cases |= zoo_cases(options.device)
    measure(cases, device, QUICK_REPEATS if options.quick else TINY_REPEATS, figures, details)
    targets |= dict.fromkeys(figures, TINY_TARGET)
    if not options.quick:
        on_gpu = device.type == "cuda"
        size, steps = (FULL, FULL_STEPS_ON_GPU) if on_gpu else (QUARTER_PICTURE, FULL_STEPS_ON_CPU)
        found: dict[str, float] = {}
        measure(random_cases("full", size, steps, device), device, FULL_REPEATS if on_gpu else 1, found, details)
        figures |= found
        targets |= dict.fromkeys(found, FULL_TARGET)
        model = f"`tiny`: {TINY.description}, {TINY_STEPS} steps; `full`: {size.description}, {steps} steps"
    else:
        model = f"`tiny`: {TINY.description}, {QUICK_STEPS} steps"
    report(options, figures, targets, {"model": model, "runs": details})


def measure(
    cases: Mapping[str, tuple[AMDMPipeline, Run]],
    device: torch.device,
    repeats: int,
    figures: dict[str, float],
    details: dict[str, Any],
) -> None:
    """Time every case in turns; the median of its ratios goes into `figures`, its seconds into `details`."""
    clocks = {name: NetworkClock(pipeline.providers, device) for name, (pipeline, _) in cases.items()}
    ratios: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        for name, (_, run) in cases.items():
            synchronize(device)
            with clocks[name].running():
                began = time.perf_counter()
                run()
                synchronize(device)
                whole = time.perf_counter() - began
            inside = clocks[name].seconds()
            networks = sum(inside.values())
            if repeat == 0:
                continue  # to warm up
            ratios[name].append(whole / networks)
            details[name] = {
                "last_run_seconds": round(whole, 4),
                "networks_seconds": round(networks, 4),
                "encoding_and_decoding": round(1 - inside["unet"] / networks, 4),
            }
    figures |= {name: statistics.median(values) for name, values in ratios.items()}


def zoo_cases(device: str) -> dict[str, tuple[AMDMPipeline, Run]]:
    """The shapes zoo's three models together as its composition says, and each alone; one scene, pictures and all."""
    together = AMDMPipeline.from_composition(COMPOSITION, device)
    together.set_progress_bar_config(disable=True)
    assert together.resolved is not None
    scenes, _ = demo_scenes(1, seed=4)
    cases: dict[str, tuple[AMDMPipeline, Run]] = {
        "tiny.three_models": (together, lambda: together(scenes, generator=torch.Generator().manual_seed(0)))
    }
    for position, member in enumerate(together.resolved.members):
        alone = AMDMPipeline([together.providers[position]], single(), member.guidance, together.sampler, [member.name])
        alone.set_progress_bar_config(disable=True)
        conditions = [[member.condition(scenes[0])]]
        cases[f"tiny.{member.name}"] = alone, draw(alone, conditions)
    return cases


def random_cases(prefix: str, size: Size, steps: int, device: torch.device) -> dict[str, tuple[AMDMPipeline, Run]]:
    """One random model alone, and three under several strategies that aggregate three steps."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    # On a CPU three full-size models need more memory than they are worth here: one stands for all.
    count = 3 if device.type == "cuda" or size is TINY else 1
    loaded = random_providers(size, count, device, dtype)
    cases: dict[str, tuple[AMDMPipeline, Run]] = {}
    window = min(3, steps)
    chosen = STRATEGIES if count == 3 else STRATEGIES[:1]
    strategies = [single(), *(strategy(strategy.options(steps=window)) for strategy in chosen)]
    for strategy in strategies:
        providers = loaded[:1] if strategy.name == "single" else (loaded * 3)[:3]
        sampler = SamplerSettings(steps=steps, height=size.picture, width=size.picture)
        pipeline = AMDMPipeline(providers, strategy, sampler=sampler)
        pipeline.set_progress_bar_config(disable=True)
        conditions = [[TextCondition(prompt=PROMPT)]] * len(providers)
        cases[f"{prefix}.{strategy.name}"] = pipeline, draw(pipeline, conditions)
    return cases


def single() -> AggregationStrategy:
    """The strategy of one model alone."""
    return Single(Single.options())


def draw(pipeline: AMDMPipeline, conditions: Sequence[Sequence[Any]]) -> Run:
    """A run with a fixed seed."""
    return lambda: pipeline(conditions=conditions, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
