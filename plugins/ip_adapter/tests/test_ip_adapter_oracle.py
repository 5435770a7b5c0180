"""Pictures equal those of diffusers' own pipeline with the same adapter loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from diffusers.image_processor import IPAdapterMaskProcessor
from ip_adapter_files import picture
from PIL import Image
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.testing.closed_form import make_strategy
from amdm_plugin_ip_adapter.condition import IPAdapterCondition, ReferencePicture
from amdm_plugin_ip_adapter.strength import Strength

STEPS = 3
BLOCKS = {"down": {"block_0": 0.6}, "mid": 0.3, "up": {"block_1": [0.0, 0.8]}}


@pytest.fixture(scope="module")
def theirs(files, kind):
    pipe = StableDiffusionPipeline.from_pretrained(
        files.folder / "sd",
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(files.folder / "models" / "image_encoder"),
        feature_extractor=CLIPImageProcessorPil(size=56, crop_size=56),
        safety_checker=None,
        local_files_only=True,
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.load_ip_adapter(
        str(files.folder),
        subfolder="",
        weight_name=f"{kind}.safetensors",
        image_encoder_folder=None,
        local_files_only=True,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw_theirs(pipe, condition, scale, guidance, width, masks=None):
    pipe.set_ip_adapter_scale(scale)
    pictures = [reference.image for reference in condition.references]
    return pipe(
        condition.prompt,
        negative_prompt=condition.negative,
        ip_adapter_image=[pictures],
        cross_attention_kwargs=None if masks is None else {"ip_adapter_masks": [masks]},
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=64,
        width=width,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images


def draw_ours(provider, condition, guidance, width):
    pipe = AMDMPipeline([provider], make_strategy(AMDM), Guidance(scale=guidance))
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        conditions=[[condition]],
        num_inference_steps=STEPS,
        height=64,
        width=width,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images


def condition(strength: Strength, *references: ReferencePicture) -> IPAdapterCondition:
    return IPAdapterCondition(prompt="a red bird", negative="rain", references=references, strength=strength)


@pytest.mark.parametrize(
    ("scale", "guidance", "width", "references"),
    [(1.0, 7.5, 64, 1), (0.8, 1.0, 96, 1), (0.0, 7.5, 64, 1), (BLOCKS, 7.5, 64, 1), (0.7, 7.5, 96, 2)],
)
def test_pictures(provider, theirs, scale, guidance, width, references):
    strength = Strength.model_validate({"block_scales" if isinstance(scale, dict) else "scale": scale})
    own = condition(strength, *(ReferencePicture(image=picture(seed)) for seed in range(references)))
    expected = draw_theirs(theirs, own, scale, guidance, width)
    found = draw_ours(provider, own, guidance, width)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    if scale == 1.0:
        without = draw_ours(provider, condition(Strength(scale=0.0), *own.references), guidance, width)
        assert np.abs(found - without).max() > 0.05


def test_regions(provider, theirs):
    """Two references, one in a box and one under a mask picture, on a picture that is not square."""
    mask = Image.new("L", (96, 64))
    mask.paste(255, (0, 32, 96, 64))
    own = condition(
        Strength(scale=0.9),
        ReferencePicture(image=picture(1), box=(0.5, 0.0, 1.0, 0.75)),
        ReferencePicture(image=picture(2), mask={"role": "style_mask", "image": mask}),
    )
    box = Image.new("L", (96, 64))
    box.paste(255, (48, 0, 96, 48))
    masks = IPAdapterMaskProcessor().preprocess([box, mask], height=64, width=96)
    expected = draw_theirs(theirs, own, 0.9, 7.5, 96, masks.reshape(1, 2, 64, 96))
    np.testing.assert_allclose(draw_ours(provider, own, 7.5, 96), expected, rtol=0, atol=1e-5)
