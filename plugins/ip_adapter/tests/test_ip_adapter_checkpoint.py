"""Adapter and encoder files: what is loaded, and what is refused with which words."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from ip_adapter_files import write_adapter
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPVisionConfig

from amdm_framework.errors import CheckpointError, InputError
from amdm_framework.models.checkpoints import build_on_meta
from amdm_framework.models.components import load_unet, open_base
from amdm_framework.models.context import LoadContext
from amdm_framework.models.stored_components import Component
from amdm_framework.testing.tiny_models import TINY_UNET, build_unet
from amdm_plugin_ip_adapter.checkpoint import check_adapter, cross_attention_layers
from amdm_plugin_ip_adapter.image_encoder import build_image_encoder, find_image_encoder, open_image_encoder
from amdm_plugin_ip_adapter.provider import inspect, load
from amdm_plugin_ip_adapter.tiny_model import TINY_ENCODER, adapter_tensors

MANIFESTS = Path(__file__).parent / "manifests"
ENCODER = CLIPVisionConfig(**TINY_ENCODER)

STABLE_DIFFUSION_1 = {
    "cross_attention_dim": 768,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": 8,
}
VIT_H = CLIPVisionConfig(
    hidden_size=1280,
    intermediate_size=5120,
    projection_dim=1024,
    num_hidden_layers=32,
    num_attention_heads=16,
    patch_size=14,
)


def meta_unet(config=TINY_UNET) -> UNet2DConditionModel:
    return build_on_meta(lambda: UNet2DConditionModel(**config))


@pytest.mark.parametrize(("file", "kind"), [("ip-adapter_sd15", "base"), ("ip-adapter-plus_sd15", "plus")])
def test_manifests_of_the_published_files(file, kind):
    """Every name and shape of the real files fits the real model, and any change of them is named."""
    manifest = json.loads((MANIFESTS / f"{file}.json").read_text())
    tensors = {name: torch.empty(info["shape"], device="meta") for name, info in manifest.items()}
    unet = meta_unet(STABLE_DIFFUSION_1)
    assert check_adapter(tensors, file, unet, VIT_H) == kind
    widths = [tensors[f"ip_adapter.{n}.to_k_ip.weight"].shape[0] for n in range(1, 32, 2)]
    assert widths == [320, 320, 640, 640, 1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320, 320, 1280]
    last = next(name for name in tensors if name.endswith("31.to_v_ip.weight"))
    for name in ("ip_adapter.13.to_k_ip.weight", last):
        with pytest.raises(CheckpointError, match=f"1 missing:\n    {name}"):
            check_adapter({key: value for key, value in tensors.items() if key != name}, file, unet, VIT_H)
    with pytest.raises(
        CheckpointError, match=r"1 of another shape:\n    ip_adapter.1.to_k_ip.weight: found \[640, 768\]"
    ):
        check_adapter(
            tensors | {"ip_adapter.1.to_k_ip.weight": torch.empty(640, 768, device="meta")}, file, unet, VIT_H
        )


def test_both_containers_load_alike(files, kind, tmp_path):
    """The published files are float16; the run's dtype is float32."""
    stored = load_file(files.folder / f"{kind}.safetensors")
    expected = {name: value.half().float() for name, value in stored.items()}
    states = []
    for suffix in (".safetensors", ".bin"):
        provider = files.load(str(write_adapter(tmp_path / f"adapter{suffix}", stored, torch.float16)))
        states.append(provider.adapter.projection.state_dict())
        for number, processor in zip((1, 3, 5, 7), provider.adapter.processors, strict=True):
            assert torch.equal(processor.to_k_ip[0].weight, expected[f"ip_adapter.{number}.to_k_ip.weight"])
            assert torch.equal(processor.to_v_ip[0].weight, expected[f"ip_adapter.{number}.to_v_ip.weight"])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def changed(kind: str, **changes) -> dict[str, torch.Tensor]:
    tensors = adapter_tensors(build_unet(TINY_UNET), kind) | changes
    return {name: value for name, value in tensors.items() if value is not None}


def like(name: str, *shape: int) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape)}


BASE, PLUS = changed("base"), changed("plus")
FIFTH_BLOCK = {name.replace("layers.3", "layers.4"): v for name, v in PLUS.items() if "layers.3" in name}
TWO_BLOCKS = {name: v for name, v in PLUS.items() if "layers.2" not in name and "layers.3" not in name}
WIDE, MIDDLE = (
    {name: torch.zeros(v.shape[0], width) if name.startswith("ip_adapter.") else v for name, v in BASE.items()}
    for width in (2048, 1024)
)
FACE_ID = {
    **{name: v for name, v in BASE.items() if "image_proj.proj." not in name},
    **like("image_proj.proj.0.weight", 4, 4),
}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "not an IP-Adapter"),
        (like("model.diffusion_model.out.2.weight", 4, 320, 3, 3), "not an IP-Adapter.*model.diffusion_model.out"),
        (WIDE, "for SDXL .context width 2048.*Supported are ip-adapter_sd15"),
        (MIDDLE, r"width 1024 \(Stable Diffusion 2.x\), and the base reads tokens of width 64"),
        (BASE | like("image_proj.proj.3.weight", 4, 4), "full-face"),
        (FACE_ID, "FaceID"),
        ({**PLUS, **like("image_proj.perceiver_resampler.latents", 1, 4, 4)}, "FaceID"),
        (BASE | like("image_proj.proj.weight", 256, 1280), "ViT-bigG"),
        ({k: v for k, v in PLUS.items() if k != "image_proj.latents"}, "image projection that is not known"),
        (BASE | like("image_proj.proj.weight", 256, 48), r"reads image embeddings of width 48, .*gives 40"),
        (PLUS | like("image_proj.proj_in.weight", 24, 40), r"reads image hidden states of width 40, .*gives 48"),
        (PLUS | like("image_proj.latents", 16, 24), r"image_proj.latents has shape \[16, 24\]"),
        (PLUS | FIFTH_BLOCK, r"11 surplus:\n    image_proj.layers.4"),
        (TWO_BLOCKS, r"22 missing:\n    image_proj.layers.2"),
        (BASE | like("ip_adapter.9.to_k_ip.weight", 64, 64), r"1 surplus:\n    ip_adapter.9.to_k_ip.weight \[64, 64\]"),
        (BASE | like("image_proj.proj.weight", 8 * 64, 40), r"found \[512, 40\], expected \[256, 40\]"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tensors, message):
    with pytest.raises(CheckpointError, match=f"(?s)adapter.bin: .*{message}"):
        check_adapter(tensors, "adapter.bin", meta_unet(), ENCODER)


def test_a_gated_base_is_refused():
    unet = meta_unet({**TINY_UNET, "attention_type": "gated"})
    with pytest.raises(CheckpointError, match=r"this one has another one at .*fuser"):
        cross_attention_layers(unet)


def test_pickles_run_nothing(files, tmp_path):
    torch.save({"image_proj": {"latents": torch.nn.Linear(2, 2)}, "ip_adapter": {}}, tmp_path / "adapter.bin")
    with pytest.raises(CheckpointError, match="refused, this pickle holds more than tensors"):
        files.load(str(tmp_path / "adapter.bin"))


def test_nothing_large_is_loaded_before_the_check(files, tmp_path, monkeypatch):
    write_adapter(tmp_path / "wide.safetensors", WIDE)
    monkeypatch.setattr("amdm_plugin_ip_adapter.provider.load_unet", lambda *_: pytest.fail("loaded"))
    with pytest.raises(CheckpointError, match="SDXL"):
        files.load(str(tmp_path / "wide.safetensors"))
    with pytest.raises(InputError, match=r"preset.down.block_2"):
        files.load("base.safetensors", preset="composition")


def test_missing_files(files):
    with pytest.raises(CheckpointError, match=r"no such file or folder. Did you mean 'base.safetensors'"):
        files.load("bese.safetensors")
    with pytest.raises(CheckpointError, match="no such file or folder"):
        files.load(image_encoder="models/encoder")
    with pytest.raises(CheckpointError, match=r"model.safetensors: no such file"):
        files.load(image_encoder="models")


def opened(reference: str, context: LoadContext) -> Component:
    return open_image_encoder(find_image_encoder(reference, context), reference)


def test_the_image_encoder_by_its_weights_file(files):
    by_folder = opened("models/image_encoder", files.context())
    by_file = opened("models/image_encoder/model.safetensors", files.context())
    assert by_folder.config == by_file.config
    assert by_folder.tensors.files == by_file.tensors.files


def test_a_weights_file_on_the_hub_comes_with_its_config(files, monkeypatch):
    asked = []

    def resolve(reference, context, select=None):
        asked.append(reference)
        return files.folder / "models" / "image_encoder" / reference.rpartition("/")[2].partition("@")[0]

    monkeypatch.setattr("amdm_plugin_ip_adapter.image_encoder.resolve_reference", resolve)
    opened("hf://h94/IP-Adapter/models/image_encoder/model.safetensors@main", files.context())
    folder = "hf://h94/IP-Adapter/models/image_encoder"
    assert asked == [f"{folder}/model.safetensors@main", f"{folder}/config.json@main"]


def test_an_encoder_of_another_kind(files, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(files.folder / "models" / "image_encoder", folder)
    (folder / "config.json").write_text(json.dumps(CLIPTextConfig().to_dict()))
    with pytest.raises(CheckpointError, match="this is a clip_text_model, expected a clip_vision_model"):
        opened(str(folder), files.context())
    config = CLIPVisionConfig(**{**TINY_ENCODER, "num_hidden_layers": 2}).to_dict()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"(?s)not known to the model.*encoder.layers.2"):
        files.load(image_encoder=str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        files.load(image_encoder=str(folder))


@pytest.mark.parametrize("change", [{"hidden_size": "wide"}, {"num_attention_heads": 7}, {"num_attention_heads": 0}])
def test_an_encoder_config_of_nonsense(files, change):
    component = opened("models/image_encoder", files.context())
    with pytest.raises(CheckpointError, match="does not describe a CLIP vision model"):
        build_image_encoder(Component({**component.config, **change}, component.tensors))


def test_the_base_is_shared_and_left_alone(files):
    """A second model on the same base holds the same parameters, and predicts what it predicted before."""
    context = files.context()
    plain = load_unet(open_base("sd", context), context)
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 64)
    before = plain(latents, 500, text).sample
    first, second = (load(files.options(f"{kind}.safetensors"), context) for kind in ("plus", "base"))
    assert torch.equal(plain(latents, 500, text).sample, before)
    own = dict(first.unet.named_parameters())
    other = dict(second.unet.named_parameters())
    for name, parameter in plain.named_parameters():
        assert own[name] is parameter and other[name] is parameter
    assert all("attn2.processor" in name for name in own.keys() - dict(plain.named_parameters()).keys())
    pairs = zip(first.image_encoder.parameters(), second.image_encoder.parameters(), strict=True)
    assert all(one is two for one, two in pairs)
    assert not any(parameter.requires_grad for module in first.modules().values() for parameter in module.parameters())
    assert not any(module.training for network in first.modules().values() for module in network.modules())
    assert {file.component for file in context.weight_files} == {
        "unet",
        "vae",
        "text_encoder",
        "adapter",
        "image_encoder",
    }
    first.to(dtype=torch.bfloat16)
    assert next(second.unet.parameters()) is next(first.unet.parameters())


def test_inspect_reads_no_network(files, kind, provider, monkeypatch):
    """The report's tensors are exactly what loading holds, each held once over two members."""
    monkeypatch.setattr("amdm_framework.models.components.load_strict", lambda *_, **__: pytest.fail("loaded"))
    report = inspect(files.options(f"{kind}.safetensors"), files.context())
    assert report.downloads == ()
    assert report.default_size == (64, 64)
    held = {id(p): p.numel() for module in provider.modules().values() for p in module.parameters()}
    counted = {}
    for infos in report.components.values():
        counted |= {info.identity: math.prod(info.shape) for info in infos if info.dtype != "I64"}
    assert sum(counted.values()) == sum(held.values())
    assert report.latent_space == provider.latent_space
    with pytest.raises(CheckpointError, match="SDXL"):
        write_adapter(files.folder / "wide.safetensors", WIDE)
        inspect(files.options("wide.safetensors"), files.context())


def test_inspect_says_what_would_be_fetched(files, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    absent = {"base": "hf://CompVis/stable-diffusion-v1-4", "image_encoder": "hf://h94/IP-Adapter/models/x.safetensors"}
    report = inspect(files.options(**absent), files.context())
    assert report.downloads == tuple(absent.values())
    assert set(report.components) == {"adapter"}
    assert report.default_size == (512, 512)
