"""The pictures of a benchmark in a folder: found by the key in their names, read as the evaluation wants them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amdm_framework.batch.coco_mig import Entry
from amdm_framework.errors import InputError, Problem

SIDE = 512
"""Width and height of the benchmark's pictures."""

# Pictures of other tools may have any digits in front: only what has the form of our own names is an image's number.
_NAME = re.compile(r"(?:(?P<image>[0-9]{6}|[1-9][0-9]{6,11})|.*)_(?P<key>[0-9]+)\.png")


def find_pictures(folder: Path, entries: Mapping[str, Entry]) -> dict[str, Path]:
    """Return the picture of each key that has one. A name ends in `_KEY.png`.

    Where the number of an image in six digits or more stands before, as in the names of `generate`, it must be the entry's.

    Raises:
        InputError: there is no such folder, two pictures have one key, or pictures are not those of this benchmark.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError([Problem(f"cannot be read: {error.strerror or error}", file=str(folder))]) from error
    found: dict[str, Path] = {}
    problems = []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        key, image = match["key"], match["image"]
        if key not in entries:
            problems.append(Problem(f"the benchmark has no entry {key}; is this another benchmark?", file=str(path)))
        elif image is not None and int(image) != int(entries[key].image_id):
            message = f"entry {key} of the benchmark is of image {entries[key].image_id}; is this another benchmark?"
            problems.append(Problem(message, file=str(path)))
        elif key in found:
            problems.append(Problem(f"is a second picture of entry {key}, beside {found[key].name}", file=str(path)))
        else:
            found[key] = path
    if problems:
        raise InputError(problems)
    return found


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as (512, W, 3) red, green, blue; one of another height is scaled to 512 by 512.

    Raises:
        InputError: it cannot be read, or has more than 8 bits per value.
    """
    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):
                raise InputError([Problem("has more than 8 bits per value, expected 8", file=str(path))])
            pixels = np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError([Problem(f"is not a picture that can be read: {error}", file=str(path))]) from error
    if pixels.shape[0] != SIDE:
        # The published evaluation looks at the height alone, too: scores compare.
        pixels = np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return pixels
