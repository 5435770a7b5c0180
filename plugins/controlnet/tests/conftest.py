"""A tiny Stable Diffusion and ControlNets on disk, shared by this folder's tests."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from amdm_framework.models.context import LoadContext
from amdm_framework.testing.tiny_models import TINY_UNET, build_unet, write_diffusers_folder
from amdm_plugin_controlnet.options import ControlNetOptions
from amdm_plugin_controlnet.provider import ControlNetProvider, load
from amdm_plugin_controlnet.tiny_model import build_controlnet, write_controlnet


@dataclass(frozen=True)
class Files:
    """Where the tiny models lie: `sd`, `controlnet`, `bgr` (takes reversed channels), `pooling` (pools its outputs)."""

    folder: Path

    def options(self, checkpoint: str = "controlnet", **others: Any) -> ControlNetOptions:
        return ControlNetOptions(checkpoint=checkpoint, **({"base": "sd"} | others))

    def context(self, dtype: torch.dtype = torch.float32) -> LoadContext:
        return LoadContext(torch.device("cpu"), dtype, base_dir=self.folder)

    def load(
        self, checkpoint: str = "controlnet", dtype: torch.dtype = torch.float32, **others: Any
    ) -> ControlNetProvider:
        return load(self.options(checkpoint, **others), self.context(dtype))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("models")
    write_diffusers_folder(folder / "sd", unet_config=TINY_UNET)
    unet = build_unet(TINY_UNET)
    write_controlnet(folder / "controlnet", build_controlnet(unet))
    bgr = build_controlnet(unet, controlnet_conditioning_channel_order="bgr")
    write_controlnet(folder / "bgr", bgr)
    write_controlnet(folder / "pooling", build_controlnet(unet, global_pool_conditions=True))
    return Files(folder)


@pytest.fixture(scope="session")
def provider(files: Files) -> ControlNetProvider:
    return files.load()
