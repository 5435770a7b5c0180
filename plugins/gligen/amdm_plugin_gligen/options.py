"""The keys of a `gligen` block in a composition."""

from __future__ import annotations

from pydantic import Field

from amdm_framework.provider import CheckpointReference
from amdm_framework.scene import StrictModel


class GLIGENOptions(StrictModel):
    """Which weights, and for how much of the run the boxes act."""

    checkpoint: CheckpointReference = Field(
        description="A whole model in diffusers' folder layout whose UNet is gated, e.g. "
        "`hf://masterful/gligen-1-4-generation-text-box`."
    )
    variant: str | None = Field(default=None, description="Of the weight files in the folder, e.g. `fp16`.")
    scheduled_sampling_beta: float = Field(
        default=0.3,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the steps, from the noisiest on, that are grounded; those after them are plain Stable "
        "Diffusion. `gligen_scheduled_sampling_beta` of diffusers' pipeline.",
    )
