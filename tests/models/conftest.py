"""Tiny checkpoints for the tests of this folder, written once."""

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
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in diffusers layout, float32, seed 0."""
    return write_diffusers_folder(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_file(tiny_folder: Path) -> Path:
    """The same weights in one safetensors file under the original names; a tokenizer lies beside it."""
    path = write_single_file(tiny_folder.parent / "single" / "base.safetensors", tiny_folder)
    (path.parent / "tokenizer").symlink_to(tiny_folder / "tokenizer")
    return path


@pytest.fixture
def context(tmp_path: Path) -> LoadContext:
    """CPU and float32, paths relative to the test's own folder."""
    return LoadContext(torch.device("cpu"), torch.float32, base_dir=tmp_path)
