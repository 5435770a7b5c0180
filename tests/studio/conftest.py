"""Makes the helpers beside these tests importable; studios in folders of their own, with everything that is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from amdm_framework.plugins import PluginRegistry, discover

# Tests are imported one by one (importlib mode), which leaves the helpers beside them out of the path.
sys.path.append(str(Path(__file__).parent))

from served import Web, serving
from studios import Studio, make_studio


@pytest.fixture(scope="session")
def plugins() -> PluginRegistry:
    """Everything that is installed, whatever the environment says."""
    return discover({})


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AMDM_", "GRADIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.getbasetemp() / "hub"))


@pytest.fixture
def studio(tmp_path: Path, plugins: PluginRegistry) -> Iterator[Studio]:
    """A studio that draws."""
    made = make_studio(tmp_path, plugins)
    yield made
    made.jobs.close()


@pytest.fixture
def studio_with(tmp_path: Path, plugins: PluginRegistry) -> Iterator[Callable[..., Studio]]:
    """Make a studio with arguments of `make_studio`."""
    made: list[Studio] = []

    def make(**arguments: Any) -> Studio:
        made.append(make_studio(tmp_path, plugins, **arguments))
        return made[-1]

    yield make
    for one in made:
        one.jobs.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, plugins: PluginRegistry) -> Iterator[Web]:
    """A studio behind its web server, without a password, in which drawing does nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")
        made = make_studio(tmp_path_factory.mktemp("studio"), plugins, draw=lambda job: None)
        with serving(made) as served:
            yield served
    made.jobs.close()
