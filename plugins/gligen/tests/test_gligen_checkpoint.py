"""Which folders are GLIGEN, what the others are told to be, and what is known before anything is loaded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from amdm_framework.errors import CheckpointError
from amdm_framework.models.context import LoadContext
from amdm_framework.testing.tiny_models import write_diffusers_folder, write_single_file
from amdm_plugin_gligen.options import GLIGENOptions
from amdm_plugin_gligen.provider import GLIGENProvider, inspect, load

WEIGHTS = Path("unet", "diffusion_pytorch_model.safetensors")


def _context(dtype: torch.dtype = torch.float32) -> LoadContext:
    return LoadContext(torch.device("cpu"), dtype)


def _options(path: Path, **others: Any) -> GLIGENOptions:
    return GLIGENOptions(checkpoint=str(path), **others)


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model, tmp_path / "copy")


def _change_config(folder: Path, **values: Any) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def test_inspect_tells_what_load_will_hold(model: Path, provider: GLIGENProvider) -> None:
    report = inspect(_options(model), _context())
    assert (report.latent_space, report.default_size) == (provider.latent_space, provider.default_size)
    assert report.downloads == ()
    sizes = {info.identity: torch.Size(info.shape).numel() for infos in report.components.values() for info in infos}
    parameters = {id(p): p.numel() for module in provider.modules().values() for p in module.parameters()}
    assert sum(sizes.values()) == sum(parameters.values())
    assert inspect(GLIGENOptions(checkpoint="hf://nobody/nothing"), _context()).downloads == ("hf://nobody/nothing",)


def test_pickles_and_variants_are_taken(copy: Path, provider: GLIGENProvider) -> None:
    halves = {name: value.half() for name, value in load_file(copy / WEIGHTS).items()}
    torch.save(halves, copy / "unet" / "diffusion_pytorch_model.fp16.bin")
    with pytest.warns(UserWarning, match="no weights of variant 'fp16'"):
        loaded = load(_options(copy, variant="fp16"), _context())
    expected = dict(provider.unet.named_parameters())
    for name, weight in loaded.unet.named_parameters():
        assert torch.equal(weight, expected[name].half().float())


def _plain(folder: Path) -> None:
    _change_config(folder, attention_type="default")
    _change_weights(folder, lambda weights: {name: v for name, v in weights.items() if ".fuser." not in name})
    _change_weights(folder, lambda weights: {name: v for name, v in weights.items() if "position_net" not in name})


def _interactdiffusion(folder: Path) -> None:
    name = "position_net.interaction_embedding.emb.weight"
    _change_weights(folder, lambda weights: {**weights, name: torch.zeros(30, 64)})


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "plain": (
        _plain,
        "its UNet is not GLIGEN's: attention_type is 'default', expected 'gated'; GLIGEN is a model of its",
    ),
    "config forgets": (
        lambda folder: _change_config(folder, attention_type="default"),
        "expected 'gated', though there are weights of a position net",
    ),
    "text and image": (
        lambda folder: _change_config(folder, attention_type="gated-text-image"),
        "this is GLIGEN of phrases and pictures",
    ),
    "interactdiffusion": (_interactdiffusion, "this is InteractDiffusion.*use the provider 'interactdiffusion'"),
    "inpainting": (lambda folder: _change_config(folder, in_channels=9), "takes 9 channels.*inpainting"),
    "another text encoder": (
        lambda folder: _change_config(folder, cross_attention_dim=96),
        "text features of width 96.*makes features of width 64",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_models_are_told_what_they_are(copy: Path, case: str) -> None:
    change, sentence = REFUSED[case]
    change(copy)
    for function in (inspect, load):
        with pytest.raises(CheckpointError, match=f"{re.escape(str(copy))}.*{sentence}"):
            function(_options(copy), _context())


def test_a_single_file_is_refused(tmp_path: Path) -> None:
    path = write_single_file(tmp_path / "sd.safetensors", write_diffusers_folder(tmp_path / "sd"))
    for function in (inspect, load):
        with pytest.raises(CheckpointError, match="attention_type is 'default'.*give a diffusers folder such as"):
            function(_options(path), _context())


def test_missing_weights_are_named(copy: Path) -> None:
    _change_weights(copy, lambda weights: {n: v for n, v in weights.items() if not n.endswith("alpha_attn")})
    with pytest.raises(CheckpointError, match=r"4 missing:\s+.*fuser\.alpha_attn"):
        load(_options(copy), _context())
