"""The keys of a `migc` block in a composition."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from amdm_framework.provider import CheckpointReference
from amdm_framework.scene import StrictModel

Scale = Annotated[float, Field(allow_inf_nan=False)]
Scales = Scale | tuple[Scale, ...]
"""One number for all instances, or one per instance."""


class MIGCOptions(StrictModel):
    """What to load, and when and how strongly instances are shaded on their own."""

    checkpoint: CheckpointReference = Field(
        description="MIGC's weights: reference to MIGC_SD14.ckpt or a safetensors file of them."
    )
    base: CheckpointReference = Field(
        description="The Stable Diffusion 1.x model they are added to: a diffusers folder or a single file."
    )
    variant: str | None = Field(default=None, description="Variant of the base's weight files, e.g. `fp16`.")
    tokenizer: CheckpointReference | None = Field(
        default=None, description="Folder of the tokenizer, where the base is a single file (default: that of CLIP)."
    )
    migc_steps: int = Field(
        default=20,
        ge=-1,
        description="Last step, counted from 0, at which MIGC's blocks run; the authors' scripts take 20 or 25 of 50. "
        "-1 for never.",
    )
    naive_fuser_steps: int = Field(
        default=-1,
        ge=-1,
        description="Last step at which all other cross-attentions fuse instances by their boxes alone; the authors' "
        "second scripts take 25 of 50. -1 for never.",
    )
    ca_scale: Scales = Field(default=1.0, description="Strength of the instances' cross-attention to their phrases.")
    ea_scale: Scales = Field(default=1.0, description="Strength of the instances' enhancement attention.")
    sac_scale: Scales = Field(default=1.0, description="Factor on the instances' scores where they are weighed.")
    aug_phase_with_and: bool = Field(
        default=False,
        description="Repeat every phrase as often as there are instances (at most 7 times), joined by `, and `, as the "
        "authors do on COCO-MIG.",
    )
