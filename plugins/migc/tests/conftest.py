"""A tiny Stable Diffusion and MIGC weights for it on disk, shared by this folder's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Tests are imported one by one (importlib mode), which leaves the helpers beside them out of the path.
sys.path.insert(0, str(Path(__file__).parent))

from migc_files import MIGCFiles, write

from amdm_framework.testing.tiny_models import TINY_UNET, write_diffusers_folder
from amdm_plugin_migc.provider import MIGCProvider
from amdm_plugin_migc.tiny_model import original_tensors


@pytest.fixture(scope="session")
def migc_files(tmp_path_factory: pytest.TempPathFactory) -> MIGCFiles:
    folder = tmp_path_factory.mktemp("migc")
    write_diffusers_folder(folder / "sd", unet_config=TINY_UNET)
    write(folder / "MIGC_SD14.ckpt", original_tensors(), others=["global_step"])
    return MIGCFiles(folder)


@pytest.fixture(scope="session")
def migc_provider(migc_files: MIGCFiles) -> MIGCProvider:
    return migc_files.load(migc_steps=1, naive_fuser_steps=2)
