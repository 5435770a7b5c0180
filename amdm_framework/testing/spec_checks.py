"""What a spec says of a provider, and how its plugin is found: the checks that need no model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from ..errors import PluginError
from ..plugins import ENTRY_POINT_GROUP, discover
from ..provider import ProviderSpec

HEAVY = ("torch", "diffusers", "transformers", "ray", "gradio", "matplotlib")
"""What takes too long to import for a list of plugins or `amdm --help`."""

LONGEST_SUMMARY = 120


class SpecChecks:
    """Tests of a spec alone. They run for every installed provider, one without a contract too."""

    spec: ClassVar[ProviderSpec]

    def test_the_summary_is_one_short_line(self) -> None:
        """`amdm plugins` prints the summary in one line; a break or a paragraph spoils the list."""
        summary = self.spec.summary
        assert summary == summary.strip() and "\n" not in summary, f"write one line without spaces around: {summary!r}"
        assert len(summary) <= LONGEST_SUMMARY, f"{len(summary)} letters, at most {LONGEST_SUMMARY}: {summary!r}"

    def test_options_and_condition_have_json_schemas(self) -> None:
        """Editors complete compositions by the schema; a field of a type that pydantic cannot describe has none."""
        for model in (self.spec.options, self.spec.condition):
            try:
                json.dumps(model.model_json_schema())
            except Exception as error:
                pytest.fail(f"{model.__name__}: {error}")

    def test_every_option_is_described(self) -> None:
        """`amdm plugins` and editors show each option's description; a field was declared without one."""
        for model in filter(_has_schema, (self.spec.options, self.spec.condition)):
            bare = [name for name, schema in _properties(model) if not schema.get("description")]
            assert not bare, f"{model.__name__}: give `Field(description=...)` to {', '.join(bare)}"

    def test_an_installed_plugin_registers_it(self) -> None:
        """A plugin is found by its entry point; it is missing, its hook fails, or another spec has taken the name."""
        if not _hook_modules(self.spec):
            pytest.skip(_not_installed(self.spec))
        registry = discover({})
        try:
            registered = registry.provider(self.spec.name)
        except PluginError as error:
            pytest.fail(str(error))
        assert registered is self.spec, (
            f"`register_providers` of an installed plugin hands over another {self.spec.name!r}"
        )

    def test_finding_the_plugin_imports_nothing_heavy(self) -> None:
        """Every `amdm` command imports every plugin's module of hooks; import the model inside the hook."""
        modules = _hook_modules(self.spec)
        if not modules:
            pytest.skip(_not_installed(self.spec))
        code = (
            "import importlib, sys\n"
            f"for name in {modules!r}: importlib.import_module(name)\n"
            f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"importing {', '.join(modules)} fails:\n{done.stderr}"
        found = done.stdout.split()
        assert not found, f"importing {', '.join(modules)} imports {', '.join(found)}"


def _has_schema(model: type[BaseModel]) -> bool:
    # Another test says so where it has none.
    try:
        model.model_json_schema()
    except PydanticUserError:
        return False
    return True


def _properties(model: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any]]]:
    schema = model.model_json_schema()
    for owner in (schema, *schema.get("$defs", {}).values()):
        for name, described in owner.get("properties", {}).items():
            yield name if owner is schema else f"{owner.get('title', '')}.{name}", described


def _hook_modules(spec: ProviderSpec) -> list[str]:
    package = spec.options.__module__.partition(".")[0]
    if package == "amdm_framework":
        return ["amdm_framework.builtin.plugin"]
    return [entry.module for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.module.split(".")[0] == package]


def _not_installed(spec: ProviderSpec) -> str:
    package = spec.options.__module__.partition(".")[0]
    return (
        f"no installed distribution has an entry point of the group {ENTRY_POINT_GROUP} in the package {package}: "
        "install it (`pip install -e .`) to see that it is found"
    )
