"""The embedded base model: loads as a Stable Diffusion pipeline and draws what its prompt says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

import amdm_shapes_zoo
from amdm_shapes_zoo.captions import Description, InstanceDescription
from amdm_shapes_zoo.prompt_judge import judge_prompts

BASE = Path(amdm_shapes_zoo.__file__).parent / "weights" / "base"
LARGEST = 12_000_000


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_folder_is_small_and_half_precision() -> None:
    assert sum(path.stat().st_size for path in BASE.rglob("*") if path.is_file()) < LARGEST
    files = sorted(BASE.rglob("*.safetensors"))
    assert [path.parent.name for path in files] == ["text_encoder", "unet", "vae"]
    for path in files:
        with safe_open(path, framework="pt") as weights:
            assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118


def test_draws_what_the_prompt_says(pipeline: StableDiffusionPipeline) -> None:
    descriptions = [
        Description((InstanceDescription("red", None, "left"), InstanceDescription("blue", None, "right"))),
        Description((InstanceDescription("green", "circle", "center"),), "pink", "plain"),
    ]
    each = 4
    pictures = pipeline(
        [description.text() for description in descriptions],
        num_inference_steps=12,
        guidance_scale=4.0,
        num_images_per_prompt=each,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    assert pictures.shape == (len(descriptions) * each, 64, 64, 3)
    repeated = [description for description in descriptions for _ in range(each)]
    scores = judge_prompts((pictures * 255).round().astype(np.uint8), repeated)
    assert scores["colour"] >= 0.75
