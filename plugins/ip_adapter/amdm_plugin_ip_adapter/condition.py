"""What IP-Adapter is told about one picture: the prompt, reference pictures, where and how strongly they act."""

from __future__ import annotations

from pydantic import Field, model_validator

from amdm_framework.scene import Box, Reference, Scene, StrictModel

from .options import IPAdapterOptions
from .strength import Strength


class ReferencePicture(Reference):
    """A picture to draw after, optionally limited to a part of the drawn picture."""

    role: str = Field(default="style", min_length=1, description="Kept from the scene; without effect here.")
    box: Box | None = Field(default=None, description="The part of the picture in which it acts [all of it].")
    mask: Reference | None = Field(
        default=None, description="A picture of the part in which it acts: white where it does, black elsewhere."
    )

    @model_validator(mode="after")
    def _one_region(self) -> ReferencePicture:
        if self.box is not None and self.mask is not None:
            raise ValueError("give `box` or `mask`, not both")
        return self


class IPAdapterCondition(StrictModel):
    """One picture's prompt and reference pictures."""

    prompt: str = Field(default="", description="The whole picture in words.")
    negative: str = Field(default="", description="What the picture should not show.")
    references: tuple[ReferencePicture, ...] = Field(min_length=1, description="Pictures to draw after.")
    strength: Strength = Field(default_factory=Strength, description="How strongly they act, and in which blocks.")


def condition_from_scene(scene: Scene, options: IPAdapterOptions) -> IPAdapterCondition:
    """Take the caption and the references of the wanted role from a scene.

    A reference that names an instance acts in that instance's box. References of the role `<role>_mask`, one for each
    reference in the same order, are masks.

    Raises:
        ValueError: the scene has no such reference, or as many masks as do not fit.
        InputError: a file is no picture of 8 bits.
    """
    wanted = [reference for reference in scene.references if reference.role == options.role]
    mask_role = f"{options.role}_mask"
    masks = [reference for reference in scene.references if reference.role == mask_role]
    if not wanted:
        roles = sorted({reference.role for reference in scene.references})
        found = f"its references have the roles {', '.join(roles)}" if roles else "it has no references"
        raise ValueError(
            f"IP-Adapter draws after reference pictures, and the scene has none of role {options.role!r} ({found}): "
            f"add `references: [{{role: {options.role}, image: picture.png}}]` to the scene, or set this provider's "
            "`role`"
        )
    if masks and len(masks) != len(wanted):
        raise ValueError(
            f"the scene has {len(wanted)} reference(s) of role {options.role!r} and {len(masks)} of role "
            f"{mask_role!r}, expected one mask for each, in the same order, or none"
        )
    pictures = []
    for index, reference in enumerate(wanted):
        if masks and reference.instance is not None:
            raise ValueError(
                f"a reference of role {options.role!r} names the instance {reference.instance!r} and has a mask: its "
                "region can be one of them only"
            )
        for picture in (reference, *masks[index : index + 1]):
            picture.open()
        pictures.append(
            ReferencePicture(
                role=reference.role,
                image=reference.image,
                instance=reference.instance,
                box=None if reference.instance is None else scene.instances[reference.instance].box,
                mask=masks[index] if masks else None,
            )
        )
    return IPAdapterCondition(
        prompt=scene.caption,
        negative=scene.negative,
        references=tuple(pictures),
        strength=options.strength(),
    )
