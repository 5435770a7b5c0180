"""What `amdm plugins` says of everything installed, and options as rows that a person can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

_WORDS = {"string": "text", "number": "number", "integer": "integer", "boolean": "true or false", "null": "null"}


@dataclass(frozen=True)
class OptionDescription:
    """One option.

    Attributes:
        name: the key as it is written in a composition.
        type: what it takes, in words (`number from 0 to 1`, `list of text`).
        required: whether it must be given.
        default: its default as JSON; None where it is required.
        description: what it means.
    """

    name: str
    type: str
    required: bool
    default: Any
    description: str


@dataclass(frozen=True)
class PluginDescription:
    """One installed plugin: an entry point of a distribution.

    Attributes:
        entry_point: its name in the distribution's metadata; `built-in` for the framework's own.
        distribution: the package it comes from.
        version: that package's version.
        status: `broken` where anything of it could not be loaded or registered; the rest of it works.
        reason: what went wrong, empty where nothing did.
    """

    entry_point: str
    distribution: str
    version: str
    status: Literal["ok", "broken"]
    reason: str


@dataclass(frozen=True)
class ProviderDescription:
    """One provider that a plugin registered, or tried to.

    Attributes:
        name: the word behind `use:`.
        distribution: the package it comes from.
        version: that package's version.
        status: `broken` where the name cannot be used.
        reason: why not, empty where it can.
        summary: one line.
        options: the keys its block in a composition takes; empty where it is broken.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "broken"]
    reason: str
    summary: str = ""
    options: tuple[OptionDescription, ...] = ()


@dataclass(frozen=True)
class StrategyDescription(ProviderDescription):
    """One aggregation strategy; beyond what a provider says:

    Attributes:
        formula: the update in one line.
        space: what is mixed.
        privileged_target: whether the first provider plays a part the others do not.
        needs_regions: whether it acts on the scene's boxes.
        source: where it comes from.
    """

    formula: str = ""
    space: str = ""
    privileged_target: bool = False
    needs_regions: bool = False
    source: str = ""


@dataclass(frozen=True)
class BenchmarkDescription:
    """One benchmark that a plugin registered, or tried to; attributes as for a provider, and:

    Attributes:
        objective: the figure that stands for all of them.
        figures: every figure's name, and what it means.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "broken"]
    reason: str
    summary: str = ""
    objective: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ExampleDescription:
    """One example that a plugin registered, or tried to; attributes as for a provider, and:

    Attributes:
        composition: path of its composition.
        scene: path of its scene.
    """

    name: str
    distribution: str
    version: str
    status: Literal["ok", "broken"]
    reason: str
    summary: str = ""
    composition: str = ""
    scene: str = ""


@dataclass(frozen=True)
class CheckpointSourceDescription:
    """One scheme of checkpoint references; attributes as for a provider, `name` without the `://`."""

    name: str
    distribution: str
    version: str
    status: Literal["ok", "broken"]
    reason: str


@dataclass(frozen=True)
class InstalledDescription:
    """Everything installed. `dataclasses.asdict` of it can be written as JSON."""

    plugins: tuple[PluginDescription, ...]
    providers: tuple[ProviderDescription, ...]
    strategies: tuple[StrategyDescription, ...]
    benchmarks: tuple[BenchmarkDescription, ...]
    examples: tuple[ExampleDescription, ...]
    checkpoint_sources: tuple[CheckpointSourceDescription, ...]


def describe_options(model: type[BaseModel]) -> tuple[OptionDescription, ...]:
    """Describe every field of a pydantic model.

    Raises:
        pydantic.errors.PydanticUserError: a field's type has no JSON schema.
    """
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    required = set(schema.get("required", ()))
    rows = []
    for attribute, option in model.model_fields.items():
        name = attribute if attribute in schema["properties"] else str(option.alias)
        default = None
        # A default that is computed from other options cannot be known beforehand.
        if name not in required and not option.default_factory_takes_validated_data:
            default = to_jsonable_python(option.get_default(call_default_factory=True), fallback=str)
        words = describe_type(schema["properties"][name], definitions)
        rows.append(OptionDescription(name, words, name in required, default, option.description or ""))
    return tuple(rows)


def describe_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema accepts.

    Args:
        schema: the schema of one value.
        definitions: what its `$ref`s lead to, by name.
    """
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return describe_type(definitions[name], definitions)
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        # As they are written in YAML.
        return " | ".join(value if isinstance(value, str) else json.dumps(value) for value in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(dict.fromkeys(describe_type(member, definitions) for member in schema[union]))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return "[" + ", ".join(describe_type(item, definitions) for item in schema["prefixItems"]) + "]"
        items = describe_type(schema.get("items", {}), definitions)
        if " | " in items:
            return f"list of ({items})"
        word, *rest = items.split(" ", 1)
        return " ".join(["list of", f"{word}s" if word in ("number", "integer", "path") else word, *rest])
    if kind == "object":
        if "properties" in schema:
            return "{" + ", ".join(schema["properties"]) + "}"
        values = schema.get("additionalProperties")
        return f"mapping of names to {describe_type(values if isinstance(values, Mapping) else {}, definitions)}"
    if kind == "string" and "path" in str(schema.get("format", "")):
        return "path"
    if kind not in _WORDS:
        return "anything"
    return _WORDS[kind] + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']:g} to {schema['maximum']:g}"
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in words.items() if key in schema]
    return " " + ", ".join(limits) if limits else ""
