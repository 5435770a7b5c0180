"""What a provider is loaded with: device, dtype, where references lead, and the store of shared weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..devices import choose_device, choose_dtype
from ..errors import InputError, Problem
from ..execution import execution_problems
from ..provider import WeightFile
from .weight_sharing import WeightStore

if TYPE_CHECKING:
    from ..composition import ResolvedComposition
    from ..plugins import PluginRegistry


@dataclass
class LoadContext:
    """Handed to a spec's `load` and `inspect`; one per member.

    Attributes:
        device: where networks shall live.
        dtype: what networks shall compute in.
        base_dir: relative paths in options are relative to this folder (the composition's own).
        checkpoint_sources: resolvers of reference schemes registered by plugins, e.g. `zoo` for `zoo://name`;
            each maps the part behind `://` to a local file or folder.
        weights: holds every tensor once, over all members of the pipeline.
        weight_files: every file of weights that was read for this member; loaders append to it.
    """

    device: torch.device
    dtype: torch.dtype
    base_dir: Path = field(default_factory=Path)
    checkpoint_sources: Mapping[str, Callable[[str], Path]] = field(default_factory=dict)
    weights: WeightStore = field(default_factory=WeightStore)
    weight_files: list[WeightFile] = field(default_factory=list)


def load_contexts(
    resolved: ResolvedComposition, plugins: PluginRegistry, device: str = "auto", dtype: str = "auto"
) -> list[LoadContext]:
    """Return what each member of a composition is loaded with, target first; weights are shared over all of them.

    Args:
        resolved: the composition; a member's own `device` goes before `device`.
        plugins: the installed plugins.
        device: of all other members; `auto` takes a GPU where there is one.
        dtype: what networks compute in; `auto` is what the composition says.

    Raises:
        InputError: a device that is not here, or an option of the composition that these devices cannot do.
    """
    composition = resolved.composition
    problems = []
    places = [choose_device(device)] * len(composition.providers)
    for index, block in enumerate(composition.providers):
        if block.device is not None:
            try:
                places[index] = choose_device(block.device)
            except InputError as error:
                problems.append(Problem(str(error), f"providers.{index}.device"))
    dtypes = [choose_dtype(composition.dtype if dtype == "auto" else dtype, place) for place in places]
    problems += execution_problems(composition, places, dtypes)
    if problems:
        raise InputError(problems)
    weights = WeightStore()
    return [
        LoadContext(place, own, resolved.base_dir, plugins.checkpoint_sources, weights)
        for place, own in zip(places, dtypes, strict=True)
    ]
