"""Cross-attention to reference pictures, with keys and values of their tokens made once per run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.image_processor import IPAdapterMaskProcessor
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from torch.nn.functional import scaled_dot_product_attention

from amdm_framework.devices import device_of
from amdm_framework.models.attention import InferenceAttention, project_out, split_heads
from amdm_framework.models.offload import weights_in_place
from amdm_framework.models.rows import Rows
from amdm_framework.models.unet_layers import Size, layer_size


@dataclass(frozen=True)
class AttendedReferences:
    """Reference pictures that one layer attends to with one softmax.

    Attributes:
        keys: (rows, heads, tokens, head width).
        values: likewise.
        scale: how strongly they act.
        mask: (rows, 1, cells, 1) where they act; None for everywhere.
    """

    keys: torch.Tensor
    values: torch.Tensor
    scale: float
    mask: torch.Tensor | None

    def take(self, rows: Rows, images: int) -> AttendedReferences:
        """Return what a UNet call of these rows needs."""
        mask = None if self.mask is None else rows.take(self.mask, images)
        return AttendedReferences(rows.take(self.keys, images), rows.take(self.values, images), self.scale, mask)


class ReferenceAttention(InferenceAttention, IPAdapterAttnProcessor2_0):  # type: ignore[misc]
    """Processor of a cross-attention to a text and to reference pictures.

    Outside a run of the provider it does what diffusers' processor does.

    Args:
        stock: diffusers' processor with the adapter's weights, which this one takes the place of.

    Attributes:
        references: what to attend to during the UNet call that is under way, beside the text.
    """

    def __init__(self, stock: IPAdapterAttnProcessor2_0) -> None:
        torch.nn.Module.__init__(self)
        self.hidden_size = stock.hidden_size
        self.cross_attention_dim = stock.cross_attention_dim
        self.num_tokens = stock.num_tokens
        self.scale = stock.scale
        self.to_k_ip = stock.to_k_ip
        self.to_v_ip = stock.to_v_ip
        self.text = None
        self.references: Sequence[AttendedReferences] = ()

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
        ip_adapter_masks: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        if self.text is None:
            stock: torch.Tensor = IPAdapterAttnProcessor2_0.__call__(
                self,
                attention,
                hidden_states,
                encoder_hidden_states,
                attention_mask,
                temb,
                ip_adapter_masks=ip_adapter_masks,
            )
            return stock
        query = split_heads(attention, attention.to_q(hidden_states))
        attended = scaled_dot_product_attention(query, *self.text)
        for one in self.references:
            part = scaled_dot_product_attention(query, one.keys, one.values)
            attended = attended.add(part if one.mask is None else part * one.mask, alpha=one.scale)
        return project_out(attention, attended)


def project_references(
    unet: UNet2DConditionModel,
    scales: Mapping[str, float],
    tokens: torch.Tensor,
    masks: Sequence[torch.Tensor],
    latent_size: Size,
) -> list[list[AttendedReferences]]:
    """Project tokens of reference pictures for every cross-attention.

    Args:
        unet: the network with the adapter.
        scales: of every layer, by the name of its processor. A layer of scale 0 attends to nothing.
        tokens: (rows, N, T, D) of N pictures per row.
        masks: for every row (N, H, W) where its pictures act, or nothing where all act everywhere. Pictures without
            masks share one softmax; with masks each has its own.
        latent_size: rows and columns of the latents.

    Returns:
        What each layer attends to, in the order of `scales`.
    """
    levels = len(unet.config.block_out_channels)
    with weights_in_place(unet):
        tokens = tokens.to(device_of(unet), unet.conv_in.weight.dtype)
        parts = tokens.unbind(1) if masks else [tokens.flatten(1, 2)]
        layers: list[list[AttendedReferences]] = []
        resized: dict[int, torch.Tensor] = {}
        for name, scale in scales.items():
            if scale == 0:
                layers.append([])
                continue
            attention = unet.get_submodule(name.removesuffix(".processor"))
            (to_k,), (to_v,) = attention.processor.to_k_ip, attention.processor.to_v_ip
            height, width = layer_size(name, latent_size, levels)
            if masks and height * width not in resized:
                resized[height * width] = _resize(masks, height * width)
            layer = []
            for index, part in enumerate(parts):
                keys, values = split_heads(attention, to_k(part)), split_heads(attention, to_v(part))
                mask = resized[height * width][index].to(keys.device, keys.dtype) if masks else None
                layer.append(AttendedReferences(keys, values, scale, mask))
            layers.append(layer)
    return layers


@contextmanager
def attending_to_references(
    processors: Sequence[ReferenceAttention], layers: Sequence[Sequence[AttendedReferences]]
) -> Iterator[None]:
    """Let processors attend to reference pictures for the UNet call inside the `with` block."""
    try:
        for processor, references in zip(processors, layers, strict=True):
            processor.references = references
        yield
    finally:
        for processor in processors:
            processor.references = ()


def _resize(masks: Sequence[torch.Tensor], cells: int) -> torch.Tensor:
    # Masks (N, H, W) of every row to (N, rows, 1, cells, 1), as diffusers' processor lays them over its queries.
    resized = [IPAdapterMaskProcessor.downsample(one, len(one), cells, 1) for one in masks]
    return torch.stack(resized, dim=1).unsqueeze(2)
