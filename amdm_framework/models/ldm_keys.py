"""Names of weights: from the original single-file layout (LDM) to the names of diffusers and transformers.

A map is made of *module prefixes*: `input_blocks.1.0.in_layers.0` is `down_blocks.0.resnets.0.norm1`. Whatever hangs
below a prefix keeps its name, so a plugin's own additions inside a block (a fuser in a transformer block, say) are
carried along, and names outside all known modules (`position_net.*`) stay as they are.

    key_map = ldm_unet_key_map(unet.config, tensors)       # {LDM name: diffusers name}

Names are without the prefix of the component (`model.diffusion_model.`, `first_stage_model.`): see `component_keys`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
CLIP_PREFIX = "cond_stage_model.transformer."
OPEN_CLIP_PREFIX = "cond_stage_model.model."

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE_RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def component_keys(keys: Iterable[str], prefix: str) -> dict[str, str]:
    """Return {name without the prefix: full name} of all keys that start with a prefix."""
    return {key.removeprefix(prefix): key for key in keys if key.startswith(prefix)}


def rename_keys(keys: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Return {old name: new name}, replacing the longest known module prefix of every key.

    Args:
        keys: names to translate.
        modules: {old prefix: new prefix}; swap keys and values for the way back.
    """
    renamed = {}
    for key in keys:
        renamed[key] = key
        prefix = key
        while prefix:
            if prefix in modules:
                renamed[key] = modules[prefix] + key[len(prefix) :]
                break
            prefix = prefix.rpartition(".")[0]
    return renamed


def ldm_unet_key_map(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """Return {LDM name: diffusers name} for the weights of a UNet. No tensor changes its shape.

    Args:
        config: the UNet's diffusers config (`layers_per_block`, `down_block_types`, `up_block_types`).
        keys: LDM names without `model.diffusion_model.`.
    """
    return rename_keys(keys, ldm_unet_modules(config))


def ldm_vae_key_map(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """Return {LDM name: diffusers name} for the weights of a KL autoencoder.

    The projections of the mid attention are 1x1 convolutions (C, C, 1, 1) in LDM and linear layers (C, C) in diffusers.

    Args:
        config: the autoencoder's diffusers config (`block_out_channels`, `layers_per_block`).
        keys: LDM names without `first_stage_model.`.
    """
    return rename_keys(keys, ldm_vae_modules(config))


def clip_key_map(keys: Iterable[str]) -> dict[str, str]:
    """Return {stored name: name in transformers' CLIPTextModel}, which has no `text_model.` level any more.

    Accepts names with and without a leading `transformer.` and `text_model.`.
    """
    return {key: key.removeprefix("transformer.").removeprefix("text_model.") for key in keys}


def ldm_unet_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """Return {LDM module: diffusers module} of a UNet of L levels with R layers each.

    Input block 1 + l (R + 1) + r is layer r of down block l, the block after its last layer the downsampler; output
    block u (R + 1) + r is layer r of up block u, whose last one also carries the upsampler.
    """
    layers = int(config["layers_per_block"])
    down_types, up_types = config["down_block_types"], config["up_block_types"]
    modules = {
        "input_blocks.0.0": "conv_in",
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
        "middle_block.1": "mid_block.attentions.0",
    }
    resnets = {"middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1"}
    for level in range(len(down_types)):
        for layer in range(layers):
            block = f"input_blocks.{1 + level * (layers + 1) + layer}"
            resnets[f"{block}.0"] = f"down_blocks.{level}.resnets.{layer}"
            if "CrossAttn" in down_types[level]:
                modules[f"{block}.1"] = f"down_blocks.{level}.attentions.{layer}"
        if level < len(down_types) - 1:
            downsampler = f"input_blocks.{(level + 1) * (layers + 1)}.0.op"
            modules[downsampler] = f"down_blocks.{level}.downsamplers.0.conv"
    for level, kind in enumerate(up_types):
        for layer in range(layers + 1):
            block = f"output_blocks.{level * (layers + 1) + layer}"
            resnets[f"{block}.0"] = f"up_blocks.{level}.resnets.{layer}"
            if "CrossAttn" in kind:
                modules[f"{block}.1"] = f"up_blocks.{level}.attentions.{layer}"
        if level < len(up_types) - 1:
            position = 2 if "CrossAttn" in kind else 1
            upsampler = f"output_blocks.{level * (layers + 1) + layers}.{position}.conv"
            modules[upsampler] = f"up_blocks.{level}.upsamplers.0.conv"
    for old, new in resnets.items():
        modules |= {f"{old}.{a}": f"{new}.{b}" for a, b in _RESNET.items()}
    return modules


def ldm_vae_modules(config: Mapping[str, Any]) -> dict[str, str]:
    """Return {LDM module: diffusers module} of a KL autoencoder. LDM counts the decoder's levels from the output."""
    levels, layers = len(config["block_out_channels"]), int(config["layers_per_block"])
    modules = {}
    resnets = {}
    for half in ("encoder", "decoder"):
        modules[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        for index in range(2):
            resnets[f"{half}.mid.block_{index + 1}"] = f"{half}.mid_block.resnets.{index}"
        attention = f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0"
        modules |= {f"{attention[0]}.{a}": f"{attention[1]}.{b}" for a, b in _VAE_ATTENTION.items()}
    for level in range(levels):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        modules[f"encoder.down.{level}.downsample.conv"] = f"{down}.downsamplers.0.conv"
        modules[f"decoder.up.{level}.upsample.conv"] = f"{up}.upsamplers.0.conv"
        resnets |= {f"encoder.down.{level}.block.{index}": f"{down}.resnets.{index}" for index in range(layers)}
        resnets |= {f"decoder.up.{level}.block.{index}": f"{up}.resnets.{index}" for index in range(layers + 1)}
    for old, new in resnets.items():
        modules |= {f"{old}.{a}": f"{new}.{b}" for a, b in _VAE_RESNET.items()}
    return modules


def open_clip_modules(layers: int) -> dict[str, str]:
    """Return {OpenCLIP module: CLIPTextModel module} of a text model with a number of layers.

    The fused `attn.in_proj_weight` and `attn.in_proj_bias` are not in here: they are split in three by the loader.
    """
    modules = {
        "token_embedding": "embeddings.token_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final": "final_layer_norm",
    }
    for layer in range(layers):
        old, new = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        modules |= {f"{old}.{a}": f"{new}.{b}" for a, b in _OPEN_CLIP_LAYER.items()}
    return modules
