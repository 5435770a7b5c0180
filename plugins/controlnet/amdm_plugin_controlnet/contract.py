"""The contract that every provider keeps, on a tiny ControlNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amdm_framework.scene import Reference, Scene
from amdm_framework.testing import ProviderContract
from amdm_framework.testing.scenes import default_scenes, write_picture
from amdm_framework.testing.tiny_models import build_unet, write_diffusers_folder

from .provider import SPEC
from .tiny_model import build_controlnet, write_controlnet


class ControlNetContract(ProviderContract):
    """ControlNet with random weights, acting in three of four steps."""

    spec = SPEC

    def options(self, folder: Path) -> dict[str, Any]:
        write_diffusers_folder(folder / "sd")
        write_controlnet(folder / "controlnet", build_controlnet(build_unet()))
        return {"base": "sd", "checkpoint": "controlnet", "conditioning_scale": 0.8, "stop": 0.75}

    def scenes(self, folder: Path) -> list[Scene]:
        """Return the usual scenes, each with one control picture in place of its references."""
        scenes = []
        for seed, scene in enumerate(default_scenes(folder)):
            picture = write_picture(folder / f"control{seed}.png", seed, width=64 + 16 * seed)
            references = (Reference(role="control", image=picture),)
            scenes.append(scene.model_copy(update={"references": references}))
        return scenes
