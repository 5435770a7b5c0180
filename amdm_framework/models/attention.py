"""Attention of a UNet at inference: keys and values of a text are made once per run, and what has no effect is left out.

diffusers' stock attention projects the text anew at every step, inspects the signature of its processor at every call,
and ends with a division by 1 over all image tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch.nn.functional import scaled_dot_product_attention

from ..devices import device_of
from .offload import weights_in_place
from .rows import Rows

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
"""(rows, heads, tokens, head width) each."""


class InferenceAttention:
    """Processor of the attention layers inside a transformer block.

    Attributes:
        text: keys and values to attend to during the UNet call that is under way. None between calls: then the layer
            projects what it is given, as diffusers' processor does.
    """

    text: KeysAndValues | None

    def __init__(self) -> None:
        super().__init__()  # of `torch.nn.Module`, where a processor with weights derives from both
        self.text = None

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if attention_mask is not None:
            stock: torch.Tensor = AttnProcessor2_0()(attention, hidden_states, encoder_hidden_states, attention_mask)
            return stock
        query = split_heads(attention, attention.to_q(hidden_states))
        if self.text is not None:
            keys, values = self.text
        else:
            attended = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            keys, values = keys_and_values(attention, attended)
        return project_out(attention, scaled_dot_product_attention(query, keys, values))


class DirectAttention(Attention):  # type: ignore[misc]
    """diffusers' attention layer, which hands over to its processor at once."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **arguments: Any,
    ) -> torch.Tensor:
        if arguments:
            # Which of them are for this layer's processor is what the signature is inspected for.
            inspected: torch.Tensor = super().forward(hidden_states, encoder_hidden_states, attention_mask, **arguments)
            return inspected
        result: torch.Tensor = self.processor(
            self, hidden_states, encoder_hidden_states=encoder_hidden_states, attention_mask=attention_mask
        )
        return result


def install_attention(unet: UNet2DConditionModel) -> list[Attention]:
    """Make a UNet's transformer blocks use `InferenceAttention`; processors that others have set stay.

    Args:
        unet: is changed in place; names and weights stay as they are.

    Returns:
        The cross-attentions that can attend to given keys and values, in the order of `unet.modules()`.
    """
    cross_attentions = []
    for block in unet.modules():
        if not isinstance(block, BasicTransformerBlock):
            continue
        for attention in (block.attn1, block.attn2):
            if attention is None:
                continue
            # Only a transformer block makes its attentions without norms, residuals and rescaling of their own.
            if type(attention) is Attention:
                attention.__class__ = DirectAttention
            if type(attention.processor) is AttnProcessor2_0:
                attention.set_processor(InferenceAttention())
        if block.attn2 is not None and isinstance(block.attn2.processor, InferenceAttention):
            cross_attentions.append(block.attn2)
    return cross_attentions


def project_text(
    unet: UNet2DConditionModel, cross_attentions: Sequence[Attention], states: torch.Tensor
) -> list[KeysAndValues]:
    """Return the keys and values of text states (rows, tokens, width) for every cross-attention of a UNet.

    The projections are called, not their weights used: they may be wrapped (LoRA) or offloaded.
    """
    with weights_in_place(unet):
        states = states.to(device_of(unet), unet.conv_in.weight.dtype)
        return [keys_and_values(attention, states) for attention in cross_attentions]


def by_rows(layers: Sequence[KeysAndValues], images: int, guided: bool) -> dict[Rows, list[KeysAndValues]]:
    """Return views for every kind of UNet call.

    Args:
        layers: keys and values of [unconditional rows, conditional rows], or of conditional rows only.
        images: number of images.
        guided: whether there are unconditional rows.
    """
    return {
        rows: [(rows.take(keys, images), rows.take(values, images)) for keys, values in layers]
        for rows in (Rows if guided else (Rows.CONDITIONAL,))
    }


@contextmanager
def attending_to(cross_attentions: Sequence[Attention], texts: Sequence[KeysAndValues]) -> Iterator[None]:
    """Let cross-attentions attend to keys and values for the UNet call inside the `with` block."""
    try:
        for attention, text in zip(cross_attentions, texts, strict=True):
            attention.processor.text = text
        yield
    finally:
        for attention in cross_attentions:
            attention.processor.text = None


def keys_and_values(attention: Any, states: torch.Tensor) -> KeysAndValues:
    """Project states (rows, tokens, width) with an attention layer's own projections."""
    return split_heads(attention, attention.to_k(states)), split_heads(attention, attention.to_v(states))


def split_heads(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return tokens (rows, tokens, channels) as (rows, heads, tokens, head width)."""
    rows, count, _ = tokens.shape
    return tokens.view(rows, count, attention.heads, -1).transpose(1, 2)


def project_out(attention: Any, attended: torch.Tensor) -> torch.Tensor:
    """Join heads (rows, heads, tokens, head width) and project them to (rows, tokens, channels)."""
    projected: torch.Tensor = attention.to_out[0](attended.transpose(1, 2).flatten(2))
    return projected
