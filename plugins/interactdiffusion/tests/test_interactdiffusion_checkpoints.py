"""Every form of InteractDiffusion's weights leads to the same networks; whatever is not one is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from interactdiffusion_files import (
    MANIFESTS,
    extension_weights,
    flattened,
    original_contents,
    read_manifest,
    write_flat,
    write_original,
)
from safetensors.torch import load_file

from amdm_framework.errors import CheckpointError
from amdm_framework.models.components import load_text_encoder, load_vae, open_base
from amdm_framework.models.context import LoadContext
from amdm_framework.models.ldm_configs import unet_config_from_ldm
from amdm_framework.models.ldm_keys import ldm_unet_key_map
from amdm_framework.testing.tiny_models import TEXT_WIDTH, TINY_UNET, write_diffusers_folder
from amdm_plugin_interactdiffusion.checkpoint import InteractDiffusionCheckpoint, checkpoint_at, load_networks
from amdm_plugin_interactdiffusion.fuser import install_fusers
from amdm_plugin_interactdiffusion.grounding_tokens import GroundingTokenizer
from amdm_plugin_interactdiffusion.tiny_model import write_folder


def _context(dtype: torch.dtype = torch.float32) -> LoadContext:
    return LoadContext(torch.device("cpu"), dtype)


def _open(path: Path, base: Path | None = None, **arguments: str) -> InteractDiffusionCheckpoint:
    context = _context()
    opened = open_base(str(base), context) if base else None
    return checkpoint_at(path, path.name, context, base=opened, **arguments)


def _weights_of(checkpoint: InteractDiffusionCheckpoint, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    context = _context(dtype)
    unet, tokenizer = load_networks(checkpoint, context)
    networks = {
        "unet": unet,
        "tokenizer": tokenizer,
        "vae": load_vae(checkpoint, context),
        "text": load_text_encoder(checkpoint, context),
    }
    return {f"{key}.{name}": value for key, module in networks.items() for name, value in module.state_dict().items()}


def _original(files: Path, folder: Path) -> Path:
    return files / "original.pth"


def _original_in_half(files: Path, folder: Path) -> Path:
    halves = original_contents(files / "model")
    for part in ("model", "autoencoder", "text_encoder"):
        halves[part] = {k: v.half() if v.is_floating_point() else v for k, v in halves[part].items()}
    return write_original(folder / "half.pth", files / "model", **halves)


def _safetensors_of_original(files: Path, folder: Path) -> Path:
    return write_flat(folder / "copy.safetensors", flattened(original_contents(files / "model")))


def _unet_of_original(files: Path, folder: Path) -> Path:
    return write_original(folder / "unet.pth", files / "model", autoencoder=None, text_encoder=None, opt=None)


def _flat_unet(files: Path, folder: Path) -> Path:
    return write_flat(folder / "unet.safetensors", original_contents(files / "model")["model"])


def _unet_of_folder(files: Path, folder: Path) -> Path:
    return files / "model" / "unet" / "diffusion_pytorch_model.safetensors"


def _extension(files: Path, folder: Path) -> Path:
    return write_flat(folder / "ext.pth", extension_weights(files / "model"))


def _safetensors_of_extension(files: Path, folder: Path) -> Path:
    weights = extension_weights(files / "model")
    vectors = {name: value.reshape(1) if value.ndim == 0 else value for name, value in weights.items()}
    return write_flat(folder / "ext.safetensors", vectors)


def _whole(files: Path, folder: Path) -> Path:
    return files / "model"


@pytest.mark.parametrize("write", [_original, _safetensors_of_original, _whole])
def test_whole_models_in_every_form_are_the_same(
    files: Path, tmp_path: Path, write: Callable[[Path, Path], Path]
) -> None:
    expected = _weights_of(_open(files / "model"))
    stored = load_file(files / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    assert len([name for name in expected if name.startswith(("unet.", "tokenizer."))]) == len(stored)
    path = write(files, tmp_path)
    found = _weights_of(_open(path, tokenizer=str(files / "base" / "tokenizer")))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "write", [_original, _unet_of_original, _flat_unet, _unet_of_folder, _extension, _safetensors_of_extension]
)
def test_parts_that_a_file_lacks_come_from_the_base(
    files: Path, tmp_path: Path, write: Callable[[Path, Path], Path]
) -> None:
    expected = _weights_of(_open(files / "model"))
    checkpoint = _open(write(files, tmp_path), files / "base")
    found = _weights_of(checkpoint)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert checkpoint.tokenizer_folder() == files / "base" / "tokenizer"


def test_an_extension_replaces_the_layers_of_an_interactdiffusion_base(files: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", seed=0)
    stored = load_file(other / "unet" / "diffusion_pytorch_model.safetensors")
    changed = {name: value + 1 if "fuser" in name else value for name, value in stored.items()}
    write_flat(other / "unet" / "diffusion_pytorch_model.safetensors", changed)
    found = _weights_of(_open(_extension(files, tmp_path), other))
    expected = _weights_of(_open(files / "model"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_half_precision_files_and_runs(files: Path, tmp_path: Path) -> None:
    checkpoint = _open(_original_in_half(files, tmp_path), files / "base")
    exact = _weights_of(_open(files / "model"))
    in_float32 = _weights_of(checkpoint)
    assert {value.dtype for value in in_float32.values() if value.is_floating_point()} == {torch.float32}
    assert torch.equal(in_float32["unet.conv_in.weight"], exact["unet.conv_in.weight"].half().float())
    assert _weights_of(checkpoint, torch.bfloat16)["unet.conv_in.weight"].dtype == torch.bfloat16


def test_a_fp16_variant_is_found_in_the_folder(files: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        (folder / f"{name}.safetensors").rename(folder / f"{name}.fp16.safetensors")
    for checkpoint in (_open(folder), _open(folder, variant="fp16")):
        unet = checkpoint.component("unet")
        assert unet.tensors.files[0].name == "diffusion_pytorch_model.fp16.safetensors"
    with pytest.warns(UserWarning, match=r"vae: no weights of variant 'fp16'"):
        vae = _open(folder, variant="fp16").component("vae")
    assert vae.tensors.files[0].name == "diffusion_pytorch_model.safetensors"


def _altered_extension(files: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    weights = extension_weights(files / "model")
    change(weights)
    return write_flat(folder / "altered.safetensors", weights)


FUSER = "input_blocks.1.1.transformer_blocks.0.fuser"
FUSER_IN_DIFFUSERS = "down_blocks.0.attentions.0.transformer_blocks.0.fuser"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.pop(f"{FUSER}.alpha_attn"), f"1 missing:\n    {FUSER_IN_DIFFUSERS}.alpha_attn []"),
        (lambda w: w.update({f"{FUSER}.extra": torch.ones(2)}), f"1 not known to the model:\n    {FUSER_IN_DIFFUSERS}.extra"),
        (
            lambda w: w.update({f"{FUSER}.linear.weight": torch.ones(32, 7)}),
            f"{FUSER_IN_DIFFUSERS}.linear.weight: found [32, 7], expected [32, 64]",
        ),
        (lambda w: w.pop("position_net.linear_action.0.bias"), "lacks position_net.linear_action.0.bias"),
        (lambda w: w.update({"position_net.surplus": torch.ones(2)}), "not known to the model:\n    surplus [2]"),
        (
            lambda w: w.update({"position_net.null_action_feature": torch.ones(3)}),
            "null_action_feature: found [3], expected [64]",
        ),
        (lambda w: w.update({"position_net.linears.0.weight": torch.ones(())}), "impossible shapes"),
    ],
)  # fmt: skip
def test_missing_surplus_and_misshaped_weights_are_named(
    files: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], named: str
) -> None:
    path = _altered_extension(files, tmp_path, change)
    with pytest.raises(CheckpointError) as caught:
        load_networks(_open(path, files / "base"), _context())
    assert named in str(caught.value)


def test_unknown_parts_of_an_original_file_are_named(files: Path, tmp_path: Path) -> None:
    path = write_original(tmp_path / "surplus.pth", files / "model", discriminator={"weight": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"not known to InteractDiffusion: discriminator\.weight"):
        _open(path, files / "base")


@pytest.mark.parametrize(
    ("name", "weights", "sentence"),
    [
        ("ip_adapter", {"image_proj.proj.weight": torch.ones(2)}, r"holds no position_net.*found image_proj\.proj\.weight"),
        ("gligen", {"position_net.null_positive_feature": torch.ones(2)}, "GLIGEN's layers"),
        ("plain", {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2)}, "give it as `base`"),
    ],
)  # fmt: skip
def test_files_of_other_models_are_told_apart(
    files: Path, tmp_path: Path, name: str, weights: dict[str, torch.Tensor], sentence: str
) -> None:
    path = write_flat(tmp_path / f"{name}.safetensors", weights)
    with pytest.raises(CheckpointError, match=sentence):
        _open(path, files / "base")


def test_a_plain_folder_is_not_a_checkpoint(files: Path) -> None:
    with pytest.raises(CheckpointError, match="without InteractDiffusion's layers; give it as `base`"):
        _open(files / "base")


def test_files_without_a_base_say_what_they_lack(files: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"without a whole model; name the .* as `base`"):
        _open(_extension(files, tmp_path))
    with pytest.raises(CheckpointError, match=r"holds no vae and no text_encoder; name the .* as `base`"):
        _open(_unet_of_original(files, tmp_path))


def test_a_base_with_another_text_width_is_refused(files: Path, tmp_path: Path) -> None:
    wide = write_diffusers_folder(tmp_path / "wide", unet_config={**TINY_UNET, "cross_attention_dim": 2 * TEXT_WIDTH})
    with pytest.raises(CheckpointError, match=r"phrase features of shape \[64\].*features of shape \[128\]"):
        _open(_extension(files, tmp_path), wide)


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_nothing_in_a_pickle_is_executed(files: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = write_original(tmp_path / "hostile.pth", files / "model", opt=_Hostile(marker))
    _weights_of(_open(path, files / "base"))
    assert not marker.exists()


def test_a_damaged_file_is_refused(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"
    path.write_bytes((files / "original.pth").read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        _open(path, files / "base")


def test_full_size_names_and_shapes_are_those_of_the_released_files() -> None:
    stored = read_manifest("ldm")
    config = unet_config_from_ldm(stored)
    position_net = {k.removeprefix("position_net."): v for k, v in stored.items() if k.startswith("position_net.")}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
        tokenizer = GroundingTokenizer.for_shapes(position_net)
        install_fusers(unet, position_net["linears.4.weight"][0])
    expected = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    expected |= {f"position_net.{name}": tuple(value.shape) for name, value in tokenizer.state_dict().items()}
    assert expected == read_manifest("diffusers")
    assert len(expected) == 975
    assert sum(".fuser." in name for name in expected) == 272
    key_map = json.loads((MANIFESTS / "interactdiffusion_v1.keymap.json").read_text())
    assert ldm_unet_key_map(config, stored) == key_map


def _write_header_only(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """Write a safetensors file of zeros that takes no space on the disk."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(torch.Size(shape).numel())
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    return path


def test_full_size_files_are_opened_by_the_real_path(tmp_path: Path) -> None:
    diffusers_names = read_manifest("diffusers")
    config = unet_config_from_ldm(read_manifest("ldm"))
    base = tmp_path / "base"
    frozen = {k: v for k, v in diffusers_names.items() if ".fuser." not in k and not k.startswith("position_net.")}
    _write_header_only(base / "unet" / "diffusion_pytorch_model.fp16.safetensors", frozen)
    (base / "unet" / "config.json").write_text(json.dumps(config))
    _write_header_only(base / "text_encoder" / "model.fp16.safetensors", {"final_layer_norm.bias": (768,)})
    (base / "text_encoder" / "config.json").write_text(json.dumps({"hidden_size": 768}))

    names = read_manifest("ldm")
    extension = {k: v for k, v in names.items() if ".fuser." in k or k.startswith("position_net.")}
    whole = _write_header_only(tmp_path / "whole.safetensors", {f"model.{k}": v for k, v in names.items()})
    for path in (whole, _write_header_only(tmp_path / "ext.safetensors", extension)):
        checkpoint = _open(path, base)
        found = {name: tuple(value.shape) for name, value in checkpoint.component("unet").tensors.items()}
        found |= {f"position_net.{k}": tuple(v.shape) for k, v in checkpoint.grounding_tokenizer.items()}
        assert found == diffusers_names
    assert len(extension) == 289
