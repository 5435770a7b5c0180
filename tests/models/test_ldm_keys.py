"""Original names against the published map, diffusers' own converters, and configs against known ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file

from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import build_on_meta
from amdm_framework.models.ldm_configs import text_config_from_clip, unet_config_from_ldm, vae_config_from_ldm
from amdm_framework.models.ldm_keys import (
    UNET_PREFIX,
    component_keys,
    ldm_unet_key_map,
    ldm_unet_modules,
    ldm_vae_key_map,
    ldm_vae_modules,
    rename_keys,
)
from amdm_framework.models.stored_components import ldm_vae_component, open_clip_component
from amdm_framework.models.tensor_files import TensorMapping
from amdm_framework.testing.tiny_models import SD_TOPOLOGY_UNET, TINY_VAE, build_text_encoder, build_unet

PUBLISHED = json.loads((Path(__file__).parents[1] / "golden/ldm_keys/stable_diffusion_1_unet.json").read_text())
STABLE_DIFFUSION_1 = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "use_linear_projection": False,
    "upcast_attention": False,
}


class InMemory(TensorMapping):
    """Tensors of no file."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def __iter__(self):
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_unet_names_are_those_of_the_published_map():
    expected = {ldm: entry["diffusers"] for ldm, entry in PUBLISHED.items()}
    assert ldm_unet_key_map(STABLE_DIFFUSION_1, PUBLISHED) == expected


def test_unet_config_is_read_off_the_published_shapes():
    shapes = {ldm: tuple(entry["shape"]) for ldm, entry in PUBLISHED.items()}
    assert unet_config_from_ldm(shapes) == STABLE_DIFFUSION_1


def test_the_config_read_off_builds_a_unet_of_exactly_these_names_and_shapes():
    config = unet_config_from_ldm({ldm: tuple(entry["shape"]) for ldm, entry in PUBLISHED.items()})
    unet = build_on_meta(lambda: UNet2DConditionModel.from_config(config))
    expected = {entry["diffusers"]: entry["shape"] for entry in PUBLISHED.values()}
    assert {name: list(value.shape) for name, value in unet.state_dict().items()} == expected


@pytest.mark.parametrize("topology", ["tiny", "stable_diffusion"])
def test_unet_conversion_equals_that_of_diffusers(tiny_file, topology):
    if topology == "tiny":
        stored = load_file(tiny_file)
        config = unet_config_from_ldm(_shapes(stored, UNET_PREFIX))
    else:
        unet = build_unet(SD_TOPOLOGY_UNET)
        back = {new: old for old, new in ldm_unet_modules(unet.config).items()}
        names = rename_keys(unet.state_dict(), back)
        stored = {UNET_PREFIX + names[name]: value for name, value in unet.state_dict().items()}
        config = dict(unet.config)
    expected = convert_ldm_unet_checkpoint(dict(stored), config)
    names = ldm_unet_key_map(config, component_keys(stored, UNET_PREFIX))
    assert {new: stored[UNET_PREFIX + old].data_ptr() for old, new in names.items()} == {
        name: value.data_ptr() for name, value in expected.items()
    }


def test_vae_conversion_equals_that_of_diffusers(tiny_file):
    stored = {
        name.removeprefix("first_stage_model."): value
        for name, value in load_file(tiny_file).items()
        if name.startswith("first_stage_model.")
    }
    expected = convert_ldm_vae_checkpoint(dict(stored), TINY_VAE)
    component = ldm_vae_component(InMemory(stored), {name: name for name in stored})
    assert set(component.tensors) == set(expected)
    assert all(torch.equal(component.tensors[name], expected[name]) for name in expected)
    assert {key: component.config[key] for key in TINY_VAE if key not in ("sample_size", "norm_num_groups")} == {
        key: value for key, value in TINY_VAE.items() if key not in ("sample_size", "norm_num_groups")
    }


def test_names_outside_known_modules_and_below_them_are_carried_along():
    key_map = ldm_unet_key_map(
        STABLE_DIFFUSION_1,
        ["position_net.linears.0.weight", "middle_block.1.transformer_blocks.0.fuser.alpha_attn"],
    )
    assert list(key_map.values()) == [
        "position_net.linears.0.weight",
        "mid_block.attentions.0.transformer_blocks.0.fuser.alpha_attn",
    ]


@pytest.mark.parametrize("modules", [ldm_unet_modules(STABLE_DIFFUSION_1), ldm_vae_modules(TINY_VAE)])
def test_maps_are_one_to_one(modules):
    assert len(set(modules.values())) == len(modules)


def test_unknown_vae_names_stay():
    assert ldm_vae_key_map(TINY_VAE, ["loss.logvar"]) == {"loss.logvar": "loss.logvar"}


@pytest.mark.parametrize(
    "derive, looked_for",
    [
        (unet_config_from_ldm, "input_blocks.0.0.weight"),
        (vae_config_from_ldm, "encoder.conv_in.weight"),
        (text_config_from_clip, "embeddings.token_embedding.weight"),
    ],
)
def test_weights_of_something_else_are_refused_with_their_names(derive, looked_for):
    with pytest.raises(CheckpointError, match=looked_for) as caught:
        derive({"fc.weight": (3, 3)})
    assert "fc.weight" in str(caught.value)


def test_open_clip_text_model_gives_the_states_before_its_last_layer():
    # transformers' own model with one layer more is the reference; the file is written under OpenCLIP's names.
    full = build_text_encoder(seed=3)
    stored = _open_clip_names(full.state_dict(), layers=2)
    component = open_clip_component(InMemory(stored), {name: name for name in stored})
    assert component.config["num_hidden_layers"] == 1
    state = full.state_dict()
    expected = {name: value for name, value in state.items() if not name.startswith("encoder.layers.1.")}
    assert set(component.tensors) == set(expected) | {"text_projection", "logit_scale"}
    assert all(torch.equal(component.tensors[name], value) for name, value in expected.items())


def _open_clip_names(state: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    stored = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": torch.zeros(2, 2),
        "logit_scale": torch.zeros(()),
    }
    for layer in range(layers):
        old, new = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [state[f"{old}self_attn.{name}_proj.{kind}"] for name in ("q", "k", "v")]
            stored[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
            stored[f"{new}attn.out_proj.{kind}"] = state[f"{old}self_attn.out_proj.{kind}"]
            stored[f"{new}ln_1.{kind}"] = state[f"{old}layer_norm1.{kind}"]
            stored[f"{new}ln_2.{kind}"] = state[f"{old}layer_norm2.{kind}"]
            stored[f"{new}mlp.c_fc.{kind}"] = state[f"{old}mlp.fc1.{kind}"]
            stored[f"{new}mlp.c_proj.{kind}"] = state[f"{old}mlp.fc2.{kind}"]
    return stored


def _shapes(stored: dict[str, torch.Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    return {name: tuple(stored[key].shape) for name, key in component_keys(stored, prefix).items()}
