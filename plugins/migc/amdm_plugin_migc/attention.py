"""Cross-attention of a UNet that shades every instance on its own.

All cross-attentions (`attn2`) of the UNet get a processor that works on keys and values projected once per run; those
with weights of MIGC carry a block. Self-attentions keep their stock processors. What belongs to a run is handed in for
the time of one UNet call (`InstanceAttention.during`), after which nothing of it is left in the modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn
from torch.nn import functional

from .condition import MIGCCondition
from .layer_names import layer_size, running_order
from .layout import InstanceRows, LayerLayout, fuse_naively
from .masks import Size, draw_masks, resize_masks
from .modules import BlockConstants, MIGCBlock
from .phase_order import instance_slots

Fusion = Literal["migc", "naive", "none"]
"""How the shading of instances becomes one: by MIGC's block, by masks alone, or not at all (captions only)."""

KeysAndValues = tuple[torch.Tensor, torch.Tensor]
"""(rows, heads, tokens, d) each."""


@dataclass(frozen=True)
class BlockRun:
    """What MIGC's block of one layer needs in one run.

    Attributes:
        constants: that the block computed for itself.
        slots: (steps, 2 B + P) int64 places of the phases in the stacks, at every step that runs the block.
    """

    constants: BlockConstants
    slots: torch.Tensor


@dataclass(frozen=True)
class LayerRun:
    """What one layer needs in one run.

    Attributes:
        text: of the negative prompts (where there is guidance), then of the captions.
        phrases: of all instances; None where the layer never sees them.
        layout: where instances lie in this layer; None as above.
        block: of MIGC's block; None where the layer has none or never runs it.
    """

    text: KeysAndValues
    phrases: KeysAndValues | None = None
    layout: LayerLayout | None = None
    block: BlockRun | None = None


@dataclass(frozen=True)
class InstanceRun:
    """What all layers need in one run.

    Attributes:
        rows: how images and instances are laid out.
        layers: by name.
    """

    rows: InstanceRows
    layers: Mapping[str, LayerRun]


@dataclass(frozen=True)
class Texts:
    """The encoded texts of a batch.

    Attributes:
        prompts: (2 B, S, D) states of negative prompts, then of captions; (B, S, D) of captions without guidance.
        phrases: (P, S', D) states of the instances' phrases.
        pooled: (P, D) pooled features of the phrases.
    """

    prompts: torch.Tensor
    phrases: torch.Tensor
    pooled: torch.Tensor


@dataclass(frozen=True)
class FusionSchedule:
    """When instances are fused and how, in steps counted from 0.

    Attributes:
        migc_steps: last step at which MIGC's blocks run, -1 for never.
        naive_fuser_steps: last step at which instances are fused by masks alone, in every cross-attention that does not
            run a block at that step; -1 for never.
    """

    migc_steps: int
    naive_fuser_steps: int

    def fusion(self, index: int, has_block: bool) -> Fusion:
        """Say how a layer with or without a block fuses at a step."""
        if has_block and index <= self.migc_steps:
            return "migc"
        return "naive" if index <= self.naive_fuser_steps else "none"


@dataclass(frozen=True)
class UNetCall:
    """One step of a run.

    Attributes:
        run: constants.
        index: of the step.
        guided: whether the rows are [negative, positive] or positive only.
    """

    run: InstanceRun
    index: int
    guided: bool


@dataclass
class CallUnderWay:
    """What the processors of one UNet look at.

    An object of its own, so that processors do not refer back to their UNet: it is freed when it is let go of.

    Attributes:
        schedule: when instances are fused and how.
        call: the call that is under way, None between calls.
    """

    schedule: FusionSchedule
    call: UNetCall | None = None


class InstanceCrossAttention(nn.Module):
    """Processor of one cross-attention. Between calls it does what a stock one does.

    Args:
        layer: its name.
        under_way: what all processors of the UNet look at.
        block: MIGC's block, where the layer has one.
    """

    def __init__(self, layer: str, under_way: CallUnderWay, block: MIGCBlock | None) -> None:
        super().__init__()
        self.layer = layer
        self.under_way = under_way
        self.migc = block

    def forward(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        call = self.under_way.call
        if call is None:
            return AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        rows, layer = call.run.rows, call.run.layers[self.layer]
        images, instances = len(rows.counts), sum(rows.counts)
        query = _split_heads(attn, attn.to_q(hidden_states))
        key, value = layer.text if call.guided else (rows_of_text[-images:] for rows_of_text in layer.text)
        attended = functional.scaled_dot_product_attention(query, key, value)
        fusion = self.under_way.schedule.fusion(call.index, self.migc is not None) if instances else "none"
        if fusion == "none":
            return _project_out(attn, attended)
        assert layer.phrases is not None and layer.layout is not None
        shading = functional.scaled_dot_product_attention(query[-images:][rows.image_of_instance], *layer.phrases)
        projected = _project_out(attn, torch.cat([attended, shading]))
        negative, shaded = projected[: -images - instances], projected[-images - instances :]
        if fusion == "naive":
            fused = fuse_naively(shaded, rows, layer.layout)
        else:
            assert self.migc is not None and layer.block is not None
            features, slots = hidden_states[-images:], layer.block.slots[call.index]
            fused = self.migc(shaded, features, rows, layer.layout, layer.block.constants, slots)
        return torch.cat([negative, fused])


class InstanceAttention:
    """Gives a UNet its instance-wise cross-attention.

    Args:
        unet: is changed: all its cross-attentions get processors of this module.
        blocks: MIGC's blocks by layer.
        schedule: when they run.

    Attributes:
        layers: the UNet's cross-attentions, in the order in which they run.
        depth: slots of the stack in which a block mixes phases.
    """

    def __init__(self, unet: UNet2DConditionModel, blocks: Mapping[str, MIGCBlock], schedule: FusionSchedule) -> None:
        self.under_way = CallUnderWay(schedule)
        self.depth = next(iter(blocks.values())).phases
        self.layers = cross_attentions(unet)
        self._blocks = blocks
        self._levels = len(unet.config.down_block_types)
        for name, attention in self.layers.items():
            attention.set_processor(InstanceCrossAttention(name, self.under_way, blocks.get(name)))

    @contextmanager
    def during(self, run: InstanceRun, index: int, guided: bool) -> Iterator[None]:
        """Hand a run's constants to the layers for the UNet calls inside the `with` block."""
        before = self.under_way.call
        self.under_way.call = UNetCall(run, index, guided)
        try:
            yield
        finally:
            self.under_way.call = before

    def phase_order_count(self, num_inference_steps: int) -> int:
        """Return how many permutations an image needs in a run: one per block at every step that runs blocks."""
        return min(self.under_way.schedule.migc_steps + 1, num_inference_steps) * len(self._blocks)

    def prepare(
        self,
        conditions: Sequence[MIGCCondition],
        texts: Texts,
        phase_orders: Sequence[torch.Tensor],
        height: int,
        width: int,
        latent_size: Size,
    ) -> InstanceRun:
        """Compute everything that depends on neither latents nor timestep.

        Args:
            conditions: B conditions.
            texts: their encoded texts, on the UNet's device and in its dtype.
            phase_orders: for every image (count, depth - 2) int64 permutations, step by step and within a step in the
                order of `layers`.
            height: of the picture in pixels.
            width: of the picture in pixels.
            latent_size: rows and columns of the latents.
        """
        device, dtype = texts.prompts.device, texts.prompts.dtype
        counts = [len(condition.instances) for condition in conditions]
        rows = InstanceRows.of(counts, device)
        schedule = self.under_way.schedule
        running = self._blocks if schedule.migc_steps >= 0 and any(counts) else {}
        fusing = list(self.layers) if schedule.naive_fuser_steps >= 0 and any(counts) else list(running)
        sizes = {name: layer_size(name, latent_size, self._levels) for name in fusing}

        drawn = [draw_masks([one.box for one in condition.instances], height, width) for condition in conditions]
        masks = [(resize_masks(boxes, latent_size), resize_masks(rest, latent_size)) for boxes, rest in drawn]
        block_sizes = {sizes[name] for name in running}
        layouts = {
            size: LayerLayout.of(conditions, masks, size, size in block_sizes, device, dtype)
            for size in set(sizes.values())
        }
        blocks = {}
        if running:
            boxes = [one.box for condition in conditions for one in condition.instances]
            coordinates = torch.tensor(
                [(left, right, top, bottom) for left, top, right, bottom in boxes], device=device
            )
            slots = [instance_slots(orders, count) for orders, count in zip(phase_orders, counts, strict=True)]
            places = rows.stack_slots(slots, self.depth)
            for position, name in enumerate(name for name in self.layers if name in running):
                constants = running[name].prepare(texts.pooled, coordinates, len(counts), sizes[name])
                blocks[name] = BlockRun(constants, places[position :: len(running)])
        layers = {}
        for name, attention in self.layers.items():
            text = _keys_and_values(attention, texts.prompts)
            if name in sizes:
                phrases = _keys_and_values(attention, texts.phrases)
                layers[name] = LayerRun(text, phrases, layouts[sizes[name]], blocks.get(name))
            else:
                layers[name] = LayerRun(text)
        return InstanceRun(rows, layers)


def cross_attentions(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Return a UNet's cross-attentions by name, in the order in which they run."""
    found = {name: module for name, module in unet.named_modules() if name.endswith(".attn2")}
    return {name: found[name] for name in sorted(found, key=running_order)}


def _keys_and_values(attention: Any, states: torch.Tensor) -> KeysAndValues:
    return _split_heads(attention, attention.to_k(states)), _split_heads(attention, attention.to_v(states))


def _split_heads(attention: Any, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.unflatten(-1, (attention.heads, -1)).transpose(1, 2)


def _project_out(attention: Any, attended: torch.Tensor) -> torch.Tensor:
    return attention.to_out[0](attended.transpose(1, 2).flatten(2))
