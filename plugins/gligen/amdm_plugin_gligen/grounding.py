"""GLIGEN's own layers as diffusers has them, made to compute once per run what is constant in it.

diffusers' UNet runs its position net at every step, and every fuser projects the grounding tokens at every step. Here
the position net runs before the first step and the keys and values of its tokens are kept. Weights and the names of the
fusers' stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.models.embeddings import GLIGENTextBoundingboxProjection, get_fourier_embeds_from_boundingbox
from torch.nn.functional import scaled_dot_product_attention

from amdm_framework.devices import device_of
from amdm_framework.models.attention import (
    DirectAttention,
    InferenceAttention,
    KeysAndValues,
    keys_and_values,
    project_out,
    split_heads,
)
from amdm_framework.models.offload import weights_in_place


class PositionNet(GLIGENTextBoundingboxProjection):  # type: ignore[misc]
    """diffusers' position net, with Fourier features in float32 whatever the network computes in.

    Their highest frequency is 56, so that half precision would be off by up to 0.03.
    """

    def forward(self, boxes: torch.Tensor, used: torch.Tensor, phrases: torch.Tensor) -> torch.Tensor:
        """Return grounding tokens (B, N, token width).

        Args:
            boxes: (B, N, 4) float32, left, top, right, bottom as fractions.
            used: (B, N) bool. Where it is False the token is the null token, whatever box and phrase are.
            phrases: (B, N, text width) pooled features.
        """
        dtype = self.null_position_feature.dtype
        used = used.unsqueeze(-1)
        positions = get_fourier_embeds_from_boundingbox(self.fourier_embedder_dim, boxes).to(dtype)
        positions = torch.where(used, positions, self.null_position_feature)
        features = torch.where(used, phrases.to(dtype), self.null_positive_feature)
        tokens: torch.Tensor = self.linears(torch.cat([features, positions], dim=-1))
        return tokens


class _NothingToDo(torch.nn.Module):
    """Stands where diffusers' UNet calls its position net at every step; ours has run before the first."""

    def forward(self, objs: None) -> None:
        return objs


class Fuser(GatedSelfAttentionDense):  # type: ignore[misc]
    """diffusers' gated self-attention, whose attention knows the keys and values of the grounding tokens already."""

    def forward(self, x: torch.Tensor, objs: None) -> torch.Tensor:
        x = torch.addcmul(x, self.alpha_attn.tanh(), self.attn(self.norm1(x)))
        return torch.addcmul(x, self.alpha_dense.tanh(), self.ff(self.norm2(x)))


class FuserAttention(InferenceAttention):
    """Processor of a fuser's attention: image tokens attend to themselves and to the grounding tokens.

    Attributes:
        text: keys and values of the grounding tokens during the UNet call that is under way; None between calls.
    """

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        query = split_heads(attention, attention.to_q(hidden_states))
        keys, values = keys_and_values(attention, hidden_states)
        if self.text is not None:
            keys, values = torch.cat([keys, self.text[0]], dim=2), torch.cat([values, self.text[1]], dim=2)
        return project_out(attention, scaled_dot_product_attention(query, keys, values))


def fusers_of(unet: UNet2DConditionModel) -> list[GatedSelfAttentionDense]:
    """Return the fusers of a UNet, one per transformer block."""
    return [module for module in unet.modules() if isinstance(module, GatedSelfAttentionDense)]


def take_position_net(unet: UNet2DConditionModel) -> PositionNet:
    """Take the position net out of a gated UNet, and make its fusers take projected grounding tokens.

    Afterwards the UNet grounds where it is called with `cross_attention_kwargs={"gligen": {"objs": None}}` while
    `attending_to` holds keys and values for `fusers_of`; without the argument the fusers are not called.

    Args:
        unet: is changed in place.
    """
    for fuser in fusers_of(unet):
        fuser.__class__ = Fuser
        fuser.attn.__class__ = DirectAttention
        fuser.attn.set_processor(FuserAttention())
    position_net: PositionNet = unet.position_net
    position_net.__class__ = PositionNet
    unet.position_net = _NothingToDo().eval()
    return position_net


def project_tokens(unet: UNet2DConditionModel, tokens: torch.Tensor) -> Sequence[KeysAndValues]:
    """Return the keys and values of grounding tokens (rows, N, token width) for every fuser of a UNet."""
    with weights_in_place(unet):
        tokens = tokens.to(device_of(unet))
        return [keys_and_values(fuser.attn, fuser.norm1(fuser.linear(tokens))) for fuser in fusers_of(unet)]
