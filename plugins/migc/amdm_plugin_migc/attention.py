"""Cross-attention of a UNet that shades every instance on its own.

All cross-attentions (`attn2`) of the UNet get a processor that works on keys and values projected once per run; those
with weights of MIGC carry a block. What belongs to a run is handed in for the time of one UNet call
(`InstanceAttention.during`), after which nothing of it is left in the modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import nn
from torch.nn import functional

from amdm_framework.models.attention import (
    InferenceAttention,
    KeysAndValues,
    keys_and_values,
    project_out,
    split_heads,
)
from amdm_framework.models.rows import Rows
from amdm_framework.models.unet_layers import Size, layer_size

from .condition import MIGCCondition
from .layer_names import running_order
from .layout import InstanceRows, LayerLayout, fuse_naively
from .masks import draw_masks, resize_masks
from .modules import BlockConstants, MIGCBlock
from .phase_order import instance_slots

Fusion = Literal["migc", "naive", "none"]
"""How the shading of instances becomes one: by MIGC's block, by masks alone, or not at all (captions only)."""


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
    """What one layer that sees instances needs in one run.

    Attributes:
        phrases: keys and values of all instances' phrases.
        layout: where instances lie in this layer.
        block: of MIGC's block; None where the layer has none or never runs it.
    """

    phrases: KeysAndValues
    layout: LayerLayout
    block: BlockRun | None


@dataclass(frozen=True)
class InstanceRun:
    """What all layers need in one run.

    Attributes:
        rows: how images and instances are laid out.
        layers: by name, those that ever see instances.
    """

    rows: InstanceRows
    layers: Mapping[str, LayerRun]


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
class LayerFusion:
    """What one layer does with instances in the UNet call that is under way.

    Attributes:
        rows: how images and instances are laid out.
        layer: constants of the run.
        slots: (2 B + P,) int64 places of the phases in the stacks of MIGC's block; None where masks alone fuse.
    """

    rows: InstanceRows
    layer: LayerRun
    slots: torch.Tensor | None


class InstanceCrossAttention(InferenceAttention, nn.Module):
    """Processor of one cross-attention.

    Args:
        block: MIGC's block, where the layer has one.

    Attributes:
        fusion: of the UNet call that is under way; None between calls, and where the call sees captions only.
    """

    def __init__(self, block: MIGCBlock | None) -> None:
        super().__init__()
        self.migc = block
        self.fusion: LayerFusion | None = None

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if self.fusion is None:
            return super().__call__(attention, hidden_states, encoder_hidden_states, attention_mask, temb)
        rows, layer, slots = self.fusion.rows, self.fusion.layer, self.fusion.slots
        images, instances = len(rows.counts), len(rows.image_of_instance)
        query = split_heads(attention, attention.to_q(hidden_states))
        text = keys_and_values(attention, encoder_hidden_states) if self.text is None else self.text
        attended = functional.scaled_dot_product_attention(query, *text)
        shading = functional.scaled_dot_product_attention(query[-images:][rows.image_of_instance], *layer.phrases)
        projected = project_out(attention, torch.cat([attended, shading]))
        negative, shaded = projected[: -images - instances], projected[-images - instances :]
        if slots is None:
            fused = fuse_naively(shaded, rows, layer.layout)
        else:
            assert self.migc is not None and layer.block is not None
            features = hidden_states[-images:]
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
        self.schedule = schedule
        self.depth = next(iter(blocks.values())).phases
        self.layers = cross_attentions(unet)
        self._blocks = blocks
        self._levels = len(unet.config.down_block_types)
        for name, attention in self.layers.items():
            attention.set_processor(InstanceCrossAttention(blocks.get(name)).eval())

    @contextmanager
    def during(self, run: InstanceRun, index: int, rows: Rows) -> Iterator[None]:
        """Hand a run's constants to the layers for the UNet call inside the `with` block.

        Args:
            run: what `prepare` returned.
            index: of the step.
            rows: that the call evaluates; instances are drawn in conditional rows only.
        """
        layers = {} if rows is Rows.UNCONDITIONAL else run.layers
        try:
            for name, layer in layers.items():
                fusion = self.schedule.fusion(index, layer.block is not None)
                if fusion != "none":
                    slots = layer.block.slots[index] if layer.block is not None and fusion == "migc" else None
                    self.layers[name].processor.fusion = LayerFusion(run.rows, layer, slots)
            yield
        finally:
            for name in layers:
                self.layers[name].processor.fusion = None

    def phase_order_count(self, num_inference_steps: int) -> int:
        """Return how many permutations an image needs in a run: one per block at every step that runs blocks."""
        return min(self.schedule.migc_steps + 1, num_inference_steps) * len(self._blocks)

    def prepare(
        self,
        conditions: Sequence[MIGCCondition],
        phrases: torch.Tensor,
        pooled: torch.Tensor,
        phase_orders: Sequence[torch.Tensor],
        height: int,
        width: int,
        latent_size: Size,
    ) -> InstanceRun:
        """Compute everything that depends on neither latents nor timestep.

        Args:
            conditions: B conditions.
            phrases: (P, S, D) text states of the instances' phrases, all images' one after the other, on the device and in
                the dtype that the UNet computes in.
            pooled: (P, D) pooled features of the phrases.
            phase_orders: for every image (count, depth - 2) int64 permutations, step by step and within a step in the
                order of `layers`.
            height: of the picture in pixels.
            width: of the picture in pixels.
            latent_size: rows and columns of the latents.
        """
        counts = [len(condition.instances) for condition in conditions]
        running = self._blocks if self.schedule.migc_steps >= 0 and any(counts) else {}
        fusing = list(self.layers) if self.schedule.naive_fuser_steps >= 0 and any(counts) else list(running)
        sizes = {name: layer_size(name, latent_size, self._levels) for name in fusing}
        projected = {name: keys_and_values(self.layers[name], phrases) for name in fusing}
        device = phrases.device
        rows = InstanceRows.of(counts, device)

        drawn = [draw_masks([one.box for one in condition.instances], height, width) for condition in conditions]
        masks = [(resize_masks(boxes, latent_size), resize_masks(rest, latent_size)) for boxes, rest in drawn]
        block_sizes = {sizes[name] for name in running}
        layouts = {
            size: LayerLayout.of(conditions, masks, size, size in block_sizes, device, phrases.dtype)
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
                constants = running[name].prepare(pooled, coordinates, len(counts), sizes[name])
                blocks[name] = BlockRun(constants, places[position :: len(running)])
        layers = {name: LayerRun(projected[name], layouts[sizes[name]], blocks.get(name)) for name in fusing}
        return InstanceRun(rows, layers)


def cross_attentions(unet: UNet2DConditionModel) -> dict[str, Attention]:
    """Return a UNet's cross-attentions by name, in the order in which they run."""
    found = {name: module for name, module in unet.named_modules() if name.endswith(".attn2")}
    return {name: found[name] for name in sorted(found, key=running_order)}
