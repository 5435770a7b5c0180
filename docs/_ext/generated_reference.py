"""The parts of docs/reference that are made from the code while the documentation is built.

A page holds `<!-- generated: NAME -->`; the function of that name below writes what stands there instead.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click
from pydantic import BaseModel, ValidationError
from sphinx.application import Sphinx

from amdm_framework.cli import main
from amdm_framework.composition import Composition
from amdm_framework.descriptions import OptionDescription, describe_options
from amdm_framework.errors import AMDMError
from amdm_framework.plugins import PluginRegistry, discover
from amdm_framework.scene import Scene
from amdm_framework.strategies.base import AggregationStrategy

HELP_WIDTH = 100
# Run lengths and windows for which a strategy's evaluations are counted.
STEPS = 50
WINDOWS = (3, 10, 50)
MEMBERS = (2, 3, 4)

_PLACE = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def commands(plugins: PluginRegistry) -> str:
    """The help of every command, those of installed plugins included."""
    group = main.with_commands_of(plugins)
    sections = []
    for context in _walk(
        group, click.Context(group, info_name="amdm", terminal_width=HELP_WIDTH, **main.context_settings)
    ):
        level = "#" * (len(context.command_path.split()) + 1)
        sections.append(f"{level} `{context.command_path}`\n\n```text\n{context.get_help()}\n```")
    return "\n\n".join(sections)


def _walk(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """Yield the context of a command and of every command below it."""
    yield context
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            below = click.Context(inner, info_name=name, parent=context, **inner.context_settings)
            yield from _walk(inner, below)


def composition(plugins: PluginRegistry) -> str:
    """A table for every block of a composition."""
    return _tables(Composition, "The top level")


def scene(plugins: PluginRegistry) -> str:
    """A table for every part of a scene."""
    return _tables(Scene, "The top level")


def providers(plugins: PluginRegistry) -> str:
    """Options and condition of every installed provider."""
    sections = []
    for name, offer in sorted(plugins.providers.items()):
        spec = offer.value
        sections.append(
            f"## `{name}`\n\n{spec.summary} From {offer.distribution}.\n\n"
            f"Options:\n\n{options_table(describe_options(spec.options))}\n\n"
            f"Condition, taken from the scene; keys under `condition:` in the block replace parts of it:\n\n"
            f"{options_table(describe_options(spec.condition))}"
        )
    return "\n\n".join(sections)


def strategies(plugins: PluginRegistry) -> str:
    """Formula, space, cost, source and options of every installed strategy."""
    sections = []
    for name, offer in sorted(plugins.strategies.items()):
        strategy = offer.value
        target = "yes" if strategy.privileged_target else "no"
        regions = "yes" if strategy.needs_regions else "no"
        options = options_table(describe_options(strategy.options)) if strategy.options.model_fields else "None."
        sections.append(
            f"## `{name}`\n\n{strategy.summary}\n\n"
            f"```text\n{strategy.formula}\n```\n\n"
            f"| | |\n|---|---|\n| mixes | {_cell(strategy.space)} |\n| target privileged | {target} |\n"
            f"| acts on the scene's boxes | {regions} |\n| source | {_cell(strategy.source)} |\n"
            f"| from | {offer.distribution} |\n\n"
            f"Network evaluations for {STEPS} steps (the target alone: {STEPS}):\n\n{_cost_table(strategy)}\n\n"
            f"Options:\n\n{options}"
        )
    return "\n\n".join(sections)


def benchmarks(plugins: PluginRegistry) -> str:
    """Figures and objective of every installed benchmark."""
    sections = []
    for name, offer in sorted(plugins.benchmarks.items()):
        benchmark = offer.value
        rows = [f"| `{figure}` | {_cell(meaning)} |" for figure, meaning in benchmark.figures.items()]
        sections.append(
            f"## `{name}`\n\n{benchmark.summary} From {offer.distribution}. One number for all: "
            f"`{benchmark.objective}`.\n\n" + "\n".join(["| figure | meaning |", "|---|---|", *rows])
        )
    return "\n\n".join(sections)


GENERATED: Mapping[str, Callable[[PluginRegistry], str]] = {
    function.__name__: function for function in (commands, composition, scene, providers, strategies, benchmarks)
}


def options_table(options: Sequence[OptionDescription]) -> str:
    """Return options as a Markdown table, those that must be given first."""
    rows = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for option in sorted(options, key=lambda option: not option.required):
        takes = " or ".join(word for word in option.type.split(" | ") if word != "null")
        default = "required" if option.required else _default_in_words(option.default)
        rows.append(f"| `{option.name}` | {_cell(takes)} | {_cell(default)} | {_cell(option.description)} |")
    return "\n".join(rows)


def _default_in_words(default: Any) -> str:
    if default is None:
        return "none"
    if default in ("", [], {}):
        return "empty"
    if isinstance(default, Mapping):
        # A block of its own, whose table follows.
        return "its own defaults"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def evaluations(strategy_class: type[AggregationStrategy], members: int, options: Mapping[str, Any]) -> int | None:
    """Count the evaluations of a run; None where the strategy does not take these options or this many members."""
    try:
        strategy = strategy_class(strategy_class.options(**options))
        strategy.begin(members, STEPS)
    except (AMDMError, ValidationError):
        return None
    return sum(len(strategy.evaluated(index)) for index in range(STEPS))


def _cost_table(strategy: type[AggregationStrategy]) -> str:
    columns: list[dict[str, int]] = [{}]
    if "steps" in strategy.options.model_fields:
        columns += [{"steps": window} for window in WINDOWS]
    titles = [f"`steps: {column['steps']}`" if column else "at its defaults" for column in columns]
    rows = [f"| members | {' | '.join(titles)} |", "|---" * (len(columns) + 1) + "|"]
    for members in MEMBERS:
        counts = [evaluations(strategy, members, column) for column in columns]
        rows.append(f"| {members} | {' | '.join('-' if count is None else str(count) for count in counts)} |")
    return "\n".join(rows)


def _tables(model: type[BaseModel], title: str) -> str:
    """One table for a pydantic model and one for each model inside it, under the keys that lead there."""
    places: dict[type[BaseModel], list[str]] = {}
    _collect(model, "", places)
    sections = []
    for found, keys in places.items():
        heading = ", ".join(f"`{key}`" for key in keys) if keys != [""] else title
        sections.append(f"## {heading}\n\n{_first_paragraph(found)}\n\n{options_table(describe_options(found))}")
    return "\n\n".join(sections)


def _collect(model: type[BaseModel], key: str, places: dict[type[BaseModel], list[str]]) -> None:
    places.setdefault(model, []).append(key)
    for name, field in model.model_fields.items():
        for inner, suffix in _models_in(field.annotation):
            _collect(inner, f"{key}.{name}{suffix}".lstrip("."), places)


def _models_in(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    origin = typing.get_origin(annotation)
    if origin is None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation, ""
        return
    suffix = {dict: ".NAME", tuple: ".N", list: ".N"}.get(origin, "")
    for argument in typing.get_args(annotation):
        for model, rest in _models_in(argument):
            yield model, suffix + rest


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Put what is generated into a page that was read."""
    if _PLACE.search(source[0]):
        plugins = discover()
        source[0] = _PLACE.sub(lambda match: GENERATED[match[1]](plugins), source[0])


def always_outdated(app: Sphinx, environment: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """The pages of the reference depend on code, whose changes Sphinx does not see."""
    return [page for page in environment.found_docs if page.startswith("docs/reference/")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", fill_in)
    app.connect("env-get-outdated", always_outdated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
