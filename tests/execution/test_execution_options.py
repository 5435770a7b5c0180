"""Options of execution change how networks run, and not what they draw. Three models: `tests/together`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._inductor.exc import InvalidCxxCompiler

from amdm_framework.errors import InputError
from amdm_framework.execution import ExecutionSettings
from amdm_framework.loading import make_ready
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import discover
from amdm_framework.scene import Scene

BUILT_IN = discover({"AMDM_NO_PLUGINS": "1"})
SCENES = [Scene(caption="a red circle", negative="blur"), Scene(caption="two blue stars")]


def load(models: Path, **options: Any) -> AMDMPipeline:
    content = {
        "providers": [
            {"use": "stable_diffusion", "checkpoint": str(models / "base")},
            {"use": "stable_diffusion", "checkpoint": str(models / "other")},
        ],
        "aggregation": {"strategy": "composable", "steps": 2},
        "sampler": {"steps": 3},
        **options,
    }
    return AMDMPipeline.from_composition(content, "cpu", plugins=BUILT_IN)


def draw(pipeline: AMDMPipeline) -> torch.Tensor:
    """Two pictures (2, 3, H, W) in [0, 1]."""
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    images: torch.Tensor = pipeline(SCENES, generator=generators, output_type="pt").images
    return images


@pytest.fixture(scope="module")
def plain(models: Path) -> torch.Tensor:
    return draw(load(models))


# Bitwise where the arithmetic is the same.
OPTIONS: list[tuple[dict[str, Any], float]] = [
    ({"release": True}, 0.0),
    ({"offload": "model"}, 0.0),
    ({"offload": "sequential"}, 0.0),
    # One tile: these pictures have 64 pixels, as the autoencoder's training had.
    ({"vae_tiling": True}, 0.0),
    ({"channels_last": True}, 2e-4),
    ({"attention": "math"}, 2e-4),
    ({"attention": "flash"}, 2e-4),
    ({"sequential_guidance": True}, 2e-4),
    ({"dtype": "bfloat16"}, 0.25),
]


@pytest.mark.parametrize(("options", "tolerance"), OPTIONS, ids=str)
def test_the_picture_stays_what_it_is(
    models: Path, plain: torch.Tensor, options: dict[str, Any], tolerance: float
) -> None:
    pipeline = load(models, **options)
    drawn = draw(pipeline)
    torch.testing.assert_close(drawn, plain, rtol=0, atol=tolerance)
    assert pipeline.dtype == (torch.bfloat16 if "dtype" in options else torch.float32)
    if "channels_last" in options:
        kernels = [p for p in pipeline.providers[0].unet.parameters() if p.ndim == 4]
        assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
        # Still one parameter for all who share it.
        first, second = (provider.vae.decoder.conv_in.weight for provider in pipeline.providers)
        assert first is second


def test_tiling_cuts_pictures_that_are_larger_than_a_tile(models: Path) -> None:
    tiled, whole = (load(models, vae_tiling=tiling).providers[0] for tiling in (True, False))
    latents = torch.randn(1, 4, 16, 8)
    with torch.inference_mode():
        difference = (tiled.decode(latents) - whole.decode(latents)).abs()
    # The seam is blended; far from it the tiles know as much as the whole does.
    assert difference.max() > 0 and difference[:, :, :8].max() < difference.max()


@pytest.fixture
def _quiet_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    # What torch notes about every compilation is formatted once more for pytest, which takes longer than to compile.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)
    torch.compiler.reset()


@pytest.mark.fullsize
@pytest.mark.usefixtures("_quiet_compiler")
def test_networks_compiled_as_a_whole_draw_the_same(
    models: Path, plain: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is captured as for a real compiler, which would take minutes; what it holds runs as it is."""
    captured = CompileCounter()
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **options: compile_module(module, **options, backend=captured)
    )
    pipeline = load(models, compile="full")
    for _ in range(2):
        torch.testing.assert_close(draw(pipeline), plain, rtol=0, atol=2e-4)
        assert captured.frame_count == 2


def test_networks_captured_as_graphs_draw_the_same(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA graphs do, what stands for them writes every output to one place, which is lost when a new step begins."""
    compiled: list[dict[str, Any]] = []
    places: list[torch.Tensor] = []
    begun = []

    def capture(function: Any, **options: Any) -> Any:
        compiled.append(options)

        def replay(*arguments: Any, **keywords: Any) -> Any:
            output = function(*arguments, **keywords)
            assert isinstance(output, tuple)
            places.extend(output)
            return output

        return replay

    def begin_step() -> None:
        begun.append(True)
        for place in places:
            place.fill_(torch.nan)

    # The unconditional half is still needed when the conditional half is computed.
    options: dict[str, Any] = {"sequential_guidance": True}
    expected = draw(load(models, **options))
    pipeline = load(models, **options)
    monkeypatch.setattr(torch, "compile", capture)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", begin_step)
    for provider in pipeline.providers:
        make_ready(provider, ExecutionSettings(compile="reduce-overhead"))
    assert compiled == [{"mode": "reduce-overhead", "dynamic": False}] * 2
    assert torch.equal(draw(pipeline), expected)
    # Both halves at three steps, and the other model's conditional one at two.
    assert len(places) == len(begun) == 8


@pytest.mark.usefixtures("_quiet_compiler")
def test_what_cannot_be_compiled_here_is_said(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(graph: Any, inputs: Any) -> None:
        raise InvalidCxxCompiler

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **options: compile_module(module, **options, backend=no_compiler)
    )
    with pytest.raises(InputError, match="compile: torch cannot compile on this machine .*; leave `compile` out"):
        draw(load(models, compile=True))


def test_every_option_is_tried() -> None:
    assert {key for options, _ in OPTIONS for key in options} | {"compile"} == set(ExecutionSettings.model_fields)
