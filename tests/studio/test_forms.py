"""Forms have a field for every option, and say of it what pydantic's own JSON schema says."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from amdm_framework.composition import ProviderBlock, SamplerSettings
from amdm_framework.execution import ExecutionSettings
from amdm_framework.plugins import PluginRegistry, discover
from amdm_framework.provider import CheckpointReference
from amdm_framework.studio.forms import FormField, form_of


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


class Inner(BaseModel):
    value: int = 0


class Options(BaseModel):
    """One option of every kind."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(description="Words.")
    weights: CheckpointReference = Field(default="base", description="Weights.")
    whole: int = Field(default=3, ge=1, le=9, description="A whole number.")
    number: float | None = Field(default=None, gt=0, lt=2, description="A number or none.")
    switch: bool = Field(default=False, description="On or off.")
    choice: Literal["a", "b"] = Field(default="a", description="One of two.")
    mixed: Literal["auto", 1, True] | None = Field(default="auto", description="Values of several types.")
    size: Size = Field(default=Size.SMALL, description="A number of an enumeration.")
    entries: tuple[float, ...] = Field(default=(), description="Numbers.")
    inner: Inner = Field(default_factory=Inner, description="Keys of its own.")
    either: int | str = Field(default=1, description="A number or a word.")
    hidden: Annotated[int, Field(description="Edited elsewhere.")] = 0


def field(name: str) -> FormField:
    return next(one for one in form_of(Options) if one.key == name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("text", "text"), ("weights", "reference"), ("whole", "integer"), ("number", "number"), ("switch", "switch"),
        ("choice", "choice"), ("mixed", "choice"), ("size", "choice"), ("entries", "yaml"), ("inner", "yaml"),
        ("either", "yaml"),
    ],
)  # fmt: skip
def test_kinds(name: str, kind: str) -> None:
    assert field(name).kind == kind


def test_choices_keep_their_types() -> None:
    assert field("choice").choices == ("a", "b")
    assert [(type(value), value) for value in field("mixed").choices] == [(str, "auto"), (int, 1), (bool, True)]
    assert field("size").choices == (1, 2)
    assert field("whole").choices == ()


def test_bounds_and_defaults() -> None:
    assert (field("whole").minimum, field("whole").maximum, field("whole").default) == (1, 9, 3)
    assert (field("number").minimum, field("number").maximum, field("number").default) == (0, 2, None)
    assert field("text").required and field("text").default is None
    assert not field("weights").required
    assert field("text").help == "Words."


def test_fields_come_in_order_and_some_are_left_out() -> None:
    assert [one.key for one in form_of(Options, leave_out=("hidden",))] == [*Options.model_fields][:-1]


def _models() -> list[tuple[str, type[BaseModel]]]:
    registry: PluginRegistry = discover({})
    models = [(f"options of {name}", offer.value.options) for name, offer in registry.providers.items()]
    models += [(f"condition of {name}", offer.value.condition) for name, offer in registry.providers.items()]
    models += [(f"strategy {name}", offer.value.options) for name, offer in registry.strategies.items()]
    return [*models, ("member", ProviderBlock), ("sampler", SamplerSettings), ("execution", ExecutionSettings)]


@pytest.mark.parametrize("model", [pytest.param(model, id=name) for name, model in _models()])
def test_everything_installed(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    fields = form_of(model)
    assert [one.key for one in fields] == list(schema["properties"])
    for one in fields:
        described = schema["properties"][one.key]
        assert one.required == (one.key in schema.get("required", []))
        assert one.help == described["description"] and one.type
        if "default" in described:
            assert one.default == described["default"]
        expected = {
            "boolean": "switch", "integer": "integer", "number": "number", "string": "text", "array": "yaml",
            "object": "yaml",
        }.get(described.get("type"))  # fmt: skip
        if expected is not None and not any(key in described for key in ("enum", "const", "format")):
            assert one.kind == expected
        if one.kind in ("integer", "number"):
            assert (one.minimum, one.maximum) == _bounds(described)
        if one.kind == "choice":
            assert set(one.choices) == set(_values(described, schema))


def _branches(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [branch for branch in described.get("anyOf", [described]) if branch != {"type": "null"}]


def _bounds(described: dict[str, Any]) -> tuple[Any, Any]:
    (branch,) = _branches(described)
    return (
        branch.get("minimum", branch.get("exclusiveMinimum")),
        branch.get("maximum", branch.get("exclusiveMaximum")),
    )


def _values(described: dict[str, Any], schema: dict[str, Any]) -> list[Any]:
    values = []
    for branch in _branches(described):
        if "$ref" in branch:
            branch = schema["$defs"][branch["$ref"].removeprefix("#/$defs/")]
        values += branch.get("enum", [branch.get("const")])
    return values
