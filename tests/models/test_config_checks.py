"""Configs from anywhere: what is wrong with one is said in an error of our own, before anything large is built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from amdm_framework.errors import CheckpointError
from amdm_framework.models.components import load_text_encoder, load_unet, load_vae, open_base
from amdm_framework.models.context import LoadContext
from amdm_framework.models.digests import tensor_infos
from amdm_framework.models.tensor_files import read_tensors


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of a model that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change(config: Path, **values: Any) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), **values}))


@pytest.mark.parametrize(
    ("part", "values", "expected"),
    [
        ("unet", {"cross_attention_dim": "64"}, "cross_attention_dim"),
        ("unet", {"block_out_channels": []}, "block_out_channels"),
        ("unet", {"sample_size": 10**6}, "sample_size"),
        ("unet", {"_class_name": {"a": 1}}, "does not describe a UNet"),
        ("unet", {"layers_per_block": 10**7}, "layers_per_block: 10000000"),
        ("unet", {"attention_head_dim": 2**40}, "not a JSON config"),
        ("vae", {"latent_channels": None}, "latent_channels"),
        ("vae", {"scaling_factor": 0}, "scaling_factor"),
        ("vae", {"scaling_factor": float("nan")}, "not a JSON config"),
        ("vae", {"down_block_types": [["x"]]}, "does not describe a KL autoencoder"),
        ("text_encoder", {"hidden_act": ["quick_gelu"]}, "does not describe a CLIP text model"),
        ("text_encoder", {"num_hidden_layers": 10**6}, "num_hidden_layers: 1000000"),
        ("text_encoder", {"max_position_embeddings": 10**7}, "max_position_embeddings"),
    ],
)
def test_configs_that_describe_no_network(
    model: Path, context: LoadContext, part: str, values: dict[str, Any], expected: str
) -> None:
    change(model / part / "config.json", **values)
    load = {"unet": load_unet, "vae": load_vae, "text_encoder": load_text_encoder}[part]
    with pytest.raises(CheckpointError, match=expected) as caught:
        load(open_base(str(model), context), context)
    assert str(model / part) in str(caught.value)


@pytest.mark.parametrize(
    "values", [{"beta_start": "x"}, {"beta_end": 1e9}, {"num_train_timesteps": 0}, {"beta_schedule": 3}]
)
def test_schedules_that_describe_no_diffusion(model: Path, context: LoadContext, values: dict[str, Any]) -> None:
    change(model / "scheduler" / "scheduler_config.json", **values)
    with pytest.raises(CheckpointError, match="does not describe a noise schedule"):
        open_base(str(model), context).noise_schedule()


def test_a_tokenizer_without_a_length(model: Path, context: LoadContext) -> None:
    change(model / "tokenizer" / "tokenizer_config.json", model_max_length=[77])
    with pytest.raises(CheckpointError, match="model_max_length"):
        open_base(str(model), context).tokenizer()


def test_code_beside_a_tokenizer_is_not_asked_about(
    model: Path, context: LoadContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(
        model / "tokenizer" / "tokenizer_config.json",
        tokenizer_class="Own",
        auto_map={"AutoTokenizer": ["code.Own", None]},
    )
    (model / "tokenizer" / "code.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.setattr("builtins.input", lambda *prompt: pytest.fail("asked the terminal"))
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        open_base(str(model), context).tokenizer()


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_weights_that_are_no_real_numbers(model: Path, context: LoadContext, dtype: torch.dtype) -> None:
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "conv_in.bias": tensors["conv_in.bias"].to(dtype)}, file)
    with pytest.raises(CheckpointError, match="not of real numbers"):
        load_unet(open_base(str(model), context), context)
    if dtype.is_complex:
        with pytest.raises(CheckpointError, match="conv_in.bias holds numbers of kind complex64"):
            tensor_infos(read_tensors(file), "unet", torch.float32)
