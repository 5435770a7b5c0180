"""Tiny weights and, for each model plugin, a composition of its model alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

# Each plugin's own tests know how to write its files.
sys.path.extend(str(path) for path in sorted(Path(__file__).parents[2].glob("plugins/*/tests")))

from ip_adapter_files import write_adapter
from migc_files import write

from amdm_framework.testing.tiny_models import TINY_UNET, build_unet, write_diffusers_folder
from amdm_plugin_controlnet.tiny_model import build_controlnet, write_controlnet
from amdm_plugin_gligen.tiny_model import write_tiny_gligen
from amdm_plugin_interactdiffusion.tiny_model import write_folder
from amdm_plugin_ip_adapter.tiny_model import adapter_tensors, write_encoder
from amdm_plugin_migc.tiny_model import original_tensors

BLOCKS = {
    "controlnet": {"checkpoint": "controlnet", "base": "sd"},
    "gligen": {"checkpoint": "gligen"},
    "interactdiffusion": {"checkpoint": "interactdiffusion"},
    "ip_adapter": {"checkpoint": "ip_adapter.safetensors", "image_encoder": "image_encoder", "base": "sd"},
    "migc": {"checkpoint": "migc.safetensors", "base": "sd"},
}


@pytest.fixture(scope="session")
def compositions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Compositions by the name of their only model, in one folder with its random weights."""
    folder = tmp_path_factory.mktemp("compositions")
    write_diffusers_folder(folder / "sd")
    write_controlnet(folder / "controlnet", build_controlnet(build_unet(TINY_UNET)))
    write_tiny_gligen(folder / "gligen")
    write_folder(folder / "interactdiffusion")
    write(folder / "migc.safetensors", original_tensors())
    write_adapter(folder / "ip_adapter.safetensors", adapter_tensors(build_unet(TINY_UNET), "base"))
    write_encoder(folder / "image_encoder")
    written = {}
    for name, block in BLOCKS.items():
        content = {"providers": [{"use": name, **block}], "aggregation": {"strategy": "single"}}
        written[name] = folder / f"{name}.yaml"
        written[name].write_text(yaml.safe_dump(content))
    return written
