"""The keys of an InteractDiffusion block in a composition."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from amdm_framework.provider import CheckpointReference
from amdm_framework.scene import StrictModel

from .strength_schedule import StrengthSchedule

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class InteractDiffusionOptions(StrictModel):
    """Which weights, and how strong the grounding is over the run."""

    checkpoint: CheckpointReference = Field(
        description="InteractDiffusion's weights: a diffusers folder, an original `.pth`, an extension file, or a "
        "`.safetensors` copy of either; a path, `hf://owner/repo[/file][@revision]` or `scheme://name`.",
    )
    base: CheckpointReference | None = Field(
        default=None,
        description="The Stable Diffusion 1.x model that lends what a checkpoint file lacks (an extension file: all but "
        "its own layers; any file: the tokenizer). Not used for a folder, which is whole.",
    )
    variant: str | None = Field(
        default=None, description="Of the weight files in a folder, the base's too, e.g. `fp16`."
    )
    tokenizer: CheckpointReference | None = Field(
        default=None, description="A tokenizer's folder, for a checkpoint file [the base's, or that of CLIP ViT-L/14]."
    )
    strength: Share = Field(
        default=1.0, description="Strength of the grounding: 1 as trained, 0 is plain Stable Diffusion."
    )
    scheduled_sampling_beta: Share | None = Field(
        default=None,
        description="Share of the steps that are grounded; none after them, as in the diffusers pipeline [1].",
    )
    alpha_type: tuple[Share, Share, Share] | None = Field(
        default=None,
        description="[a, b, c], as in the original: shares of the steps at full strength, falling, and off [1, 0, 0].",
    )
    too_many_interactions: Literal["refuse", "truncate"] = Field(
        default="refuse",
        description="Where a scene has more interactions than the model has slots (30): refuse it, or keep the first.",
    )

    @model_validator(mode="after")
    def _one_schedule(self) -> InteractDiffusionOptions:
        if self.alpha_type is None:
            return self
        if self.scheduled_sampling_beta is not None:
            raise ValueError(
                "`alpha_type` and `scheduled_sampling_beta` say the same thing in two forms: give one of them "
                f"(beta {self.scheduled_sampling_beta:g} is alpha_type "
                f"[{self.scheduled_sampling_beta:g}, 0, {1 - self.scheduled_sampling_beta:g}])"
            )
        if abs(sum(self.alpha_type) - 1) > 1e-6:
            raise ValueError(f"alpha_type {list(self.alpha_type)} sums to {sum(self.alpha_type):g}, expected 1")
        return self

    def strength_schedule(self) -> StrengthSchedule:
        """Return the strength over the steps of a run."""
        if self.alpha_type is not None:
            return StrengthSchedule(self.strength, self.alpha_type[0], self.alpha_type[1])
        beta = self.scheduled_sampling_beta
        return StrengthSchedule(self.strength, 1.0 if beta is None else beta)
