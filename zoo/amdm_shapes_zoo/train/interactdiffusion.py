"""Trains the miniature InteractDiffusion: the whole UNet with its fusers, and the position net.

It learns layout, shapes and interactions, and no colours: colour words of phrases are random, those of captions are
exchanged between instances. So a caption still tells which colours there are, but not whose they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch import nn

from amdm_plugin_interactdiffusion.condition import ACTION_OF_LONE_INSTANCES
from amdm_plugin_interactdiffusion.fuser import fusers_of, install_fusers
from amdm_plugin_interactdiffusion.grounding_tokens import GroundingTokenizer
from amdm_shapes_zoo.architecture import TEXT_WIDTH
from amdm_shapes_zoo.captions import Description, full_description
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.sampling import decode_latents
from amdm_shapes_zoo.train.common import write_sheet
from amdm_shapes_zoo.train.embedded import Base
from amdm_shapes_zoo.train.loop import Losses, TrainingSettings, train
from amdm_shapes_zoo.train.noise import inside_weights, noise_loss, shares_of_groups
from amdm_shapes_zoo.train.pool import Pool
from amdm_shapes_zoo.train.sheets import interleave, sample_guided
from amdm_shapes_zoo.world import (
    ACTIONS,
    COLOUR_NAMES,
    HELD_OUT_SEED,
    MAX_INSTANCES,
    NO_ACTION,
    SHAPES,
    Layouts,
    sample_layouts,
)

_HIDDEN_WIDTH = 256
_FIRST_GATE = 0.8
_INSIDE_WEIGHT = 2.0


@dataclass(frozen=True)
class InteractDiffusionSettings(TrainingSettings):
    """Settings of the miniature InteractDiffusion's training."""

    steps: int = 7500
    batch: int = 32
    rate: float = 1e-3
    shares: tuple[float, ...] = (0.10, 0.17, 0.13, 0.10, 0.26, 0.16, 0.08)
    """Shares of pictures with one to four instances and no interaction, then with two to four and an interaction."""
    empty: float = 0.1
    """Share of pictures shown with neither caption nor grounding, for classifier-free guidance."""
    empty_captions: float = 0.35
    """Share of the others shown without caption, so that the grounding has to tell shapes and actions."""


@dataclass(frozen=True)
class GroundingBatch:
    """Interactions of B pictures in at most MAX_INSTANCES slots, as the position net takes them.

    Attributes:
        boxes: (B, slots, 2, 4) of subjects and objects.
        phrases: (B, slots, 3) places of subject, object and action in a table of pooled features.
        used: (B, slots).
    """

    boxes: NDArray[np.float64]
    phrases: NDArray[np.int64]
    used: NDArray[np.bool_]


class InteractDiffusionNetworks(nn.Module):
    """What is trained."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        # A copy, since all of it is trained.
        self.unet: UNet2DConditionModel = UNet2DConditionModel.from_config(base.unet.config)
        self.unet.load_state_dict(base.unet.state_dict())
        install_fusers(self.unet, TEXT_WIDTH)
        self.grounding_tokenizer = GroundingTokenizer(
            TEXT_WIDTH, TEXT_WIDTH, slots=MAX_INSTANCES, hidden_width=_HIDDEN_WIDTH
        )
        with torch.no_grad():
            for fuser in fusers_of(self.unet):
                # Open gates before silent outputs start as nothing, too, but learn sooner than closed gates.
                fuser.alpha_attn.fill_(_FIRST_GATE)
                fuser.alpha_dense.fill_(_FIRST_GATE)
                for layer in (fuser.attn.to_out[0], fuser.ff.net[-1]):
                    layer.weight.zero_()
                    layer.bias.zero_()
            for table in (self.grounding_tokenizer.interaction_embedding, self.grounding_tokenizer.position_embedding):
                table.emb.weight.normal_(std=0.5)
        self.train().requires_grad_(True)

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, states: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """Predicted noise for grounding tokens (B, 3 slots, width)."""
        prediction: torch.Tensor = self.unet(
            latents, timesteps, states, cross_attention_kwargs={"gligen": {"objs": tokens}}
        ).sample
        return prediction


class Phrases:
    """Pooled features of every phrase that training uses: (1 + colours) x shapes, then the actions."""

    def __init__(self, base: Base) -> None:
        self.actions = (*ACTIONS, ACTION_OF_LONE_INSTANCES)
        nouns = [f"{colour} {shape}".strip() for colour in ("", *COLOUR_NAMES) for shape in SHAPES]
        self.table = base.pooled([*nouns, *self.actions])

    def noun(self, shape: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Places of phrases for shapes, half of them with a colour word that says nothing."""
        colour = rng.integers(1, len(COLOUR_NAMES) + 1, size=shape.shape) * (rng.random(shape.shape) < 0.5)
        return colour * len(SHAPES) + shape

    def action(self, name: str) -> int:
        """Place of an action's phrase."""
        return len(self.table) - len(self.actions) + self.actions.index(name)


def grounding_of(layouts: Layouts, nouns: NDArray[np.int64], phrases: Phrases) -> GroundingBatch:
    """What stands where: the interaction first, then every instance that takes part in none, on its own.

    Args:
        layouts: B pictures.
        nouns: (B, MAX_INSTANCES) places of the instances' phrases.
        phrases: the table.
    """
    count = len(layouts)
    boxes, used = np.zeros((count, MAX_INSTANCES, 2, 4)), np.zeros((count, MAX_INSTANCES), dtype=bool)
    places = np.zeros((count, MAX_INSTANCES, 3), dtype=np.int64)
    for index in range(count):
        pairs = [(k, k, ACTION_OF_LONE_INSTANCES) for k in range(int(layouts.present[index].sum()))]
        if layouts.action[index] != NO_ACTION:
            acting = (int(layouts.subject[index]), int(layouts.object[index]))
            pairs = [(*acting, ACTIONS[layouts.action[index]]), *(pair for pair in pairs if pair[0] not in acting)]
        for slot, (subject, object_, action) in enumerate(pairs):
            boxes[index, slot] = layouts.boxes[index, [subject, object_]]
            places[index, slot] = nouns[index, subject], nouns[index, object_], phrases.action(action)
            used[index, slot] = True
    return GroundingBatch(boxes, places, used)


def tokens_of(tokenizer: GroundingTokenizer, batch: GroundingBatch, phrases: Phrases) -> torch.Tensor:
    """(B, 3 slots, width) grounding tokens."""
    table = phrases.table
    boxes = torch.from_numpy(batch.boxes).float().to(table.device)
    features = table[torch.from_numpy(batch.phrases).to(table.device)]
    tokens: torch.Tensor = tokenizer(
        subject_boxes=boxes[:, :, 0],
        object_boxes=boxes[:, :, 1],
        masks=torch.from_numpy(batch.used).to(table.device),
        subject_positive_embeddings=features[:, :, 0],
        object_positive_embeddings=features[:, :, 1],
        action_positive_embeddings=features[:, :, 2],
    )
    return tokens


def colour_blind_caption(layouts: Layouts, index: int, rng: np.random.Generator) -> str:
    """A caption without positions whose colours are exchanged between the instances, or left out."""
    full = full_description(layouts, index)
    count = len(full.instances)
    colours: Sequence[str | None] = [full.instances[k].colour for k in rng.permutation(count)]
    if rng.random() < 0.3:
        colours = [None] * count
    instances = tuple(
        replace(instance, colour=colour, position=None)
        for instance, colour in zip(full.instances, colours, strict=True)
    )
    style = {} if rng.random() < 0.5 else {"palette": full.palette, "texture": full.texture}
    if full.action is None:
        return Description(instances, **style).text()
    return Description(instances, action=full.action, subject=full.subject, object=full.object, **style).text()


def train_interactdiffusion(
    settings: InteractDiffusionSettings,
    base: Base,
    pool: Pool,
    latents: torch.Tensor,
    checkpoints: Path,
    sheets: bool,
) -> tuple[InteractDiffusionNetworks, dict[str, Any]]:
    """Train to the end, going on from the last checkpoint; returns the averaged networks and card facts.

    Args:
        settings: what to do.
        base: the model it starts from.
        pool: pictures.
        latents: (N, channels, height, width) scaled latents of the pool.
        checkpoints: folder of the checkpoint and the sheets.
        sheets: whether to write sample sheets.
    """
    torch.manual_seed(settings.seed)
    networks = InteractDiffusionNetworks(base).to(base.device)
    phrases = Phrases(base)
    layouts = pool.layouts
    groups = layouts.counts() - 1 + np.where(layouts.action == NO_ACTION, 0, MAX_INSTANCES - 1)
    shares = shares_of_groups(groups, settings.shares)

    def losses_of(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.choice(len(latents), size=settings.batch, p=shares)
        seen = layouts[indices]
        shown = rng.random(settings.batch) >= settings.empty
        described = shown & (rng.random(settings.batch) >= settings.empty_captions)
        captions = [
            colour_blind_caption(layouts, int(index), rng) if told else ""
            for index, told in zip(indices, described, strict=True)
        ]
        batch = grounding_of(seen, phrases.noun(seen.shape, rng), phrases)
        batch = replace(batch, used=batch.used & shown[:, None])
        states = base.states(captions)
        tokens = tokens_of(networks.grounding_tokenizer, batch, phrases)

        def predict(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return networks.predict(noisy, timesteps, states, tokens)

        chosen = latents[torch.from_numpy(indices)].to(base.device)
        weights = inside_weights(seen, _INSIDE_WEIGHT).to(base.device)
        return noise_loss(predict, base.scheduler, chosen, generator, weights), {}

    def sheet(path: Path) -> None:
        write_interactdiffusion_sheet(networks, base, phrases, path)

    facts = train(
        "interactdiffusion", networks, settings, losses_of, sheet if sheets else None, checkpoints, base.device
    )
    return networks, facts


def write_interactdiffusion_sheet(
    networks: InteractDiffusionNetworks, base: Base, phrases: Phrases, path: Path, rows: int = 2, columns: int = 12
) -> None:
    """Write rendered scenes that no training has seen, each row above what the model makes of it."""
    layouts = sample_layouts(400, HELD_OUT_SEED - 1)
    layouts = layouts[np.flatnonzero((layouts.action != NO_ACTION) | (layouts.counts() > 2))[: rows * columns]]
    rng = np.random.default_rng(0)
    captions = [colour_blind_caption(layouts, index, rng) for index in range(len(layouts))]
    batch = grounding_of(layouts, layouts.shape, phrases)
    tokens = tokens_of(networks.grounding_tokenizer, batch, phrases)
    states = torch.cat([base.states([""]).expand(len(layouts), -1, -1), base.states(captions)])
    both = torch.cat([networks.grounding_tokenizer.null_tokens().expand_as(tokens), tokens])

    def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return networks.predict(noisy, timestep, states, both)

    drawn = decode_latents(base.vae, sample_guided(predict, base, len(layouts)))
    write_sheet(path, interleave(render(layouts), drawn, columns), columns)
