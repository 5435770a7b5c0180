"""The contract that every provider keeps, on a tiny InteractDiffusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amdm_framework.scene import Scene
from amdm_framework.testing import ProviderContract

from .provider import SPEC
from .tiny_model import write_folder


class InteractDiffusionContract(ProviderContract):
    """InteractDiffusion with random weights, grounded in half of the steps."""

    spec = SPEC

    def options(self, folder: Path) -> dict[str, Any]:
        write_folder(folder / "model")
        return {"checkpoint": "model", "scheduled_sampling_beta": 0.5}

    def scenes(self, folder: Path) -> list[Scene]:
        return [scene for scene in super().scenes(folder) if scene.instances]
