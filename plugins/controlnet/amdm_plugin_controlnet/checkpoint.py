"""ControlNet files: finding them, their config, whether they fit the base model, and loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from diffusers import ControlNetModel
from pydantic import BaseModel, Field, ValidationError

from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import build_on_meta, load_strict, read_tensors, resolve_reference
from amdm_framework.models.config_checks import Count, building
from amdm_framework.models.context import LoadContext
from amdm_framework.models.references import (
    find_weights,
    locate_reference,
    locate_weights,
    missing_file,
    pick_weights,
)
from amdm_framework.models.stored_components import Component, read_config
from amdm_framework.models.tensor_files import PICKLE_SUFFIXES, TensorMapping
from amdm_framework.provider import WeightFile
from amdm_framework.yaml_files import problems_of

from .original_layout import original_component, original_names

_WRITTEN_FOR = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}


class _ControlNetConfig(BaseModel):
    # What is read of a config here; diffusers checks the rest while it builds the network.
    in_channels: Count = 4
    conditioning_channels: Literal[3] = 3
    block_out_channels: Annotated[list[Count], Field(min_length=1, max_length=8)]
    layers_per_block: Count = 2
    cross_attention_dim: Count
    conditioning_embedding_out_channels: Annotated[list[Count], Field(min_length=1, max_length=8)] = [16, 32, 96, 256]
    controlnet_conditioning_channel_order: Literal["rgb", "bgr"] = "rgb"
    global_pool_conditions: Annotated[bool, Field(strict=True)] = False
    class_embed_type: None = None
    num_class_embeds: None = None
    encoder_hid_dim: None = None


def find_controlnet(reference: str, context: LoadContext) -> Path:
    """Return the folder or file of a ControlNet, fetched where it has to be.

    Args:
        reference: a diffusers folder, a weights file, `hf://owner/repo`, or `hf://owner/repo/folder` of a repository
            with several.
        context: where references lead.

    Raises:
        CheckpointError: nothing is there.
    """
    repository, folder = _hub_folder(reference)
    return resolve_reference(repository, context, lambda names: _select_files(names, folder)) / folder


def locate_controlnet(reference: str, context: LoadContext) -> Path | None:
    """Return what `find_controlnet` does without fetching anything; None where it would have to be fetched."""
    repository, folder = _hub_folder(reference)
    if not folder:
        return locate_weights(reference, context)
    path = locate_reference(repository, context, [f"{folder}/config.json"])
    return path if path is not None and find_weights(path, ("",))[""] else None


def open_controlnet(path: Path, reference: str) -> Component:
    """Open a ControlNet without loading it.

    Args:
        path: what `find_controlnet` returned.
        reference: what messages call it.

    Raises:
        CheckpointError: something is missing, or it is another kind of model.
    """
    if not path.is_file():
        files = [entry.name for entry in path.iterdir()] if path.is_dir() else []
        weights = pick_weights(files)
        if weights is None or "config.json" not in files:
            repository, folder = _hub_folder(reference)
            missing = "config.json" if weights else "diffusion_pytorch_model.safetensors"
            raise missing_file(repository, f"{folder}/{missing}" if folder else missing)
        return _diffusers_component(path / "config.json", read_tensors(path / weights))
    tensors = read_tensors(path)
    if names := original_names(tensors):
        component = original_component(tensors, names)
        _check_config(component.config, f"{path}: what its shapes say")
        return component
    if "controlnet_cond_embedding.conv_in.weight" not in tensors:
        found = ", ".join(sorted(tensors)[:3]) or "nothing"
        raise CheckpointError(
            f"{path}: not a ControlNet: expected names like control_model.input_hint_block.0.weight or "
            f"controlnet_cond_embedding.conv_in.weight, found {found}"
        )
    if not (path.parent / "config.json").is_file():
        raise CheckpointError(
            f"{path.parent / 'config.json'}: no such file; a ControlNet in diffusers' layout has its config beside its "
            "weights: refer to the folder of both"
        )
    return _diffusers_component(path.parent / "config.json", tensors)


def check_controlnet(controlnet: Component, unet_config: Mapping[str, Any], scale: int) -> None:
    """Refuse a ControlNet that does not fit the base.

    Args:
        controlnet: what `open_controlnet` returned.
        unet_config: config of the base's UNet.
        scale: pixels per latent cell of the base's autoencoder.

    Raises:
        CheckpointError: with every difference.
    """
    source = controlnet.tensors.source
    config = _check_config(controlnet.config, source)
    base = _lists(unet_config)
    differences = []
    for name in ("in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block"):
        found, expected = getattr(config, name), base.get(name, 2)
        if found != expected:
            written_for = ""
            if name == "cross_attention_dim" and found in _WRITTEN_FOR:
                written_for = f" ({_WRITTEN_FOR[found]})"
            differences.append(f"  {name}: found {found}{written_for}, the base has {expected}")
    own_scale = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
    if own_scale != scale:
        differences.append(f"  pixels per latent cell: found {own_scale}, the base has {scale}")
    if differences:
        raise CheckpointError("\n".join([f"{source}: this ControlNet does not fit the base model:", *differences]))


def load_controlnet(component: Component, context: LoadContext) -> ControlNetModel:
    """Build and load a ControlNet, on the device and in the dtype of the context, weights shared.

    Raises:
        CheckpointError: the weights do not fit the config.
    """
    with building("ControlNet", component.tensors.source):
        controlnet = build_on_meta(lambda: ControlNetModel.from_config(dict(component.config)))
    load_strict(controlnet, component.tensors, context)
    context.weight_files += [WeightFile("controlnet", file) for file in component.tensors.files]
    return controlnet


def _diffusers_component(path: Path, tensors: TensorMapping) -> Component:
    config = read_config(path)
    kind = config.get("_class_name", "ControlNetModel")
    if kind != "ControlNetModel":
        raise CheckpointError(f"{path}: this is a {kind}, expected a ControlNetModel")
    if config.get("addition_embed_type") is not None:
        raise CheckpointError(f"{path}: this ControlNet is for Stable Diffusion XL, expected one for 1.x or 2.x")
    _check_config(config, str(path))
    return Component(config, tensors)


def _check_config(config: Mapping[str, Any], source: str) -> _ControlNetConfig:
    try:
        return _ControlNetConfig.model_validate(_lists(config))
    except ValidationError as error:
        raise CheckpointError("\n".join(map(str, problems_of(error, _ControlNetConfig, source)))) from error


def _lists(config: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no tuples, and a config that was read off a file's shapes has no lists.
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}


def _hub_folder(reference: str) -> tuple[str, str]:
    # Repository and folder of `hf://owner/repo/folder@revision`; no folder for anything else.
    path, at, revision = reference.partition("@")
    if not path.startswith("hf://") or path.endswith((".safetensors", *PICKLE_SUFFIXES)):
        return reference, ""
    parts = path.removeprefix("hf://").strip("/").split("/")
    return f"hf://{'/'.join(parts[:2])}{at}{revision}", "/".join(parts[2:])


def _select_files(names: Sequence[str], folder: str) -> list[str]:
    # What a ControlNet needs of a repository that may hold several, and a whole model beside them.
    prefix = f"{folder}/" if folder else ""
    inside = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    weights = pick_weights(inside)
    wanted = ["config.json", *([weights] if weights else [])]
    if weights and ".index." in weights:
        stem, extension = weights.split(".")[:2]
        wanted += [name for name in inside if name.startswith(f"{stem}-") and name.endswith(f".{extension}")]
    return [prefix + name for name in wanted]
