"""Tiny InteractDiffusion, MIGC and IP-Adapter in the formats people have, over one Stable Diffusion; `amdm` beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

# Each plugin's own tests know how to write its files.
sys.path.extend(str(path) for path in sorted(Path(__file__).parents[2].glob("plugins/*/tests")))

from interactdiffusion_files import write_original
from ip_adapter_files import picture, write_adapter
from migc_files import converted_tensors, write

from amdm_framework.cli import main
from amdm_framework.testing.tiny_models import TINY_UNET, build_unet, write_diffusers_folder
from amdm_plugin_interactdiffusion.tiny_model import write_folder
from amdm_plugin_ip_adapter.tiny_model import adapter_tensors, write_encoder
from amdm_plugin_migc.tiny_model import original_tensors


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random weights; the frozen weights inside InteractDiffusion's files are those of `sd`.

    - `sd/`, a Stable Diffusion in diffusers' layout
    - `interactdiffusion/`, a diffusers folder, and the same as the original `interact-diffusion-v1.pth`
    - `MIGC_SD14.ckpt`, a pickle with original names, and the same as `migc_adapter_weights.safetensors`, converted
    - `ip-adapter_sd15.safetensors` and `image_encoder/`
    """
    folder = tmp_path_factory.mktemp("together")
    write_diffusers_folder(folder / "sd")
    write_folder(folder / "interactdiffusion")
    write_original(folder / "interact-diffusion-v1.pth", folder / "interactdiffusion")
    blocks = original_tensors()
    write(folder / "MIGC_SD14.ckpt", blocks, others=["global_step"])
    write(folder / "migc_adapter_weights.safetensors", converted_tensors(blocks))
    write_adapter(folder / "ip-adapter_sd15.safetensors", adapter_tensors(build_unet(TINY_UNET), "base", seed=1))
    write_encoder(folder / "image_encoder")
    for seed, name in enumerate(("style.png", "other_style.png")):
        picture(seed).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is installed is what shall be found; remembered digests stay out of the user's folder.
    for name in ("AMDM_NO_PLUGINS", "AMDM_LOAD_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def amdm() -> Callable[..., Result]:
    """Run `amdm` with some arguments; anything but success fails the test."""

    def invoke(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(main, list(map(str, arguments)))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    return invoke
