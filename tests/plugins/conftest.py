"""Fake distributions for one test, and nothing that happens to be installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoints, distributions
from pathlib import Path

import pytest

from amdm_framework import plugins
from fake_distributions import write_distribution


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that installs a fake distribution for one test; no other distribution is seen."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def only_fakes(group: str) -> EntryPoints:
        found = (entry for fake in distributions(path=[str(tmp_path)]) for entry in fake.entry_points)
        return EntryPoints(found).select(group=group)

    monkeypatch.setattr(plugins, "entry_points", only_fakes)
    for variable in ("AMDM_LOAD_PLUGINS", "AMDM_NO_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)

    def write(name: str, source: str, version: str = "1.0", entry_points: Mapping[str, str] | None = None) -> None:
        # Another test file may have imported a module of the same name, a real plugin's for example.
        monkeypatch.delitem(sys.modules, name.replace("-", "_"), raising=False)
        write_distribution(tmp_path, name, source, version, entry_points)
        importlib.invalidate_caches()

    yield write
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]
