"""The keys of an `example` block in a composition.

Change: one field for every file and every number that people choose. What differs from picture to picture belongs to
the condition, which takes its defaults from here.
"""

from __future__ import annotations

from amdm_framework.provider import CheckpointReference
from amdm_framework.scene import StrictModel
from pydantic import Field


class ExampleOptions(StrictModel):
    """What to load, and how strongly and how long boxes act."""

    checkpoint: CheckpointReference = Field(description="The weights of the layout network: a safetensors file.")
    base: CheckpointReference = Field(
        description="The Stable Diffusion model they were trained for: a diffusers folder or a single file."
    )
    scale: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="How strongly boxes act; 0 is the base model alone."
    )
    share: float = Field(
        default=1.0, ge=0, le=1, description="Share of the steps, from the first on, in which boxes act."
    )
