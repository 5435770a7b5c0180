"""Every golden case of the original implementation, through the modules that the provider works with."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from ip_adapter_golden import case, float32_context, golden_adapter, golden_encoder, golden_unet, tensors
from PIL import Image

from amdm_framework.models.attention import attending_to, install_attention, keys_and_values, project_text, split_heads
from amdm_plugin_ip_adapter.checkpoint import Adapter, attach_adapter
from amdm_plugin_ip_adapter.image_encoder import image_states, preprocess, unconditional_states
from amdm_plugin_ip_adapter.reference_attention import (
    AttendedReferences,
    ReferenceAttention,
    attending_to_references,
    project_references,
)
from amdm_plugin_ip_adapter.strength import BlockScales, Strength

KINDS = ("base", "plus")
INPUTS = tensors("unet_tiny", "inputs")
OUTPUTS = tensors("unet_tiny", "outputs")
TOLERANCE = case("unet_tiny")["tolerance_abs"]


def assert_near(found: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def predict(
    unet: UNet2DConditionModel, adapter: Adapter, text: torch.Tensor, tokens: torch.Tensor, strength: Strength
) -> torch.Tensor:
    """Predict with keys and values made before the call, and check that it equals diffusers' processors without them."""
    latents = INPUTS["latents"].expand(len(text), -1, -1, -1)
    scales = dict(zip(adapter.layers, strength.layer_scales(adapter.layers), strict=True))
    arguments = {"added_cond_kwargs": {"image_embeds": [tokens]}}
    attentions = install_attention(unet)
    with torch.inference_mode():
        for processor, scale in zip(adapter.processors, scales.values(), strict=True):
            processor.scale = [scale]
        uncached = unet(latents, INPUTS["timestep"], text, **arguments).sample
        texts = project_text(unet, attentions, text)
        references = project_references(unet, scales, tokens, [], latents.shape[2:])
        with attending_to(attentions, texts), attending_to_references(adapter.processors, references):
            found = unet(latents, INPUTS["timestep"], torch.empty(0), **arguments).sample
    assert_near(found, uncached, 1e-5)
    return found


@pytest.fixture(scope="module")
def encoder():
    return golden_encoder()


@pytest.fixture(scope="module", params=KINDS)
def loaded(request):
    unet = golden_unet()
    return request.param, unet, golden_adapter(unet, request.param)


def golden_tokens(kind: str, half: str) -> torch.Tensor:
    return OUTPUTS[f"{kind}.tokens_{half}"][:, None]


def test_pixels_and_encoder_states(encoder):
    picture = Image.fromarray(INPUTS["image_0_rgb_uint8"].numpy())
    pixels = preprocess([picture], encoder.config.image_size, "crop")
    assert_near(
        pixels[:, :, ::7, ::7],
        OUTPUTS["pixel_values_every_7th"],
        case("unet_tiny")["pixel_values_tolerance_abs"],
    )
    with torch.inference_mode():
        assert_near(image_states(encoder, "base", pixels), OUTPUTS["clip_image_embeds"])
        assert_near(image_states(encoder, "plus", pixels), OUTPUTS["clip_penultimate_cond"])
        assert_near(unconditional_states(encoder, "plus"), OUTPUTS["clip_penultimate_uncond"])
        assert torch.equal(unconditional_states(encoder, "base"), torch.zeros_like(OUTPUTS["clip_image_embeds"]))


def test_tokens(encoder, loaded):
    kind, _, adapter = loaded
    states = {"base": OUTPUTS["clip_image_embeds"], "plus": OUTPUTS["clip_penultimate_cond"]}[kind]
    with torch.inference_mode():
        assert_near(adapter.projection(states), OUTPUTS[f"{kind}.tokens_cond"])
        assert_near(adapter.projection(unconditional_states(encoder, kind)), OUTPUTS[f"{kind}.tokens_uncond"])


def test_projections_alone():
    """Two cases with sizes of their own, attached with the tiny adapter's key and value matrices."""
    layers = {k: v for k, v in tensors("unet_tiny", "ip_adapter_base").items() if k.startswith("ip_adapter.")}
    context = float32_context()
    base = attach_adapter(golden_unet(), tensors("image_proj_base", "weights") | layers, "base", context)
    embeddings, expected = tensors("image_proj_base", "inputs")["image_embeds"], tensors("image_proj_base", "outputs")
    assert_near(base.projection(embeddings), expected["tokens_cond"])
    assert_near(base.projection(torch.zeros_like(embeddings)), expected["tokens_uncond"])
    plus = attach_adapter(golden_unet(), tensors("resampler_plus", "weights") | layers, "plus", context)
    inputs, expected = tensors("resampler_plus", "inputs"), tensors("resampler_plus", "outputs")
    for half in ("cond", "uncond"):
        assert_near(plus.projection(inputs[f"hidden_states_{half}"]), expected[f"tokens_{half}"])


@pytest.mark.parametrize("half", ("cond", "uncond"))
@pytest.mark.parametrize("scale", (0.0, 0.5, 1.0))
def test_noise_predictions(loaded, half, scale):
    kind, unet, adapter = loaded
    found = predict(unet, adapter, INPUTS[f"text_{half}"], golden_tokens(kind, half), Strength(scale=scale))
    assert_near(found, OUTPUTS[f"{kind}.eps_{half}_scale_{scale}"])


def test_both_halves_in_one_call(loaded):
    kind, unet, adapter = loaded
    text = torch.cat([INPUTS["text_uncond"], INPUTS["text_cond"]])
    tokens = torch.cat([golden_tokens(kind, "uncond"), golden_tokens(kind, "cond")])
    found = predict(unet, adapter, text, tokens, Strength(scale=0.5))
    expected = torch.cat([OUTPUTS[f"{kind}.eps_uncond_scale_0.5"], OUTPUTS[f"{kind}.eps_cond_scale_0.5"]])
    assert_near(found, expected)


@pytest.mark.parametrize("name", ("style", "style_layout"))
def test_block_scales(loaded, name):
    kind, unet, adapter = loaded
    blocks = case("unet_tiny")["adapters"][kind]["per_layer_scale_outputs"][name]["diffusers_scale_dict"]
    strength = Strength(block_scales=BlockScales.model_validate(blocks))
    found = predict(unet, adapter, INPUTS["text_cond"], golden_tokens(kind, "cond"), strength)
    assert_near(found, OUTPUTS[f"{kind}.eps_cond_{name}"])


def test_two_images_in_one_branch():
    unet = golden_unet()
    adapter = golden_adapter(unet, "base")
    embeddings = torch.cat([OUTPUTS["clip_image_embeds"], INPUTS["second_image_embeds"]])
    with torch.inference_mode():
        tokens = adapter.projection(embeddings)[None]
    found = predict(unet, adapter, INPUTS["text_cond"], tokens, Strength(scale=0.7))
    assert_near(found, OUTPUTS["base.eps_cond_two_images_scale_0.7"])


def test_scale_zero_is_the_plain_unet(loaded):
    kind, unet, adapter = loaded
    plain = golden_unet()
    for half in ("cond", "uncond"):
        text = INPUTS[f"text_{half}"]
        with torch.inference_mode():
            expected = plain(INPUTS["latents"], INPUTS["timestep"], text).sample
        assert_near(expected, OUTPUTS[f"eps_no_adapter_text_{half}"])
        found = predict(unet, adapter, text, golden_tokens(kind, half), Strength(scale=0.0))
        assert torch.equal(found, expected)


def test_swapped_layers_change_the_prediction():
    unet = golden_unet()
    adapter = golden_adapter(unet, "base")
    first, second = adapter.processors[1], adapter.processors[2]
    first.to_k_ip, second.to_k_ip = second.to_k_ip, first.to_k_ip
    found = predict(unet, adapter, INPUTS["text_cond"], golden_tokens("base", "cond"), Strength())
    assert (found - OUTPUTS["base.eps_cond_scale_1.0"]).abs().max() > 100 * TOLERANCE


def test_layer_numbers_name_the_recorded_processors(loaded):
    kind, _, adapter = loaded
    recorded = case("unet_tiny")["adapters"][kind]["layer_index_to_processor"]
    assert {str(2 * i + 1): name for i, name in enumerate(adapter.layers)} == recorded


def test_one_cross_attention_layer():
    config = case("cross_attention")["config"]
    weights, inputs = tensors("cross_attention", "weights"), tensors("cross_attention", "inputs")
    processor = IPAdapterAttnProcessor2_0(
        config["heads"] * config["dim_head"], config["cross_attention_dim"], num_tokens=config["num_image_tokens"]
    )
    processor.load_state_dict({f"{m}.0.weight": weights[f"ip_adapter.1.{m}.weight"] for m in ("to_k_ip", "to_v_ip")})
    attention = Attention(
        config["query_dim"],
        config["cross_attention_dim"],
        heads=config["heads"],
        dim_head=config["dim_head"],
        processor=ReferenceAttention(processor),
    )
    attention.load_state_dict(
        {k.removeprefix("attn2."): v for k, v in weights.items() if k.startswith("attn2.")}, strict=False
    )
    for scale in config["scales"]:
        with torch.inference_mode():
            text = keys_and_values(attention, inputs["text_tokens"])
            keys, values = (split_heads(attention, matrix[0](inputs["image_tokens"])) for matrix in
                            (attention.processor.to_k_ip, attention.processor.to_v_ip))  # fmt: skip
            references = [[AttendedReferences(keys, values, scale, None)]]
            with attending_to([attention], [text]), attending_to_references([attention.processor], references):
                found = attention(inputs["hidden_states"])
        assert_near(found, tensors("cross_attention", "outputs")[f"out_scale_{scale:.2f}"])
