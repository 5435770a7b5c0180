"""Guidance: one prediction from a conditional and an unconditional one, by the guiders of diffusers."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from diffusers import AdaptiveProjectedGuidance, ClassifierFreeGuidance, ClassifierFreeZeroStarGuidance
from diffusers.guiders import BaseGuidance
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer
from pydantic import Field, model_validator

from ..provider import NoisePrediction
from ..scene import StrictModel

# diffusers announces at every construction that its guiders are experimental; the tests pin what is used of them.
logging.getLogger("diffusers.guiders.guider_utils").setLevel(logging.ERROR)


class Guidance(StrictModel):
    """How a member's conditional and unconditional predictions become one."""

    kind: Literal["cfg", "cfg_zero_star", "apg"] = Field(
        default="cfg",
        description="`cfg` classifier-free guidance, `cfg_zero_star` CFG-Zero*, `apg` adaptive projected guidance.",
    )
    scale: float = Field(
        default=7.5, allow_inf_nan=False, description="Guidance scale; 1 switches the unconditional half off."
    )
    rescale: float = Field(default=0.0, ge=0, le=1, description="Guidance rescale of arXiv 2305.08891 (0 is off).")
    momentum: float = Field(default=-0.5, gt=-1, lt=1, description="apg: weight of the running difference.")
    parallel: float = Field(default=0.0, ge=0, le=1, description="apg: weight of the part parallel to the prediction.")
    norm_threshold: float = Field(default=15.0, gt=0, description="apg: largest norm of the guidance difference.")
    start: float = Field(default=0.0, ge=0, lt=1, description="Fraction of the steps before which it is off.")
    stop: float = Field(default=1.0, ge=0, le=1, description="Fraction of the steps after which it is off.")

    @model_validator(mode="after")
    def _interval(self) -> Guidance:
        if self.stop < self.start:
            raise ValueError(f"guidance stops at {self.stop}, before it starts at {self.start}")
        return self


class Guider:
    """The guidance of one member during one run.

    Guiders keep state over the steps of a run (momentum, the current step), so every run and member has its own.
    """

    def __init__(self, guidance: Guidance, num_inference_steps: int) -> None:
        self.guidance = guidance
        self._count = num_inference_steps
        self._guider = _build(guidance)

    def is_active(self, index: int) -> bool:
        """Say whether the unconditional half is needed at a step."""
        self._guider.set_state(step=index, num_inference_steps=self._count, timestep=None)
        return bool(self._guider.num_conditions == 2)

    def combine(self, prediction: NoisePrediction, index: int) -> torch.Tensor:
        """Make one (B, C, H, W) prediction of the two halves, in the network's own prediction space."""
        if not self.is_active(index):
            return prediction.conditional
        if prediction.unconditional is None:
            raise ValueError("guidance is on at this step, but the provider returned no unconditional prediction")
        guided: torch.Tensor = self._guider.forward(prediction.conditional, prediction.unconditional).pred
        return guided


def _build(guidance: Guidance) -> BaseGuidance:
    common = {
        "guidance_scale": guidance.scale,
        "guidance_rescale": guidance.rescale,
        "start": guidance.start,
        "stop": guidance.stop,
    }
    if guidance.kind == "apg":
        guider = AdaptiveProjectedGuidance(
            adaptive_projected_guidance_rescale=guidance.norm_threshold, eta=guidance.parallel, **common
        )
        # The guider makes its momentum buffer while it prepares network inputs, which providers do for themselves.
        guider.momentum_buffer = MomentumBuffer(guidance.momentum)
        return guider
    if guidance.kind == "cfg_zero_star":
        # zero_init_steps belongs to flow matching: it would blank the first noise predictions of a diffusion model.
        return ClassifierFreeZeroStarGuidance(zero_init_steps=0, **common)
    return ClassifierFreeGuidance(**common)
