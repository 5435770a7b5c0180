"""Scenes that say something to most models: instances, interactions, references and a long caption."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from ..scene import Instance, Interaction, Reference, Scene

_INSTANCES = {
    "girl": Instance(phrase="a red hair girl", box=(0.05, 0.1, 0.6, 0.95)),
    "bottle": Instance(phrase="a blue bottle", box=(0.45, 0.4, 0.75, 0.8)),
    "hat": Instance(phrase="a green hat", box=(0.1, 0.0, 0.5, 0.3)),
}


def default_scenes(folder: Path) -> list[Scene]:
    """Return scenes with 0, 1, 2 and 3 instances; the last caption is longer than a text encoder's context.

    Args:
        folder: receives the pictures of references.
    """
    first = write_picture(folder / "first.png", seed=1)
    second = write_picture(folder / "second.png", seed=2, width=48)
    whole = Reference(role="style", image=first)
    drinking = Interaction(subject="girl", action="drinking", object="bottle")
    wearing = Interaction(subject="girl", action="wearing", object="hat")
    return [
        Scene(caption="a red bird", negative="grey", references=(whole,)),
        Scene(caption="a girl", negative="grey", instances=_some(1), references=(whole,)),
        Scene(
            caption="a girl drinks from a bottle",
            negative="lowres, grey",
            instances=_some(2),
            interactions=(drinking,),
            references=(whole, Reference(role="style", image=second, instance="bottle")),
        ),
        Scene(
            caption="a girl with a green hat drinks from a blue bottle, oil painting, " * 8,
            instances=_some(3),
            interactions=(drinking, wearing),
            references=(Reference(role="style", image=second),),
        ),
    ]


def write_picture(path: Path, seed: int = 0, width: int = 64, height: int = 64) -> Path:
    """Write a smooth random RGB picture, for the references of scenes, and return its path.

    Args:
        path: its suffix says the format; folders above it are created.
        seed: pictures of different seeds are different.
        width: in pixels.
        height: in pixels.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(colours[None], (height, width), mode="bilinear")[0]
    Image.fromarray((255 * smooth.permute(1, 2, 0)).byte().numpy()).save(path)
    return path


def _some(count: int) -> dict[str, Instance]:
    return dict(list(_INSTANCES.items())[:count])
