"""Pictures equal those of diffusers' own ControlNet pipeline on the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from controlnet_files import edges
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline
from PIL import Image

from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.scene import Reference
from amdm_framework.strategies.single import Single, SingleOptions
from amdm_plugin_controlnet.condition import ControlNetCondition

STEPS = 4
PROMPTS = ["a red bird", "a house in the snow, oil painting"]
NEGATIVES = ["rain", ""]


def noise(batch: int, height: int, width: int) -> torch.Tensor:
    draws = [torch.randn(4, height // 8, width // 8, generator=torch.Generator().manual_seed(s)) for s in range(batch)]
    return torch.stack(draws)


@pytest.fixture(scope="module")
def theirs(files):
    def open_pipeline(name: str) -> StableDiffusionControlNetPipeline:
        pipe = StableDiffusionControlNetPipeline.from_pretrained(
            files.folder / "sd",
            controlnet=ControlNetModel.from_pretrained(files.folder / name),
            safety_checker=None,
            local_files_only=True,
        )
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return {name: open_pipeline(name) for name in ("controlnet", "bgr", "pooling")}


def draw_theirs(pipe, pictures, guidance, size, guess_mode=False, conditioning_scale=1.0, start=0.0, stop=1.0):
    batch = len(pictures)
    latents = noise(batch, *size).to(pipe.unet.dtype)
    return pipe(
        PROMPTS[:batch],
        image=pictures,
        negative_prompt=NEGATIVES[:batch],
        latents=latents,
        height=size[0],
        width=size[1],
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        guess_mode=guess_mode,
        controlnet_conditioning_scale=conditioning_scale,
        control_guidance_start=start,
        control_guidance_end=stop,
        output_type="np",
    ).images


def draw_ours(provider, pictures, guidance, size, **strength):
    conditions = [
        ControlNetCondition(prompt=prompt, negative=negative, control=Reference(role="control", image=one), **strength)
        for prompt, negative, one in zip(PROMPTS, NEGATIVES, pictures, strict=False)
    ]
    pipe = AMDMPipeline([provider], Single(SingleOptions()), Guidance(scale=guidance))
    pipe.set_progress_bar_config(disable=True)
    latents = noise(len(pictures), *size)
    return pipe(conditions=[conditions], latents=latents, num_inference_steps=STEPS, output_type="np").images


@pytest.mark.parametrize(
    ("guidance", "size", "batch", "strength"),
    [
        (7.5, (64, 64), 1, {}),
        (1.0, (64, 64), 2, {"conditioning_scale": 0.6}),
        (7.5, (64, 104), 2, {"conditioning_scale": 1.7}),
        (7.5, (72, 64), 1, {"stop": 0.5}),
        (7.5, (64, 64), 2, {"start": 0.25, "stop": 0.8, "conditioning_scale": 0.8}),
        (1.0, (64, 64), 1, {"start": 0.5}),
        (7.5, (64, 64), 1, {"conditioning_scale": 0.0}),
    ],
)
def test_pictures(provider, theirs, guidance, size, batch, strength):
    pictures = [edges(seed) for seed in range(batch)]
    expected = draw_theirs(theirs["controlnet"], pictures, guidance, size, **strength)
    found = draw_ours(provider, pictures, guidance, size, **strength)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_control_picture_matters(provider):
    found, other, weak = (
        draw_ours(provider, [edges(seed)], 7.5, (64, 64), conditioning_scale=scale)
        for seed, scale in ((0, 1.0), (5, 1.0), (0, 0.2))
    )
    assert np.abs(found - other).max() > 0.05 and np.abs(found - weak).max() > 0.05


@pytest.mark.parametrize(
    ("name", "guess_mode", "guidance"),
    [("controlnet", True, 7.5), ("controlnet", True, 1.0), ("pooling", False, 7.5), ("bgr", False, 7.5)],
)
def test_other_modes(files, theirs, name, guess_mode, guidance):
    provider = files.load(name, guess_mode=guess_mode)
    pictures = [Image.merge("RGB", [edges(seed).getchannel("R") for seed in (1, 2, 3)])] * 2
    expected = draw_theirs(theirs[name], pictures, guidance, (64, 64), guess_mode, conditioning_scale=0.7, stop=0.9)
    found = draw_ours(provider, pictures, guidance, (64, 64), conditioning_scale=0.7, stop=0.9)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(found - draw_ours(files.load(), pictures, guidance, (64, 64), stop=0.9)).max() > 0.01


def test_pictures_agree_further_in_double_precision(files, theirs):
    pictures = [edges(seed) for seed in range(2)]
    pipe = theirs["controlnet"].to(torch.float64)
    expected = draw_theirs(pipe, pictures, 7.5, (64, 64), conditioning_scale=0.8, stop=0.8)
    pipe.to(torch.float32)
    found = draw_ours(files.load(dtype=torch.float64), pictures, 7.5, (64, 64), conditioning_scale=0.8, stop=0.8)
    # diffusers keeps the tables of its scheduler in float32, which bounds the agreement.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
