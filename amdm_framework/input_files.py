"""Which files of this machine a run reads besides the composition and the scene themselves."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .composition import ResolvedComposition
from .models.references import path_of
from .provider import CHECKPOINT_REFERENCE_FORMAT
from .scene import Scene
from .yaml_files import positions_of

_FILE_FORMATS = frozenset({"path", "file-path", "directory-path", CHECKPOINT_REFERENCE_FORMAT})

# What stands before `://` is a name; in `/a:://b` it is a part of a path.
_ELSEWHERE = re.compile(r"[A-Za-z][\w.+-]*://")

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class InputFile:
    """One value of a composition or a scene that leads to a file or folder of this machine.

    Attributes:
        key: where the value stands.
        path: where it leads.
        declared: whether its type says that it names a file; otherwise something of that name exists.
    """

    key: Key
    path: Path
    declared: bool = True


def files_of_composition(resolved: ResolvedComposition) -> list[InputFile]:
    """Return the local files and folders that a composition names in its providers' options and conditions.

    Options of the types `Path` and `CheckpointReference` name files; so does every other text option that is the path
    of something that exists. References to elsewhere (`hf://...`) are left out.
    """
    return [file for file in paths_of_composition(resolved) if file.declared or _exists(file.path)]


def paths_of_composition(resolved: ResolvedComposition) -> list[InputFile]:
    """Return where every text of a composition's providers would lead as a path, whether anything is there or not.

    Texts of a condition that do not say that they name a file are words for the model, and left out; so are references
    to elsewhere.
    """
    files = []
    for index, (block, member) in enumerate(zip(resolved.composition.providers, resolved.members, strict=True)):
        at: Key = ("providers", index)
        texts = [*_texts(block.model_extra or {}, member.spec.options, at)]
        # Whatever lies in the folder under the same name.
        texts += [text for text in _texts(block.condition, member.spec.condition, (*at, "condition")) if text.declared]
        files += [
            InputFile(text.key, path_of(text.value, resolved.base_dir), text.declared)
            for text in texts
            if not _ELSEWHERE.match(text.value)
        ]
    return files


def files_of_scene(scene: Scene) -> list[InputFile]:
    """Return the pictures that a scene refers to."""
    return [
        InputFile(("references", index, "image"), reference.image)
        for index, reference in enumerate(scene.references)
        if isinstance(reference.image, Path)
    ]


def value_at(content: Any, key: Key) -> Any:
    """Return the value at a key of parsed YAML or JSON, None where there is none; a member's name is a position."""
    for part in key:
        if isinstance(content, list) and isinstance(part, str) and len(positions := positions_of(content, part)) == 1:
            part = positions[0]
        try:
            content = content[part]
        except (LookupError, TypeError):
            return None
    return content


def replace_value(content: Any, key: Key, value: str) -> None:
    """Set the value at an existing key of parsed YAML or JSON, in place."""
    *parents, last = key
    value_at(content, tuple(parents))[last] = value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class _Text:
    key: Key
    value: str
    declared: bool
    """Whether the model says that it names a file."""


def _texts(content: Mapping[str, Any], model: type[BaseModel], at: Key) -> Iterator[_Text]:
    """Yield every text in some content of a model."""
    schema = _schema(model)
    definitions = schema.get("$defs", {})

    def walk(value: Any, schemas: Sequence[Mapping[str, Any]], at: Key) -> Iterator[_Text]:
        branches = list(_branches(schemas, definitions))
        if isinstance(value, str):
            yield _Text(at, value, any(branch.get("format") in _FILE_FORMATS for branch in branches))
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                below = [b["properties"][name] for b in branches if name in b.get("properties", {})]
                below += [
                    b["additionalProperties"] for b in branches if isinstance(b.get("additionalProperties"), dict)
                ]
                yield from walk(inner, below, (*at, name))
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                below = [b["prefixItems"][index] for b in branches if index < len(b.get("prefixItems", ()))]
                below += [b["items"] for b in branches if isinstance(b.get("items"), dict)]
                yield from walk(inner, below, (*at, index))

    return walk(content, [schema], at)


# Making a schema takes milliseconds, and every batch of many asks for the same ones.
@functools.cache
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    return model.model_json_schema()


def _branches(schemas: Sequence[Mapping[str, Any]], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for schema in schemas:
        if "$ref" in schema:
            yield from _branches([definitions[schema["$ref"].rpartition("/")[2]]], definitions)
        for union in ("anyOf", "oneOf", "allOf"):
            yield from _branches(schema.get(union, ()), definitions)
        yield schema
