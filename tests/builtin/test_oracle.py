"""Pictures against diffusers' own pipeline on the same weights, prompts, noise and steps."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from amdm_framework.builtin.stable_diffusion import SPEC, StableDiffusionOptions
from amdm_framework.models.lora import changed_weights, merge_loras
from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.models.weight_sharing import unique_bytes
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.strategies.single import Single, SingleOptions
from amdm_framework.testing.tiny_models import build_text_encoder, build_unet

STEPS = 4
PROMPTS = ["a red cat", "", "two dogs on a blue mat, oil painting"]
NEGATIVES = ["", "bad, blurry", "worse"]
# A v prediction is converted to epsilon, from which x0 comes back by a division by sqrt(alphas_cumprod): float32
# rounding grows by it, five-fold at the noisiest step of these runs.
TOLERANCE = {"epsilon": 1e-5, "v_prediction": 2e-5}


def noise(batch: int, height: int = 8, width: int = 8) -> torch.Tensor:
    draws = [torch.randn(4, height, width, generator=torch.Generator().manual_seed(seed)) for seed in range(batch)]
    return torch.stack(draws)


def ours(context, batch=1, scale=7.5, latents=None, prompts=PROMPTS, negatives=NEGATIVES, **options):
    return draw(SPEC.load(StableDiffusionOptions(**options), context), batch, scale, latents, prompts, negatives)


def draw(provider, batch=1, scale=7.5, latents=None, prompts=PROMPTS, negatives=NEGATIVES):
    conditions = [TextCondition(prompt=p, negative=n) for p, n in zip(prompts, negatives, strict=True)][:batch]
    pipe = AMDMPipeline([provider], Single(SingleOptions()), Guidance(scale=scale))
    pipe.set_progress_bar_config(disable=True)
    latents = noise(batch) if latents is None else latents
    return pipe(conditions=[conditions], latents=latents, num_inference_steps=STEPS, output_type="pt").images


@pytest.fixture(scope="module")
def references(models):
    """diffusers' pipeline for each of the models."""
    return {name: reference(models / name) for name in ("epsilon", "v_prediction")}


def reference(folder) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe, batch=1, scale=7.5, latents=None, prompts=PROMPTS, negatives=NEGATIVES):
    return pipe(
        prompts[:batch],
        negative_prompt=negatives[:batch],
        guidance_scale=scale,
        num_inference_steps=STEPS,
        latents=noise(batch) if latents is None else latents,
        output_type="pt",
    ).images


def assert_equal_pictures(found, expected, atol=1e-5):
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("scale", [7.5, 1.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_pictures_equal_those_of_diffusers(references, context, prediction_type, scale, batch):
    expected = theirs(references[prediction_type], batch, scale)
    assert_equal_pictures(ours(context, batch, scale, checkpoint=prediction_type), expected, TOLERANCE[prediction_type])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_pictures_agree_further_in_double_precision(models, context, prediction_type):
    pipe = reference(models / prediction_type).to(torch.float64)
    context.dtype = torch.float64
    # diffusers keeps the tables of its scheduler in float32, which bounds the agreement.
    expected = theirs(pipe, batch=3, latents=noise(3).double())
    found = ours(context, batch=3, latents=noise(3).double(), checkpoint=prediction_type)
    assert_equal_pictures(found.double(), expected.double(), 2e-6)


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_single_files_draw_the_same_picture(references, context, prediction_type, suffix):
    expected = theirs(references[prediction_type])
    how = {"tokenizer": "epsilon/tokenizer", "prediction_type": prediction_type}
    found = ours(context, checkpoint=f"{prediction_type}.{suffix}", **how)
    assert_equal_pictures(found, expected, TOLERANCE[prediction_type])


def test_pictures_need_not_be_square(references, context):
    latents = noise(1, 8, 16)
    expected = theirs(references["epsilon"], latents=latents)
    assert expected.shape[-2:] == (64, 128)
    assert_equal_pictures(ours(context, latents=latents, checkpoint="epsilon"), expected)


def test_long_prompts_draw_what_diffusers_draws_of_the_same_states(references, context):
    prompts, negatives = ["a red cat on a mat " * 12], [""]
    provider = SPEC.load(StableDiffusionOptions(checkpoint="epsilon"), context)
    (group,) = provider.prompt_encoder.encode_groups(prompts, negatives)
    assert group.conditional.shape[1] > 77
    negative, positive = group.both.chunk(2)
    expected = references["epsilon"](
        prompt_embeds=positive,
        negative_prompt_embeds=negative,
        num_inference_steps=STEPS,
        latents=noise(1),
        output_type="pt",
    ).images
    assert_equal_pictures(draw(provider, prompts=prompts, negatives=negatives), expected)


def test_every_image_of_a_batch_equals_its_single_run(context):
    prompts = ["a red cat", "a blue dog on a mat " * 10, "", "a fish " * 30]
    negatives = ["", "", "bad " * 40, ""]
    provider = SPEC.load(StableDiffusionOptions(checkpoint="epsilon"), context)
    batch = draw(provider, 4, prompts=prompts, negatives=negatives)
    for image in range(4):
        one = slice(image, image + 1)
        alone = draw(provider, prompts=prompts[one], negatives=negatives[one], latents=noise(4)[one])
        torch.testing.assert_close(batch[one], alone, rtol=0, atol=1e-5)


def write_lora(folder, seed, text: bool):
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    unet, text_encoder = build_unet(), build_text_encoder()
    torch.manual_seed(seed)
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False))
    layers = {"unet_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))}
    if text:
        text_encoder.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"], init_lora_weights=False))
        layers["text_encoder_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(text_encoder))
    StableDiffusionPipeline.save_lora_weights(folder, **layers)
    return folder / "pytorch_lora_weights.safetensors"


def test_loras_draw_what_diffusers_draws_with_them(models, context, tmp_path):
    files = [write_lora(tmp_path / "one", 5, text=True), write_lora(tmp_path / "two", 6, text=False)]
    pipe = reference(models / "epsilon")
    for index, file in enumerate(files):
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=f"a{index}")
    pipe.set_adapters(["a0", "a1"], [0.7, -0.3])
    expected = theirs(pipe, batch=3)
    other = SPEC.load(StableDiffusionOptions(checkpoint="epsilon"), context)
    plain = draw(other, batch=3)
    loras = [{"checkpoint": str(files[0]), "scale": 0.7}, {"checkpoint": str(files[1]), "scale": -0.3}]
    assert_equal_pictures(ours(context, batch=3, checkpoint="epsilon", loras=loras), expected)
    assert (expected - plain).abs().max() > 1e-3
    # Whoever shares the base with it is not disturbed.
    assert torch.equal(draw(other, batch=3), plain)


def test_a_lora_takes_the_memory_of_the_weights_it_changes(context, tmp_path, monkeypatch):
    file = write_lora(tmp_path, 5, text=True)
    plain = SPEC.load(StableDiffusionOptions(checkpoint="epsilon"), context)
    beside_it = []

    def merge(unet, text_encoder, loras):
        beside_it.append(unique_bytes([*plain.modules().values(), unet, text_encoder]))
        merge_loras(unet, text_encoder, loras)

    monkeypatch.setattr("amdm_framework.builtin.stable_diffusion.merge_loras", merge)
    options = StableDiffusionOptions(checkpoint="epsilon", loras=[{"checkpoint": str(file)}])
    merged = SPEC.load(options, context)
    # At no time there is a second base.
    buffers = sum(value.nbytes for module in (plain.unet, plain.text_encoder) for value in module.buffers())
    assert beside_it == [unique_bytes(plain.modules().values()) + buffers]
    changed = changed_weights(file)
    for name in ("unet", "text_encoder", "vae"):
        others = dict(plain.modules()[name].named_parameters())
        own = {key for key, value in merged.modules()[name].named_parameters() if value is not others[key]}
        assert own == changed.get(name, set())


@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_half_precision_stays_close(context, dtype, tolerance):
    # Largest difference of any pixel value in [0, 1] over a whole run of random weights.
    exact = ours(context, checkpoint="epsilon", scale=3.0)
    context.dtype = dtype
    assert (ours(context, checkpoint="epsilon", scale=3.0) - exact).abs().max() < tolerance
