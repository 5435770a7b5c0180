"""The contract that every provider keeps, on a tiny MIGC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from amdm_framework.testing import ProviderContract
from amdm_framework.testing.tiny_models import write_diffusers_folder

from .provider import SPEC
from .tiny_model import original_tensors


class MIGCContract(ProviderContract):
    """MIGC with random weights; its own blocks run in half of the steps, and boxes alone in one more."""

    spec = SPEC

    def options(self, folder: Path) -> dict[str, Any]:
        write_diffusers_folder(folder / "sd")
        torch.save({"state_dict": original_tensors(), "global_step": 1}, folder / "MIGC_SD14.ckpt")
        return {"checkpoint": "MIGC_SD14.ckpt", "base": "sd", "migc_steps": 1, "naive_fuser_steps": 2}
