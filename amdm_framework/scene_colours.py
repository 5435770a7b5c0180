"""The colours in which people are shown the instances of a scene."""

from __future__ import annotations

import re

from .picture_text import DISTINCT
from .scene import Scene

NAMED_COLOURS = {
    "red": "#d62f2f", "orange": "#e8771a", "yellow": "#d9a800", "green": "#2e9e4f", "blue": "#2f6fde",
    "purple": "#8a4fd3", "pink": "#e2669b", "brown": "#8b5a2b", "black": "#333333", "gray": "#808080", "grey": "#808080",
    "white": "#9a9a9a",
}  # fmt: skip
"""What an instance is drawn in whose phrase has one of these words. White is a grey, which is seen on paper."""


def instance_colours(scene: Scene) -> dict[str, str]:
    """Return the colour of every instance by name, as `#rrggbb`.

    It is the one that its phrase names first; without any, one of `DISTINCT`, by the instance's place in the scene.
    """
    colours = {}
    for number, (name, instance) in enumerate(scene.instances.items()):
        words = re.findall("[a-z]+", instance.phrase.lower())
        colours[name] = next(
            (NAMED_COLOURS[word] for word in words if word in NAMED_COLOURS), DISTINCT[number % len(DISTINCT)]
        )
    return colours
