"""The provider `stable_diffusion`: options, what it reports without loading, what it refuses."""

from __future__ import annotations

import json
import math
import shutil

import huggingface_hub
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from amdm_framework.builtin.stable_diffusion import SPEC, StableDiffusionOptions
from amdm_framework.errors import CheckpointError, InputError
from amdm_framework.latents import check_compatible
from amdm_framework.models.autoencoder import TILED_ABOVE, decode_latents
from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.models.weight_sharing import unique_bytes
from amdm_framework.provider import RunSettings, Step
from amdm_framework.scene import Scene
from amdm_framework.testing.tiny_models import TINY_UNET, build_vae, ldm_vae_state, write_diffusers_folder


def load(context, **options):
    return SPEC.load(StableDiffusionOptions(**options), context)


def inspect(context, **options):
    return SPEC.inspect(StableDiffusionOptions(**options), context)


def settings(batch=1, guided=True, height=64, width=64):
    return RunSettings(height, width, 4, guided, tuple(range(batch)))


def held_bytes(*providers):
    """Bytes of all distinct parameters."""
    modules = [module for provider in providers for module in provider.modules().values()]
    return sum(p.numel() * p.element_size() for p in {p for module in modules for p in module.parameters()})


@pytest.fixture
def copy(models, tmp_path):
    """A copy of the epsilon model's folder, to be damaged."""
    return shutil.copytree(models / "epsilon", tmp_path / "copy")


def test_the_condition_is_caption_and_negative():
    scene = Scene(caption="a cat", negative="bad")
    condition = SPEC.condition_from_scene(scene, StableDiffusionOptions(checkpoint="x"))
    assert condition == TextCondition(prompt="a cat", negative="bad")


def test_unknown_options_are_refused():
    with pytest.raises(ValidationError, match="checkpont"):
        StableDiffusionOptions(checkpoint="x", checkpont="y")
    with pytest.raises(ValidationError, match="scale"):
        StableDiffusionOptions(checkpoint="x", loras=[{"checkpoint": "l", "scale": "nan"}])


def test_what_it_says_of_itself(context):
    provider = load(context, checkpoint="epsilon")
    assert provider.default_size == (64, 64)
    assert (provider.latent_space.channels, provider.latent_space.scale) == (4, 8)
    assert provider.latent_space.scaling_factor == 0.18215
    assert provider.noise_schedule.prediction_type == "epsilon"
    assert load(context, checkpoint="v_prediction").noise_schedule.prediction_type == "v_prediction"
    assert set(provider.modules()) == {"unet", "vae", "text_encoder"}


@pytest.mark.parametrize("guided", [True, False])
@torch.inference_mode()
def test_the_unconditional_half_is_computed_only_when_wanted(context, guided, monkeypatch):
    provider = load(context, checkpoint="epsilon")
    rows = []
    forward = provider.unet.forward
    monkeypatch.setattr(provider.unet, "forward", lambda x, *a, **k: rows.append(len(x)) or forward(x, *a, **k))
    conditioning = provider.encode([TextCondition(prompt="a")] * 2, settings(2))
    prediction = provider.predict_noise(torch.zeros(2, 4, 8, 8), Step(0, 4, 981, guided=guided), conditioning)
    assert rows == [4 if guided else 2]
    assert (prediction.unconditional is None) is not guided
    assert prediction.conditional.shape == (2, 4, 8, 8)


@torch.inference_mode()
def test_sizes_the_autoencoder_cannot_give_are_refused(context):
    with pytest.raises(InputError, match="multiples of 8"):
        load(context, checkpoint="epsilon").encode([TextCondition()], settings(height=60))


def test_two_members_on_one_base_hold_it_once(context):
    first, second = load(context, checkpoint="epsilon"), load(context, checkpoint="epsilon.safetensors",
                                                              tokenizer="epsilon/tokenizer")  # fmt: skip
    assert held_bytes(first, second) == held_bytes(first)
    for provider in (first, second):
        provider.to(dtype=torch.float16)
    assert held_bytes(first, second) == held_bytes(first)
    modules = [*first.modules().values(), *second.modules().values()]
    # What is counted twice are the positions of the text encoder, 77 integers that are not weights.
    assert unique_bytes(modules) == unique_bytes(first.modules().values()) + 77 * 8
    assert first.unet is not second.unet
    assert first.unet.conv_in.weight is second.unet.conv_in.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_reports_predict_what_is_held_and_shared(context, tmp_path, dtype):
    context.dtype = dtype
    # Another UNet, the same text encoder and autoencoder, stored in half precision.
    write_diffusers_folder(tmp_path / "other", seed=9, text_seed=0, vae_seed=0, dtype=torch.float16, variant="fp16")
    members = [{"checkpoint": "epsilon"}, {"checkpoint": str(tmp_path / "other")}]
    reports = [inspect(context, **member) for member in members]
    sizes = {}
    for report in reports:
        for tensors in report.components.values():
            for tensor in tensors:
                floating = "F" in tensor.dtype
                sizes[tensor.identity] = math.prod(tensor.shape) * (dtype.itemsize if floating else 8)
    providers = [load(context, **member) for member in members]
    assert sum(sizes.values()) == held_bytes(*providers)
    shared = dtype == torch.float16
    assert (providers[0].vae.decoder.conv_in.weight is providers[1].vae.decoder.conv_in.weight) is shared


def test_reports_agree_with_what_is_loaded(context):
    for checkpoint in ("epsilon", "v_prediction.ckpt"):
        how = {"checkpoint": checkpoint, "tokenizer": "epsilon/tokenizer"}
        report, provider = inspect(context, **how), load(context, **how)
        assert report.latent_space == provider.latent_space
        assert report.default_size == provider.default_size
        assert report.noise_schedule.prediction_type == provider.noise_schedule.prediction_type
        for name, module in provider.modules().items():
            count = sum(math.prod(tensor.shape) for tensor in report.components[name] if "F" in tensor.dtype)
            assert count == sum(parameter.numel() for parameter in module.parameters())


def test_inspecting_builds_no_network(context, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__init__", None)
    assert set(inspect(context, checkpoint="epsilon").components) == {"unet", "vae", "text_encoder"}


def test_what_would_be_fetched_is_reported(context, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    report = inspect(context, checkpoint="hf://owner/repo", vae="hf://owner/vae")
    assert report.downloads == ("hf://owner/repo", "hf://owner/vae")
    assert report.default_size == (512, 512)
    with pytest.raises(CheckpointError, match="hf download owner/repo"):
        load(context, checkpoint="hf://owner/repo")


def test_a_single_file_without_a_tokenizer_names_the_one_it_needs(context, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="hf download openai/clip-vit-large-patch14"):
        load(context, checkpoint="epsilon.ckpt")


def test_the_tokenizer_of_a_single_file_is_among_what_would_be_fetched(context, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    usual, file, model = "hf://openai/clip-vit-large-patch14", "hf://owner/repo/model.ckpt", "hf://owner/repo"
    assert inspect(context, checkpoint="epsilon.ckpt").downloads == (usual,)
    assert inspect(context, checkpoint=file).downloads == (file, usual)
    assert inspect(context, checkpoint="epsilon.ckpt", tokenizer=model).downloads == (model,)
    assert inspect(context, checkpoint="epsilon.ckpt", tokenizer="epsilon/tokenizer").downloads == ()
    with pytest.raises(CheckpointError, match="nowhere"):
        inspect(context, checkpoint="epsilon.ckpt", tokenizer="nowhere")
    commit = "0" * 40
    for repository, place in (("openai--clip-vit-large-patch14", ""), ("owner--repo", "tokenizer")):
        cached = tmp_path / "hub" / f"models--{repository}"
        shutil.copytree(context.base_dir / "epsilon" / "tokenizer", cached / "snapshots" / commit / place)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(commit)
    assert inspect(context, checkpoint="epsilon.ckpt").downloads == ()
    assert inspect(context, checkpoint="epsilon.ckpt", tokenizer=model).downloads == ()


def test_members_of_one_space_are_compatible_and_others_are_not(context, tmp_path):
    base = load(context, checkpoint="epsilon")
    base.name = "base"
    save_file(build_vae(seed=7).state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    shutil.copy(context.base_dir / "epsilon/vae/config.json", tmp_path / "config.json")
    other = load(context, checkpoint="epsilon", vae=str(tmp_path))
    other.name = "other"
    check_compatible([base, load(context, checkpoint="v_prediction")])
    with pytest.raises(Exception, match="VAE encoder"):
        check_compatible([base, other])


@pytest.mark.parametrize("form", ["folder", "model", "file"])
def test_another_autoencoder_replaces_the_models_own(context, tmp_path, form):
    folder = write_diffusers_folder(tmp_path / "other", vae_seed=4)
    save_file({k: v.contiguous() for k, v in ldm_vae_state(folder / "vae").items()}, tmp_path / "vae.safetensors")
    vae = {"folder": folder / "vae", "model": folder, "file": tmp_path / "vae.safetensors"}[form]
    provider = load(context, checkpoint="epsilon", vae=str(vae))
    state = build_vae(seed=4).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in provider.vae.state_dict().items())


def test_variants(context, tmp_path):
    write_diffusers_folder(tmp_path / "half", dtype=torch.float16, variant="fp16")
    half = load(context, checkpoint=str(tmp_path / "half"), variant="fp16")
    assert half.unet.conv_in.weight.dtype == torch.float32
    plain = load(context, checkpoint="epsilon")
    torch.testing.assert_close(half.unet.conv_in.weight, plain.unet.conv_in.weight, rtol=1e-3, atol=1e-4)
    with pytest.raises(CheckpointError, match="no weights of variant 'fp16', found diffusion_pytorch_model.safetens"):
        load(context, checkpoint="epsilon", variant="fp16")


def test_a_component_without_the_variant_is_read_from_its_plain_weights(context, copy):
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        (copy / f"{name}.safetensors").rename(copy / f"{name}.fp16.safetensors")
    with pytest.warns(UserWarning, match="vae: no weights of variant 'fp16', taking diffusion_pytorch_model.safetens"):
        mixed = load(context, checkpoint=str(copy), variant="fp16")
    plain = load(context, checkpoint="epsilon")
    assert held_bytes(mixed, plain) == held_bytes(plain)


def test_pickled_folders_are_read(context, tmp_path):
    write_diffusers_folder(tmp_path / "pickled", safe_serialization=False)
    pickled, plain = load(context, checkpoint=str(tmp_path / "pickled")), load(context, checkpoint="epsilon")
    assert held_bytes(pickled, plain) == held_bytes(plain)


def test_names_of_older_releases_are_understood(context, copy):
    text = copy / "text_encoder/model.safetensors"
    old = {f"text_model.{name}": value for name, value in load_file(text).items()}
    save_file(old | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, text)
    vae = copy / "vae/diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in load_file(vae).items():
        for new, former in names.items():
            name = name.replace(f".{new}.", f".{former}.")
        renamed[name] = value
    assert any("proj_attn" in name for name in renamed)
    save_file(renamed, vae)
    provider, plain = load(context, checkpoint=str(copy)), load(context, checkpoint="epsilon")
    assert (
        provider.vae.encoder.mid_block.attentions[0].to_q.weight
        is plain.vae.encoder.mid_block.attentions[0].to_q.weight
    )
    assert held_bytes(provider, plain) == held_bytes(plain)


def test_the_wrong_architecture_is_told_by_key_and_shapes(context, copy):
    config = copy / "unet/config.json"
    content = json.loads(config.read_text()) | {"cross_attention_dim": 48}
    config.write_text(json.dumps(content))
    with pytest.raises(CheckpointError) as caught:
        load(context, checkpoint=str(copy))
    message = str(caught.value)
    assert "UNet2DConditionModel" in message
    assert "attn2.to_k.weight: found [32, 64], expected [32, 48]" in message
    assert str(copy) in message


@pytest.mark.parametrize(
    "file, expected",
    [
        ("unet/config.json", "unet/config.json: no such file"),
        ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.safetensors: no such file"),
        ("text_encoder/model.safetensors", "text_encoder/model.safetensors: no such file"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json: no such file"),
        ("tokenizer/vocab.json", "tokenizer/vocab.json: no such file"),
    ],
)
def test_missing_files_are_named(context, copy, file, expected):
    (copy / file).unlink()
    with pytest.raises(CheckpointError, match=expected):
        load(context, checkpoint=str(copy))


def test_files_missing_from_a_cached_repository_come_with_the_command(context, copy, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit = "0" * 40
    repository = tmp_path / "hub/models--owner--repo"
    shutil.copytree(copy, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    assert load(context, checkpoint="hf://owner/repo").default_size == (64, 64)
    (repository / "snapshots" / commit / "unet/diffusion_pytorch_model.safetensors").unlink()
    assert inspect(context, checkpoint="hf://owner/repo").downloads == ("hf://owner/repo",)
    with pytest.raises(CheckpointError, match="hf download owner/repo unet/diffusion_pytorch_model.safetensors"):
        load(context, checkpoint="hf://owner/repo")


@pytest.mark.parametrize("content", ["{", "[]", '"x"', "\x00"])
def test_damaged_configs_are_named(context, copy, content):
    (copy / "unet/config.json").write_text(content)
    with pytest.raises(CheckpointError, match="unet/config.json"):
        load(context, checkpoint=str(copy))


@pytest.mark.parametrize("content", ["{}", "{", '{"model": 3}'])
def test_damaged_tokenizers_are_named(context, copy, content):
    (copy / "tokenizer/vocab.json").write_text(content)
    with pytest.raises(CheckpointError, match="tokenizer"):
        load(context, checkpoint=str(copy))


@pytest.mark.parametrize(
    "change, expected",
    [({"addition_embed_type": "text_time"}, "Stable Diffusion XL"), ({"in_channels": 9}, "9 channels and gives 4")],
)
def test_other_families_are_refused_by_name(context, copy, change, expected):
    config = copy / "unet/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    for use in (load, inspect):
        with pytest.raises(CheckpointError, match=expected):
            use(context, checkpoint=str(copy))


def test_a_file_of_something_else_says_what_was_looked_for(context, tmp_path):
    save_file({"a.weight": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no unet \(no name begins with 'model.diffusion_model.'\)"):
        load(context, checkpoint=str(tmp_path / "other.safetensors"), tokenizer="epsilon/tokenizer")


def test_a_lora_for_another_model_is_refused(context, tmp_path):
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora"
    save_file(
        {f"{key}.down.weight": torch.ones(2, 7), f"{key}.up.weight": torch.ones(9, 2)}, tmp_path / "a.safetensors"
    )
    save_file({"unet.nowhere.lora.down.weight": torch.ones(2, 7)}, tmp_path / "b.safetensors")
    save_file({"weight": torch.ones(2, 7)}, tmp_path / "c.safetensors")
    for name in "abc":
        with pytest.raises(CheckpointError, match=f"{name}.safetensors"):
            load(context, checkpoint="epsilon", loras=[{"checkpoint": str(tmp_path / f"{name}.safetensors")}])


def test_every_file_of_weights_is_noted(context, models):
    load(context, checkpoint="epsilon")
    load(context, checkpoint="epsilon.ckpt", tokenizer="epsilon/tokenizer")
    noted = {(file.component, file.path.relative_to(models).as_posix()) for file in context.weight_files}
    assert noted == {
        ("unet", "epsilon/unet/diffusion_pytorch_model.safetensors"),
        ("vae", "epsilon/vae/diffusion_pytorch_model.safetensors"),
        ("text_encoder", "epsilon/text_encoder/model.safetensors"),
        *((component, "epsilon.ckpt") for component in ("unet", "vae", "text_encoder")),
    }


@torch.inference_mode()
def test_large_pictures_are_decoded_in_tiles(monkeypatch):
    vae = build_vae()
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = decode_latents(vae, latents)
    assert whole.dtype == torch.float32
    assert 0 <= whole.min() <= whole.max() <= 1
    expected = torch.cat([vae.decode(one[None] / 0.18215).sample for one in latents]) / 2 + 0.5
    torch.testing.assert_close(whole, expected.clamp(0, 1))
    tiles = []
    monkeypatch.setattr(vae, "tiled_decode", lambda z, return_dict: tiles.append(z.shape) or vae.decode(z, return_dict))
    monkeypatch.setattr("amdm_framework.models.autoencoder.TILED_ABOVE", 63)
    decode_latents(vae, latents)
    assert tiles == [(1, 4, 8, 8)] * 2
    assert TILED_ABOVE == 128 * 128


def test_the_tiny_unet_is_of_the_family():
    assert TINY_UNET["in_channels"] == TINY_UNET["out_channels"]
