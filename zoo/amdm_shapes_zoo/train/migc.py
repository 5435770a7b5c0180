"""Trains the miniature MIGC: its blocks in every cross-attention of the frozen base model.

It sees boxes and phrases with colours, on pictures without interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from amdm_framework.models.rows import Rows
from amdm_plugin_migc.attention import FusionSchedule, InstanceAttention, InstanceRun, cross_attentions
from amdm_plugin_migc.condition import MIGCCondition
from amdm_plugin_migc.modules import BlockSizes, MIGCBlock
from amdm_shapes_zoo.architecture import LATENT_SIZE, TEXT_WIDTH
from amdm_shapes_zoo.captions import full_description
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.sampling import decode_latents
from amdm_shapes_zoo.train.common import write_sheet
from amdm_shapes_zoo.train.embedded import Base
from amdm_shapes_zoo.train.loop import Losses, TrainingSettings, train
from amdm_shapes_zoo.train.noise import inside_weights, noise_loss, shares_of_groups
from amdm_shapes_zoo.train.pool import Pool
from amdm_shapes_zoo.train.sheets import interleave, sample_guided
from amdm_shapes_zoo.world import (
    COLOUR_NAMES,
    HELD_OUT_SEED,
    MAX_INSTANCES,
    NO_ACTION,
    PICTURE_SIZE,
    SHAPES,
    Layouts,
    sample_layouts,
)

_EMPTY = 0.1
_FREQUENCIES = 8
_BOX_HIDDEN = 128
_KERNELS = (3, 3)
_INSIDE_WEIGHT = 2.0


@dataclass(frozen=True)
class MIGCSettings(TrainingSettings):
    """Settings of the miniature MIGC's training."""

    steps: int = 2500
    batch: int = 32
    rate: float = 2e-3
    shares: tuple[float, ...] = (0.2, 0.3, 0.3, 0.2)
    """Shares of pictures with one to four instances."""


class MIGCNetworks(nn.Module):
    """What is trained, installed in the base model's UNet, which is not."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        blocks = {}
        for name, attention in cross_attentions(base.unet).items():
            channels = attention.to_q.in_features
            block = MIGCBlock(
                BlockSizes(
                    channels=channels,
                    width=TEXT_WIDTH,
                    box_inputs=8 * _FREQUENCIES,
                    box_hidden=_BOX_HIDDEN,
                    channel_hidden=channels // 4,
                    phases=MAX_INSTANCES + 2,
                    phase_hidden=MAX_INSTANCES + 2,
                    kernels=_KERNELS,
                )
            )
            for attention_output in (block.ea.to_out[0], block.la.to_out[0]):
                nn.init.zeros_(attention_output.weight)
                nn.init.zeros_(attention_output.bias)
            blocks[name] = block.to(base.device)
        self.layers = list(blocks)
        self.blocks = nn.ModuleList(blocks.values())
        self.attention = InstanceAttention(base.unet, blocks, FusionSchedule(migc_steps=0, naive_fuser_steps=-1))

    def by_layer(self) -> dict[str, nn.Module]:
        """Blocks by the name of their cross-attention."""
        return dict(zip(self.layers, self.blocks, strict=True))


class InstanceTexts:
    """States and pooled features of the phrases `red circle`, ..., by colour and shape."""

    def __init__(self, base: Base) -> None:
        self.phrases = [f"{colour} {shape}" for colour in COLOUR_NAMES for shape in SHAPES]
        self.states, self.pooled = base.states(self.phrases), base.pooled(self.phrases)


def run_of(
    networks: MIGCNetworks, texts: InstanceTexts, layouts: Layouts, device: torch.device, seed: int
) -> InstanceRun:
    """What the cross-attentions need for one evaluation of B pictures.

    Args:
        networks: the blocks.
        texts: of the phrases.
        layouts: B pictures.
        device: of the UNet.
        seed: of the order in which instances enter the aggregation.
    """
    owners, instances = np.nonzero(layouts.present)
    places = layouts.colour[owners, instances] * len(SHAPES) + layouts.shape[owners, instances]
    boxes = layouts.boxes[owners, instances].tolist()
    named = [
        {"phrase": texts.phrases[place], "box": tuple(box)} for place, box in zip(places.tolist(), boxes, strict=True)
    ]
    conditions = [
        MIGCCondition(instances=tuple(one for one, owner in zip(named, owners, strict=True) if owner == index))
        for index in range(len(layouts))
    ]
    generator = torch.Generator().manual_seed(seed)
    slots, layers = networks.attention.depth - 2, len(networks.layers)
    orders = torch.rand(len(layouts), layers, slots, generator=generator).argsort(dim=-1)
    chosen = torch.from_numpy(places).to(device)
    return networks.attention.prepare(
        conditions,
        texts.states[chosen],
        texts.pooled[chosen],
        list(orders),
        PICTURE_SIZE,
        PICTURE_SIZE,
        (LATENT_SIZE, LATENT_SIZE),
    )


def caption_of(layouts: Layouts, index: int, with_style: bool) -> str:
    """The caption without positions and interaction."""
    return full_description(layouts, index).without(positions=True, background=not with_style, action=True).text()


def train_migc(
    settings: MIGCSettings, base: Base, pool: Pool, latents: torch.Tensor, checkpoints: Path, sheets: bool
) -> tuple[MIGCNetworks, dict[str, Any]]:
    """Train to the end, going on from the last checkpoint; returns the averaged blocks and card facts.

    Args:
        settings: what to do.
        base: the model; its UNet's cross-attentions are changed.
        pool: pictures.
        latents: (N, channels, height, width) scaled latents of the pool.
        checkpoints: folder of the checkpoint and the sheets.
        sheets: whether to write sample sheets.
    """
    torch.manual_seed(settings.seed)
    networks, texts = MIGCNetworks(base), InstanceTexts(base)
    without_action = np.flatnonzero(pool.layouts.action == NO_ACTION)
    shares = shares_of_groups(pool.layouts[without_action].counts() - 1, settings.shares)

    def losses_of(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.choice(without_action, size=settings.batch, p=shares)
        seen = pool.layouts[indices]
        captions = [
            "" if rng.random() < _EMPTY else caption_of(seen, index, rng.random() < 0.5)
            for index in range(settings.batch)
        ]
        states = base.states(captions)
        run = run_of(networks, texts, seen, base.device, int(rng.integers(2**62)))
        weights = inside_weights(seen, _INSIDE_WEIGHT).to(base.device)

        def predict(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            with networks.attention.during(run, 0, Rows.CONDITIONAL):
                prediction: torch.Tensor = base.unet(noisy, timesteps, states).sample
            return prediction

        chosen = latents[torch.from_numpy(indices)].to(base.device)
        return noise_loss(predict, base.scheduler, chosen, generator, weights), {}

    def sheet(path: Path) -> None:
        write_migc_sheet(networks, texts, base, path)

    facts = train("migc", networks, settings, losses_of, sheet if sheets else None, checkpoints, base.device)
    return networks, facts


def write_migc_sheet(
    networks: MIGCNetworks, texts: InstanceTexts, base: Base, path: Path, rows: int = 2, columns: int = 12
) -> None:
    """Write rendered scenes that no training has seen, each row above what the model makes of it."""
    layouts = sample_layouts(400, HELD_OUT_SEED - 1)
    layouts = layouts[np.flatnonzero((layouts.action == NO_ACTION) & (layouts.counts() > 1))[: rows * columns]]
    captions = [caption_of(layouts, index, with_style=True) for index in range(len(layouts))]
    states = torch.cat([base.states([""]).expand(len(layouts), -1, -1), base.states(captions)])
    run = run_of(networks, texts, layouts, base.device, seed=0)

    def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        with networks.attention.during(run, 0, Rows.BOTH):
            prediction: torch.Tensor = base.unet(noisy, timestep, states).sample
        return prediction

    drawn = decode_latents(base.vae, sample_guided(predict, base, len(layouts)))
    write_sheet(path, interleave(render(layouts), drawn, columns), columns)
