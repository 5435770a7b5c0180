"""MIGC's block: what it adds to one cross-attention layer of the UNet.

Every instance is shaded on its own (cross-attention to its phrase plus enhancement attention), a layout attention ties
the picture together, and the shading aggregation weighs all of them per cell. Source: MIGC, arXiv 2402.05408.

Rows are as in layout.py: B captions, the P instances of all images, B layouts. Modules are named as in the published
file, so that weights load without renaming.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from amdm_framework.models.unet_layers import Size

from .layout import InstanceRows, LayerLayout

HEADS = 8
"""Heads of both attentions inside a block, whatever the UNet's own number is."""

TEMPERATURE = 100.0


def embed_boxes(boxes: torch.Tensor, frequencies: int) -> torch.Tensor:
    """Return sines and cosines of box coordinates at frequencies 100^(j / frequencies), without a factor 2 pi.

    Args:
        boxes: (P, 4) float32 in the order xmin, xmax, ymin, ymax.
        frequencies: how many.

    Returns:
        (P, 8 * frequencies): for every frequency four sines, then four cosines.
    """
    scales = TEMPERATURE ** (torch.arange(frequencies, device=boxes.device) / frequencies)
    angles = scales[:, None] * boxes[:, None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


class PositionNet(nn.Module):
    """Turns boxes into tokens of the text's width."""

    def __init__(self, inputs: int, hidden: int, width: int) -> None:
        super().__init__()
        self.linears_position = nn.Sequential(
            nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, width)
        )
        self.frequencies = inputs // 8

    def forward(self, boxes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return tokens (P, width) in `dtype` for boxes (P, 4) float32 in the order xmin, xmax, ymin, ymax."""
        return self.linears_position(embed_boxes(boxes, self.frequencies).to(dtype))


@dataclass(frozen=True)
class EnhancementTokens:
    """Keys and values of the enhancement attention, which has two tokens per instance: its phrase and its box.

    A softmax over two scores is a sigmoid of their difference, so differences are all that is needed.

    Attributes:
        key_difference: (P, heads, d) key of the phrase minus key of the box, times the attention's scale.
        box_value: (P, heads, d).
        value_difference: (P, heads, d) value of the phrase minus value of the box.
    """

    key_difference: torch.Tensor
    box_value: torch.Tensor
    value_difference: torch.Tensor


class EnhancementAttention(nn.Module):
    """Attention of the picture to an instance's phrase and box."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(width, channels, bias=False)
        self.to_v = nn.Linear(width, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def prepare(self, phrases: torch.Tensor, boxes: torch.Tensor) -> EnhancementTokens:
        """Project the tokens of P instances: pooled phrases (P, D) and box tokens (P, D)."""
        phrase_key, box_key, phrase_value, box_value = (
            projection(tokens).unflatten(-1, (HEADS, -1))
            for projection in (self.to_k, self.to_v)
            for tokens in (phrases, boxes)
        )
        scale = 1 / math.sqrt(box_key.shape[-1])
        return EnhancementTokens((phrase_key - box_key) * scale, box_value, phrase_value - box_value)

    def phrase_share(
        self, features: torch.Tensor, tokens: EnhancementTokens, image_of_instance: torch.Tensor
    ) -> torch.Tensor:
        """Return how much of every cell's attention goes to the phrase rather than the box, (P, hw, heads)."""
        query = self.to_q(features).unflatten(-1, (HEADS, -1))
        return (query[image_of_instance] * tokens.key_difference[:, None]).sum(-1).sigmoid()

    def forward(
        self, features: torch.Tensor, tokens: EnhancementTokens, image_of_instance: torch.Tensor
    ) -> torch.Tensor:
        """Attend from normalised features (B, hw, C) to every instance's tokens; returns (P, hw, C)."""
        share = self.phrase_share(features, tokens, image_of_instance)[..., None]
        mixed = tokens.box_value[:, None] + share * tokens.value_difference[:, None]
        return self.to_out[0](mixed.flatten(2))


class LayoutAttention(nn.Module):
    """Self-attention of the picture in which cells see only cells of their own regions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, features: torch.Tensor, permissions: torch.Tensor) -> torch.Tensor:
        """Attend within features (B, hw, C) where `permissions` (B, 1, hw, hw) says so; returns (B, hw, C)."""
        query, key, value = (
            projection(features).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for projection in (self.to_q, self.to_k, self.to_v)
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=permissions)
        return self.to_out[0](attended.transpose(1, 2).flatten(2))


class ChannelGate(nn.Module):
    """Weighs channels by their mean and their maximum over the picture."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        score = self.mlp(maps.mean((2, 3))) + self.mlp(maps.amax((2, 3)))
        return maps * score.sigmoid()[:, :, None, None]


class SpatialGate(nn.Module):
    """Weighs cells by their maximum and their mean over the channels."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.spatial = nn.ModuleDict({"conv": nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)})

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        summary = torch.cat([maps.amax(1, keepdim=True), maps.mean(1, keepdim=True)], dim=1)
        return maps * self.spatial["conv"](summary).sigmoid()


class CBAM(nn.Sequential):
    """Convolutional block attention (arXiv 1807.06521) on (R, c, h, w): a channel gate, then a spatial gate."""

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels, hidden)
        self.SpatialGate = SpatialGate(kernel)


@dataclass(frozen=True)
class BlockSizes:
    """Sizes of a block, as its weights have them.

    Attributes:
        channels: C of the layer.
        width: D of the text.
        box_inputs: width of the box embedding.
        box_hidden: hidden width of the position net.
        channel_hidden: hidden width of the channel gate over C channels.
        phases: depth of the stack in which all phases are mixed.
        phase_hidden: hidden width of the channel gate over that stack.
        kernels: side of the spatial gates' kernels, over channels and over phases.
    """

    channels: int
    width: int
    box_inputs: int
    box_hidden: int
    channel_hidden: int
    phases: int
    phase_hidden: int
    kernels: tuple[int, int]


class ShadingAggregation(nn.Module):
    """Scores every phase at every cell."""

    def __init__(self, sizes: BlockSizes) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(sizes.channels + 1, sizes.channels, 1)
        self.cbam1 = CBAM(sizes.channels, sizes.channel_hidden, sizes.kernels[0])
        self.conv2 = nn.Conv2d(sizes.channels, 1, 1)
        self.cbam2 = CBAM(sizes.phases, sizes.phase_hidden, sizes.kernels[1])

    def score(self, features: torch.Tensor, guides: torch.Tensor, size: Size) -> torch.Tensor:
        """Score phases one by one: features (R, hw, C) and guides (R, hw, 1) give (R, h, w)."""
        maps = torch.cat([features, guides], dim=-1).transpose(1, 2).unflatten(2, size)
        return self.conv2(self.cbam1(self.conv1(maps)))[:, 0]

    def mix(self, scores: torch.Tensor, null_stacks: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """Mix the scores of every image's phases with each other.

        Args:
            scores: (R, h, w).
            null_stacks: (B, phases, h, w) the score of a phase without features and guide, in every slot.
            slots: (R,) int64, where each phase stands in the B stacks, laid end to end.

        Returns:
            (R, h, w).
        """
        stacks = null_stacks.flatten(0, 1).index_copy(0, slots, scores)
        return self.cbam2(stacks.view_as(null_stacks)).flatten(0, 1)[slots]


@dataclass(frozen=True)
class BlockConstants:
    """What one block computes once per run.

    Attributes:
        tokens: keys and values of the enhancement attention.
        null_stacks: (B, phases, h, w) stacks in which every slot is free.
    """

    tokens: EnhancementTokens
    null_stacks: torch.Tensor


class MIGCBlock(nn.Module):
    """All that MIGC adds to one cross-attention layer."""

    def __init__(self, sizes: BlockSizes) -> None:
        super().__init__()
        self.phases = sizes.phases
        self.norm = nn.LayerNorm(sizes.channels)
        self.ea = EnhancementAttention(sizes.channels, sizes.width)
        self.la = LayoutAttention(sizes.channels)
        self.sac = ShadingAggregation(sizes)
        self.pos_net = PositionNet(sizes.box_inputs, sizes.box_hidden, sizes.width)

    def prepare(self, phrases: torch.Tensor, boxes: torch.Tensor, images: int, size: Size) -> BlockConstants:
        """Compute what depends on neither features nor step.

        Args:
            phrases: (P, D) pooled text vectors, in the block's dtype.
            boxes: (P, 4) float32 in the order xmin, xmax, ymin, ymax.
            images: B.
            size: h, w of the layer.
        """
        nothing = phrases.new_zeros(1, size[0] * size[1], self.norm.normalized_shape[0])
        null_score = self.sac.score(nothing, nothing[..., :1], size)
        return BlockConstants(
            tokens=self.ea.prepare(phrases, self.pos_net(boxes, phrases.dtype)),
            null_stacks=null_score.expand(images, self.phases, *size),
        )

    def phase_weights(
        self,
        phases: torch.Tensor,
        rows: InstanceRows,
        layout: LayerLayout,
        constants: BlockConstants,
        slots: torch.Tensor,
    ) -> torch.Tensor:
        """Return the weight of every image's phases at every cell, (B, N + 2, hw) float32, summing to 1."""
        scores = self.sac.mix(self.sac.score(phases, layout.guides, layout.size), constants.null_stacks, slots)
        scores = scores.flatten(1).float() * layout.score_weights
        return scores[rows.phases].masked_fill(rows.absent, -math.inf).softmax(1)

    def forward(
        self,
        shaded: torch.Tensor,
        features: torch.Tensor,
        rows: InstanceRows,
        layout: LayerLayout,
        constants: BlockConstants,
        slots: torch.Tensor,
    ) -> torch.Tensor:
        """Fuse the shading of captions and instances.

        Args:
            shaded: (B + P, hw, C) the layer's cross-attention to every caption and phrase.
            features: (B, hw, C) the layer's input.
            rows: how images and instances are laid out.
            layout: where they lie in this layer.
            constants: what `prepare` returned.
            slots: (2 B + P,) int64 where every phase stands in the stacks.

        Returns:
            (B, hw, C); images without instances keep the shading of their caption.
        """
        images = len(rows.counts)
        captions, instances = shaded[:images], shaded[images:]
        enhanced = self.ea(self.norm(features), constants.tokens, rows.image_of_instance)
        phases = torch.cat(
            [
                layout.guides[:images] * captions,
                layout.shading_weights * instances + layout.enhancement_weights * enhanced,
                self.la(features, layout.permissions),
            ]
        )
        weights = self.phase_weights(phases, rows, layout, constants, slots).to(phases.dtype)
        fused = (phases[rows.phases] * weights[..., None]).sum(1)
        return fused if rows.bare is None else torch.where(rows.bare, captions, fused)
