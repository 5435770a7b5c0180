"""What ControlNet is told about one picture: the prompt, the control picture, how strongly and when it acts."""

from __future__ import annotations

from pydantic import Field

from amdm_framework.scene import Reference, Scene

from .options import ControlNetOptions, ControlStrength


class ControlNetCondition(ControlStrength):
    """One picture's prompt and control picture."""

    prompt: str = Field(default="", description="The whole picture in words.")
    negative: str = Field(default="", description="What the picture should not show.")
    control: Reference = Field(description="The control picture, finished: edges, a depth map, a pose.")


def condition_from_scene(scene: Scene, options: ControlNetOptions) -> ControlNetCondition:
    """Take the caption and the reference of the wanted role from a scene.

    Raises:
        ValueError: the scene has no such reference or several, or it is about one instance only.
        InputError: its file is no picture of 8 bits.
    """
    wanted = [reference for reference in scene.references if reference.role == options.role]
    if not wanted:
        roles = sorted({reference.role for reference in scene.references})
        found = f"its references have the roles {', '.join(roles)}" if roles else "it has no references"
        raise ValueError(
            f"ControlNet needs a control picture, and the scene has none of role {options.role!r} ({found}): add "
            f"`references: [{{role: {options.role}, image: edges.png}}]` to the scene, or set this provider's `role`"
        )
    if len(wanted) > 1:
        raise ValueError(
            f"the scene has {len(wanted)} references of role {options.role!r}, expected one: a ControlNet obeys one "
            "control picture; give the others roles of their own, each for a further provider with that `role`"
        )
    (control,) = wanted
    if control.instance is not None:
        raise ValueError(
            f"the reference of role {options.role!r} names the instance {control.instance!r}, but a control picture "
            "is laid over the whole picture: leave `instance` out"
        )
    # A file that is no picture is a matter of the scene, so it is told before anything is loaded.
    control.open()
    strength = {name: getattr(options, name) for name in ControlStrength.model_fields}
    return ControlNetCondition(prompt=scene.caption, negative=scene.negative, control=control, **strength)
