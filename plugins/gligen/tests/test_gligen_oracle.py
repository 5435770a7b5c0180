"""Pictures equal those of diffusers' own GLIGEN pipeline on the same weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionGLIGENPipeline

from amdm_framework.models.context import LoadContext
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.scene import Instance
from amdm_framework.strategies.single import Single, SingleOptions
from amdm_plugin_gligen.condition import GLIGENCondition
from amdm_plugin_gligen.options import GLIGENOptions
from amdm_plugin_gligen.provider import GLIGENProvider, load

STEPS = 5
INSTANCES = (
    Instance(phrase="a red cat", box=(0.1, 0.2, 0.55, 0.9)),
    Instance(phrase="a dog on a blue mat", box=(0.5, 0.3, 0.95, 0.8)),
    Instance(phrase="a red cat", box=(0.0, 0.0, 0.3, 0.25)),
)
SCENES = [
    GLIGENCondition(prompt="two cats and a dog", negative="blurry", instances=INSTANCES),
    GLIGENCondition(prompt="a cat", negative="", instances=INSTANCES[:1]),
    GLIGENCondition(prompt="a cat and a dog, oil painting", negative="grey", instances=INSTANCES[:2]),
]


@pytest.fixture(scope="module")
def pipeline(model: Path) -> StableDiffusionGLIGENPipeline:
    pipe = StableDiffusionGLIGENPipeline.from_pretrained(model, safety_checker=None, requires_safety_checker=False)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(seeds: list[int], width: int) -> torch.Tensor:
    return torch.stack([torch.randn(4, 8, width // 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def theirs(pipeline, scene, seed, beta, guidance, width=64):
    return pipeline(
        scene.prompt,
        negative_prompt=scene.negative,
        gligen_phrases=[instance.phrase for instance in scene.instances],
        gligen_boxes=[list(instance.box) for instance in scene.instances],
        gligen_scheduled_sampling_beta=beta,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=64,
        width=width,
        latents=noise([seed], width),
        output_type="pt",
    ).images


@cache
def loaded(model: Path, beta: float) -> GLIGENProvider:
    options = GLIGENOptions(checkpoint=str(model), scheduled_sampling_beta=beta)
    return load(options, LoadContext(torch.device("cpu"), torch.float32))


def ours(model, scenes, seeds, beta, guidance, width=64):
    pipe = AMDMPipeline([loaded(model, beta)], Single(SingleOptions()), Guidance(scale=guidance))
    pipe.set_progress_bar_config(disable=True)
    latents = noise(seeds, width)
    return pipe(conditions=[scenes], latents=latents, num_inference_steps=STEPS, output_type="pt").images


@pytest.mark.parametrize("guidance", [7.5, 1.0])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_pictures_equal_those_of_diffusers(model, pipeline, beta, guidance):
    for seed, scene in enumerate(SCENES):
        expected = theirs(pipeline, scene, seed, beta, guidance)
        assert expected.std() > 0.01
        torch.testing.assert_close(ours(model, [scene], [seed], beta, guidance), expected, rtol=0, atol=1e-5)


def test_a_picture_that_is_not_square(model, pipeline):
    expected = theirs(pipeline, SCENES[0], 3, 0.6, 7.5, width=96)
    torch.testing.assert_close(ours(model, SCENES[:1], [3], 0.6, 7.5, width=96), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_a_batch_of_scenes_equals_single_runs_of_diffusers(model, pipeline, guidance):
    expected = torch.cat([theirs(pipeline, scene, seed, 0.6, guidance) for seed, scene in enumerate(SCENES)])
    torch.testing.assert_close(ours(model, SCENES, [0, 1, 2], 0.6, guidance), expected, rtol=0, atol=1e-5)


def test_what_is_compared_depends_on_boxes_phrases_and_beta(pipeline):
    def drawn(*instances: Instance, beta: float = 1.0) -> torch.Tensor:
        scene = SCENES[1].model_copy(update={"instances": instances})
        return theirs(pipeline, scene, 1, beta, 7.5)

    one = drawn(INSTANCES[0])
    others = [
        drawn(INSTANCES[0].model_copy(update={"box": INSTANCES[1].box})),
        drawn(INSTANCES[0].model_copy(update={"phrase": "a dog"})),
        drawn(INSTANCES[0], beta=0.3),
        drawn(*INSTANCES[:2]),
    ]
    assert all((one - other).abs().max() > 1e-3 for other in others)
