"""What InteractDiffusion is asked for, and what it takes from a scene."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.scene import Box, Scene, StrictModel

ACTION_OF_LONE_INSTANCES = "and"
"""The action between an instance and itself where a scene names no interactions (the COCO-MIG rule)."""


def _not_blank(phrase: str) -> str:
    if not phrase.strip():
        raise ValueError("the phrase is empty, expected a few words such as 'a red hair girl'")
    return phrase


Phrase = Annotated[str, AfterValidator(_not_blank)]


class GroundedInteraction(StrictModel):
    """One thing that acts on another, and where both are."""

    subject: Phrase = Field(description="Who acts, e.g. `a person`.")
    subject_box: Box = Field(description="Where: left, top, right, bottom in [0, 1].")
    action: Phrase = Field(description="What is done, e.g. `feeding`.")
    object: Phrase = Field(description="Who or what is acted upon, e.g. `a cat`.")
    object_box: Box = Field(description="Where: left, top, right, bottom in [0, 1].")


class InteractDiffusionCondition(TextCondition):
    """A text and one or more interactions. Their order matters: in training the largest came first."""

    interactions: tuple[GroundedInteraction, ...] = Field(min_length=1, description="Who does what to whom, and where.")


def condition_from_scene(scene: Scene, options: object) -> InteractDiffusionCondition:
    """Take the caption and the interactions of a scene.

    A scene with instances but without interactions gets every instance as its own subject and object, with the action
    "and". Where there are interactions, instances that take part in none are left to the caption.

    Raises:
        ValueError: the scene has no instances, or one without a phrase.
    """
    instances = scene.instances
    if not instances:
        raise ValueError(
            "the scene has no instances: InteractDiffusion needs `instances` with a phrase and a box each (and "
            "`interactions` between them); for a picture of the caption alone use the provider 'stable_diffusion'"
        )
    if blank := [name for name, instance in instances.items() if not instance.phrase.strip()]:
        raise ValueError(
            f"the phrase of instance {blank[0]!r} is empty, expected a few words such as 'a red hair girl'"
        )
    triplets = [(one.subject, one.action, one.object) for one in scene.interactions]
    if not triplets:
        triplets = [(name, ACTION_OF_LONE_INSTANCES, name) for name in instances]
    return InteractDiffusionCondition(
        prompt=scene.caption,
        negative=scene.negative,
        interactions=tuple(
            GroundedInteraction(
                subject=instances[subject].phrase,
                subject_box=instances[subject].box,
                action=action,
                object=instances[acted_upon].phrase,
                object_box=instances[acted_upon].box,
            )
            for subject, action, acted_upon in triplets
        ),
    )
