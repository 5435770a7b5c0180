"""Makes the helpers beside these tests importable; no test here reaches a network or the user's caches."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    # What a case takes is read from /proc.
    collect_ignore_glob = ["test_*.py"]

# Tests are imported one by one (importlib mode), which leaves the helpers beside them out of the path; each plugin's
# own tests know how to write its files, and those of the studio how to put one together.
_TESTS = Path(__file__).parents[1]
sys.path[:0] = [
    str(Path(__file__).parent),
    str(_TESTS / "studio"),
    *map(str, sorted(_TESTS.parent.glob("plugins/*/tests"))),
]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny models of every kind, a composition of each, and a scene."""
    from fuzzed_files import write_home

    return write_home(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def _own_surroundings(home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AMDM_NO_PLUGINS", "AMDM_LOAD_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.getbasetemp() / "hub"))
    monkeypatch.chdir(home)
