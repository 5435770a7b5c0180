"""A tiny InteractDiffusion and the Stable Diffusion that it extends on disk, shared by this folder's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Tests are imported one by one (importlib mode), which leaves the helpers beside them out of the path.
sys.path.insert(0, str(Path(__file__).parent))

from interactdiffusion_files import load_context, write_original

from amdm_framework.testing.tiny_models import write_diffusers_folder
from amdm_plugin_interactdiffusion.options import InteractDiffusionOptions
from amdm_plugin_interactdiffusion.provider import InteractDiffusionProvider, load
from amdm_plugin_interactdiffusion.tiny_model import write_folder


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model/` (diffusers layout), the same as `original.pth`, and `base/` (its Stable Diffusion)."""
    root = tmp_path_factory.mktemp("interactdiffusion")
    write_folder(root / "model")
    write_original(root / "original.pth", root / "model")
    write_diffusers_folder(root / "base")
    return root


@pytest.fixture(scope="session")
def provider(files: Path) -> InteractDiffusionProvider:
    return load(InteractDiffusionOptions(checkpoint="model"), load_context(files))
