"""From a picture's record back to a composition and a scene, with the files of this machine verified."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .composition import ResolvedComposition, read_composition
from .content_keys import replace_value, value_at
from .devices import choose_device, choose_dtype
from .errors import InputError, Problem
from .execution import ExecutionSettings, execution_problems
from .input_files import InputFile, files_of_scene, paths_in_composition
from .metadata import sha256_of, versions_of, weights_of
from .pipeline import AMDMPipeline
from .plugins import PluginRegistry
from .record import RecordedInput, RunRecord
from .scene import Scene, read_scene


@dataclass(frozen=True)
class RebuiltRun:
    """A run as a picture's record describes it, on this machine.

    Attributes:
        resolved: the composition.
        scene: what was drawn.
        differences: one sentence for every input file that is not the one the picture was made of.
        newer: one sentence for every package of another version.
    """

    resolved: ResolvedComposition
    scene: Scene
    differences: list[str]
    newer: list[str]


def rebuild(record: RunRecord, folders: Sequence[Path], plugins: PluginRegistry) -> RebuiltRun:
    """Find everything that a picture was made of, but for what only loading the models can tell.

    Args:
        record: of the picture.
        folders: where local files are looked for by name; a file of the right digest is taken before any other.
        plugins: the installed plugins.

    Raises:
        InputError: with every input that is missing, and whatever is wrong with the record.
    """
    contents: dict[str, dict[str, Any]] = {
        "composition": copy.deepcopy(dict(record.composition)),
        "scene": copy.deepcopy(dict(record.scene)),
    }
    problems = []
    differences = []
    for item in record.inputs:
        key = ".".join(map(str, item.key))
        content = contents[item.where]
        if value_at(content, item.key) != item.file:
            raise InputError([Problem(f"damaged: {item.where} does not name {item.file!r} there", key)])
        path = _find(item, folders)
        if path is None:
            looked = ", ".join(str(folder.absolute()) for folder in folders)
            what = "folder" if item.sha256 is None else "file"
            advice = (
                "give the folder that has it with --models FOLDER (weights and reference pictures are looked for there)"
            )
            problems.append(Problem(f"there is no {what} {item.file!r} in any of {looked}: {advice}", key))
            continue
        if (found := sha256_of(path)) != item.sha256:
            differences.append(f"{item.file} ({key}) is {_short(found)}, the picture was made of {_short(item.sha256)}")
        replace_value(content, item.key, str(path.absolute()))
    if problems:
        raise InputError(problems)
    # Before anything is made of it: a strategy may open its files as soon as it is made.
    named = paths_in_composition(contents["composition"], plugins, Path())
    _refuse_unlisted(record, "composition", [file for file in named if file.declared])
    resolved = read_composition(contents["composition"], plugins)
    scene = read_scene(contents["scene"])
    _refuse_unlisted(record, "scene", files_of_scene(scene))
    here = versions_of(resolved, plugins)
    newer = [
        f"the picture was drawn with {name} {version}, here is {here.get(name, 'none')}: it may differ slightly"
        for name, version in record.versions.items()
        if here.get(name) != version
    ]
    return RebuiltRun(resolved, scene, differences, newer)


def on_this_machine(
    resolved: ResolvedComposition, device: torch.device, dtype: str
) -> tuple[ResolvedComposition, list[str]]:
    """Replace whatever a composition asks of a machine that this one cannot do: it was drawn on another.

    Args:
        resolved: the composition.
        device: of the members that have no device of their own, or one that is not here.
        dtype: what networks compute in.

    Returns:
        The composition, and one sentence for every change that pixels may depend on.
    """
    composition = resolved.composition
    blocks, places, differences = [], [], []
    for member, block in zip(resolved.members, composition.providers, strict=True):
        place = device
        if block.device is not None:
            try:
                place = choose_device(block.device)
            except InputError:
                kind = torch.device(block.device).type
                block = block.model_copy(update={"device": None})
                if kind != device.type:
                    differences.append(f"{member.name} ran on {kind} when the picture was drawn, here on {device.type}")
        blocks.append(block)
        places.append(place)
    dtypes = [choose_dtype(composition.dtype if dtype == "auto" else dtype, place) for place in places]
    changes: dict[str, Any] = {"providers": tuple(blocks)} if tuple(blocks) != composition.providers else {}
    for problem in execution_problems(composition, places, dtypes):
        changes[problem.key] = ExecutionSettings.model_fields[problem.key].default
        differences.append(f"the picture was drawn with `{problem.key}: {getattr(composition, problem.key)}`, which is "
                           f"left out here: {problem.message}")  # fmt: skip
    if not changes:
        return resolved, []
    return replace(resolved, composition=composition.model_copy(update=changes)), differences


def differing_weights(record: RunRecord, pipeline: AMDMPipeline) -> list[str]:
    """Compare the weights that a pipeline read with those of a record; one sentence for every difference."""
    differences = []
    for member in record.members:
        read = {(file.component, file.sha256): file.file for file in weights_of(pipeline, member.name)}
        recorded = {(file.component, file.sha256): file.file for file in member.weights}
        for component, sha256 in recorded.keys() - read.keys():
            now = [digest for (part, digest) in read.keys() - recorded.keys() if part == component]
            found = ", ".join(map(_short, now)) or "not read at all"
            differences.append(
                f"{component} of {member.name} ({recorded[component, sha256]}) is {found}, the picture was made of "
                f"{_short(sha256)}"
            )
        for component, sha256 in read.keys() - recorded.keys():
            if all(part != component for part, _ in recorded):
                differences.append(
                    f"{component} of {member.name} ({read[component, sha256]}) took no part in the picture"
                )
    return sorted(differences)


def _find(item: RecordedInput, folders: Sequence[Path]) -> Path | None:
    candidates = [folder / item.file for folder in folders]
    candidates = [path for path in candidates if (path.is_dir() if item.sha256 is None else path.is_file())]
    same = (path for path in candidates if sha256_of(path) == item.sha256)
    return next(same, candidates[0] if candidates else None)


def _refuse_unlisted(record: RunRecord, where: str, named: Sequence[InputFile]) -> None:
    # A record is data from anywhere: it may not point at files that were not looked for by name.
    listed = {(item.where, tuple(item.key)) for item in record.inputs}
    problems = [
        Problem(
            "damaged: names a file of a machine that is not among the recorded inputs", ".".join(map(str, file.key))
        )
        for file in named
        if (where, file.key) not in listed
    ]
    if problems:
        raise InputError(problems)


def _short(sha256: str | None) -> str:
    return "a folder" if sha256 is None else f"sha256 {sha256[:12]}…"
