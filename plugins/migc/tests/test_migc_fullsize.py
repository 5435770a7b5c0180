"""MIGC at the size of Stable Diffusion 1.4: random float16 weights in the published layout, one guided evaluation."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from migc_files import MIGCFiles, write
from migc_goldens import GOLDEN
from safetensors.torch import save_file

from amdm_framework.models.checkpoints import build_on_meta
from amdm_framework.provider import RunSettings, Step
from amdm_framework.testing.tiny_models import build_scheduler, build_text_encoder, build_vae, write_tokenizer
from amdm_plugin_migc.condition import MIGCCondition

SD14_UNET = {
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}


def random_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Return float16 weights that keep activations near 1: every tensor a stretch of one random pool."""
    pool = torch.randn(2**25, generator=torch.Generator().manual_seed(0))
    tensors = {}
    for position, (name, shape) in enumerate(shapes.items()):
        count = torch.Size(shape).numel()
        stretch = pool.roll(position)[:count] if count > 1000 else pool[position : position + count]
        scale = 0.5 * (count / shape[0]) ** -0.5 if len(shape) > 1 else 0.1
        is_norm = len(shape) == 1 and name.endswith("weight")
        tensors[name] = (scale * stretch.view(shape) + is_norm).half()
    return tensors


@pytest.mark.fullsize
def test_full_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "sd"
    unet = build_on_meta(lambda: UNet2DConditionModel(**SD14_UNET))
    (base / "unet").mkdir(parents=True)
    (base / "unet" / "config.json").write_text(json.dumps(dict(unet.config)))
    shapes = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    save_file(random_tensors(shapes), base / "unet" / "diffusion_pytorch_model.safetensors")
    build_vae().save_pretrained(base / "vae")
    build_text_encoder(width=768).save_pretrained(base / "text_encoder")
    write_tokenizer(base / "tokenizer")
    build_scheduler().save_pretrained(base / "scheduler")
    (base / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    manifest = json.loads((GOLDEN / "migc_sd14.json").read_text())
    adapter = random_tensors({name: tuple(entry["shape"]) for name, entry in manifest.items()})
    write(tmp_path / "MIGC_SD14.ckpt", adapter, others=["global_step"])
    del adapter

    began = time.perf_counter()
    provider = MIGCFiles(tmp_path).load()
    loaded = time.perf_counter()
    instances = [
        {"phrase": "a red hair girl", "box": (0.1, 0.15, 0.62, 0.98)},
        {"phrase": "a blue bottle", "box": (0.48, 0.4, 0.66, 0.8)},
    ]
    condition = MIGCCondition(prompt="a girl drinks", instances=instances)
    conditioning = provider.encode([condition], RunSettings(512, 512, 50, True, (0,)))
    encoded = time.perf_counter()
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        prediction = provider.predict_noise(latents, Step(0, 50, 981), conditioning)
        plain = provider.predict_noise(latents, Step(49, 50, 981), conditioning)
    evaluated = time.perf_counter()

    assert sum(value.numel() for value in provider.unet.parameters()) == 859_520_964 + 4 * 14_341_977
    assert provider.default_size == (512, 512)
    for half in (prediction.conditional, prediction.unconditional):
        assert half.shape == (1, 4, 64, 64)
        assert half.isfinite().all()
    torch.testing.assert_close(prediction.unconditional, plain.unconditional, rtol=0, atol=1e-4)
    assert (prediction.conditional - plain.conditional).abs().max() > 1e-4
    with capsys.disabled():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"\nMIGC at full size in float32: load {loaded - began:.1f} s, encode {encoded - loaded:.1f} s, two guided "
            f"evaluations {evaluated - encoded:.1f} s, peak memory of the process {peak:.1f} GiB"
        )
