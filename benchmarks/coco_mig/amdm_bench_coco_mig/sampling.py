"""A new benchmark from COCO's annotations, by the rules of the published one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from amdm_bench_coco_mig.benchmark_file import LEVELS, PER_LEVEL, SMALLEST_SIDE, caption_of
from amdm_bench_coco_mig.coco_annotations import AnnotatedImage
from amdm_framework.batch.coco_mig import COLORS, Entry, Segment
from amdm_framework.errors import InputError

Box = tuple[float, float, float, float]


def sample_benchmark(images: Sequence[AnnotatedImage], seed: int, per_level: int = PER_LEVEL) -> list[Entry]:
    """Sample entries from annotated images, in random order, until each level is full.

    Of an image, instances whose box is narrower or lower than 1/8 of it are dropped; of more than six left, the first
    six are taken, largest first. Each gets one of seven colours. Images are skipped of which fewer than two instances
    are left, with a person among those, whose level is full, or whose caption is there already.
    Source: the sampling code of the benchmark's repository, LeyRio/MIG_Bench.

    Args:
        images: of COCO.
        seed: of the order and the colours; equal seeds give equal entries, with any release of Python.
        per_level: entries of each level.

    Raises:
        InputError: the images do not fill each level.
    """
    # Of the generator's methods, only `random` is promised to give the same numbers in later releases.
    uniform = random.Random(seed).random
    order = sorted(images, key=lambda image: image.id)
    order = [image for _, image in sorted(((uniform(), image) for image in order), key=lambda pair: pair[0])]
    entries: list[Entry] = []
    counts: Counter[int] = Counter()
    captions: set[str] = set()
    for image in order:
        kept = _kept_instances(image)
        level = len(kept)
        if level < LEVELS[0] or counts[level] == per_level or any(name == "person" for name, _ in kept):
            continue
        labels = [f"a {COLORS[int(uniform() * len(COLORS))]} {name}" for name, _ in kept]
        caption = caption_of(labels)
        if caption in captions:
            continue
        captions.add(caption)
        counts[level] += 1
        segment = tuple(Segment(label=label, bbox=box) for label, (_, box) in zip(labels, kept, strict=True))
        entries.append(Entry(caption=caption, segment=segment, image_id=str(image.id)))
        if len(entries) == per_level * len(LEVELS):
            return entries
    found = ", ".join(f"{counts[level]} of level L{level}" for level in LEVELS)
    raise InputError(
        f"the annotations do not fill each level: found {found}, expected {per_level} of each. Take a larger file, such "
        "as instances_val2014.json, or fewer entries with --per-level"
    )


def _kept_instances(image: AnnotatedImage) -> list[tuple[str, Box]]:
    large = [
        (name, box)
        for name, box in image.instances
        if box[2] - box[0] >= SMALLEST_SIDE and box[3] - box[1] >= SMALLEST_SIDE
    ]
    if len(large) <= LEVELS[-1]:
        return large
    return sorted(large[: LEVELS[-1]], key=lambda instance: _area(instance[1]), reverse=True)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
