"""How the images and instances of a batch are laid out in rows, and where instances lie in a layer's feature map.

Images may have different numbers of instances. Layers work on rows: B captions, then the P instances of all images one
after the other, then (inside MIGC's block) B layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from amdm_framework.models.unet_layers import Size

from .condition import MIGCCondition, per_instance
from .masks import layout_permissions, resize_masks

NAIVE_WEIGHT = 10.0
"""Weight of an instance inside its box against the caption, where instances are fused without weights of a network."""


@dataclass(frozen=True)
class InstanceRows:
    """Where the rows of every image are.

    Attributes:
        counts: number of instances of every image.
        image_of_instance: (P,) int64.
        shaded: (B, N + 1) int64 rows of an image's caption and instances, N the largest count; where an image has
            fewer, its caption stands in.
        phases: (B, N + 2) int64 rows of an image's caption, instances and layout; filled up in the same way.
        absent: (B, N + 2, 1) bool, which entries of `phases` only fill up.
        bare: (B, 1, 1) bool, which images have no instances; None where all have some.
    """

    counts: tuple[int, ...]
    image_of_instance: torch.Tensor
    shaded: torch.Tensor
    phases: torch.Tensor
    absent: torch.Tensor
    bare: torch.Tensor | None

    @classmethod
    def of(cls, counts: Sequence[int], device: torch.device) -> InstanceRows:
        """Lay out a batch whose images have these numbers of instances."""
        images, total, largest = len(counts), sum(counts), max(counts)
        shaded, phases, absent, first = [], [], [], images
        for image, count in enumerate(counts):
            instances = list(range(first, first + count))
            missing = largest - count
            shaded.append([image, *instances, *[image] * missing])
            phases.append([image, *instances, images + total + image, *[image] * missing])
            absent.append([False] * (count + 2) + [True] * missing)
            first += count
        bare = torch.tensor([count == 0 for count in counts], device=device).view(-1, 1, 1)
        return cls(
            counts=tuple(counts),
            image_of_instance=torch.arange(images).repeat_interleave(torch.tensor(counts)).to(device),
            shaded=torch.tensor(shaded, device=device),
            phases=torch.tensor(phases, device=device),
            absent=torch.tensor(absent, device=device)[..., None],
            bare=bare if 0 in counts else None,
        )

    def stack_slots(self, instance_slots: Sequence[torch.Tensor], depth: int) -> torch.Tensor:
        """Say where phases stand in the stacks of all images, laid end to end: caption first, layout last.

        Args:
            instance_slots: for every image (count, n) int64, the slots of its instances, from 0.
            depth: slots of one stack, caption's and layout's included.

        Returns:
            (count, 2 B + P) int64.
        """
        start = depth * torch.arange(len(self.counts))
        count = instance_slots[0].shape[0]
        instances = [start[image] + 1 + slots for image, slots in enumerate(instance_slots)]
        table = [start.expand(count, -1), *instances, (start + depth - 1).expand(count, -1)]
        return torch.cat(table, dim=1).to(self.image_of_instance.device)


@dataclass(frozen=True)
class LayerLayout:
    """Where instances lie in feature maps of one size, as the layers of that size need it.

    Attributes:
        size: h, w.
        guides: (2 B + P, hw, 1) every phase's mask: background, instance, ones.
        shading_weights: (P, hw, 1) mask times ca_scale.
        enhancement_weights: (P, hw, 1) mask times ea_scale.
        score_weights: (2 B + P, 1) float32, 1 but for sac_scale.
        permissions: (B, 1, hw, hw) bool, which cells may attend to each other; None where no layer needs it.
        naive_weights: (B, N + 1, hw, 1) what caption and instances weigh where they are fused by masks alone.
    """

    size: Size
    guides: torch.Tensor
    shading_weights: torch.Tensor
    enhancement_weights: torch.Tensor
    score_weights: torch.Tensor
    permissions: torch.Tensor | None
    naive_weights: torch.Tensor

    @classmethod
    def of(
        cls,
        conditions: Sequence[MIGCCondition],
        masks: Sequence[tuple[torch.Tensor, torch.Tensor]],
        size: Size,
        with_permissions: bool,
        device: torch.device,
        dtype: torch.dtype,
    ) -> LayerLayout:
        """Lay out a batch.

        Args:
            conditions: B conditions.
            masks: for every image its instance masks (n, H, W) and background (1, H, W) at latent size.
            size: h, w of the layers.
            with_permissions: whether MIGC's block runs at this size.
            device: of the results.
            dtype: of the layers.
        """
        instances = [resize_masks(image, size) for image, _ in masks]
        backgrounds = [resize_masks(background, size) for _, background in masks]
        flat = torch.cat(instances).flatten(1)[..., None]
        counts = [len(image) for image in instances]
        scales = {
            name: torch.tensor(
                [v for c, n in zip(conditions, counts, strict=True) for v in per_instance(getattr(c, name), n)]
            )
            for name in ("ca_scale", "ea_scale", "sac_scale")
        }
        ones = torch.ones(len(masks), flat.shape[1], 1)
        permissions = None
        if with_permissions:
            pairs = zip(instances, backgrounds, strict=True)
            permissions = torch.stack([layout_permissions(image, background) for image, background in pairs])
            permissions = permissions[:, None].to(device)
        return cls(
            size=size,
            guides=torch.cat([torch.cat(backgrounds).flatten(1)[..., None], flat, ones]).to(device, dtype),
            shading_weights=(flat * scales["ca_scale"].view(-1, 1, 1)).to(device, dtype),
            enhancement_weights=(flat * scales["ea_scale"].view(-1, 1, 1)).to(device, dtype),
            score_weights=torch.cat([ones[:, 0], scales["sac_scale"][:, None], ones[:, 0]]).to(device),
            permissions=permissions,
            naive_weights=torch.stack([_naive_weights(image, max(counts)) for image in instances]).to(device, dtype),
        )


def _naive_weights(masks: torch.Tensor, largest: int) -> torch.Tensor:
    # (n, h, w) -> (largest + 1, hw, 1).
    count, height, width = masks.shape
    weights = torch.zeros(largest + 1, height * width, 1)
    weights[0] = 1
    weights[1 : count + 1, :, 0] = NAIVE_WEIGHT * masks.flatten(1)
    # An image without instances keeps its caption exactly, not up to the guard against division by 0.
    return weights / (weights.sum(0, keepdim=True) + 1e-6) if count else weights


def fuse_naively(shaded: torch.Tensor, rows: InstanceRows, layout: LayerLayout) -> torch.Tensor:
    """Fuse the cross-attention of captions and instances (B + P, hw, C) by masks alone to (B, hw, C)."""
    return (shaded[rows.shaded] * layout.naive_weights).sum(1)
