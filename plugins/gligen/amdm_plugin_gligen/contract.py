"""The contract that every provider keeps, on a tiny GLIGEN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amdm_framework.testing import ProviderContract

from .provider import SPEC
from .tiny_model import write_tiny_gligen


class GLIGENContract(ProviderContract):
    """GLIGEN with random weights, grounded in half of the steps."""

    spec = SPEC

    def options(self, folder: Path) -> dict[str, Any]:
        write_tiny_gligen(folder / "gligen")
        return {"checkpoint": "gligen", "scheduled_sampling_beta": 0.5}
