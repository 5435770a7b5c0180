"""Tiny random checkpoints, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from amdm_framework.testing.tiny_models import write_diffusers_folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models of one family, `base` and `other`: equal but for their UNets."""
    folder = tmp_path_factory.mktemp("models")
    write_diffusers_folder(folder / "base")
    write_diffusers_folder(folder / "other", seed=1, text_seed=0, vae_seed=0)
    return folder
