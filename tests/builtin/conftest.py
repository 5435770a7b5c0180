"""Tiny models for the tests of this folder, written once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amdm_framework.models.context import LoadContext
from amdm_framework.testing.tiny_models import write_diffusers_folder, write_single_file


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `epsilon/` and `v_prediction/` in diffusers layout, and each as .safetensors and .ckpt beside it."""
    root = tmp_path_factory.mktemp("models")
    for prediction_type in ("epsilon", "v_prediction"):
        folder = write_diffusers_folder(root / prediction_type, prediction_type=prediction_type)
        write_single_file(root / f"{prediction_type}.safetensors", folder)
        write_single_file(root / f"{prediction_type}.ckpt", folder)
    return root


@pytest.fixture
def context(models: Path) -> LoadContext:
    """CPU and float32, paths relative to `models`."""
    return LoadContext(torch.device("cpu"), torch.float32, base_dir=models)
