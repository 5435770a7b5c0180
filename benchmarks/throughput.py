"""Pictures per second for N = 1, 2, 3 models and batches of 1, 4 and 16, and how much of the machine that is.

    python benchmarks/throughput.py            on a GPU Stable Diffusion 1.5 in float16, on a CPU a smaller model
    python benchmarks/throughput.py --json     one JSON object
    python benchmarks/throughput.py --quick    the shapes zoo's networks

Whole runs under the paper's rule, with guidance, from prompts to decoded pictures. `tflops.N3_batch4` is the work of all
UNet evaluations of the run over its wall time, in 10^12 floating-point operations per second: torch counts the
operations of one evaluation, a multiplication and an addition being two. `of_ceiling` is that over the highest rate
which a product of two square matrices of the same dtype reaches on this machine in this process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from measuring import arguments, report, side_by_side
from random_models import FULL, HALF, PROMPT, TINY, Size, random_providers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from amdm_framework.composition import SamplerSettings
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextCondition
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.provider import RunSettings, Step
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.single import Single

COUNTS = (1, 2, 3)
GPU_MODEL, GPU_STEPS, GPU_WINDOW, GPU_BATCHES, GPU_REPEATS = FULL, 50, 3, (1, 4, 16), 3
CPU_MODEL, CPU_STEPS, CPU_WINDOW, CPU_BATCHES, CPU_REPEATS = HALF, 4, 1, (1, 4, 16), 1
QUICK_MODEL, QUICK_STEPS, QUICK_WINDOW, QUICK_BATCHES, QUICK_REPEATS = TINY, 2, 1, (1, 2), 1
MATRIX_SIDES = {"cuda": (4096, 8192, 16384), "cpu": (1024, 2048, 4096)}


def main() -> None:
    """Measure, and print."""
    options = arguments(__doc__).parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    dtype = torch.float16 if on_gpu else torch.float32
    size, steps, window, batches, repeats = (
        (GPU_MODEL, GPU_STEPS, GPU_WINDOW, GPU_BATCHES, GPU_REPEATS)
        if on_gpu
        else (CPU_MODEL, CPU_STEPS, CPU_WINDOW, CPU_BATCHES, CPU_REPEATS)
    )
    if options.quick:
        size, steps, window = QUICK_MODEL, QUICK_STEPS, QUICK_WINDOW
        batches, repeats = QUICK_BATCHES, QUICK_REPEATS
    sides = MATRIX_SIDES["cuda" if on_gpu else "cpu"]
    ceiling = matmul_ceiling(sides[:1] if options.quick else sides, device, dtype)
    loaded = random_providers(size, max(COUNTS), device, dtype)
    work = guided_evaluation_flops(loaded[0], size)
    figures = {"matmul_ceiling_tflops": ceiling / 1e12, "guided_evaluation_gflop": work / 1e9}
    seconds: dict[str, float] = {}
    for count in COUNTS:
        evaluations = steps + (count - 1) * window
        for batch in batches:
            name = f"N{count}_batch{batch}"
            run = whole_run(loaded[:count], batch, steps, window, size)
            # The largest batch of a CPU takes minutes: its warm-up would double them.
            found = side_by_side({name: run}, repeats, device, warm_up=int(on_gpu or batch == batches[0]))
            seconds[name] = statistics.median(found[name])
            rate = work * batch * evaluations / seconds[name]
            figures[f"images_per_second.{name}"] = batch / seconds[name]
            figures[f"tflops.{name}"] = rate / 1e12
            figures[f"of_ceiling.{name}"] = rate / ceiling
    details: dict[str, Any] = {
        "model": f"{size.description}, {steps} steps, window of {window}, {str(dtype).removeprefix('torch.')}",
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
    }
    report(options, figures, {}, details)


def matmul_ceiling(sides: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> float:
    """Return the highest rate of a product of square matrices, in floating-point operations per second."""
    best = 0.0
    for side in sides:
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        times = 20 if device.type == "cuda" else 1

        def multiply(a: torch.Tensor = a, b: torch.Tensor = b, times: int = times) -> None:
            for _ in range(times):
                torch.mm(a, b)

        fastest = min(side_by_side({"mm": multiply}, 5, device)["mm"])
        best = max(best, times * 2 * side**3 / fastest)
    return best


@torch.inference_mode()
def guided_evaluation_flops(provider: StableDiffusionProvider, size: Size) -> float:
    """Return the floating-point operations of one guided evaluation of one picture."""
    conditioning = provider.encode([None], RunSettings(size.picture, size.picture, 1, True, (0,)))
    side = size.picture // provider.latent_space.scale
    weight = provider.unet.conv_in.weight
    latents = torch.randn(1, provider.latent_space.channels, side, side, device=weight.device)
    # torch does not count inside the attention kernels of CPUs, but does in this one, which computes the same.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        provider.predict_noise(latents, Step(0, 1, 500), conditioning)
    return float(counter.get_total_flops())


def whole_run(
    providers: list[StableDiffusionProvider], batch: int, steps: int, window: int, size: Size
) -> Callable[[], object]:
    """A run from prompts to pictures."""
    strategy = AMDM(AMDM.options(steps=window)) if len(providers) > 1 else Single(Single.options())
    sampler = SamplerSettings(steps=steps, height=size.picture, width=size.picture)
    pipeline = AMDMPipeline(providers, strategy, sampler=sampler)
    pipeline.set_progress_bar_config(disable=True)
    conditions = [[TextCondition(prompt=PROMPT)] * batch] * len(providers)
    return lambda: pipeline(conditions=conditions, generator=torch.Generator().manual_seed(0), output_type="pt")


if __name__ == "__main__":
    main()
