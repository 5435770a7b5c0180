"""How often the networks really run, counted where they are called, whatever the loop or the trace say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from amdm_framework.composition import SamplerSettings
from amdm_framework.latents import LatentSpace
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextCondition
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.amdm_authors import AMDMAuthors
from amdm_framework.strategies.base import AggregationStrategy
from amdm_framework.testing.closed_form import STABLE_DIFFUSION_SCHEDULE
from amdm_framework.testing.tiny_models import build_text_encoder, build_unet, build_vae, write_tokenizer
from every_step import EveryStep

BATCH, STEPS = 2, 8


class Counted:
    """Three models whose UNets note how many rows every call has."""

    def __init__(self, folder: Path) -> None:
        tokenizer = CLIPTokenizer.from_pretrained(write_tokenizer(folder / "tokenizer"))
        vae, text_encoder = build_vae(), build_text_encoder()
        space = LatentSpace(4, 8, vae.config.scaling_factor)
        self.providers = [
            StableDiffusionProvider(build_unet(seed=k), vae, tokenizer, text_encoder, space, STABLE_DIFFUSION_SCHEDULE)
            for k in range(3)
        ]
        self.rows: list[list[int]] = [[], [], []]
        for rows, provider in zip(self.rows, self.providers, strict=True):
            provider.unet.register_forward_pre_hook(lambda _, inputs, rows=rows: rows.append(len(inputs[0])))

    def draw(self, strategy: AggregationStrategy, guidance: Guidance) -> torch.Tensor:
        """Draw two pictures and return their latents."""
        pipeline = AMDMPipeline(self.providers, strategy, guidance, SamplerSettings(steps=STEPS, height=64, width=64))
        pipeline.set_progress_bar_config(disable=True)
        conditions = [[TextCondition(prompt="a"), TextCondition(prompt="b")]] * 3
        generators = [torch.Generator().manual_seed(seed) for seed in range(BATCH)]
        return pipeline(conditions=conditions, generator=generators, output_type="latent").latents


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


@pytest.mark.parametrize("window", [0, 1, 3, STEPS])
def test_a_window_of_s_steps_needs_t_plus_s_calls_per_secondary(counted: Counted, window: int) -> None:
    counted.draw(AMDM(AMDM.options(steps=window)), Guidance(scale=3.0))
    assert [len(rows) for rows in counted.rows] == [STEPS, window, window]
    assert {rows for per_model in counted.rows for rows in per_model} == {2 * BATCH}


def test_outside_the_guidance_interval_only_the_conditional_half_runs(counted: Counted) -> None:
    counted.draw(AMDM(AMDM.options(steps=4)), Guidance(scale=3.0, start=0.25, stop=0.75))
    expected = [2 * BATCH if 2 <= index < 6 else BATCH for index in range(STEPS)]
    assert counted.rows == [expected, expected[:4], expected[:4]]


def test_the_published_rule_stops_secondaries_at_no_difference(counted: Counted) -> None:
    stopping = counted.draw(AMDMAuthors(AMDMAuthors.options(steps=2)), Guidance(scale=3.0))
    assert [len(rows) for rows in counted.rows] == [STEPS, 3, 3]
    for rows in counted.rows:
        rows.clear()
    going_on = counted.draw(EveryStep(AMDMAuthors.options(steps=2)), Guidance(scale=3.0))
    assert [len(rows) for rows in counted.rows] == [STEPS] * 3
    assert torch.equal(stopping, going_on)
