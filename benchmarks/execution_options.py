"""Options of execution against none: wall time of a run, seconds to start, and memory on a GPU.

    python benchmarks/execution_options.py            on a GPU Stable Diffusion 1.5, on a CPU a smaller model
    python benchmarks/execution_options.py --json     one JSON object
    python benchmarks/execution_options.py --quick    the shapes zoo's networks
    python benchmarks/execution_options.py --only channels_last compile_regional

One model of random weights, guided, from prompt to final latents. `<option>.time` is its wall time with the option over
that without, both from the same repeat; `<option>.memory` (on a GPU) likewise of the most memory that was allocated.
`<option>.start_seconds` is what the first run takes longer than the second: compiling, with an empty cache.
`<option>.off_by` is how far the final latents are from those without, over the root of their mean square.

Options without a meaning on a device are left out: offloading and CUDA graphs on a CPU. `vae_tiling` is about decoding
alone. `two_devices.time` (with two GPUs) is a run of two models at every step, the second on another GPU, over both on
one. `release` saves the memory of a member after its last evaluation and costs loading it again; it is not measured here.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from measuring import arguments, ratio, report, side_by_side, synchronize
from random_models import FULL, HALF, PROMPT, TINY, random_providers
from torch._inductor.utils import fresh_cache

from amdm_framework.composition import SamplerSettings
from amdm_framework.execution import ExecutionSettings, execution_problems
from amdm_framework.loading import make_ready
from amdm_framework.models.offload import OffloadedWeights
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextCondition
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.strategies.epsilon_average import EpsilonAverage
from amdm_framework.strategies.single import Single

OPTIONS: dict[str, dict[str, Any]] = {
    "channels_last": {"channels_last": True},
    "attention_math": {"attention": "math"},
    "attention_flash": {"attention": "flash"},
    "attention_efficient": {"attention": "efficient"},
    "attention_cudnn": {"attention": "cudnn"},
    "sequential_guidance": {"sequential_guidance": True},
    "float32": {"dtype": "float32"},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "offload_model": {"offload": "model"},
    "offload_sequential": {"offload": "sequential"},
    "compile_regional": {"compile": "regional"},
    "compile_full": {"compile": "full"},
    "compile_reduce_overhead": {"compile": "reduce-overhead"},
}
GPU_STEPS, GPU_REPEATS = 10, 7
CPU_STEPS, CPU_REPEATS = 3, 3
QUICK_STEPS, QUICK_REPEATS = 2, 1
TILED_PICTURE = 1024

Run = Callable[[], torch.Tensor]


def main() -> None:
    """Measure one option after the other, each in turns with none."""
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS), help="measure these options")
    options = parser.parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    size, steps, repeats = (FULL, GPU_STEPS, GPU_REPEATS) if on_gpu else (HALF, CPU_STEPS, CPU_REPEATS)
    if options.quick:
        size, steps, repeats = TINY, QUICK_STEPS, QUICK_REPEATS
    usual = torch.float16 if on_gpu else torch.float32
    sampler = SamplerSettings(steps=steps, height=size.picture, width=size.picture)
    plain = random_providers(size, 1, device, usual)[0]
    run_plain = latents_of(plain, ExecutionSettings(), sampler)
    figures: dict[str, float] = {}
    details: dict[str, Any] = {}
    for name in options.only:
        execution = ExecutionSettings(**OPTIONS[name])
        dtype = usual if execution.dtype == "auto" else getattr(torch, execution.dtype)
        if not makes_sense(execution, device, dtype, usual):
            continue
        provider = changed(plain, execution, device, dtype)
        run = latents_of(provider, execution, sampler)
        found, seconds = compare(run_plain, plain, run, provider, repeats, device)
        if not execution.compile:
            del found["start_seconds"]
        figures |= {f"{name}.{key}": value for key, value in found.items()}
        details[name] = {key: [round(value, 4) for value in values] for key, values in seconds.items()}
        torch.compiler.reset()
    if on_gpu and not options.quick:
        figures |= tiling(plain, repeats, device)
        if torch.cuda.device_count() > 1:
            figures |= two_devices(plain, sampler, repeats)
    model = f"{size.description}, {str(usual).removeprefix('torch.')}, {steps} steps, batch 1 with guidance"
    report(options, figures, {}, {"model": model, "seconds": details})


def makes_sense(execution: ExecutionSettings, device: torch.device, dtype: torch.dtype, usual: torch.dtype) -> bool:
    """Say whether an option is possible on a device, and is something else than what is done anyway."""
    if execution_problems(execution, [device], [dtype]) or (execution.offload != "none" and device.type == "cpu"):
        return False
    return execution.dtype == "auto" or dtype != usual


def changed(
    plain: StableDiffusionProvider, execution: ExecutionSettings, device: torch.device, dtype: torch.dtype
) -> StableDiffusionProvider:
    """A copy of a provider with networks of its own, made ready as the options say."""
    home = device if execution.offload == "none" else torch.device("cpu")
    unet, vae, text_encoder = (
        torch.nn.Module.to(copy.deepcopy(network), home, dtype)
        for network in (plain.unet, plain.vae, plain.text_encoder)
    )
    provider = StableDiffusionProvider(
        unet, vae, plain.prompt_encoder.tokenizer, text_encoder, plain.latent_space, plain.noise_schedule
    )
    make_ready(provider, execution, None if execution.offload == "none" else OffloadedWeights(device))
    return provider


def latents_of(provider: StableDiffusionProvider, execution: ExecutionSettings, sampler: SamplerSettings) -> Run:
    """Draw with one provider."""
    pipeline = AMDMPipeline([provider], Single(Single.options()), sampler=sampler)
    pipeline.execution = execution
    return drawing(pipeline, [[TextCondition(prompt=PROMPT)]])


def drawing(pipeline: AMDMPipeline, conditions: Sequence[Sequence[Any]]) -> Run:
    """Draw with a fixed seed, up to the final latents."""
    pipeline.set_progress_bar_config(disable=True)
    return lambda: (
        pipeline(conditions=conditions, generator=torch.Generator().manual_seed(0), output_type="latent").latents
    )


def compare(
    without: Run, provider_without: StableDiffusionProvider, run: Run, provider: StableDiffusionProvider, repeats: int,
    device: torch.device,
) -> tuple[dict[str, float], dict[str, list[float]]]:  # fmt: skip
    """Time a run with an option and one without, and compare what comes of them, and their memory."""
    # Beside an older cache nothing would have to be compiled.
    with fresh_cache():
        first = clocked(run, device)
        seconds = side_by_side({"without": without, "with": run}, repeats, device)
    expected, result = without(), run()
    figures = {"time": ratio(seconds, "with", "without")}
    figures["start_seconds"] = first - statistics.median(seconds["with"])
    if device.type == "cuda":
        figures["memory"] = most_memory(run, provider, device) / most_memory(without, provider_without, device)
    figures["off_by"] = float((result - expected).square().mean().sqrt() / expected.square().mean().sqrt())
    return figures, seconds


def clocked(run: Run, device: torch.device) -> float:
    """Seconds of one call."""
    synchronize(device)
    began = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - began


def most_memory(run: Run, provider: StableDiffusionProvider, device: torch.device) -> int:
    """Bytes on a GPU at most during one call: a provider's weights and what the call allocates."""
    weights = {parameter for network in provider.modules().values() for parameter in network.parameters()}
    held = sum(weight.nbytes for weight in weights if weight.device.type == device.type)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return held + torch.cuda.max_memory_allocated(device) - before


def tiling(plain: StableDiffusionProvider, repeats: int, device: torch.device) -> dict[str, float]:
    """Decode a picture of several tiles, tiled and whole."""
    execution = ExecutionSettings(vae_tiling=True)
    tiled = changed(plain, execution, device, plain.vae.dtype)
    side = TILED_PICTURE // plain.latent_space.scale
    latents = torch.randn(1, plain.latent_space.channels, side, side, device=device)
    with torch.inference_mode():
        found, _ = compare(lambda: plain.decode(latents), plain, lambda: tiled.decode(latents), tiled, repeats, device)
    return {f"vae_tiling.{key}": found[key] for key in ("time", "memory", "off_by")}


def two_devices(plain: StableDiffusionProvider, sampler: SamplerSettings, repeats: int) -> dict[str, float]:
    """Two models at every step, on one GPU and on two."""
    one, two = (torch.device("cuda", index) for index in (0, 1))
    runs = {}
    for name, device in (("without", one), ("with", two)):
        providers = [plain, changed(plain, ExecutionSettings(), device, plain.unet.dtype)]
        strategy = EpsilonAverage(EpsilonAverage.options(steps=sampler.steps))
        pipeline = AMDMPipeline(providers, strategy, sampler=sampler)
        runs[name] = drawing(pipeline, [[TextCondition(prompt=PROMPT)]] * 2)
    return {"two_devices.time": ratio(side_by_side(runs, repeats, one), "with", "without")}


if __name__ == "__main__":
    main()
