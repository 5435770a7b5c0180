"""JSON schemas of compositions and scenes, with the options of everything installed, for editors to complete from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .composition import AggregationBlock, Composition, ProviderBlock
from .plugins import PluginRegistry
from .scene import Scene

# The dialect that editors' YAML servers know best.
_DIALECT = "http://json-schema.org/draft-07/schema#"

Schema = dict[str, Any]


def scene_schema() -> Schema:
    """Return the JSON schema (draft 7) of a scene."""
    return {"$schema": _DIALECT, **_to_draft_7(Scene.model_json_schema())}


def composition_schema(plugins: PluginRegistry) -> Schema:
    """Return the JSON schema (draft 7) of a composition of the installed providers and strategies.

    A provider's block is the alternative whose `use` is its name, with the provider's own options and the keys of its
    condition; the aggregation likewise by `strategy`.
    """
    specs = [offer.value for offer in plugins.providers.values()]
    strategies = [offer.value for offer in plugins.strategies.values()]
    models: set[type[BaseModel]] = {Composition, ProviderBlock, AggregationBlock}
    models |= {model for spec in specs for model in (spec.options, spec.condition)}
    models |= {strategy.options for strategy in strategies}
    # In one go, so that models of one name in different plugins get different definitions.
    ordered = sorted(models, key=lambda model: f"{model.__module__}.{model.__qualname__}")
    references, together = models_json_schema([(model, "validation") for model in ordered])
    definitions: dict[str, Schema] = together["$defs"]

    def schema_of(model: type[BaseModel]) -> Schema:
        return definitions[references[model, "validation"]["$ref"].rpartition("/")[2]]

    blocks = []
    for spec in specs:
        block = _block(schema_of(ProviderBlock), "use", spec.name, spec.summary, schema_of(spec.options))
        block["required"] = ["use", *block["required"]]
        # Overrides replace parts of what the scene gives, so none of them is required.
        condition = {key: value for key, value in schema_of(spec.condition).items() if key != "required"}
        block["properties"]["condition"] = {**block["properties"]["condition"], **condition}
        blocks.append(block)
    aggregations = []
    default = AggregationBlock.model_fields["strategy"].default
    for strategy in strategies:
        own = schema_of(strategy.options)
        block = _block(schema_of(AggregationBlock), "strategy", strategy.name, strategy.summary, own)
        block["required"] = [*([] if strategy.name == default else ["strategy"]), *block["required"]]
        aggregations.append(block)
    schema = schema_of(Composition)
    schema["properties"]["providers"]["items"] = {"anyOf": blocks}
    aggregation = schema["properties"]["aggregation"]
    schema["properties"]["aggregation"] = {"description": aggregation["description"], "anyOf": aggregations}
    return {"$schema": _DIALECT, **_to_draft_7({**schema, "$defs": _used(schema, definitions)})}


def _block(frame: Schema, key: str, name: str, summary: str, options: Schema) -> Schema:
    described = {"const": name, "description": summary}
    return {
        "title": name,
        "description": summary,
        "type": "object",
        "properties": {**frame["properties"], key: described, **options.get("properties", {})},
        "required": list(options.get("required", ())),
        "additionalProperties": False,
    }


def _used(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    used: dict[str, Schema] = {}
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name in definitions and name not in used:
                used[name] = definitions[name]
                waiting.append(definitions[name])
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return dict(sorted(used.items()))


def _to_draft_7(value: Any) -> Any:
    # pydantic writes draft 2020-12; of what it uses, only fixed-length lists are spelled otherwise in draft 7.
    if isinstance(value, list):
        return [_to_draft_7(item) for item in value]
    if not isinstance(value, dict):
        return value
    converted = {key: _to_draft_7(item) for key, item in value.items()}
    if "prefixItems" in converted:
        converted["items"] = converted.pop("prefixItems")
    return converted
