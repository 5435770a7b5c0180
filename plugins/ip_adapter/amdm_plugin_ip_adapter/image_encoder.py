"""The image encoder: CLIP's vision tower, its preprocessing, and what an adapter reads of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

# By its own name: `CLIPImageProcessor` is another class, with another resize, where torchvision is installed.
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from amdm_framework.devices import device_of
from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import build_on_meta, load_strict, read_tensors, resolve_reference
from amdm_framework.models.config_checks import building
from amdm_framework.models.context import LoadContext
from amdm_framework.models.references import missing_file, pick_weights
from amdm_framework.models.stored_components import Component, read_config
from amdm_framework.provider import WeightFile

from .checkpoint import AdapterKind

Fit = Literal["crop", "squash"]


def find_image_encoder(reference: str, context: LoadContext) -> Path:
    """Return the folder or weights file of an image encoder, fetched with its config where it has to be.

    Args:
        reference: a folder (or repository of the Hub) with config.json and weights, or a weights file with config.json
            beside it.
        context: where references lead.

    Raises:
        CheckpointError: nothing is there.
    """
    path = resolve_reference(reference, context, _select_files)
    if path.is_file() and reference.startswith("hf://"):
        file, at, revision = reference.partition("@")
        resolve_reference(f"{file.rpartition('/')[0]}/config.json{at}{revision}", context)
    return path


def open_image_encoder(path: Path, reference: str) -> Component:
    """Open a CLIP vision model without loading it.

    Args:
        path: what `find_image_encoder` returned.
        reference: what messages call it.

    Raises:
        CheckpointError: something is missing, or it is another kind of model.
    """
    folder = path if path.is_dir() else path.parent
    weights = pick_weights([entry.name for entry in folder.iterdir()]) if path.is_dir() else path.name
    if weights is None:
        raise missing_file(reference, "model.safetensors")
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder / 'config.json'}: no such file; an image encoder's config lies beside its weights"
        )
    config = read_config(folder / "config.json")
    if config.get("model_type", "clip_vision_model") != "clip_vision_model":
        raise CheckpointError(
            f"{folder / 'config.json'}: this is a {config['model_type']}, expected a clip_vision_model: "
            "`image_encoder` is the folder of that name published beside the adapter"
        )
    return Component(config, read_tensors(folder / weights))


def build_image_encoder(component: Component) -> CLIPVisionModelWithProjection:
    """Build a stored image encoder with weights that take no memory yet.

    Raises:
        CheckpointError: its config does not describe a CLIP vision model.
    """
    with building("CLIP vision model", component.tensors.source):
        config = CLIPVisionConfig.from_dict(dict(component.config))
        return build_on_meta(lambda: CLIPVisionModelWithProjection(config))


def load_image_encoder(
    encoder: CLIPVisionModelWithProjection, component: Component, context: LoadContext
) -> CLIPVisionModelWithProjection:
    """Load what `build_image_encoder` built, on the device and in the dtype of the context, weights shared.

    Raises:
        CheckpointError: the weights do not fit the config.
    """
    # A buffer that older releases of transformers stored.
    load_strict(encoder, component.tensors, context, ignore=("*.position_ids",))
    context.weight_files += [WeightFile("image_encoder", file) for file in component.tensors.files]
    return encoder


def preprocess(pictures: Sequence[Image.Image], size: int, fit: Fit) -> torch.Tensor:
    """Turn RGB pictures into the encoder's normalised pixels.

    Args:
        pictures: 8-bit RGB pictures of any sizes.
        size: the encoder's input side in pixels.
        fit: `crop` the middle square (CLIP's way), or `squash` the whole picture into a square.

    Returns:
        (pictures, 3, size, size) float32.
    """
    if fit == "squash":
        pictures = [picture.resize((size, size), Image.Resampling.BICUBIC) for picture in pictures]
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    pixels: torch.Tensor = processor(list(pictures), return_tensors="pt").pixel_values
    return pixels


def image_states(encoder: CLIPVisionModelWithProjection, kind: AdapterKind, pixels: torch.Tensor) -> torch.Tensor:
    """Encode (N, 3, H, W) pixels to what an adapter's projection reads.

    Returns:
        (N, width) projected embeddings, not normalised, for a base adapter; (N, positions, width) outputs of the last
        layer but one for a plus adapter.
    """
    pixels = pixels.to(device_of(encoder), encoder.visual_projection.weight.dtype)
    output = encoder(pixels, output_hidden_states=kind == "plus")
    states: torch.Tensor = output.image_embeds if kind == "base" else output.hidden_states[-2]
    return states


def unconditional_states(encoder: CLIPVisionModelWithProjection, kind: AdapterKind) -> torch.Tensor:
    """Return one row of what stands for "no picture" in the unconditional half.

    A base adapter reads a zero embedding. A plus adapter reads the states of zero *pixels*, which are the mean colour
    and not black.
    """
    if kind == "base":
        return torch.zeros(
            1, encoder.config.projection_dim, device=device_of(encoder), dtype=encoder.visual_projection.weight.dtype
        )
    size = encoder.config.image_size
    return image_states(encoder, kind, torch.zeros(1, encoder.config.num_channels, size, size))


def _select_files(names: Sequence[str]) -> list[str]:
    weights = pick_weights(names)
    return ["config.json", *([weights] if weights else [])]
