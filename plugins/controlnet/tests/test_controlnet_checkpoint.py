"""ControlNet files: what is loaded, and what is refused with which words."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from controlnet_files import original_tensors, write_original
from safetensors.torch import load_file, save_file

from amdm_framework.errors import CheckpointError
from amdm_framework.models.weight_sharing import unique_bytes
from amdm_framework.testing.tiny_models import SD_TOPOLOGY_UNET, TINY_UNET, build_unet
from amdm_plugin_controlnet import checkpoint as checkpoint_module
from amdm_plugin_controlnet.checkpoint import find_controlnet, load_controlnet, locate_controlnet, open_controlnet
from amdm_plugin_controlnet.provider import inspect, load
from amdm_plugin_controlnet.tiny_model import build_controlnet, write_controlnet

WEIGHTS = "diffusion_pytorch_model.safetensors"
STABLE_DIFFUSION_2 = {**SD_TOPOLOGY_UNET, "attention_head_dim": (1, 1, 1, 1), "use_linear_projection": True}


@pytest.mark.parametrize("unet", [SD_TOPOLOGY_UNET, STABLE_DIFFUSION_2], ids=["1.x", "2.x"])
@pytest.mark.parametrize(("file", "prefix"), [("a.safetensors", "control_model."), ("a.pth", "")])
def test_the_original_layout_is_the_same_network(files, tmp_path, unet, file, prefix):
    controlnet = build_controlnet(build_unet(unet), conditioning_embedding_out_channels=(4, 8, 12, 16))
    tensors = original_tensors(controlnet, prefix)
    whole_model = {"model.diffusion_model.out.2.bias": torch.zeros(4), "alphas_cumprod": torch.zeros(1000)}
    path = write_original(tmp_path / file, tensors | (whole_model if prefix else {}))
    loaded = load_controlnet(open_controlnet(path, str(path)), files.context())
    arguments = (torch.randn(1, 4, 8, 8), torch.tensor(500), torch.randn(1, 77, 64), torch.rand(1, 3, 64, 64))
    found, expected = (network(*arguments, return_dict=False) for network in (loaded, controlnet))
    for one, other in zip((*found[0], found[1]), (*expected[0], expected[1]), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("form", ["bin", "fp16", "file beside its config", "old config"])
def test_forms_of_diffusers_folders(files, tmp_path, form):
    folder = tmp_path / "controlnet"
    shutil.copytree(files.folder / "controlnet", folder)
    expected = load_file(folder / WEIGHTS)
    reference = str(folder)
    if form == "bin":
        torch.save(expected, folder / "diffusion_pytorch_model.bin")
        (folder / WEIGHTS).unlink()
    elif form == "fp16":
        expected = {name: value.half().float() for name, value in expected.items()}
        half = {name: value.half() for name, value in expected.items()}
        save_file(half, folder / "diffusion_pytorch_model.fp16.safetensors")
        (folder / WEIGHTS).unlink()
    elif form == "file beside its config":
        reference = str(folder / WEIGHTS)
    else:
        config = json.loads((folder / "config.json").read_text())
        later = ("_class_name", "conditioning_channels", "global_pool_conditions", "addition_embed_type", "in_channels")
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k not in later}))
    provider = files.load(reference)
    own = provider.controlnet.state_dict()
    own |= {f"controlnet_cond_embedding.{k}": v for k, v in provider.control_embedding.state_dict().items()}
    assert own.keys() == expected.keys() and all(torch.equal(own[name], expected[name]) for name in own)


def write_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "this is a UNet2DConditionModel, expected a ControlNetModel"),
        ({"_class_name": "ControlNetUnionModel"}, "this is a ControlNetUnionModel"),
        ({"addition_embed_type": "text_time"}, "is for Stable Diffusion XL, expected one for 1.x or 2.x"),
        ({"cross_attention_dim": 1024}, r"cross_attention_dim: found 1024 \(Stable Diffusion 2.x\), the base has 64"),
        ({"block_out_channels": [32, 32]}, r"block_out_channels: found \[32, 32\], the base has \[32, 64\]"),
        ({"layers_per_block": 2}, "layers_per_block: found 2, the base has 1"),
        ({"in_channels": 9}, "in_channels: found 9, the base has 4"),
        ({"conditioning_embedding_out_channels": [8, 16]}, "pixels per latent cell: found 2, the base has 8"),
        ({"conditioning_channels": 4}, r"config\.json: conditioning_channels: .*3, found 4"),
        ({"controlnet_conditioning_channel_order": "brg"}, "controlnet_conditioning_channel_order: .*'rgb' or 'bgr'"),
        ({"block_out_channels": "wide"}, r"config\.json: block_out_channels"),
        ({"norm_num_groups": 0}, "the config beside it does not describe a ControlNet"),
        ({"down_block_types": ["DownBlock2D", "DownBlock2D"]}, "(?s)do not fit ControlNetModel.*not known to the model"),
    ],
)  # fmt: skip
def test_configs_that_do_not_fit(files, tmp_path, changes, message):
    folder = tmp_path / "controlnet"
    shutil.copytree(files.folder / "controlnet", folder)
    write_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        files.load(str(folder))


def without(tensors, *parts):
    return {name: value for name, value in tensors.items() if not any(part in name for part in parts)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"control_model.difference": torch.zeros(1)} | t, "holds the difference to a base model"),
        (lambda t: {"lora_controlnet": torch.zeros(1)} | t, "holds a Control-LoRA"),
        (lambda t: without(t, "zero_convs.1.0.bias"), r"1 missing:\n    controlnet_down_blocks.1.bias \[32\]"),
        (lambda t: without(t, "input_hint_block.14"), "pixels per latent cell: found 4, the base has 8"),
        (lambda t: without(t, "input_hint_block"), "not the weights of a ControlNet in the original layout"),
        (lambda t: without(t, "input_blocks.0.0"), "not the weights of a ControlNet in the original layout"),
        (lambda t: {"control_model.extra": torch.zeros(3)} | t, r"1 not known to the model:\n    extra \[3\]"),
        (lambda t: {"adapter.conv_in.weight": torch.zeros(3)}, "not a ControlNet: expected names like .*adapter.conv_in"),
        (lambda t: {}, "not a ControlNet: .*found nothing"),
    ],
)  # fmt: skip
def test_single_files_that_are_something_else(files, tmp_path, change, message):
    tensors = change(original_tensors(build_controlnet(build_unet(TINY_UNET))))
    path = write_original(tmp_path / "control.safetensors", tensors)
    with pytest.raises(CheckpointError, match=f"(?s)control.safetensors: .*{message}"):
        files.load(str(path))


def test_missing_files(files, tmp_path):
    with pytest.raises(CheckpointError, match=r"no such file or folder. Did you mean 'controlnet'"):
        files.load("controlnets")
    folder = tmp_path / "controlnet"
    shutil.copytree(files.folder / "controlnet", folder)
    (folder / "config.json").rename(folder / "other.json")
    with pytest.raises(CheckpointError, match=r"controlnet/config\.json: no such file"):
        files.load(str(folder))
    with pytest.raises(CheckpointError, match=r"config\.json: no such file; a ControlNet in diffusers' layout"):
        files.load(str(folder / WEIGHTS))
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: no such file"):
        files.load(str(folder))


def test_nothing_large_is_loaded_before_the_check(files, tmp_path, monkeypatch):
    unet = build_unet({**TINY_UNET, "cross_attention_dim": 32})
    write_controlnet(tmp_path / "narrow", build_controlnet(unet))
    monkeypatch.setattr(checkpoint_module, "load_strict", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(CheckpointError, match="cross_attention_dim: found 32, the base has 64"):
        files.load(str(tmp_path / "narrow"))
    with pytest.raises(CheckpointError, match="cross_attention_dim: found 32, the base has 64"):
        inspect(files.options(str(tmp_path / "narrow")), files.context())


@pytest.mark.parametrize("checkpoint", ["controlnet", "original.pth"])
def test_inspect_reads_no_network(files, checkpoint, monkeypatch):
    """The report's tensors are exactly what loading holds."""
    tensors = original_tensors(build_controlnet(build_unet(TINY_UNET)))
    write_original(files.folder / "original.pth", tensors)
    context = files.context()
    provider = load(files.options(checkpoint), context)
    monkeypatch.setattr(checkpoint_module, "load_strict", lambda *_, **__: pytest.fail("loaded"))
    report = inspect(files.options(checkpoint), files.context())
    assert (report.downloads, report.default_size) == ((), (64, 64))
    assert report.latent_space == provider.latent_space
    own = sum(torch.Size(info.shape).numel() for info in report.components["controlnet"])
    assert 4 * own == unique_bytes([provider.controlnet, provider.control_embedding])


class Hub:
    """A repository of the Hub with two ControlNets, of which only what is asked for is fetched."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.fetched = []
        self.names = ["README.md", "config.json", WEIGHTS, "big.ckpt", "canny/config.json", f"canny/{WEIGHTS}"]
        monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_, **__: self.names)
        monkeypatch.setattr("huggingface_hub.snapshot_download", self.download)
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", self.cached)

    def download(self, repository, revision=None, allow_patterns=()):
        self.fetched.append((repository, revision, sorted(allow_patterns)))
        return str(self.folder)

    def cached(self, repository, name, revision=None):
        path = self.folder / name
        return str(path) if path.exists() else None


def test_repositories_of_the_hub(files, tmp_path, monkeypatch):
    hub = Hub(tmp_path, monkeypatch)
    context = files.context()
    canny = "hf://someone/controls/canny@v1"
    assert locate_controlnet(canny, context) is None
    assert inspect(files.options(canny), context).downloads == (canny,)
    assert find_controlnet("hf://someone/controls", context) == tmp_path
    assert find_controlnet(canny, context) == tmp_path / "canny"
    assert hub.fetched == [
        ("someone/controls", None, ["config.json", WEIGHTS]),
        ("someone/controls", "v1", ["canny/config.json", f"canny/{WEIGHTS}"]),
    ]
    with pytest.raises(CheckpointError, match=f"hf download someone/controls canny/{WEIGHTS} --revision v1"):
        files.load(canny)
    shutil.copytree(files.folder / "controlnet", tmp_path / "canny")
    assert locate_controlnet(canny, context) == tmp_path / "canny"
    files.load(canny)
    assert inspect(files.options(canny), context).downloads == ()
