"""Every layout of MIGC's weights, and what is said of files that are something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from migc_files import MIGCFiles, converted_tensors, write
from migc_goldens import GOLDEN

from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import build_on_meta
from amdm_framework.models.context import LoadContext
from amdm_framework.models.tensor_files import read_tensors
from amdm_framework.testing.tiny_models import SD_TOPOLOGY_UNET, TINY_UNET
from amdm_plugin_migc.checkpoint import block_sizes, layer_names, load_block, read_blocks
from amdm_plugin_migc.modules import MIGCBlock
from amdm_plugin_migc.tiny_model import TINY_LAYERS, original_tensors

Tensors = dict[str, torch.Tensor]


def load(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, MIGCBlock]:
    context = LoadContext(torch.device("cpu"), dtype)
    return {layer: load_block(stored, context) for layer, stored in read_blocks(read_tensors(path), TINY_UNET).items()}


def test_names_and_shapes_are_those_of_the_published_file() -> None:
    manifest = json.loads((GOLDEN / "migc_sd14.json").read_text())
    key_map = json.loads((GOLDEN / "migc_sd14.keymap.json").read_text())
    layers = layer_names(list(manifest), SD_TOPOLOGY_UNET, "MIGC_SD14.ckpt")
    assert sum(map(len, layers.values())) == len(manifest)
    for layer, names in layers.items():
        for name, stored in names.items():
            assert key_map[stored] == {"processor": f"{layer}.processor", "sub_key": f"migc.{name}"}
        shapes = {name: tuple(manifest[stored]["shape"]) for name, stored in names.items()}
        block = build_on_meta(lambda shapes=shapes: MIGCBlock(block_sizes(shapes)))
        assert {name: tuple(value.shape) for name, value in block.state_dict().items()} == shapes
        assert sum(value.numel() for value in block.parameters()) == 14_341_977


LAYOUTS: dict[str, Callable[[Tensors], Tensors]] = {
    "original.ckpt": lambda tensors: tensors,
    "original.safetensors": lambda tensors: tensors,
    "converted.safetensors": converted_tensors,
    "processors.safetensors": lambda tensors: converted_tensors(tensors, "processor."),
    "unet.safetensors": lambda tensors: {f"unet.{k}": v for k, v in converted_tensors(tensors).items()},
    # The published file's names between the block and `migc` are not known for certain.
    "between.safetensors": lambda tensors: {
        k.replace(".1.transformer_blocks.0.attn2.migc.", ".anything.migc."): v for k, v in tensors.items()
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_blocks(tmp_path: Path, name: str) -> None:
    tensors = original_tensors()
    blocks = load(write(tmp_path / name, LAYOUTS[name](tensors), others=["global_step", "lr_schedulers"]))
    assert list(blocks) == [f"{layer}.transformer_blocks.0.attn2" for layer, _ in TINY_LAYERS.values()]
    for (ldm, _), block in zip(TINY_LAYERS.items(), blocks.values(), strict=True):
        for key, value in block.state_dict().items():
            stored = tensors[f"model.diffusion_model.{ldm}.transformer_blocks.0.attn2.migc.{key}"]
            assert torch.equal(value, stored)


@pytest.mark.parametrize("stored", [torch.float16, torch.float32])
@pytest.mark.parametrize("wanted", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_are_cast_to_the_dtype_of_the_run(tmp_path: Path, stored: torch.dtype, wanted: torch.dtype) -> None:
    tensors = {name: value.to(stored) for name, value in original_tensors().items()}
    blocks = load(write(tmp_path / "weights.safetensors", tensors), wanted)
    assert {value.dtype for block in blocks.values() for value in block.parameters()} == {wanted}


MIDDLE = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.migc"
OUTPUT = MIDDLE.replace("middle_block", "output_blocks.2")


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}


BROKEN: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "missing": (lambda t: without(t, f"{MIDDLE}.la.to_q.weight"), r"1 missing:\s+la\.to_q\.weight \[64, 64\]"),
    "size-telling missing": (lambda t: without(t, f"{MIDDLE}.norm.bias"), r"norm\.bias: found no such weight"),
    "surplus": (
        lambda t: t | {f"{MIDDLE}.la.to_q.bias": torch.zeros(64)},
        r"1 not known to the model:\s+la\.to_q\.bias",
    ),
    "misshaped": (
        lambda t: t | {f"{MIDDLE}.la.to_q.weight": torch.zeros(32, 64)},
        r"la\.to_q\.weight: found \[32, 64\], expected \[64, 64\]",
    ),
    "flat": (lambda t: t | {f"{MIDDLE}.norm.bias": torch.zeros(8, 8)}, r"norm\.bias: found shape \[8, 8\]"),
    "gamma": (lambda t: t | {f"{OUTPUT}.gamma": torch.zeros(1)}, r"MIGC\+\+.*MIGC_SD14\.ckpt"),
    "no conv1": (lambda t: {k: v for k, v in t.items() if "conv1" not in k}, r"MIGC\+\+"),
    "other weights too": (lambda t: t | {"model.diffusion_model.out.0.bias": torch.zeros(1)}, r"other weights.*out\.0"),
    "InteractDiffusion": (
        lambda t: {"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.fuser.alpha_attn": torch.zeros(1)},
        r"holds no MIGC weights .*fuser\.alpha_attn.*under `base`",
    ),
    "empty": (lambda t: {}, r"empty"),
    "twice": (lambda t: t | converted_tensors(t), r"are the same weight of layer mid_block"),
    "no such layer": (
        lambda t: {k.replace("output_blocks.2", "output_blocks.0"): v for k, v in t.items()},
        r"output_blocks\.0.*no cross-attention.*Stable Diffusion 1\.x",
    ),
    "no such converted layer": (
        lambda t: {k.replace("up_blocks.1", "up_blocks.0"): v for k, v in converted_tensors(t).items()},
        r"up_blocks\.0\.attentions\.0.*no cross-attention.*Stable Diffusion 1\.x",
    ),
    "other text width": (
        lambda t: {k: v[:, :48] if "ea.to_k" in k else v for k, v in t.items()},
        r"texts of width 48.*texts of width 64",
    ),
    "other channels": (
        lambda t: {k.replace("middle_block", "output_blocks.2"): v for k, v in t.items() if "middle_block" in k},
        r"64 channels.*has 32 channels.*Stable Diffusion 1\.x",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, migc_files: MIGCFiles, case: str) -> None:
    change, message = BROKEN[case]
    path = write(tmp_path / "weights.safetensors", change(original_tensors()))
    with pytest.raises(CheckpointError, match=f"(?s)weights.safetensors.*{message}"):
        migc_files.load(checkpoint=str(path))
