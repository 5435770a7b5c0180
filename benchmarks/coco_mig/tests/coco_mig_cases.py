"""Small benchmarks, pictures drawn by program, and judges that know what was drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from amdm_bench_coco_mig.interfaces import Detections
from amdm_framework.batch.coco_mig import Segment
from amdm_framework.cli import main

PAINTS = {
    "red": (220, 20, 20),
    "brown": (120, 70, 30),
    "yellow": (230, 220, 20),
    "green": (20, 180, 40),
    "blue": (20, 60, 220),
    "black": (5, 5, 5),
    "white": (250, 250, 250),
}
"""A colour of which nobody would doubt the name, red, green, blue."""

GREY = (127, 127, 127)
THINGS = ("chair", "dining table", "sheep", "car", "cup", "banana")


def entry(level: int, image: int, color: str = "red") -> dict[str, Any]:
    """Return an entry with boxes side by side, of which the first is of this colour and the others of the next ones."""
    colors = [*PAINTS, *PAINTS][list(PAINTS).index(color) :]
    labels = [f"a {colors[number]} {THINGS[number]}" for number in range(level)]
    places = [(number % 3 * 5 / 16, number // 3 / 2) for number in range(level)]
    return {
        "caption": f"a photo of {' and '.join(labels)} ",
        "segment": [
            {"label": label, "bbox": [x + 1 / 32, y + 1 / 32, x + 9 / 32, y + 15 / 32]}
            for label, (x, y) in zip(labels, places, strict=True)
        ],
        "image_id": str(image),
    }


def content(per_level: int = 1) -> dict[str, Any]:
    """Return a correct benchmark; levels take turns, as they are not sorted in the published one either."""
    colors = list(PAINTS)
    return {
        str(number): entry(2 + number % 5, 1000 + 7 * number, colors[number % 7]) for number in range(5 * per_level)
    }


def write_benchmark_json(path: Path, entries: Any) -> Path:
    """Write a benchmark as it is, right or wrong."""
    path.write_text(json.dumps(entries))
    return path


def paint(instances: Sequence[Any], colors: Mapping[str, tuple[int, int, int]] | None = None) -> NDArray[np.uint8]:
    """Return a picture of 512 by 512 in which the boxes of segments are filled, with their own colours or others."""
    picture = np.full((512, 512, 3), GREY, np.uint8)
    for one in instances:
        segment = Segment.model_validate(one) if isinstance(one, dict) else one
        left, top, right, bottom = (round(512 * side) for side in segment.bbox)
        picture[top:bottom, left:right] = (colors or {}).get(segment.label, PAINTS[segment.color])
    return picture


def draw_all(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write a perfect picture of every entry."""
    folder.mkdir(exist_ok=True)
    for key, one in entries.items():
        Image.fromarray(paint(one["segment"])).save(folder / f"{int(one['image_id']):06}_{key}.png")


class FakeDetector:
    """Answers with the boxes that it was given for a name."""

    def __init__(self, answers: Mapping[str, Sequence[Sequence[float]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def detect(self, picture: NDArray[np.uint8], name: str) -> Detections:
        self.asked.append(name)
        answer = np.array(self.answers.get(name, ()), dtype=np.float64).reshape(-1, 5)
        return Detections(answer[:, :4], answer[:, 4])


class RectangleDetector:
    """Sees every painted rectangle, whatever it is asked for."""

    def detect(self, picture: NDArray[np.uint8], name: str) -> Detections:
        painted = (picture != GREY).any(axis=2).astype(np.uint8)
        _, _, found, _ = cv2.connectedComponentsWithStats(painted)
        left, top, width, height = found[1:, :4].T.astype(np.float64)
        return Detections(np.stack([left, top, left + width, top + height], axis=1), np.ones(len(left)))


class FakeSegmenter:
    """Masks whole boxes, or what it was given."""

    def __init__(self, mask: NDArray[np.bool_] | None = None) -> None:
        self.mask = mask
        self.boxes: list[list[float]] = []

    def segment(self, picture: NDArray[np.uint8], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        masks = np.zeros((len(boxes), *picture.shape[:2]), dtype=bool)
        for mask, box in zip(masks, boxes, strict=True):
            self.boxes.append(box.tolist())
            left, top, right, bottom = np.round(box).astype(int)
            mask[top:bottom, left:right] = True
            if self.mask is not None:
                mask[:] = self.mask
        return masks


def bench(*arguments: str | Path, code: int = 0) -> Result:
    """Run `amdm bench coco-mig`; whatever is not one of its own exit codes fails the test."""
    result = CliRunner().invoke(main, ["bench", "coco-mig", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result
