"""What a page begins with: the composition that the studio was started with, and the examples of installed plugins."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..composition import read_composition
from ..content_keys import replace_value
from ..errors import AMDMError
from ..input_files import files_of_composition, files_of_scene
from ..plugins import PluginRegistry
from ..scene import open_reference, read_scene
from ..yaml_files import read_yaml
from .uploads import UploadFolder


@dataclass(frozen=True)
class StartingPoint:
    """A composition and a scene as a page gets them.

    Attributes:
        title: what it is, in a line.
        composition: content, with whole paths of local weights.
        scene: content, its pictures among the uploads.
        files: the local weights.
    """

    title: str
    composition: dict[str, Any]
    scene: dict[str, Any]
    files: tuple[Path, ...] = ()


def read_start(
    title: str, composition: Path, scene: Path | None, plugins: PluginRegistry, uploads: UploadFolder
) -> StartingPoint:
    """Read a starting point from files of this machine; pictures may be all that `amdm run` takes.

    Args:
        title: what it is, in a line.
        composition: a YAML file.
        scene: a YAML file [an empty scene].
        plugins: the installed plugins.
        uploads: gets the pictures that both name.

    Raises:
        InputError: with every mistake of one of the files.
    """
    resolved = read_composition(composition, plugins)
    content = read_yaml(composition)
    weights = []
    for file in files_of_composition(resolved):
        if file.in_condition:
            replace_value(content, file.key, uploads.keep(open_reference(file.path), file.path.name))
        elif file.declared:
            # Other texts that are the name of something here are words, such as the variant `fp16`.
            replace_value(content, file.key, str(file.path.resolve()))
            weights.append(file.path.resolve())
    drawn: dict[str, Any] = {"caption": ""}
    if scene is not None:
        checked = read_scene(scene)
        drawn = read_yaml(scene)
        for file in files_of_scene(checked):
            replace_value(drawn, file.key, uploads.keep(open_reference(file.path), file.path.name))
    return StartingPoint(title, content, drawn, tuple(weights))


def starting_points(
    composition: Path | None, scene: Path | None, plugins: PluginRegistry, uploads: UploadFolder
) -> list[StartingPoint]:
    """Return what pages may begin with, the first by themselves.

    Args:
        composition: what the studio was started with.
        scene: likewise.
        plugins: their examples follow; one that is broken is warned about and left out.
        uploads: gets the pictures of all.

    Raises:
        InputError: with every mistake of what the studio was started with.
    """
    starts = []
    if composition is not None:
        starts.append(read_start(composition.name, composition, scene, plugins, uploads))
    for name, offer in plugins.examples.items():
        example = offer.value
        try:
            starts.append(read_start(example.summary, example.composition, example.scene, plugins, uploads))
        except AMDMError as error:
            warnings.warn(f"example {name} of {offer.distribution} is left out: {error}", stacklevel=2)
    if not starts:
        blocks = [{"use": name} for name in plugins.providers][:1]
        starts.append(StartingPoint("an empty scene", {"providers": blocks}, {"caption": ""}))
    return starts
