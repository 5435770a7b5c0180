"""LoRA files merged into a UNet and a text encoder, by the loaders of diffusers and peft."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import is_peft_available
from transformers import CLIPTextModel

from ..errors import CheckpointError, InputError
from .tensor_files import read_tensors

_COMPONENTS = ("unet", "text_encoder")


def merge_loras(unet: UNet2DConditionModel, text_encoder: CLIPTextModel, loras: Sequence[tuple[Path, float]]) -> None:
    """Add low-rank updates to the weights of a UNet and a text encoder.

    W + sum over files of scale * alpha / rank * up @ down. Merged weights cost nothing per step. Weights that no file
    changes stay those that the networks share with others; the changed ones become their own.

    Args:
        unet: its network.
        text_encoder: its network; files without a part for it leave it as it is.
        loras: file and scale of each, in the layouts that diffusers reads (its own, peft's, kohya's).

    Raises:
        CheckpointError: a file is no LoRA, or one for another architecture.
        InputError: peft is not installed.
    """
    if not is_peft_available():
        raise InputError("LoRA files need the package peft: pip install 'amdm-framework[lora]'")
    holder = _Holder(unet, text_encoder)
    names = []
    with _quiet():
        for index, (path, _) in enumerate(loras):
            before = _count_layers(unet, text_encoder)
            names.append(f"lora{index}")
            _attach(holder, path, names[-1])
            if _count_layers(unet, text_encoder) == before:
                raise CheckpointError(
                    f"{path}: no LoRA for this model, no name in it belongs to a layer of the UNet or the text encoder"
                )
        for network in (unet, text_encoder):
            _own_changed_layers(network)
        holder.set_adapters(names, [scale for _, scale in loras])
        holder.fuse_lora(components=list(_COMPONENTS), adapter_names=names)
        holder.unload_lora_weights()
    unet.requires_grad_(False).eval()
    text_encoder.requires_grad_(False).eval()


def changed_weights(path: Path) -> dict[str, set[str]]:
    """Return the names of the weights that a LoRA file changes, per component, without loading a network.

    Raises:
        CheckpointError: the file cannot be read.
    """
    state, _ = StableDiffusionLoraLoaderMixin.lora_state_dict(dict(read_tensors(path)))
    changed: dict[str, set[str]] = {name: set() for name in _COMPONENTS}
    for key in state:
        component, _, name = key.partition(".")
        module = name.partition(".lora")[0].removeprefix("text_model.")
        if component in changed:
            changed[component].add(f"{module}.weight")
    return changed


class _Holder(StableDiffusionLoraLoaderMixin):  # type: ignore[misc]
    # What the loader expects of the pipeline it is made for.
    hf_device_map = None

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        self.unet = unet
        self.text_encoder = text_encoder
        self.components = {"unet": unet, "text_encoder": text_encoder}


def _attach(holder: _Holder, path: Path, name: str) -> None:
    tensors = read_tensors(path)
    # The loader reads safetensors itself, with the metadata that hold the alphas; of pickles it gets the tensors.
    source: Any = {key: tensor.clone() for key, tensor in tensors.items()}
    options: dict[str, Any] = {}
    if path.suffix == ".safetensors":
        source, options = str(path.parent), {"weight_name": path.name, "local_files_only": True}
    try:
        holder.load_lora_weights(source, adapter_name=name, **options)
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = next((line for line in lines if "size mismatch" in line), lines[0] if lines else type(error).__name__)
        raise CheckpointError(f"{path}: not a LoRA for this model ({cause})") from error


def _own_changed_layers(network: torch.nn.Module) -> None:
    # Merging adds to a weight in place, and it may be that of another network as well.
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in [module.get_base_layer() for module in network.modules() if isinstance(module, BaseTunerLayer)]:
        for name, weight in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, torch.nn.Parameter(weight.clone(), requires_grad=False))


def _count_layers(*modules: torch.nn.Module) -> int:
    return sum("lora_A" in name for module in modules for name, _ in module.named_parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    # The loaders report base weights as missing from a LoRA file, and a file without a part for one of the networks.
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers.loaders")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
