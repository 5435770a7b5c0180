"""Captions in a small fixed vocabulary, full and partial: what a caption does not name is left open."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from amdm_shapes_zoo.world import (
    ACTIONS,
    COLOUR_NAMES,
    NO_ACTION,
    PALETTE_NAMES,
    SHAPES,
    TEXTURES,
    Layouts,
)

TEXTURE_WORDS = {"plain": "plain", "stripes": "striped", "dots": "dotted", "noise": "noisy"}

ACTION_PHRASES = {
    "bar": "a bar joins {subject} and {object}",
    "ring": "a ring around {subject} and {object}",
    "arrow": "an arrow from {subject} to {object}",
    "hull": "a hull covers {subject} and {object}",
}
"""How a caption names each interaction."""

POSITION_PHRASES = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "center": "in the center",
    "top left": "at the top left",
    "top right": "at the top right",
    "bottom left": "at the bottom left",
    "bottom right": "at the bottom right",
}
"""How a caption names each position."""

VOCABULARY: tuple[str, ...] = (
    *("a", "an", "the", "and", ",", "on", "at", "in", "from", "to", "around", "joins", "covers"),
    *("left", "right", "top", "bottom", "center"),
    *("shape", "background"),
    *SHAPES,
    *COLOUR_NAMES,
    *PALETTE_NAMES,
    *TEXTURE_WORDS.values(),
    *ACTIONS,
)
"""Every word a caption can contain."""

_MIDDLE = (0.4, 0.6)


@dataclass(frozen=True)
class InstanceDescription:
    """What a caption says about one instance; None where it says nothing."""

    colour: str | None
    shape: str | None
    position: str | None

    def noun_phrase(self) -> str:
        """Colour and shape, such as `red circle`, without article and position."""
        return " ".join(word for word in (self.colour, self.shape or "shape") if word)

    def text(self) -> str:
        """The whole phrase, such as `a red circle on the left`."""
        words = ["a", self.noun_phrase()]
        if self.position is not None:
            words.append(POSITION_PHRASES[self.position])
        return " ".join(words)


@dataclass(frozen=True)
class Description:
    """What a caption says about a picture; None or empty where it says nothing."""

    instances: tuple[InstanceDescription, ...] = ()
    palette: str | None = None
    texture: str | None = None
    action: str | None = None
    subject: int = NO_ACTION
    """Place in `instances` of the interaction's subject, where there is an action."""
    object: int = NO_ACTION
    """Place in `instances` of the interaction's object, where there is an action."""

    def text(self) -> str:
        """The caption."""
        parts = []
        if self.instances:
            phrases = [instance.text() for instance in self.instances]
            parts.append(" and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases))
        if self.action is not None:
            names = [f"the {self.instances[k].noun_phrase()}" for k in (self.subject, self.object)]
            parts.append(ACTION_PHRASES[self.action].format(subject=names[0], object=names[1]))
        if self.palette is not None or self.texture is not None:
            texture = None if self.texture is None else TEXTURE_WORDS[self.texture]
            parts.append(" ".join(word for word in (self.palette, texture, "background") if word))
        return ", ".join(parts)

    def without(self, *, positions: bool = False, background: bool = False, action: bool = False) -> Description:
        """The same, leaving out where instances are, the background, or the interaction."""
        instances = self.instances
        if positions:
            instances = tuple(replace(instance, position=None) for instance in instances)
        reduced = replace(self, instances=instances)
        if background:
            reduced = replace(reduced, palette=None, texture=None)
        if action:
            reduced = replace(reduced, action=None, subject=NO_ACTION, object=NO_ACTION)
        return reduced


def position_of(x: float, y: float) -> str:
    """The most precise position word of a normalised centre."""
    horizontal = "left" if x < _MIDDLE[0] else "right" if x > _MIDDLE[1] else ""
    vertical = "top" if y < _MIDDLE[0] else "bottom" if y > _MIDDLE[1] else ""
    return f"{vertical} {horizontal}".strip() or "center"


def position_holds(position: str, x: float, y: float, slack: float = 0.0) -> bool:
    """Whether a position word is true of a normalised centre; `slack` widens what each word covers."""
    low, high = _MIDDLE[0] + slack, _MIDDLE[1] - slack
    if position == "center":
        return _MIDDLE[0] - slack <= x <= _MIDDLE[1] + slack and _MIDDLE[0] - slack <= y <= _MIDDLE[1] + slack
    holds = {"left": x < low, "right": x > high, "top": y < low, "bottom": y > high}
    return all(holds[word] for word in position.split())


def full_description(layouts: Layouts, index: int) -> Description:
    """Everything there is to say about picture `index`, instances in the layout's order."""
    count = int(layouts.present[index].sum())
    centres = (layouts.boxes[index, :, :2] + layouts.boxes[index, :, 2:]) / 2
    action = int(layouts.action[index])
    return Description(
        instances=tuple(
            InstanceDescription(
                colour=COLOUR_NAMES[layouts.colour[index, k]],
                shape=SHAPES[layouts.shape[index, k]],
                position=position_of(*centres[k]),
            )
            for k in range(count)
        ),
        palette=PALETTE_NAMES[layouts.palette[index]],
        texture=TEXTURES[layouts.texture[index]],
        action=None if action == NO_ACTION else ACTIONS[action],
        subject=int(layouts.subject[index]),
        object=int(layouts.object[index]),
    )


def _partial_position(position: str | None, rng: np.random.Generator) -> str | None:
    """A corner is sometimes named by one of its two words only; both remain true."""
    if position is not None and " " in position and rng.random() < 0.35:
        return position.split()[0 if rng.random() < 0.4 else 1]
    return position


def partial_description(layouts: Layouts, index: int, rng: np.random.Generator) -> Description:
    """A random part of what there is to say about picture `index`, in a random order."""
    full = full_description(layouts, index)
    background = rng.choice(["both", "palette", "texture", "none"], p=[0.55, 0.08, 0.08, 0.29])
    palette = full.palette if background in ("both", "palette") else None
    texture = full.texture if background in ("both", "texture") else None
    if rng.random() < 0.05:
        return Description(palette=full.palette, texture=full.texture)

    count = len(full.instances)
    kept = rng.choice(["all", "shapes", "colours", "mixed"], p=[0.46, 0.21, 0.21, 0.12])
    positions = rng.choice(["all", "none", "mixed"], p=[0.84, 0.09, 0.07])
    named = {
        "all": np.ones((2, count), dtype=bool),
        "shapes": np.stack([np.zeros(count, dtype=bool), np.ones(count, dtype=bool)]),
        "colours": np.stack([np.ones(count, dtype=bool), np.zeros(count, dtype=bool)]),
        "mixed": rng.random((2, count)) < 0.6,
    }[kept]
    placed = {"all": np.ones(count, dtype=bool), "none": np.zeros(count, dtype=bool)}.get(
        positions, rng.random(count) < 0.5
    )
    left_edges = layouts.boxes[index, :count, 0]
    order = rng.permutation(count) if rng.random() < 0.4 else np.argsort(left_edges)
    instances = tuple(
        InstanceDescription(
            colour=full.instances[k].colour if named[0, k] else None,
            shape=full.instances[k].shape if named[1, k] else None,
            position=_partial_position(full.instances[k].position, rng) if placed[k] else None,
        )
        for k in order
    )
    if full.action is None or rng.random() < 0.08:
        return Description(instances, palette, texture)
    place = {int(k): place for place, k in enumerate(order)}
    return Description(instances, palette, texture, full.action, place[full.subject], place[full.object])
