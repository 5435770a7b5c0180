"""A plugin's strategy that opens a file as soon as it is made, which no built-in one does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

from pydantic import Field

from amdm_framework import hookimpl
from amdm_framework.plugins import FRAMEWORK, Distribution, Plugin, PluginRegistry
from amdm_framework.provider import CheckpointReference
from amdm_framework.scene import StrictModel
from amdm_framework.strategies.single import Single
from toy_plugin import TOY


class TableOptions(StrictModel):
    """Options with files, at several depths, and words."""

    table: Path
    nets: dict[str, CheckpointReference] = Field(default_factory=dict)
    kind: Literal["plain", "rich"] = "plain"
    notes: str = ""


class Table(Single):
    """The target alone; it hands its file to a function that a test may put here."""

    name = "table"
    options = TableOptions
    opened: ClassVar[Callable[[Path], Any]] = Path.read_text

    def __init__(self, options: TableOptions) -> None:
        super().__init__(options)
        self.words = type(self).opened(options.table)


def table_registry() -> PluginRegistry:
    """Return a registry of what is built in, the toy provider and this strategy."""

    @hookimpl
    def register_providers(register: Any) -> None:
        register(TOY)

    @hookimpl
    def register_strategies(register: Any) -> None:
        register(Table)

    plugin = SimpleNamespace(register_providers=register_providers, register_strategies=register_strategies)
    built_in = Plugin(FRAMEWORK, "built-in", partial(import_module, "amdm_framework.builtin.plugin"))
    return PluginRegistry([built_in, Plugin(Distribution("amdm-table", "3"), "table", lambda: plugin)])
