"""Is a stored model GLIGEN of phrases and boxes?"""

from __future__ import annotations

from amdm_framework.errors import CheckpointError
from amdm_framework.models.components import BaseCheckpoint

_POSITION_NET = "position_net."


def check_gligen(model: BaseCheckpoint) -> None:
    """Refuse what is not a whole GLIGEN of phrases and boxes; no weight is read.

    Raises:
        CheckpointError: saying what it is instead.
    """
    unet = model.component("unet")
    kind = unet.config.get("attention_type", "default")
    if f"{_POSITION_NET}interaction_embedding.emb.weight" in unet.tensors:
        raise CheckpointError(
            f"{model.reference}: this is InteractDiffusion, which grounds interactions; use the provider "
            "'interactdiffusion' for it"
        )
    if kind == "gated-text-image" or f"{_POSITION_NET}null_image_feature" in unet.tensors:
        raise CheckpointError(
            f"{model.reference}: this is GLIGEN of phrases and pictures (attention_type 'gated-text-image'); expected "
            "GLIGEN of phrases, e.g. hf://masterful/gligen-1-4-generation-text-box"
        )
    if kind != "gated":
        stored = any(name.startswith(_POSITION_NET) for name in unet.tensors)
        raise CheckpointError(
            f"{model.reference}: its UNet is not GLIGEN's: attention_type is {kind!r}, expected 'gated'"
            + (
                ", though there are weights of a position net; GLIGEN is taken as a diffusers folder whose "
                "unet/config.json says so"
                if stored
                else "; GLIGEN is a model of its own and not added to a base: give a diffusers folder such as "
                "hf://masterful/gligen-1-4-generation-text-box"
            )
        )
    width, text_width = unet.config["cross_attention_dim"], model.component("text_encoder").config["hidden_size"]
    if width != text_width:
        raise CheckpointError(
            f"{model.reference}: its UNet and its position net take text features of width {width} "
            f"(cross_attention_dim), its text encoder makes features of width {text_width} (hidden_size)"
        )
