"""Full-size random weights in the published formats, through the real loader, and one guided evaluation."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from ip_adapter_files import picture
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from amdm_framework.models.checkpoints import build_on_meta
from amdm_framework.models.context import LoadContext
from amdm_framework.provider import RunSettings, Step
from amdm_framework.testing.tiny_models import TINY_VAE, build_scheduler, write_tokenizer
from amdm_plugin_ip_adapter.condition import IPAdapterCondition, ReferencePicture
from amdm_plugin_ip_adapter.options import IPAdapterOptions
from amdm_plugin_ip_adapter.provider import load
from full_size_configs import IMAGE_ENCODER, TEXT_ENCODER, UNET

MANIFESTS = Path(__file__).parent / "manifests"


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        fan_in = values[0].numel() if values.ndim > 1 else 0
        tensors[name] = (values * fan_in**-0.5 if fan_in else 1 + 0.05 * values).half()
    return tensors


def write_component(folder: Path, module: torch.nn.Module, stem: str) -> None:
    folder.mkdir(parents=True)
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    save_file(random_tensors(shapes), folder / f"{stem}.safetensors")
    (folder / "config.json").write_text(json.dumps(dict(module.config) if stem[0] == "d" else module.config.to_dict()))


@pytest.mark.fullsize
@pytest.mark.parametrize("file", ["ip-adapter_sd15", "ip-adapter-plus_sd15"])
def test_one_guided_evaluation(file, tmp_path):
    write_component(
        tmp_path / "sd" / "unet",
        build_on_meta(lambda: UNet2DConditionModel(**UNET)),
        "diffusion_pytorch_model",
    )
    vae = {**TINY_VAE, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    write_component(tmp_path / "sd" / "vae", build_on_meta(lambda: AutoencoderKL(**vae)), "diffusion_pytorch_model")
    text = build_on_meta(lambda: CLIPTextModel(CLIPTextConfig(vocab_size=49408, **TEXT_ENCODER)))
    write_component(tmp_path / "sd" / "text_encoder", text, "model")
    write_tokenizer(tmp_path / "sd" / "tokenizer")
    build_scheduler().save_pretrained(tmp_path / "sd" / "scheduler")
    encoder = build_on_meta(lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**IMAGE_ENCODER)))
    write_component(tmp_path / "image_encoder", encoder, "model")
    manifest = json.loads((MANIFESTS / f"{file}.json").read_text())
    save_file(
        random_tensors({name: info["shape"] for name, info in manifest.items()}), tmp_path / f"{file}.safetensors"
    )
    expected_bytes = {"ip-adapter_sd15": 44_642_768, "ip-adapter-plus_sd15": 98_183_288}[file]
    assert (tmp_path / f"{file}.safetensors").stat().st_size == expected_bytes

    began = time.perf_counter()
    options = IPAdapterOptions(
        checkpoint=f"{file}.safetensors", base="sd", image_encoder="image_encoder", preset="style"
    )
    provider = load(options, LoadContext(torch.device("cpu"), torch.float32, base_dir=tmp_path))
    loaded = time.perf_counter()
    assert provider.default_size == (512, 512)
    condition = IPAdapterCondition(
        prompt="a bird", references=(ReferencePicture(image=picture(1)),), strength=options.strength()
    )
    with torch.inference_mode():
        conditioning = provider.encode([condition], RunSettings(512, 512, 50, True, (0,)))
        encoded = time.perf_counter()
        latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
        prediction = provider.predict_noise(latents, Step(0, 50, 981), conditioning)
    for half in (prediction.conditional, prediction.unconditional):
        assert half.shape == (1, 4, 64, 64)
        assert half.isfinite().all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{file}: loaded in {loaded - began:.0f} s, encoded in {encoded - loaded:.0f} s, one guided evaluation in "
        f"{time.perf_counter() - encoded:.0f} s, peak {peak:.1f} GiB"
    )
