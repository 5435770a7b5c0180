"""Configurations of the networks in an original single file, which carries none: read off the shapes of its weights.

What shapes do not tell is that of Stable Diffusion: 32 groups per norm; 8 attention heads in UNets of the 1.x kind, one
head per 64 channels in those of the 2.x kind (linear projections); text models with one head per 64 channels; latents
for pictures of 512 pixels, 768 for 2.x models that predict v; the noise schedule of Stable Diffusion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

SCHEDULER_CONFIG: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def unet_config_from_ldm(shapes: Shapes, *, sample_size: int = 64) -> dict[str, Any]:
    """Return the diffusers config of a UNet from the shapes of its weights under LDM names.

    Args:
        shapes: names without `model.diffusion_model.`; further names (of adapters) do no harm.
        sample_size: side of the latents it was trained for.

    Raises:
        CheckpointError: these are not the weights of such a UNet.
    """
    try:
        channels, attention = _unet_levels(shapes)
        layers = len(channels[0])
        blocks = [level[0] for level in channels]
        attention_width = next(shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))
        projection = next(shape for name, shape in shapes.items() if re.search(r"\.1\.proj_in\.weight$", name))
        linear = len(projection) == 2
        return {
            "sample_size": sample_size,
            "in_channels": shapes["input_blocks.0.0.weight"][1],
            "out_channels": shapes["out.2.weight"][0],
            "block_out_channels": tuple(blocks),
            "layers_per_block": layers,
            "down_block_types": tuple("CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attention),
            "up_block_types": tuple("CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attention)),
            "cross_attention_dim": attention_width,
            "attention_head_dim": tuple(max(1, width // 64) for width in blocks) if linear else 8,
            "use_linear_projection": linear,
            "upcast_attention": linear,
        }
    except (KeyError, IndexError, StopIteration) as error:
        raise CheckpointError(
            "these are not the weights of a Stable Diffusion UNet in the original layout "
            f"(looked for names like input_blocks.0.0.weight, found {_examples(shapes)})"
        ) from error


def vae_config_from_ldm(shapes: Shapes) -> dict[str, Any]:
    """Return the diffusers config of a KL autoencoder from the shapes of its weights under LDM names.

    Raises:
        CheckpointError: these are not the weights of such an autoencoder.
    """
    try:
        levels = _count(shapes, r"encoder\.down\.(\d+)\.block\.")
        blocks = [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)]
        return {
            "in_channels": shapes["encoder.conv_in.weight"][1],
            "out_channels": shapes["decoder.conv_out.weight"][0],
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": tuple(blocks),
            "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
            "latent_channels": shapes["post_quant_conv.weight"][1],
            "sample_size": 512,
            "scaling_factor": 0.18215,
        }
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            "these are not the weights of a Stable Diffusion autoencoder in the original layout "
            f"(looked for names like encoder.conv_in.weight, found {_examples(shapes)})"
        ) from error


def text_config_from_clip(shapes: Shapes, *, open_clip: bool = False) -> dict[str, Any]:
    """Return the config of transformers' CLIPTextModel from the shapes of its weights under its own names.

    Args:
        shapes: names as in `CLIPTextModel` (`embeddings.token_embedding.weight`).
        open_clip: the OpenCLIP text model of Stable Diffusion 2.x, which has another activation.

    Raises:
        CheckpointError: these are not the weights of such a text model.
    """
    try:
        vocabulary, width = shapes["embeddings.token_embedding.weight"]
        return {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "projection_dim": width,
            "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
            "num_hidden_layers": _count(shapes, r"encoder\.layers\.(\d+)\."),
            "num_attention_heads": max(1, width // 64),
            "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
            "hidden_act": "gelu" if open_clip else "quick_gelu",
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": 1,
        }
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            "these are not the weights of a CLIP text model "
            f"(looked for names like embeddings.token_embedding.weight, found {_examples(shapes)})"
        ) from error


def _unet_levels(shapes: Shapes) -> tuple[list[list[int]], list[bool]]:
    # One level ends where a downsampler stands; every other input block holds a layer and perhaps a transformer.
    channels: list[list[int]] = [[]]
    attention = [False]
    for block in range(1, _count(shapes, r"input_blocks\.(\d+)\.")):
        if f"input_blocks.{block}.0.op.weight" in shapes:
            channels.append([])
            attention.append(False)
            continue
        channels[-1].append(shapes[f"input_blocks.{block}.0.in_layers.2.weight"][0])
        attention[-1] |= f"input_blocks.{block}.1.proj_in.weight" in shapes
    return channels, attention


def _count(names: Iterable[str], pattern: str) -> int:
    found = (re.match(pattern, name) for name in names)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _examples(names: Iterable[str]) -> str:
    listed = sorted(names)[:3]
    return ", ".join(listed) if listed else "nothing"
