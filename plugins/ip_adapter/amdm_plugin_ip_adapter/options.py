"""The keys of an `ip_adapter` block in a composition."""

from __future__ import annotations

from pydantic import Field

from amdm_framework.provider import CheckpointReference

from .image_encoder import Fit
from .strength import Strength


class IPAdapterOptions(Strength):
    """What to load, which references to draw after, and how strongly they act."""

    checkpoint: CheckpointReference = Field(
        description="The adapter: reference to a .safetensors or .bin file (ip-adapter_sd15, ip-adapter-plus_sd15)."
    )
    base: CheckpointReference = Field(
        description="The Stable Diffusion model it is attached to: a diffusers folder or a single file."
    )
    image_encoder: CheckpointReference = Field(
        description="The image encoder the adapter was trained with: its folder, or its weights file with config.json "
        "beside it."
    )
    variant: str | None = Field(default=None, description="Variant of the base's weight files, e.g. `fp16`.")
    tokenizer: CheckpointReference | None = Field(
        default=None, description="For a base in a single file: reference to a folder with its tokenizer [CLIP's]."
    )
    role: str = Field(default="style", min_length=1, description="Role of the scene's references to draw after.")
    fit: Fit = Field(
        default="crop",
        description="How a picture that is not square is shown to the image encoder: `crop` its middle square, or "
        "`squash` all of it.",
    )

    def strength(self) -> Strength:
        """Return how strongly reference pictures act where a condition does not say otherwise."""
        return Strength(**{name: getattr(self, name) for name in Strength.model_fields})
