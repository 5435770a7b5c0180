"""Which texts among options name files of this machine, as the types of the options say."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .content_keys import Key, replace_value
from .models.references import path_of
from .provider import CHECKPOINT_REFERENCE_FORMAT

_FILE_FORMATS = frozenset({"path", "file-path", "directory-path", CHECKPOINT_REFERENCE_FORMAT})

# What stands before `://` is a name; in `/a:://b` it is a part of a path.
_ELSEWHERE = re.compile(r"[A-Za-z][\w.+-]*://")


@dataclass(frozen=True)
class OptionText:
    """A text that could be a path.

    Attributes:
        key: where it stands.
        value: the text.
        declared: whether its type says that it names a file.
    """

    key: Key
    value: str
    declared: bool


def option_texts(content: Mapping[str, Any], model: type[BaseModel], at: Key = ()) -> Iterator[OptionText]:
    """Yield the texts in the content of a model that could be paths.

    Left out are references to elsewhere (`hf://...`) and words of which the model lists all that it takes.

    Args:
        content: of the model, checked or not.
        model: whose types say what names a file.
        at: where the content stands.
    """
    schema = _schema(model)
    definitions = schema.get("$defs", {})

    def walk(value: Any, schemas: Sequence[Mapping[str, Any]], at: Key) -> Iterator[OptionText]:
        branches = list(_branches(schemas, definitions))
        if isinstance(value, str):
            listed = any(value in branch.get("enum", ()) or value == branch.get("const") for branch in branches)
            if not listed and not _ELSEWHERE.match(value):
                yield OptionText(at, value, any(branch.get("format") in _FILE_FORMATS for branch in branches))
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


def with_whole_paths(content: Mapping[str, Any], model: type[BaseModel], base_dir: Path) -> dict[str, Any]:
    """Return the content of a model with the files that it names relative to a folder as paths that hold everywhere."""
    placed = copy.deepcopy(dict(content))
    for text in option_texts(content, model):
        if text.declared:
            replace_value(placed, text.key, str(path_of(text.value, base_dir)))
    return placed


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
