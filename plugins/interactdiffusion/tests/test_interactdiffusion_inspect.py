"""What the files say without any network being built, and which files are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from interactdiffusion_files import extension_weights, load_context, write_flat

from amdm_framework.errors import CheckpointError
from amdm_plugin_interactdiffusion.options import InteractDiffusionOptions
from amdm_plugin_interactdiffusion.provider import InteractDiffusionProvider, inspect, load


@pytest.mark.parametrize(
    ("options", "downloads"),
    [
        ({"checkpoint": "model"}, ()),
        ({"checkpoint": "original.pth", "tokenizer": "base"}, ()),
        ({"checkpoint": "original.pth", "base": "base"}, ()),
        ({"checkpoint": "hf://nobody/nothing"}, ("hf://nobody/nothing",)),
        ({"checkpoint": "hf://nobody/nothing/file.pth", "base": "base"}, ("hf://nobody/nothing/file.pth",)),
        ({"checkpoint": "original.pth", "base": "hf://nobody/base"}, ("hf://nobody/base",)),
    ],
)
def test_inspect_tells_what_load_will_hold(
    files: Path, provider: InteractDiffusionProvider, options: dict[str, str], downloads: tuple[str, ...]
) -> None:
    report = inspect(InteractDiffusionOptions(**options), load_context(files))
    assert report.downloads == downloads
    assert report.latent_space.scaling_factor == provider.latent_space.scaling_factor
    if downloads:
        return
    assert report.latent_space == provider.latent_space
    if options != {"checkpoint": "original.pth", "tokenizer": "base"}:
        # A file alone does not say the size of its pictures.
        assert report.default_size == provider.default_size
    sizes = {info.identity: torch.Size(info.shape).numel() for infos in report.components.values() for info in infos}
    parameters = {id(p): p.numel() for module in provider.modules().values() for p in module.parameters()}
    # A file may carry the text encoder's buffer of positions, which is no weight.
    assert sum(sizes.values()) - sum(parameters.values()) in (0, 77)


def test_inspect_refuses_a_model_without_interactions(files: Path) -> None:
    with pytest.raises(CheckpointError, match="give it as `base`"):
        inspect(InteractDiffusionOptions(checkpoint="base"), load_context(files))


def test_weight_files_are_named(files: Path) -> None:
    write_flat(files / "ext.pth", extension_weights(files / "model"))
    context = load_context(files)
    load(InteractDiffusionOptions(checkpoint="ext.pth", base="base"), context)
    named = {(file.component, file.path.relative_to(files).as_posix()) for file in context.weight_files}
    assert named == {
        ("adapter", "ext.pth"),
        ("unet", "base/unet/diffusion_pytorch_model.safetensors"),
        ("vae", "base/vae/diffusion_pytorch_model.safetensors"),
        ("text_encoder", "base/text_encoder/model.safetensors"),
    }
