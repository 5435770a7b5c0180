"""What a page is working on: a composition and a scene, as content or as YAML, checked as far as they are complete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..composition import ResolvedComposition, read_composition
from ..cost import MemberInspections, RunCost, examine_scenes
from ..errors import AMDMError, IncompatibleProvidersError, InputError, Problem
from ..plugins import PluginRegistry
from ..scene import Scene, read_scene
from ..yaml_files import to_yaml
from .containment import ReadableFiles
from .limits import check_amounts, plain_content

MAX_SIDE = 4096
"""Longest side of a picture that a page may ask for, in pixels."""

Part = Literal["composition", "scene"]


@dataclass(frozen=True)
class PartProblem:
    """What is wrong with one part, at one of its keys."""

    part: Part
    key: str
    message: str


@dataclass(frozen=True)
class Draft:
    """What became of a composition and a scene.

    Attributes:
        composition: its content, None where the YAML cannot be read.
        scene: likewise.
        problems: everything that is wrong with both, the first as written.
        resolved: the composition, None where it cannot be drawn.
        drawn: the scene, None where it cannot be drawn.
        cost: what a picture takes, None where something is wrong.
        incompatible: why the models cannot be aggregated, an empty string where they can.
    """

    composition: dict[str, Any] | None
    scene: dict[str, Any] | None
    problems: tuple[PartProblem, ...]
    resolved: ResolvedComposition | None = None
    drawn: Scene | None = None
    cost: RunCost | None = None
    incompatible: str = ""

    def for_page(self) -> dict[str, Any]:
        """Return what the page shows of it, as plain data."""
        return {
            "composition": self.composition,
            "scene": self.scene,
            "composition_yaml": None if self.composition is None else to_yaml(self.composition),
            "scene_yaml": None if self.scene is None else to_yaml(self.scene),
            "problems": [asdict(problem) for problem in self.problems],
            "cost": None if self.cost is None else asdict(self.cost),
            "incompatible": self.incompatible,
        }


class DraftChecker:
    """Checks drafts, and remembers what files said of the models in them.

    Args:
        plugins: the installed plugins.
        files: what a page may name.
        device: of members that do not name their own.
        dtype: what networks compute in.

    Attributes:
        files: what a page may name.
    """

    def __init__(self, plugins: PluginRegistry, files: ReadableFiles, device: str, dtype: str) -> None:
        self._plugins = plugins
        self.files = files
        self._device = device
        self._dtype = dtype
        self._inspections = MemberInspections()

    def check(self, composition: str | Mapping[str, Any], scene: str | Mapping[str, Any]) -> Draft:
        """Check a composition and a scene, each as YAML or as the content that a form holds."""
        contents: dict[Part, dict[str, Any] | None] = {"composition": None, "scene": None}
        problems: list[PartProblem] = []
        for part, written in (("composition", composition), ("scene", scene)):
            try:
                contents[part] = plain_content(written)  # type: ignore[index]
            except InputError as error:
                problems += _at(part, error)  # type: ignore[arg-type]
        resolved = drawn = None
        if contents["composition"] is not None:
            try:
                resolved = self._resolve(contents["composition"])
            except InputError as error:
                problems += _at("composition", error)
        if contents["scene"] is not None:
            try:
                check_amounts(contents["scene"])
                self.files.check_scene(contents["scene"])
                drawn = read_scene(contents["scene"], self.files.base_dir)
            except InputError as error:
                problems += _at("scene", error)
            problems += _out_of_order(contents["scene"])
        cost = None
        incompatible = ""
        if resolved is not None:
            try:
                scenes = [] if drawn is None else [drawn]
                cost, _ = examine_scenes(resolved, scenes, self._plugins, self._device, self._dtype, self._inspections)
            except IncompatibleProvidersError as error:
                incompatible = str(error)
            except InputError as error:
                problems += [_at_member(problem, resolved) for problem in error.problems]
            except AMDMError as error:
                problems.append(PartProblem("composition", "", str(error)))
            problems += _too_large(resolved, cost)
        # Where the studio keeps uploads is nobody's business; names are relative to that folder.
        told = tuple(
            replace(problem, message=problem.message.replace(f"{self.files.base_dir}/", "")) for problem in problems
        )
        return Draft(contents["composition"], contents["scene"], told, resolved, drawn, cost, incompatible)

    def _resolve(self, content: dict[str, Any]) -> ResolvedComposition:
        check_amounts(content)
        # Before anything is made of it: a strategy may open its files as soon as it is made.
        placed = self.files.place(content, self._plugins)
        return read_composition(placed, self._plugins, base_dir=self.files.base_dir)


def _at(part: Part, error: InputError) -> list[PartProblem]:
    return [PartProblem(part, problem.key, problem.message) for problem in error.problems]


def _at_member(problem: Problem, resolved: ResolvedComposition) -> PartProblem:
    # What a member misses in a scene is told by the member's name; one name may begin like another.
    by_length = sorted(enumerate(resolved.members), key=lambda item: len(item[1].name), reverse=True)
    for index, member in by_length:
        name, dot, rest = problem.key.partition(f"provider {member.name}")
        if not name and dot and rest[:1] in ("", "."):
            return PartProblem("composition", f"providers.{index}{rest}", problem.message)
    return PartProblem("composition", problem.key, problem.message)


def _out_of_order(scene: dict[str, Any]) -> list[PartProblem]:
    # Models get instances in their order, and JavaScript puts keys that are whole numbers before all others.
    instances = scene.get("instances")
    return [
        PartProblem(
            "scene", f"instances.{name}", "found a number as a name, expected a word: the page cannot keep its place"
        )
        for name in (instances if isinstance(instances, dict) else ())
        if re.fullmatch(r"0|[1-9][0-9]*", name)
    ]


def _too_large(resolved: ResolvedComposition, cost: RunCost | None) -> list[PartProblem]:
    sampler = resolved.composition.sampler
    sides = {
        "height": sampler.height or (cost.height if cost else None) or 0,
        "width": sampler.width or (cost.width if cost else None) or 0,
    }
    return [
        PartProblem("composition", f"sampler.{name}", f"found {side}, expected {MAX_SIDE} at most in the studio")
        for name, side in sides.items()
        if side > MAX_SIDE
    ]
