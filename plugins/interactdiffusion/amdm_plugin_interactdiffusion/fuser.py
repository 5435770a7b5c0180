"""The gated self-attention through which grounding tokens enter a UNet, with their keys and values made once per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock, GatedSelfAttentionDense
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
"""(B, heads, grounding tokens, head width) each."""


@dataclass(frozen=True)
class Grounding:
    """What the fusers of a UNet attend to during one evaluation.

    Attributes:
        keys_and_values: one entry per fuser, in the order of `fusers_of`.
        strength: factor of both gated residuals, 1 as trained.
    """

    keys_and_values: Sequence[KeysAndValues]
    strength: float


class Fuser(GatedSelfAttentionDense):
    """Gated self-attention over image tokens x and grounding tokens g:

        x = x + s tanh(alpha_attn) Attention(LayerNorm([x ; Linear(g)]))[image tokens]
        x = x + s tanh(alpha_dense) FeedForward(LayerNorm(x))

    The modules are those of diffusers' layer. The keys and values of g depend on neither the latents nor the timestep,
    and their queries are discarded, so `project` computes them once and `forward` lets image tokens alone ask.

    Args:
        query_dim: channels of the image tokens.
        context_dim: width of a grounding token.
        n_heads: number of attention heads.
        d_head: width of a head.
        index: position of this fuser among those of its UNet.
    """

    def __init__(self, query_dim: int, context_dim: int, n_heads: int, d_head: int, index: int = 0) -> None:
        super().__init__(query_dim, context_dim, n_heads, d_head)
        self.index = index

    def project(self, tokens: torch.Tensor) -> KeysAndValues:
        """Return the keys and values of grounding tokens (B, N, token width)."""
        normed = self.norm1(self.linear(tokens))
        return self._split_heads(self.attn.to_k(normed)), self._split_heads(self.attn.to_v(normed))

    def forward(self, x: torch.Tensor, objs: Grounding) -> torch.Tensor:
        """Mix grounding into image tokens.

        Args:
            x: (B, H W, channels).
            objs: keys and values of B images, as `project` returns them. The name is given by diffusers' UNet.
        """
        normed = self.norm1(x)
        grounding_keys, grounding_values = objs.keys_and_values[self.index]
        keys = torch.cat([self._split_heads(self.attn.to_k(normed)), grounding_keys], dim=2)
        values = torch.cat([self._split_heads(self.attn.to_v(normed)), grounding_values], dim=2)
        attended = scaled_dot_product_attention(self._split_heads(self.attn.to_q(normed)), keys, values)
        attended = self.attn.to_out[0](attended.transpose(1, 2).flatten(2))
        x = x + objs.strength * self.alpha_attn.tanh() * attended
        return x + objs.strength * self.alpha_dense.tanh() * self.ff(self.norm2(x))

    def _split_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, _ = tokens.shape
        return tokens.view(batch, count, self.attn.heads, -1).transpose(1, 2)


class _PassThrough(nn.Module):
    """Stands where diffusers' UNet calls its position net at every evaluation; ours has run before the first."""

    def forward(self, objs: Grounding) -> Grounding:
        return objs


def install_fusers(unet: UNet2DConditionModel, token_width: int) -> None:
    """Give every transformer block of a UNet a fuser with uninitialised weights on the block's device.

    Afterwards `unet(..., cross_attention_kwargs={"gligen": {"objs": grounding}})` grounds; without the argument the
    fusers are not called, which equals strength 0.

    Args:
        unet: a UNet without fusers; it is changed in place.
        token_width: width of a grounding token.
    """
    blocks = [block for block in unet.modules() if isinstance(block, BasicTransformerBlock)]
    for index, block in enumerate(blocks):
        attention = block.attn1
        weight = attention.to_q.weight
        with torch.device(weight.device):
            fuser = Fuser(block.dim, token_width, attention.heads, weight.shape[0] // attention.heads, index)
        block.fuser = fuser.to(weight.dtype).eval().requires_grad_(False)
    unet.position_net = _PassThrough()


def fusers_of(unet: UNet2DConditionModel) -> list[Fuser]:
    """Return the fusers of a UNet, each at the place its `index` says."""
    return [module for module in unet.modules() if isinstance(module, Fuser)]


def project_grounding(unet: UNet2DConditionModel, tokens: torch.Tensor) -> list[KeysAndValues]:
    """Return the keys and values of grounding tokens (B, N, token width) for every fuser of a UNet."""
    return [fuser.project(tokens) for fuser in fusers_of(unet)]
