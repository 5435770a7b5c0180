"""The contract that every provider keeps, on a tiny IP-Adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from amdm_framework.testing import ProviderContract
from amdm_framework.testing.tiny_models import build_unet, write_diffusers_folder

from .provider import SPEC
from .tiny_model import adapter_tensors, write_encoder


class IPAdapterContract(ProviderContract):
    """A plus adapter with random weights."""

    spec = SPEC

    def options(self, folder: Path) -> dict[str, Any]:
        write_diffusers_folder(folder / "sd")
        write_encoder(folder / "image_encoder")
        save_file(adapter_tensors(build_unet(), "plus"), folder / "adapter.safetensors")
        return {"checkpoint": "adapter.safetensors", "base": "sd", "image_encoder": "image_encoder"}
