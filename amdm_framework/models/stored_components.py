"""One stored network as config and tensors, under the names of diffusers and transformers, whatever it was stored as.

component = ldm_unet_component(tensors, component_keys(tensors, "model."))
unet = build_on_meta(lambda: UNet2DConditionModel.from_config(dict(component.config)))
load_strict(unet, component.tensors, context)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .config_checks import check_config, check_depth
from .ldm_configs import text_config_from_clip, unet_config_from_ldm, vae_config_from_ldm
from .ldm_keys import clip_key_map, ldm_unet_key_map, ldm_vae_key_map, open_clip_modules, rename_keys
from .tensor_files import RenamedTensors, TensorMapping

_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Component:
    """One network of a stored model.

    Attributes:
        config: the network's config in the words of diffusers or transformers.
        tensors: its weights under the names of its module's state dict.

    Raises:
        CheckpointError: the config describes more layers than there are weights.
    """

    config: Mapping[str, Any]
    tensors: TensorMapping

    def __post_init__(self) -> None:
        check_depth(self.config, self.tensors, self.tensors.source)


def component_of(name: str, config: Mapping[str, Any], tensors: TensorMapping) -> Component:
    """Return a component of a diffusers folder, with the names older releases wrote brought up to date.

    Raises:
        CheckpointError: the config belongs to a model of another family, or to none.
    """
    names = {key: key for key in tensors}
    if name == "text_encoder":
        names = {new: old for old, new in clip_key_map(tensors).items()}
    elif name == "vae":
        old_attention = {
            f"{half}.mid_block.attentions.0.{old}": f"{half}.mid_block.attentions.0.{new}"
            for half in ("encoder", "decoder")
            for old, new in _OLD_VAE_ATTENTION.items()
        }
        names = {new: old for old, new in rename_keys(tensors, old_attention).items()}
    else:
        check_unet_family(config, tensors.source)
    check_config(name, config, tensors.source)
    return Component(config, RenamedTensors(tensors, names))


def check_unet_family(config: Mapping[str, Any], source: str) -> None:
    """Refuse a UNet that is not text-to-image of the Stable Diffusion 1.x / 2.x kind.

    Raises:
        CheckpointError: saying what it is instead.
    """
    if config.get("addition_embed_type") is not None:
        raise CheckpointError(f"{source}: this is a Stable Diffusion XL model, expected one of the 1.x or 2.x kind")
    if config.get("in_channels") != config.get("out_channels"):
        raise CheckpointError(
            f"{source}: its UNet takes {config.get('in_channels')} channels and gives {config.get('out_channels')} "
            "(an inpainting or image-editing model), expected a text-to-image model"
        )


def ldm_unet_component(tensors: TensorMapping, names: Mapping[str, str], *, sample_size: int = 64) -> Component:
    """Return a UNet stored under LDM names; names of adapters inside are carried along.

    Args:
        tensors: the file.
        names: {LDM name without prefix: stored name}.
        sample_size: side of the latents it was trained for.
    """
    shapes = {name: tuple(tensors[stored].shape) for name, stored in names.items()}
    config = unet_config_from_ldm(shapes, sample_size=sample_size)
    check_unet_family(config, tensors.source)
    renamed = {new: names[old] for old, new in ldm_unet_key_map(config, names).items()}
    return Component(config, RenamedTensors(tensors, renamed))


def ldm_vae_component(tensors: TensorMapping, names: Mapping[str, str]) -> Component:
    """Return an autoencoder stored under LDM names (`names` as above)."""
    config = vae_config_from_ldm({name: tuple(tensors[stored].shape) for name, stored in names.items()})
    renamed = {new: names[old] for old, new in ldm_vae_key_map(config, names).items()}
    linear = [name for name in renamed if ".attentions.0." in name and tensors[renamed[name]].ndim > 2]
    return Component(config, RenamedTensors(tensors, renamed, dict.fromkeys(linear, _convolution_to_linear)))


def clip_component(tensors: TensorMapping, names: Mapping[str, str]) -> Component:
    """Return a CLIP text model stored with or without a `transformer.` or `text_model.` level (`names` as above)."""
    renamed = {new: names[old] for old, new in clip_key_map(names).items()}
    config = text_config_from_clip({name: tuple(tensors[stored].shape) for name, stored in renamed.items()})
    return Component(config, RenamedTensors(tensors, renamed))


def open_clip_component(tensors: TensorMapping, names: Mapping[str, str]) -> Component:
    """Return the text model of Stable Diffusion 2.x, stored under OpenCLIP's names (`names` as above)."""
    # Stable Diffusion 2.x takes the states before the last layer, which its diffusers form leaves out.
    layers = sum(name.endswith(".ln_1.weight") for name in names) - 1
    last = f"transformer.resblocks.{layers}."
    kept = {name: stored for name, stored in names.items() if not name.startswith(last)}
    renamed: dict[str, str] = {}
    changes = {}
    for name, new in rename_keys(kept, open_clip_modules(layers)).items():
        module, separator, fused = name.rpartition(".in_proj_")
        if not separator:
            renamed[new] = kept[name]
            continue
        layer = module.removeprefix("transformer.resblocks.").removesuffix(".attn")
        for index, projection in enumerate(("q_proj", "k_proj", "v_proj")):
            split = f"encoder.layers.{layer}.self_attn.{projection}.{fused}"
            renamed[split] = kept[name]
            changes[split] = lambda tensor, index=index: tensor.chunk(3)[index]
    result = RenamedTensors(tensors, renamed, changes)
    config = text_config_from_clip({name: tuple(tensor.shape) for name, tensor in result.items()}, open_clip=True)
    return Component(config, result)


def _convolution_to_linear(weight: torch.Tensor) -> torch.Tensor:
    return weight.flatten(1)


def read_config(path: Path) -> Mapping[str, Any]:
    """Read a JSON config.

    Raises:
        CheckpointError: it is not one.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"), parse_int=_config_number, parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a JSON config ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: found {type(config).__name__}, expected a JSON object")
    return config


def _config_number(text: str) -> int:
    # Sizes of networks and of vocabularies; more would ask for more memory than there is.
    if abs(number := int(text)) > 2**24:
        raise ValueError(f"{number} is no size of a network")
    return number


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of a config")
