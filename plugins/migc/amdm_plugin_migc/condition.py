"""MIGC's part of a scene: a caption, and what stands where."""

from __future__ import annotations

from pydantic import Field, model_validator

from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.scene import Instance, Scene

from .options import MIGCOptions, Scales

MAXIMUM_INSTANCES = 28
"""Instances that MIGC was made for: its stack of 30 phases less those of the caption and the layout."""

DEFAULT_NEGATIVE = "worst quality, low quality, bad anatomy"
"""What MIGC's authors take where no negative prompt is given."""

MAXIMUM_COPIES = 7


class MIGCCondition(TextCondition):
    """What MIGC is told about one picture. The prompt should mention the instances."""

    negative: str = Field(default=DEFAULT_NEGATIVE, description="What the picture should not show.")
    instances: tuple[Instance, ...] = Field(
        default=(), description="Phrases and boxes; without any the picture is the base model's own."
    )
    ca_scale: Scales = Field(default=1.0, description="Strength of the instances' cross-attention to their phrases.")
    ea_scale: Scales = Field(default=1.0, description="Strength of the instances' enhancement attention.")
    sac_scale: Scales = Field(
        default=1.0,
        description="Factor on the instances' scores in the aggregation; a shorter list leaves the rest at 1.",
    )

    @model_validator(mode="after")
    def _instances_fit(self) -> MIGCCondition:
        count = len(self.instances)
        if count > MAXIMUM_INSTANCES:
            raise ValueError(f"found {count} instances, but MIGC takes at most {MAXIMUM_INSTANCES}: leave some out")
        blank = [position for position, instance in enumerate(self.instances) if not instance.phrase.strip()]
        if blank:
            raise ValueError(f"instance {blank[0]} has a blank phrase: say in words what stands in its box")
        for name in ("ca_scale", "ea_scale"):
            scale = getattr(self, name)
            if isinstance(scale, tuple) and len(scale) != count:
                raise ValueError(f"{name}: found {len(scale)} numbers for {count} instances: give one for each, or one")
        if isinstance(self.sac_scale, tuple) and len(self.sac_scale) > count:
            raise ValueError(
                f"sac_scale: found {len(self.sac_scale)} numbers for {count} instances: give at most {count}"
            )
        return self


def condition_from_scene(scene: Scene, options: MIGCOptions) -> MIGCCondition:
    """Take the caption and all instances of a scene, and the scales of the options.

    Where a scene has no negative prompt, MIGC's own stands in; `condition: {negative: ""}` in a composition means none.
    """
    return MIGCCondition(
        prompt=scene.caption,
        negative=scene.negative or DEFAULT_NEGATIVE,
        instances=tuple(scene.instances.values()),
        ca_scale=options.ca_scale,
        ea_scale=options.ea_scale,
        sac_scale=options.sac_scale,
    )


def per_instance(scale: Scales, instances: int) -> tuple[float, ...]:
    """Spread a scale over a number of instances; a shorter list is continued with 1."""
    if not isinstance(scale, tuple):
        return (scale,) * instances
    return scale + (1.0,) * (instances - len(scale))


def repeat_phrase(phrase: str, instances: int) -> str:
    """Return as many copies of a phrase as there are instances, at most 7, joined by `, and `."""
    return ", and ".join([phrase] * min(instances, MAXIMUM_COPIES))
