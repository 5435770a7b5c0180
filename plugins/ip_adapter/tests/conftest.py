"""A tiny Stable Diffusion, image encoder and adapters on disk, shared by this folder's tests."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from ip_adapter_files import write_adapter

from amdm_framework.models.context import LoadContext
from amdm_framework.testing.tiny_models import TINY_UNET, build_unet, write_diffusers_folder
from amdm_plugin_ip_adapter.options import IPAdapterOptions
from amdm_plugin_ip_adapter.provider import IPAdapterProvider, load
from amdm_plugin_ip_adapter.tiny_model import adapter_tensors, write_encoder


@dataclass(frozen=True)
class Files:
    """Where the tiny models lie."""

    folder: Path

    def options(self, adapter: str = "base.safetensors", **others: Any) -> IPAdapterOptions:
        return IPAdapterOptions(
            checkpoint=adapter, **({"base": "sd", "image_encoder": "models/image_encoder"} | others)
        )

    def context(self, dtype: torch.dtype = torch.float32) -> LoadContext:
        return LoadContext(torch.device("cpu"), dtype, base_dir=self.folder)

    def load(
        self, adapter: str = "base.safetensors", dtype: torch.dtype = torch.float32, **others: Any
    ) -> IPAdapterProvider:
        return load(self.options(adapter, **others), self.context(dtype))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("models")
    write_diffusers_folder(folder / "sd", unet_config=TINY_UNET)
    write_encoder(folder / "models" / "image_encoder")
    unet = build_unet(TINY_UNET)
    for kind, seed in (("base", 1), ("plus", 2)):
        write_adapter(folder / f"{kind}.safetensors", adapter_tensors(unet, kind, seed=seed))
    return Files(folder)


@pytest.fixture(scope="session", params=("base", "plus"))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def provider(files: Files, kind: str) -> IPAdapterProvider:
    return files.load(f"{kind}.safetensors")
