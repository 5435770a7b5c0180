"""What aggregation costs: N = 1, 2, 3 models of one size over windows of s steps, against one model alone.

    python benchmarks/aggregation_cost.py            on a CPU the shapes zoo's networks, on a GPU Stable Diffusion 1.5
    python benchmarks/aggregation_cost.py --json     one JSON object
    python benchmarks/aggregation_cost.py --quick    five steps of the small networks

The paper's rule evaluates networks T + (N-1) s times. `deviation.N3_s10` is |measured / predicted - 1|, where measured
is the time of three models' sampling, s = 10, over that of one model alone, and predicted is (T + 2 * 10) / T. Sampling
is a run without decoding and without its encoding of conditions, which happens once per model; `encoding_share.N1` is
the time that encoding one model's adds to it.

The code published with the paper evaluates every model at every step, N T times, and uses what the secondaries predict
in the window alone. `EveryStep` does so. `speed_up_over_every_step` is its time over that of our strategy
`amdm_authors`, whose latents must be the same (`largest_difference`).

On a CPU it is processor time that is compared, of one thread: what else runs on a machine changes wall times by more than
the deviation that is looked for. On a GPU it is wall time.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import arguments, ratio, report, side_by_side
from random_models import FULL, PROMPT, TINY, Size, random_providers

from amdm_framework.composition import SamplerSettings
from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.provider import EpsilonProvider, NoisePrediction, RunSettings, Step
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.amdm_authors import AMDMAuthors
from amdm_framework.strategies.base import AggregationStrategy
from amdm_framework.strategies.single import Single

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from every_step import EveryStep

TARGET = 0.03
STEPS, WINDOWS, REPEATS_ON_CPU, REPEATS_ON_GPU = 50, (3, 10, 25), 11, 5
QUICK_STEPS, QUICK_WINDOWS, QUICK_REPEATS = 5, (1,), 1
COUNTS = (2, 3)

Run = Callable[[], torch.Tensor]


class Encoded(EpsilonProvider):
    """A provider whose conditions are encoded beforehand."""

    def __init__(self, provider: EpsilonProvider, settings: RunSettings) -> None:
        self.latent_space, self.noise_schedule = provider.latent_space, provider.noise_schedule
        self.default_size = provider.default_size
        self._provider = provider
        with torch.inference_mode():
            self._conditioning = provider.encode([TextCondition(prompt=PROMPT)], settings)

    def encode(self, conditions: Sequence[Any], settings: RunSettings) -> Any:
        return self._conditioning

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
        return self._provider.predict_noise(latents, step, conditioning)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self._provider.decode(latents)

    def modules(self) -> Mapping[str, torch.nn.Module]:
        return self._provider.modules()


def main() -> None:
    """Measure all cases in turns, and print."""
    options = arguments(__doc__).parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    if not on_gpu:
        torch.set_num_threads(1)
    size = FULL if on_gpu and not options.quick else TINY
    steps, windows = (QUICK_STEPS, QUICK_WINDOWS) if options.quick else (STEPS, WINDOWS)
    repeats = QUICK_REPEATS if options.quick else REPEATS_ON_GPU if on_gpu else REPEATS_ON_CPU
    loaded = random_providers(size, max(COUNTS), device, torch.float16 if on_gpu else torch.float32)
    encoded = [Encoded(one, RunSettings(size.picture, size.picture, steps, True, (0,))) for one in loaded]

    def aggregating(providers: Sequence[EpsilonProvider], strategy: type[AggregationStrategy], window: int) -> Run:
        return sampling(providers, strategy(strategy.options(steps=window)), steps, size)

    alone = sampling(encoded[:1], Single(Single.options()), steps, size)
    figures: dict[str, float] = {}
    targets: dict[str, float] = {}
    seconds: dict[str, dict[str, float]] = {}

    def compare(name: str, run: Run, other: str, other_run: Run) -> float:
        # Every pair by itself, so that the two are timed next to each other.
        found = side_by_side({name: run, other: other_run}, repeats, device, clock=clock)
        seconds[f"{name} and {other}"] = {key: round(statistics.median(values), 4) for key, values in found.items()}
        return ratio(found, name, other)

    for count in COUNTS:
        for window in windows:
            name, predicted = f"N{count}_s{window}", (steps + (count - 1) * window) / steps
            measured = compare(name, aggregating(encoded[:count], AMDM, window), "N1", alone)
            figures[f"time_over_one_model.{name}"] = measured
            figures[f"predicted.{name}"] = predicted
            figures[f"deviation.{name}"] = abs(measured / predicted - 1)
            targets[f"deviation.{name}"] = TARGET

    own, published = aggregating(encoded, AMDMAuthors, 3), aggregating(encoded, EveryStep, 3)
    figures["largest_difference"] = float((own() - published()).abs().max())
    targets["largest_difference"] = 0.0
    figures["speed_up_over_every_step"] = compare("every_step", published, "amdm_authors", own)
    # The published window begins with the second step, so that four steps evaluate all models.
    figures["predicted_speed_up"] = 3 * steps / (steps + 2 * 4)
    encoding = sampling(loaded[:1], Single(Single.options()), steps, size)
    figures["encoding_share.N1"] = compare("N1_encoding", encoding, "N1", alone) - 1
    compared = "wall time" if on_gpu else "processor time of one thread"
    details = {"model": f"{size.description}, {steps} steps, guidance on; {compared}", "seconds": seconds}
    report(options, figures, targets, details)


def sampling(providers: Sequence[EpsilonProvider], strategy: AggregationStrategy, steps: int, size: Size) -> Run:
    """A run with fixed initial noise that returns latents."""
    sampler = SamplerSettings(steps=steps, height=size.picture, width=size.picture)
    pipeline = AMDMPipeline(providers, strategy, sampler=sampler)
    pipeline.set_progress_bar_config(disable=True)
    conditions = [[TextCondition(prompt=PROMPT)]] * len(providers)

    def run() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipeline(conditions=conditions, generator=generator, output_type="latent").latents

    return run


if __name__ == "__main__":
    main()
