"""ControlNets in the original single-file layout: names `control_model.*`, and no config.

A ControlNet is the first half of a UNet (`input_blocks`, `middle_block`) with a small network for the control picture in
front (`input_hint_block`) and a convolution behind every block (`zero_convs`, `middle_block_out`). The published files
hold these weights alone, with or without the prefix, or a whole Stable Diffusion beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from amdm_framework.errors import CheckpointError
from amdm_framework.models.ldm_configs import unet_config_from_ldm
from amdm_framework.models.ldm_keys import component_keys, ldm_unet_modules, rename_keys
from amdm_framework.models.stored_components import Component
from amdm_framework.models.tensor_files import RenamedTensors, TensorMapping

PREFIX = "control_model."
_HINT = re.compile(r"input_hint_block\.(\d+)\.weight")


def original_names(tensors: TensorMapping) -> dict[str, str]:
    """Return {name without prefix: stored name} of a ControlNet in the original layout; empty where there is none."""
    names = component_keys(tensors, PREFIX)
    if names:
        return names
    return {name: name for name in tensors} if "input_hint_block.0.weight" in tensors else {}


def original_component(tensors: TensorMapping, names: Mapping[str, str]) -> Component:
    """Return a ControlNet stored under its original names as config and tensors of diffusers.

    Args:
        tensors: the file.
        names: what `original_names` returned.

    Raises:
        CheckpointError: it is incomplete, or another kind of file.
    """
    for marker, meaning in {
        "difference": "the difference to a base model",
        "lora_controlnet": "a Control-LoRA",
    }.items():
        if marker in names or marker in tensors:
            raise CheckpointError(f"{tensors.source}: this file holds {meaning}, expected a whole ControlNet")
    shapes = {name: tuple(tensors[stored].shape) for name, stored in names.items()}
    hints = sorted(int(match[1]) for name in shapes if (match := _HINT.fullmatch(name)))
    try:
        first = shapes["input_blocks.0.0.weight"]
        # The half that is missing says only how many channels come out.
        unet = unet_config_from_ldm({**shapes, "out.2.weight": (first[1], first[0], 3, 3)})
        widths = [shapes[f"input_hint_block.{number}.weight"][0] for number in hints]
        conditioning_channels = shapes["input_hint_block.0.weight"][1]
    except (CheckpointError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"{tensors.source}: these are not the weights of a ControlNet in the original layout, or not all of them "
            f"({error})"
        ) from error
    own = {
        name: unet[name]
        for name in (
            "in_channels",
            "block_out_channels",
            "layers_per_block",
            "down_block_types",
            "cross_attention_dim",
            "attention_head_dim",
            "use_linear_projection",
            "upcast_attention",
        )
    }
    config = {
        **own,
        "conditioning_channels": conditioning_channels,
        # Two convolutions per width, the second one halves both sides; then one to the width of the network.
        "conditioning_embedding_out_channels": (widths[0], *widths[2:-1:2]),
    }
    modules = ldm_unet_modules(unet)
    modules |= {f"zero_convs.{block}.0": f"controlnet_down_blocks.{block}" for block in range(len(shapes))}
    modules["middle_block_out.0"] = "controlnet_mid_block"
    embedding = ["conv_in", *(f"blocks.{block}" for block in range(len(hints) - 2)), "conv_out"]
    modules |= {
        f"input_hint_block.{number}": f"controlnet_cond_embedding.{layer}"
        # Of different lengths only where weights are missing, which are named when they are loaded.
        for number, layer in zip(hints, embedding, strict=False)
    }
    renamed = {new: names[old] for old, new in rename_keys(names, modules).items()}
    return Component(config, RenamedTensors(tensors, renamed))
