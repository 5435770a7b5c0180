"""The rows of a table: the targets of compositions alone, and the compositions, each with a folder for its pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amdm_framework.composition import ResolvedComposition, read_composition
from amdm_framework.errors import AMDMError, InputError, Problem
from amdm_framework.laboratory.strategy_variants import alone_variants
from amdm_framework.laboratory.variants import read_source
from amdm_framework.metadata import composition_digest
from amdm_framework.plugins import PluginRegistry

TABLE_NAME = "table.json"


@dataclass(frozen=True)
class Row:
    """One way of drawing the benchmark.

    Attributes:
        folder: for its pictures.
        label: what draws, for people.
        file: the composition that it comes from.
        resolved: what draws.
    """

    folder: Path
    label: str
    file: Path
    resolved: ResolvedComposition


def plan_rows(files: Sequence[Path], overrides: Sequence[str], output: Path, plugins: PluginRegistry) -> list[Row]:
    """Return the rows of a table: before the compositions with one target, a row of this target alone.

    Targets are one where they are drawn with in the same way, from the same local files. Folders are named after the
    target and after the file of the composition; of equal names the second gets a number.

    Args:
        files: of the compositions.
        overrides: `dotted.key=value` texts, for each of them.
        output: the folder of the rows' folders.
        plugins: the installed plugins.

    Raises:
        InputError: with every mistake of all compositions; or one is given twice.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    taken = {TABLE_NAME}
    targets: set[str] = set()
    compositions: dict[str, Path] = {}
    for file in files:
        try:
            resolved = read_composition(file, plugins, overrides)
            alone = _target_alone(file, resolved, overrides, plugins)
            digest = composition_digest(resolved)
        except InputError as error:
            problems += error.problems
            continue
        except AMDMError as error:
            problems.append(Problem(str(error), file=str(file)))
            continue
        if digest in compositions:
            problems.append(Problem(f"is the same composition as {compositions[digest]}", file=str(file)))
            continue
        compositions[digest] = file
        target = composition_digest(alone)
        if target not in targets and len(resolved.members) > 1:
            name = resolved.members[0].name
            rows.append(Row(output / _free_name(name, taken), f"{name} of {file} alone", file, alone))
        targets.add(target)
        rows.append(Row(output / _free_name(file.stem, taken), str(file), file, resolved))
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return rows


def _target_alone(
    file: Path, resolved: ResolvedComposition, overrides: Sequence[str], plugins: PluginRegistry
) -> ResolvedComposition:
    content: dict[str, Any] = alone_variants(read_source(file, overrides), resolved)[0].content
    # The target draws from the same noise, whether or not the others have their own.
    if isinstance(content.get("sampler"), dict):
        content["sampler"].pop("initial_noise", None)
    return read_composition(content, plugins, base_dir=file.parent)


def _free_name(wanted: str, taken: set[str]) -> str:
    stem = re.sub(r"[^\w.+-]+", "-", wanted).strip(".-") or "row"
    name, number = stem, 2
    # Some file systems take names for one that differ in case only.
    while name.casefold() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.casefold())
    return name
