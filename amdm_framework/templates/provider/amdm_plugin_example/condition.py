"""What the model is told about one picture, and how it is read from a scene.

Change: the fields to what your model's own pipeline is called with, and `condition_from_scene` to where a scene has it.
"""

from __future__ import annotations

from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.scene import Instance, Scene
from pydantic import Field

from .options import ExampleOptions


class ExampleCondition(TextCondition):
    """A prompt, a negative prompt, and what stands where.

    `condition:` in a composition overrides single fields, so every field has a default that means "nothing of it".
    """

    instances: tuple[Instance, ...] = Field(
        default=(), description="Phrases and boxes; without any the picture is the base model's own."
    )
    scale: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="How strongly they act.")


def condition_from_scene(scene: Scene, options: ExampleOptions) -> ExampleCondition:
    """Take the caption, the negative prompt and all instances of a scene, and the scale of the options.

    A model that cannot do without something (a picture of the role `depth`, say) raises `ValueError` here and says what
    the scene has, what is missing, and what to add to it.
    """
    return ExampleCondition(
        prompt=scene.caption,
        negative=scene.negative,
        instances=tuple(scene.instances.values()),
        scale=options.scale,
    )
