"""Presets and block scales reach exactly the layers they name."""

from __future__ import annotations

import pytest
from diffusers import UNet2DConditionModel
from diffusers.loaders.ip_adapter import IPAdapterMixin
from ip_adapter_golden import float32_context
from pydantic import ValidationError

from amdm_framework.errors import InputError
from amdm_framework.models.checkpoints import build_on_meta
from amdm_framework.testing.tiny_models import SD_TOPOLOGY_UNET, TINY_UNET, build_unet
from amdm_plugin_ip_adapter.checkpoint import attach_adapter, cross_attention_layers
from amdm_plugin_ip_adapter.strength import BlockScales, Strength
from amdm_plugin_ip_adapter.tiny_model import adapter_tensors

ALL = set(range(1, 32, 2))


@pytest.fixture(scope="module")
def layers():
    return cross_attention_layers(build_on_meta(lambda: UNet2DConditionModel(**SD_TOPOLOGY_UNET)))


def numbered(strength: Strength, layers) -> dict[int, float]:
    scales = strength.layer_scales(layers)
    return {2 * index + 1: scale for index, scale in enumerate(scales) if scale}


def test_layer_numbers(layers):
    """The table of the published files: down blocks, up blocks, then the middle block."""
    names = [layer.removesuffix(".transformer_blocks.0.attn2.processor") for layer in layers]
    assert names == [
        *(f"down_blocks.{block}.attentions.{attention}" for block in (0, 1, 2) for attention in (0, 1)),
        *(f"up_blocks.{block}.attentions.{attention}" for block in (1, 2, 3) for attention in (0, 1, 2)),
        "mid_block.attentions.0",
    ]


STYLE_TRANSFER = {1, 3, 5, 7, 19, 21, 23, 25, 27, 29, 31}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("style", dict.fromkeys((13, 15, 17), 0.8)),
        ("style_layout", dict.fromkeys((9, 11, 13, 15, 17, 31), 0.8)),
        ("style_transfer", dict.fromkeys(STYLE_TRANSFER, 0.8)),
        ("strong_style_transfer", dict.fromkeys(ALL - {9, 11}, 0.8)),
        ("composition", {9: 0.2, 11: 0.8}),
        ("style_and_composition", dict.fromkeys(STYLE_TRANSFER, 0.8) | {9: 0.2, 11: 0.8}),
    ],
)
def test_presets(layers, preset, expected):
    assert numbered(Strength(scale=0.8, preset=preset), layers) == pytest.approx(expected)


def test_composition_has_a_scale_of_its_own(layers):
    found = numbered(Strength(scale=0.8, preset="style_and_composition", composition_scale=0.4), layers)
    assert found == pytest.approx(dict.fromkeys(STYLE_TRANSFER, 0.8) | {9: 0.1, 11: 0.4})


def test_one_number_reaches_every_layer(layers):
    assert Strength(scale=0.6).layer_scales(layers) == (0.6,) * 16


@pytest.fixture(scope="module")
def adapted():
    unet = build_unet(SD_TOPOLOGY_UNET)
    return unet, attach_adapter(unet, adapter_tensors(unet, "base"), "base", float32_context())


@pytest.mark.parametrize(
    "blocks",
    [
        {"down": {"block_2": [0.1, 0.7]}, "up": {"block_1": [0.2], "block_3": [0.1, 0.2, 0.3]}},
        {"down": 0.5, "mid": 0.25, "up": {"block_2": 0.75}},
        {"down": {"block_0": 1.0}},
    ],
)
def test_block_scales_mean_what_they_mean_in_diffusers(adapted, blocks):
    unet, adapter = adapted
    holder = IPAdapterMixin()
    holder.unet_name, holder.unet = "unet", unet
    holder.set_ip_adapter_scale(blocks)
    expected = [processor.scale[0] for processor in adapter.processors]
    found = Strength(block_scales=BlockScales.model_validate(blocks)).layer_scales(adapter.layers)
    assert list(found) == pytest.approx(expected)
    twice = Strength(scale=2.0, block_scales=BlockScales.model_validate(blocks)).layer_scales(adapter.layers)
    assert list(twice) == pytest.approx([2 * scale for scale in expected])


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            {"up": {"block_0": [0, 1, 0]}},
            r"block_scales.up.block_0: there is no cross-attention .*up.block_1",
        ),
        ({"down": {"block_3": 1}}, "down.block_3"),
        ({"up": {"block_1": [1, 0]}}, "found 2 weights, expected one or 3"),
        ({"up": {"block_1": []}}, "found 0 weights"),
    ],
)
def test_blocks_that_are_not_there(layers, blocks, message):
    with pytest.raises(InputError, match=message):
        Strength(block_scales=BlockScales.model_validate(blocks)).layer_scales(layers)


def test_a_preset_that_the_model_has_no_blocks_for():
    layers = cross_attention_layers(build_on_meta(lambda: UNet2DConditionModel(**TINY_UNET)))
    with pytest.raises(InputError, match=r"preset.down.block_2: there is no cross-attention"):
        Strength(preset="composition").layer_scales(layers)


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "style", "block_scales": {"mid": 1}},
        {"composition_scale": 0.5},
        {"scale": float("nan")},
        {"preset": "stile"},
        {"block_scales": {"middle": 1}},
    ],
)
def test_contradictions_are_refused(options):
    with pytest.raises(ValidationError):
        Strength.model_validate(options)
