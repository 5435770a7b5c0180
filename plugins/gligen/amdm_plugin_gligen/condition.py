"""GLIGEN's part of a scene: a caption, and what stands where."""

from __future__ import annotations

from pydantic import Field, model_validator

from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.scene import Instance, Scene

SLOTS = 30
"""Grounding tokens of a picture. GLIGEN was trained with as many; those without an instance are null tokens."""


class GLIGENCondition(TextCondition):
    """A text and the places of things. The prompt should mention them."""

    instances: tuple[Instance, ...] = Field(
        default=(), description="Phrases and boxes, at most 30; without any all grounding tokens are null."
    )

    @model_validator(mode="after")
    def _instances_fit(self) -> GLIGENCondition:
        if len(self.instances) > SLOTS:
            raise ValueError(f"found {len(self.instances)} instances, but GLIGEN takes at most {SLOTS}: leave some out")
        for position, instance in enumerate(self.instances):
            if not instance.phrase.strip():
                raise ValueError(f"instance {position} has a blank phrase: say in words what stands in its box")
        return self


def condition_from_scene(scene: Scene, options: object) -> GLIGENCondition:
    """Take the caption, what the picture should not show, and all instances of a scene.

    Raises:
        ValueError: there are too many instances, or one has a blank phrase.
    """
    return GLIGENCondition(prompt=scene.caption, negative=scene.negative, instances=tuple(scene.instances.values()))
