"""The keys of a `controlnet` block in a composition."""

from __future__ import annotations

from pydantic import Field, model_validator

from amdm_framework.provider import CheckpointReference
from amdm_framework.scene import StrictModel


class ControlStrength(StrictModel):
    """How strongly the control picture acts, and when."""

    conditioning_scale: float = Field(
        default=1.0, allow_inf_nan=False, description="Strength of the control picture; 0 is the plain model."
    )
    start: float = Field(
        default=0.0, ge=0, le=1, description="Fraction of the run from which on the control picture acts."
    )
    stop: float = Field(
        default=1.0, ge=0, le=1, description="Fraction of the run at which it stops; a step must end before it."
    )

    @model_validator(mode="after")
    def _start_before_stop(self) -> ControlStrength:
        if self.start >= self.stop:
            raise ValueError(f"`start` ({self.start}) must be less than `stop` ({self.stop})")
        return self

    def active_steps(self, count: int) -> frozenset[int]:
        """Return the indices, of `count` sampling steps, at which the control picture acts.

        Those that lie between `start` and `stop` as a whole, as with diffusers' `control_guidance_start` and
        `control_guidance_end`; none with a scale of 0.
        """
        if self.conditioning_scale == 0:
            return frozenset()
        return frozenset(i for i in range(count) if i / count >= self.start and (i + 1) / count <= self.stop)


class ControlNetOptions(ControlStrength):
    """What to load, which picture of the scene it obeys, and how strongly that acts."""

    checkpoint: CheckpointReference = Field(
        description="The ControlNet: a diffusers folder, a single file in the original layout, hf://owner/repo[/folder]."
    )
    base: CheckpointReference = Field(
        description="The Stable Diffusion model it is attached to: a diffusers folder or a single file."
    )
    role: str = Field(default="control", min_length=1, description="Role of the scene's reference that it obeys.")
    guess_mode: bool = Field(
        default=False,
        description="Control the conditional half only, with weaker outer layers; draws without a prompt.",
    )
    variant: str | None = Field(default=None, description="Variant of the base's weight files, e.g. `fp16`.")
    tokenizer: CheckpointReference | None = Field(
        default=None, description="For a base in a single file: reference to a folder with its tokenizer [CLIP's]."
    )
