"""Scores pictures against what their prompts name: colours, shapes, positions, interaction and background.

Nothing is known of boxes here, so instances are found in the picture, and matched to the named ones so that
most of what the prompt says is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from amdm_shapes_zoo.captions import Description, InstanceDescription, position_holds
from amdm_shapes_zoo.judge import read_actions, read_backgrounds
from amdm_shapes_zoo.segmentation import Region, find_regions, segment
from amdm_shapes_zoo.world import (
    ACTIONS,
    COLOUR_NAMES,
    MAX_INSTANCES,
    NO_ACTION,
    PALETTE_NAMES,
    SHAPES,
    TEXTURES,
)

PARTS = ("colour", "shape", "position", "count", "action", "palette", "texture")
"""What a prompt can claim; `count` is claimed by every prompt with instances."""

_POSITION_SLACK = 0.05


def _claims(named: InstanceDescription, region: Region | None) -> dict[str, bool]:
    """Which of the named attributes hold of a region; none where there is no region."""
    result = {}
    if named.colour is not None:
        result["colour"] = region is not None and COLOUR_NAMES[region.colour] == named.colour
    if named.shape is not None:
        result["shape"] = region is not None and SHAPES[region.shape] == named.shape
    if named.position is not None:
        result["position"] = False
        if region is not None:
            x, y = (region.box[:2] + region.box[2:]) / 2
            result["position"] = position_holds(named.position, float(x), float(y), _POSITION_SLACK)
    return result


def match(description: Description, regions: Sequence[Region]) -> list[Region | None]:
    """For each named instance its region, or None; of all assignments the one with most claims right."""
    candidates: list[Region | None] = [*regions[: MAX_INSTANCES + 2], *[None] * len(description.instances)]
    best: tuple[float, list[Region | None]] = (-1.0, [])
    seen = set()
    for choice in itertools.permutations(range(len(candidates)), len(description.instances)):
        chosen = [candidates[place] for place in choice]
        key = tuple(id(region) if region is not None else None for region in chosen)
        if key in seen:
            continue
        seen.add(key)
        pairs = zip(description.instances, chosen, strict=True)
        # A region that fulfils nothing is still better than none: it is what the prompt's instance became.
        value = sum(sum(_claims(named, region).values()) + 0.1 * (region is not None) for named, region in pairs)
        if value > best[0]:
            best = (value, chosen)
    return best[1]


def judge_prompt(classes: NDArray[np.uint8], description: Description) -> dict[str, list[bool]]:
    """For each of `PARTS` the truth of every claim of the prompt, on one segmented picture (size, size)."""
    result: dict[str, list[bool]] = {part: [] for part in PARTS}
    regions = find_regions(classes)
    matched = match(description, regions)
    for named, region in zip(description.instances, matched, strict=True):
        for part, holds in _claims(named, region).items():
            result[part].append(holds)
    if description.instances:
        result["count"].append(len(regions) == len(description.instances))
    if description.action is not None:
        subject, object_ = matched[description.subject], matched[description.object]
        found = NO_ACTION
        if subject is not None and object_ is not None:
            found = int(read_actions(classes[None], subject.box[None], object_.box[None])[0])
        result["action"].append(found != NO_ACTION and ACTIONS[found] == description.action)
    palette, texture = (int(read[0]) for read in read_backgrounds(classes[None]))
    if description.palette is not None:
        result["palette"].append(palette >= 0 and PALETTE_NAMES[palette] == description.palette)
    if description.texture is not None:
        result["texture"].append(texture >= 0 and TEXTURES[texture] == description.texture)
    return result


def judge_prompts(pictures: NDArray[np.uint8], descriptions: Sequence[Description]) -> dict[str, float]:
    """Share of right claims per part, and as `all` that of pictures with every claim but count right.

    Args:
        pictures: (N, size, size, 3) in 0..255.
        descriptions: what the N prompts say.
    """
    pooled: dict[str, list[bool]] = {part: [] for part in PARTS}
    complete = []
    for classes, description in zip(segment(pictures), descriptions, strict=True):
        result = judge_prompt(classes, description)
        for part, claims in result.items():
            pooled[part] += claims
        complete.append(all(holds for part, claims in result.items() for holds in claims if part != "count"))
    shares = {part: round(float(np.mean(claims)), 4) for part, claims in pooled.items() if claims}
    return {**shares, "all": round(float(np.mean(complete)), 4)}
