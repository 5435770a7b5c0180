"""In which order the instances enter the last mixing of the shading aggregation: random, but determined by a seed.

The stack that is mixed there has a slot for the caption, one for the layout and `slots` between them; instances and
null phases are shuffled over the latter, anew in every layer at every step. The mixing tells slots apart, so the order
changes the picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

PhaseOrders = Callable[[int, int, int], torch.Tensor]
"""(seed, count, slots) -> (count, slots) int64: `count` permutations, in the order in which layers and steps run."""


def draw_phase_orders(seed: int, count: int, slots: int) -> torch.Tensor:
    """Draw permutations from a generator of their own, so that a seed gives the same ones in every run and batch.

    A run of the original code whose global generator is seeded with `seed`, and used for nothing else, draws the same.

    Args:
        seed: the image's seed.
        count: number of steps times number of layers.
        slots: length of a permutation.

    Returns:
        (count, slots) int64.
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(slots, generator=generator) for _ in range(count)]
    return torch.stack(orders) if orders else torch.empty(0, slots, dtype=torch.int64)


def instance_slots(orders: torch.Tensor, instances: int) -> torch.Tensor:
    """Return the slot of every instance, (count, instances) int64 from 0, for permutations (count, slots).

    Slot j receives entry `order[j]` of the list of instances and null phases: an instance's slot is found by the
    inverse permutation.
    """
    return orders.argsort(dim=-1)[:, :instances]
