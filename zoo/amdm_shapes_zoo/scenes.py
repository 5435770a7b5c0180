"""Pictures of the world as scenes of the framework, so that every installed model takes from them what it understands."""

from __future__ import annotations

from PIL import Image

from amdm_framework.scene import Instance, Interaction, Reference, Scene
from amdm_shapes_zoo.captions import full_description
from amdm_shapes_zoo.world import ACTIONS, NO_ACTION, Layouts

LONE = "and"
"""Action of an instance with itself: grounds an instance that takes part in no interaction."""


def scene_of(layouts: Layouts, index: int, style: Image.Image | None = None) -> Scene:
    """What picture `index` shows, as a scene.

    The caption names colours, shapes and the interaction, neither positions nor the background: positions are in the
    boxes, and the background is what `style` is a reference for.

    Args:
        layouts: pictures.
        index: which of them.
        style: a picture in whose style the background shall be; None leaves the background open.
    """
    described = full_description(layouts, index).without(positions=True, background=True)
    names = [f"instance {k + 1}" for k in range(len(described.instances))]
    instances = {
        name: Instance(phrase=instance.noun_phrase(), box=tuple(float(edge) for edge in layouts.boxes[index, k]))
        for k, (name, instance) in enumerate(zip(names, described.instances, strict=True))
    }
    acting: list[Interaction] = []
    if layouts.action[index] != NO_ACTION:
        subject, object_ = names[layouts.subject[index]], names[layouts.object[index]]
        acting = [Interaction(subject=subject, action=ACTIONS[layouts.action[index]], object=object_)]
    taken = {name for one in acting for name in (one.subject, one.object)}
    lone = [Interaction(subject=name, action=LONE, object=name) for name in names if acting and name not in taken]
    references = () if style is None else (Reference(role="style", image=style),)
    return Scene(caption=described.text(), instances=instances, interactions=(*acting, *lone), references=references)
