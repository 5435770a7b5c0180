"""Random weights of the released files' size and form through the real loader, and one guided evaluation."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from interactdiffusion_files import read_manifest
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from amdm_framework.models.context import LoadContext
from amdm_framework.models.ldm_configs import unet_config_from_ldm
from amdm_framework.models.weight_sharing import unique_bytes
from amdm_framework.provider import RunSettings, Step
from amdm_framework.testing.tiny_models import build_scheduler, write_tokenizer
from amdm_plugin_interactdiffusion.condition import GroundedInteraction, InteractDiffusionCondition
from amdm_plugin_interactdiffusion.options import InteractDiffusionOptions
from amdm_plugin_interactdiffusion.provider import load

TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}


def _random(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    # Small enough for 16 transformers in half precision, and nowhere constant.
    fan_in = max(1, torch.Size(shape[1:]).numel()) if len(shape) > 1 else 100
    return (torch.randn(shape, generator=generator) / fan_in**0.5).half()


def _write_folder(folder: Path, config: dict[str, object], shapes: dict[str, tuple[int, ...]]) -> None:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(len(shapes))
    file = "model" if folder.name == "text_encoder" else "diffusion_pytorch_model"
    save_file({name: _random(shape, generator) for name, shape in shapes.items()}, folder / f"{file}.fp16.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.fullsize
@pytest.mark.parametrize("form", ["folder", "original", "extension"])
def test_full_size(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = read_manifest("ldm")
    config = {**unet_config_from_ldm(names), "_class_name": "InteractDiffusionUNet2DConditionModel"}
    with torch.device("meta"):
        others = {"vae": AutoencoderKL(**VAE), "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT))}
        frozen = _shapes(UNet2DConditionModel(**unet_config_from_ldm(names)))
    base = tmp_path / "base"
    _write_folder(base / "vae", VAE, _shapes(others["vae"]))
    _write_folder(base / "text_encoder", TEXT, _shapes(others["text_encoder"]))
    write_tokenizer(base / "tokenizer")
    build_scheduler().save_pretrained(base / "scheduler")
    whole = read_manifest("diffusers")
    _write_folder(base / "unet", config, whole if form == "folder" else frozen)
    options = InteractDiffusionOptions(checkpoint="base")
    if form != "folder":
        generator = torch.Generator().manual_seed(1)
        wanted = {
            k: v for k, v in names.items() if form == "original" or ".fuser." in k or k.startswith("position_net.")
        }
        weights = {name: _random(shape, generator) for name, shape in wanted.items()}
        contents = {"model": weights, "iters": 7} if form == "original" else weights
        torch.save(contents, tmp_path / f"{form}.pth")
        del weights, contents
        options = InteractDiffusionOptions(checkpoint=f"{form}.pth", base="base")

    began = time.perf_counter()
    with torch.inference_mode():
        provider = load(options, LoadContext(torch.device("cpu"), torch.float32, base_dir=tmp_path))
        loaded = time.perf_counter()
        condition = InteractDiffusionCondition(
            prompt="a cat",
            interactions=(
                GroundedInteraction(
                    subject="a person",
                    subject_box=(0, 0, 0.5, 1),
                    action="feeding",
                    object="a cat",
                    object_box=(0.4, 0, 1, 1),
                ),
            ),
        )
        conditioning = provider.encode([condition], RunSettings(512, 512, 50, True, (0,)))
        encoded = time.perf_counter()
        latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(2))
        prediction = provider.predict_noise(latents, Step(0, 50, 981), conditioning)
    ended = time.perf_counter()
    assert prediction.unconditional is not None
    for half in (prediction.conditional, prediction.unconditional):
        assert half.shape == latents.shape
        assert half.isfinite().all()
    expected = sum(torch.Size(shape).numel() for shape in whole.values())
    assert sum(p.numel() for p in provider.unet.parameters()) + sum(
        p.numel() for p in provider.grounding_tokenizer.parameters()
    ) == expected  # fmt: skip
    with capsys.disabled():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        held = unique_bytes(provider.modules().values()) / 2**30
        print(
            f"\n{form}: loaded in {loaded - began:.1f} s, encoded in {encoded - loaded:.1f} s, one guided evaluation in "
            f"{ended - encoded:.1f} s; weights {held:.2f} GiB, peak of the process {peak:.2f} GiB"
        )
