"""Adapter files: which kind they are, whether they fit the base model and the image encoder, and attaching them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPVisionConfig

from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import release
from amdm_framework.models.context import LoadContext

from .reference_attention import ReferenceAttention

AdapterKind = Literal["base", "plus"]

# What diffusers' loader takes for granted about the two kinds; other values in a file would be misread in silence.
_BASE_TOKENS = 4
_PLUS_DEPTH = 4
_PLUS_HEAD_WIDTH = 64

_MAX_LISTED = 10
_WRITTEN_FOR = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}


@dataclass(frozen=True)
class Adapter:
    """An adapter attached to a UNet, with the modules a provider works with.

    Attributes:
        kind: `base` (also light) reads pooled image embeddings, `plus` the encoder's penultimate hidden states.
        projection: (images, ...) embeddings or states to (images, tokens, width) context tokens.
        layers: names of the UNet's cross-attention processors, in the order of layer numbers 1, 3, 5, ...
        processors: the attention processors of those layers.
    """

    kind: AdapterKind
    projection: torch.nn.Module
    layers: tuple[str, ...]
    processors: tuple[ReferenceAttention, ...]


def cross_attention_layers(unet: UNet2DConditionModel) -> tuple[str, ...]:
    """Return the names of the cross-attention processors in the order in which adapter files number them.

    Layer n = 2 i + 1 is the i-th of them: down blocks, then up blocks, then the middle block.

    Raises:
        CheckpointError: the UNet has further attentions (GLIGEN's, say), which would shift the numbers.
    """
    names = list(unet.attn_processors)
    for position, name in enumerate(names):
        wanted = "attn1" if position % 2 == 0 else "attn2"
        if not name.endswith(f".{wanted}.processor"):
            raise CheckpointError(
                f"an IP-Adapter numbers the attention layers of a plain UNet, and this one has another one at {name}: "
                "give a `base` without gated or other added attention layers"
            )
    return tuple(names[1::2])


def check_adapter(
    tensors: Mapping[str, torch.Tensor], source: str, unet: UNet2DConditionModel, encoder: CLIPVisionConfig
) -> AdapterKind:
    """Compare an adapter file, name by name and shape by shape, with what the base and the image encoder ask for.

    diffusers' loader does not: it drops surplus weights and fails late on missing ones.

    Args:
        tensors: the file's tensors under dotted names (`image_proj.…`, `ip_adapter.…`).
        source: what messages call the file.
        unet: the base model's UNet; its weights may be on the meta device.
        encoder: the configuration of the image encoder.

    Returns:
        The kind of adapter.

    Raises:
        CheckpointError: no IP-Adapter, one of another structure, for another base or encoder, or incomplete.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if not any(name.startswith("image_proj.") for name in shapes) or not any(
        name.startswith("ip_adapter.") for name in shapes
    ):
        raise CheckpointError(
            f"{source}: not an IP-Adapter, there are no weights named image_proj.… and ip_adapter.… (found "
            f"{', '.join(list(shapes)[:3]) or 'nothing'} …)"
        )
    _refuse_other_structures(shapes, source)
    width = unet.config.cross_attention_dim
    found_width = shapes.get("ip_adapter.1.to_k_ip.weight", (0, width))[-1]
    if found_width != width:
        raise CheckpointError(
            f"{source}: this adapter makes context tokens of width {found_width}{_written_for(found_width)}, and the "
            f"base reads tokens of width {width}{_written_for(width)}: choose an adapter and a `base` that belong "
            "together"
        )
    kind: AdapterKind = "base" if "image_proj.proj.weight" in shapes else "plus"
    reads, gives, what = (
        ("image_proj.proj.weight", encoder.projection_dim, "embeddings")
        if kind == "base"
        else ("image_proj.proj_in.weight", encoder.hidden_size, "hidden states")
    )
    if reads in shapes and shapes[reads][-1] != gives:
        raise CheckpointError(
            f"{source}: this adapter reads image {what} of width {shapes[reads][-1]}, and the image encoder gives "
            f"{gives}: give the `image_encoder` that it was trained with (OpenCLIP ViT-H/14 for the published ones)"
        )
    expected = _base_projection(width, gives) if kind == "base" else _plus_projection(shapes, source, width, gives)
    for position, name in enumerate(cross_attention_layers(unet)):
        channels = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        for matrix in ("to_k_ip", "to_v_ip"):
            expected[f"ip_adapter.{2 * position + 1}.{matrix}.weight"] = (channels, width)
    _compare(shapes, expected, source)
    return kind


def attach_adapter(
    unet: UNet2DConditionModel, tensors: Mapping[str, torch.Tensor], kind: AdapterKind, context: LoadContext
) -> Adapter:
    """Attach a checked adapter to a UNet that nobody else uses.

    The projection is taken out of the UNet, which then expects finished tokens (B, images, tokens, width) as
    `added_cond_kwargs["image_embeds"]`, so that they are computed once and not at every step.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor.to(context.device, context.dtype, copy=True)
    release(tensors)
    layers = cross_attention_layers(unet)
    _load_with_diffusers(unet, parts)
    projections = unet.encoder_hid_proj.image_projection_layers
    projection = projections[0]
    projections[0] = torch.nn.Identity()
    processors = tuple(ReferenceAttention(unet.attn_processors[name]) for name in layers)
    for name, processor in zip(layers, processors, strict=True):
        unet.get_submodule(name.removesuffix(".processor")).set_processor(processor)
    for module in (unet, projection):
        context.weights.share(module)
        module.eval().requires_grad_(False)
    return Adapter(kind, projection, layers, processors)


def _load_with_diffusers(unet: UNet2DConditionModel, parts: dict[str, dict[str, torch.Tensor]]) -> None:
    # Both libraries print advice here that no user of ours can follow.
    loggers = [
        logging.getLogger(name) for name in ("diffusers.models.modeling_utils", "transformers.utils.import_utils")
    ]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        # Imported late, since it pulls in what is not needed to list this plugin or check its options.
        from diffusers.loaders.ip_adapter import IPAdapterMixin

        class Holder(IPAdapterMixin):  # type: ignore[misc]
            """The part of a pipeline that the loader needs."""

            unet_name = "unet"

            def __init__(self) -> None:
                self.unet = unet

        Holder().load_ip_adapter(parts, subfolder="", weight_name="", image_encoder_folder=None)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _refuse_other_structures(shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    projection = shapes.get("image_proj.proj.weight", ())
    if "image_proj.proj.3.weight" in shapes:
        found = "a full-face IP-Adapter (257 tokens from an MLP)"
    elif any(name.startswith("image_proj.perceiver_resampler.") for name in shapes) or (
        "image_proj.proj.0.weight" in shapes and "image_proj.norm.weight" in shapes
    ):
        found = "an IP-Adapter FaceID, which reads face-recognition embeddings"
    elif shapes.get("ip_adapter.1.to_k_ip.weight", (0,))[-1] == 2048:
        found = "an IP-Adapter for SDXL (context width 2048)"
    elif projection and projection[-1] == 1280:
        found = "an IP-Adapter for the ViT-bigG image encoder (embeddings of width 1280)"
    elif not projection and "image_proj.latents" not in shapes:
        found = "an IP-Adapter with an image projection that is not known here"
    else:
        return
    raise CheckpointError(
        f"{source}: this is {found}. Supported are ip-adapter_sd15, ip-adapter_sd15_light, ip-adapter-plus_sd15 and "
        "ip-adapter-plus-face_sd15"
    )


def _base_projection(width: int, encoder_width: int) -> dict[str, tuple[int, ...]]:
    return {
        "image_proj.proj.weight": (_BASE_TOKENS * width, encoder_width),
        "image_proj.proj.bias": (_BASE_TOKENS * width,),
        "image_proj.norm.weight": (width,),
        "image_proj.norm.bias": (width,),
    }


def _plus_projection(
    shapes: Mapping[str, tuple[int, ...]], source: str, width: int, encoder_width: int
) -> dict[str, tuple[int, ...]]:
    latents = shapes["image_proj.latents"]
    queries = shapes.get("image_proj.layers.0.0.to_q.weight", (_PLUS_HEAD_WIDTH,))[0]
    if len(latents) != 3 or latents[0] != 1 or queries % _PLUS_HEAD_WIDTH:
        raise CheckpointError(
            f"{source}: image_proj.latents has shape {list(latents)} and the resampler's queries have width {queries}, "
            f"expected (1, tokens, width) and a multiple of {_PLUS_HEAD_WIDTH}"
        )
    inner = latents[2]
    expected = {
        "image_proj.latents": latents,
        "image_proj.proj_in.weight": (inner, encoder_width),
        "image_proj.proj_in.bias": (inner,),
        "image_proj.proj_out.weight": (width, inner),
        "image_proj.proj_out.bias": (width,),
        "image_proj.norm_out.weight": (width,),
        "image_proj.norm_out.bias": (width,),
    }
    for block in range(_PLUS_DEPTH):
        attention, feed_forward = f"image_proj.layers.{block}.0", f"image_proj.layers.{block}.1"
        for norm in (f"{attention}.norm1", f"{attention}.norm2", f"{feed_forward}.0"):
            expected |= {f"{norm}.weight": (inner,), f"{norm}.bias": (inner,)}
        expected |= {
            f"{attention}.to_q.weight": (queries, inner),
            f"{attention}.to_kv.weight": (2 * queries, inner),
            f"{attention}.to_out.weight": (inner, queries),
            f"{feed_forward}.1.weight": (4 * inner, inner),
            f"{feed_forward}.3.weight": (inner, 4 * inner),
        }
    return expected


def _compare(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], source: str) -> None:
    differences = {
        "missing": [f"{name} {list(shape)}" for name, shape in expected.items() if name not in shapes],
        "surplus": [f"{name} {list(shape)}" for name, shape in shapes.items() if name not in expected],
        "of another shape": [
            f"{name}: found {list(shapes[name])}, expected {list(shape)}"
            for name, shape in expected.items()
            if name in shapes and shapes[name] != shape
        ],
    }
    lines = []
    for kind, entries in differences.items():
        if entries:
            lines += [f"  {len(entries)} {kind}:", *(f"    {entry}" for entry in entries[:_MAX_LISTED])]
            if len(entries) > _MAX_LISTED:
                lines.append(f"    and {len(entries) - _MAX_LISTED} more")
    if lines:
        raise CheckpointError(
            "\n".join([f"{source}: this adapter does not fit the base model, or is incomplete:", *lines])
        )


def _written_for(width: int) -> str:
    return f" ({_WRITTEN_FOR[width]})" if width in _WRITTEN_FOR else ""
