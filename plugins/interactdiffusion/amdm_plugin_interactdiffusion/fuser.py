"""The gated self-attention through which grounding tokens enter a UNet, with their keys and values made once per run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock, GatedSelfAttentionDense
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from amdm_framework.devices import device_of
from amdm_framework.models.attention import KeysAndValues, keys_and_values, project_out, split_heads
from amdm_framework.models.offload import weights_in_place


@dataclass(frozen=True)
class FuserGrounding:
    """What one fuser needs in one UNet call.

    Attributes:
        keys: (B, heads, grounding tokens, head width).
        values: likewise.
        attention_gate: factor of the attention's residual, a tensor without dimensions.
        dense_gate: factor of the feed-forward's residual.
    """

    keys: torch.Tensor
    values: torch.Tensor
    attention_gate: torch.Tensor
    dense_gate: torch.Tensor


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

    Attributes:
        grounding: of the UNet call that is under way, see `grounded`; None between calls.
    """

    def __init__(self, query_dim: int, context_dim: int, n_heads: int, d_head: int) -> None:
        super().__init__(query_dim, context_dim, n_heads, d_head)
        self.grounding: FuserGrounding | None = None

    def project(self, tokens: torch.Tensor) -> KeysAndValues:
        """Return the keys and values of grounding tokens (B, N, token width)."""
        return keys_and_values(self.attn, self.norm1(self.linear(tokens)))

    def gates(self) -> torch.Tensor:
        """Return the factors (2,) of the attention's and the feed-forward's residual at strength 1."""
        with weights_in_place(self):
            return torch.stack([self.alpha_attn, self.alpha_dense]).tanh()

    def forward(self, x: torch.Tensor, objs: torch.Tensor) -> torch.Tensor:
        """Mix grounding into image tokens.

        Args:
            x: (B, H W, channels).
            objs: (B, N, token width) grounding tokens, which diffusers' UNet hands on. They are projected here, at
                strength 1, where no grounding was set; otherwise they are not looked at.
        """
        grounding = self.grounding
        if grounding is None:
            grounding = FuserGrounding(*self.project(objs), self.alpha_attn.tanh(), self.alpha_dense.tanh())
        normed = self.norm1(x)
        image_keys, image_values = keys_and_values(self.attn, normed)
        keys = torch.cat([image_keys, grounding.keys], dim=2)
        values = torch.cat([image_values, grounding.values], dim=2)
        query = split_heads(self.attn, self.attn.to_q(normed))
        attended = project_out(self.attn, scaled_dot_product_attention(query, keys, values))
        x = torch.addcmul(x, grounding.attention_gate, attended)
        return torch.addcmul(x, grounding.dense_gate, self.ff(self.norm2(x)))


class _PassThrough(nn.Module):
    """Stands where diffusers' UNet calls its position net at every evaluation; ours has run before the first."""

    def forward(self, objs: torch.Tensor) -> torch.Tensor:
        return objs


def install_fusers(unet: UNet2DConditionModel, token_width: int) -> None:
    """Give every transformer block of a UNet a fuser with uninitialised weights on the block's device.

    Afterwards `unet(..., cross_attention_kwargs={"gligen": {"objs": tokens}})` grounds; without the argument the fusers
    are not called, which equals strength 0.

    Args:
        unet: a UNet without fusers; it is changed in place.
        token_width: width of a grounding token.
    """
    blocks = [block for block in unet.modules() if isinstance(block, BasicTransformerBlock)]
    for block in blocks:
        attention = block.attn1
        weight = attention.to_q.weight
        with torch.device(weight.device):
            fuser = Fuser(block.dim, token_width, attention.heads, weight.shape[0] // attention.heads)
        block.fuser = fuser.to(weight.dtype).eval().requires_grad_(False)
    unet.position_net = _PassThrough()


def fusers_of(unet: UNet2DConditionModel) -> list[Fuser]:
    """Return the fusers of a UNet."""
    return [module for module in unet.modules() if isinstance(module, Fuser)]


@dataclass(frozen=True)
class ProjectedGrounding:
    """What the fusers of a UNet attend to, in the order of `fusers_of`.

    Attributes:
        keys_and_values: one entry per fuser.
        gates: (fusers, 2) at strength 1.
    """

    keys_and_values: Sequence[KeysAndValues]
    gates: torch.Tensor


def project_grounding(unet: UNet2DConditionModel, tokens: torch.Tensor) -> ProjectedGrounding:
    """Project grounding tokens (B, N, token width) for every fuser of a UNet."""
    fusers = fusers_of(unet)
    with weights_in_place(unet):
        tokens = tokens.to(device_of(unet))
        projected = [fuser.project(tokens) for fuser in fusers]
        return ProjectedGrounding(projected, torch.stack([fuser.gates() for fuser in fusers]))


@contextmanager
def grounded(
    fusers: Sequence[Fuser], keys_and_values: Sequence[KeysAndValues], gates: torch.Tensor, strength: float
) -> Iterator[None]:
    """Let fusers attend to projected grounding tokens for the UNet call inside the `with` block.

    Args:
        fusers: of a UNet.
        keys_and_values: for each of them, of as many rows as the call has.
        gates: of `ProjectedGrounding`.
        strength: factor of both gated residuals, 1 as trained.
    """
    scaled = (gates if strength == 1 else strength * gates).unbind()
    try:
        for fuser, (keys, values), own in zip(fusers, keys_and_values, scaled, strict=True):
            fuser.grounding = FuserGrounding(keys, values, *own.unbind())
        yield
    finally:
        for fuser in fusers:
            fuser.grounding = None
