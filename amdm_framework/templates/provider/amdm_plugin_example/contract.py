"""The contract kit for this model: what `pytest` and `amdm plugin-check` run it with.

Change: `options`, so that it writes tiny random weights of your own network; and `scenes`, where the usual ones (up to
three instances, interactions, a style picture) lack what your model needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from amdm_framework.provider import ProviderSpec
from amdm_framework.testing import ProviderContract
from amdm_framework.testing.tiny_models import TEXT_WIDTH, TINY_UNET, write_diffusers_folder
from safetensors.torch import save_file

from .network import LayoutNetwork
from .provider import SPEC


class ExampleContract(ProviderContract):
    """All that a model must keep, checked on a tiny one with random weights."""

    spec: ClassVar[ProviderSpec] = SPEC

    def options(self, folder: Path) -> dict[str, Any]:
        """Write a tiny base and weights for it; return the block of a composition that loads them."""
        write_diffusers_folder(folder / "base", unet_config=TINY_UNET)
        torch.manual_seed(0)
        network = LayoutNetwork(TEXT_WIDTH, TINY_UNET["block_out_channels"])
        save_file(network.state_dict(), folder / "layout.safetensors")
        return {"checkpoint": "layout.safetensors", "base": "base"}
