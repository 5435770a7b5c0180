"""The contract of `stable_diffusion`, which `amdm plugin-check stable_diffusion` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..testing import ProviderContract
from ..testing.tiny_models import write_diffusers_folder
from .stable_diffusion import SPEC


class StableDiffusionContract(ProviderContract):
    """Stable Diffusion in a diffusers folder, with random weights."""

    spec = SPEC

    def options(self, folder: Path) -> dict[str, Any]:
        write_diffusers_folder(folder / "model")
        return {"checkpoint": "model"}
