"""A tiny GLIGEN on disk, shared by this folder's tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amdm_framework.models.context import LoadContext
from amdm_plugin_gligen.options import GLIGENOptions
from amdm_plugin_gligen.provider import GLIGENProvider, load
from amdm_plugin_gligen.tiny_model import write_tiny_gligen


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of GLIGEN."""
    return write_tiny_gligen(tmp_path_factory.mktemp("gligen") / "model")


@pytest.fixture(scope="session")
def provider(model: Path) -> GLIGENProvider:
    """Grounded in every step."""
    context = LoadContext(torch.device("cpu"), torch.float32)
    return load(GLIGENOptions(checkpoint=str(model), scheduled_sampling_beta=1.0), context)
