"""What a form shows for the options of a model, a strategy or the sampler: one field per key, from its JSON schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from ..descriptions import describe_options
from ..provider import CHECKPOINT_REFERENCE_FORMAT

Kind = Literal["text", "number", "integer", "switch", "choice", "reference", "yaml"]


@dataclass(frozen=True)
class FormField:
    """One field of a form.

    Attributes:
        key: as it is written in a composition.
        kind: how it is edited; `reference` is a text that names weights, `yaml` a text for everything that no other
            kind fits (lists, mappings).
        type: what it takes, in words.
        help: what it means.
        required: whether it must be given.
        default: its default as JSON; None where it is required or has none.
        choices: for `choice`: the values as JSON.
        minimum: for numbers, None for none.
        maximum: for numbers, None for none.
    """

    key: str
    kind: Kind
    type: str
    help: str
    required: bool
    default: Any
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


def form_of(model: type[BaseModel], leave_out: Sequence[str] = ()) -> list[FormField]:
    """Return a field for every option of a pydantic model.

    Args:
        model: the options.
        leave_out: keys that are edited elsewhere.
    """
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    fields = []
    for option in describe_options(model):
        if option.name in leave_out:
            continue
        branches = [
            branch for branch in _branches(schema["properties"][option.name], definitions) if branch != {"type": "null"}
        ]
        kind, choices = _kind(branches)
        numbers = branches[0] if kind in ("number", "integer") else {}
        fields.append(
            FormField(
                option.name,
                kind,
                option.type,
                option.description,
                option.required,
                option.default,
                choices,
                numbers.get("minimum", numbers.get("exclusiveMinimum")),
                numbers.get("maximum", numbers.get("exclusiveMaximum")),
            )
        )
    return fields


def _kind(branches: Sequence[Mapping[str, Any]]) -> tuple[Kind, tuple[Any, ...]]:
    if all("enum" in branch or "const" in branch for branch in branches):
        values = [value for branch in branches for value in branch.get("enum", [branch.get("const")])]
        # True and 1 are equal in Python, but not as JSON.
        return "choice", tuple(values)
    if len(branches) != 1:
        return "yaml", ()
    (branch,) = branches
    if branch.get("type") == "boolean":
        return "switch", ()
    if branch.get("type") in ("number", "integer"):
        return branch["type"], ()
    if branch.get("type") == "string":
        return "reference" if branch.get("format") == CHECKPOINT_REFERENCE_FORMAT else "text", ()
    return "yaml", ()


def _branches(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in schema:
        yield from _branches(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return
    for union in ("anyOf", "oneOf"):
        if union in schema:
            for branch in schema[union]:
                yield from _branches(branch, definitions)
            return
    yield schema
