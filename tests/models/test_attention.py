"""Attention layers with keys and values made once: what they take the place of, and what others may do to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from amdm_framework.models.attention import InferenceAttention, attending_to, install_attention, project_text
from amdm_framework.models.rows import Rows
from amdm_framework.testing.tiny_models import SD_TOPOLOGY_UNET, TEXT_WIDTH, TINY_UNET, build_unet


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def inputs(rows: int = 2) -> tuple[torch.Tensor, int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(rows, 4, 8, 12, generator=generator),
        500,
        torch.randn(rows, 77, TEXT_WIDTH, generator=generator),
    )


def predict_from_cache(unet: UNet2DConditionModel, attentions: list[Attention]) -> torch.Tensor:
    """Predict with layers that are given keys and values, and no text."""
    latents, timestep, text = inputs()
    with attending_to(attentions, project_text(unet, attentions, text)):
        result: torch.Tensor = unet(latents, timestep, torch.full((2, 1, TEXT_WIDTH), torch.nan)).sample
    return result


@pytest.mark.parametrize("config", [TINY_UNET, SD_TOPOLOGY_UNET], ids=["tiny", "all layers of Stable Diffusion"])
def test_given_and_projected_on_the_way_both_equal_diffusers(config: Any) -> None:
    unet = build_unet(config)
    expected = unet(*inputs()).sample
    names = set(unet.state_dict())
    attentions = install_attention(unet)
    assert len(attentions) == sum(name.endswith("attn2.to_k.weight") for name in names)
    torch.testing.assert_close(predict_from_cache(unet, attentions), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(unet(*inputs()).sample, expected, rtol=0, atol=1e-5)
    assert set(unet.state_dict()) == names


def test_processors_of_others_stay_and_see_the_text() -> None:
    unet = build_unet()
    theirs = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    seen: list[tuple[int, ...]] = []

    class Watching(AttnProcessor):  # type: ignore[misc]
        def __call__(self, attn: Attention, hidden_states: Any, encoder_hidden_states: Any, **others: Any) -> Any:
            seen.append(tuple(encoder_hidden_states.shape))
            return super().__call__(attn, hidden_states, encoder_hidden_states, **others)

    processor = Watching()
    theirs.set_processor(processor)
    latents, timestep, text = inputs()
    expected = unet(latents, timestep, text).sample
    attentions = install_attention(unet)
    assert theirs.processor is processor and theirs not in attentions and len(attentions) == 3
    with attending_to(attentions, project_text(unet, attentions, text)):
        found = unet(latents, timestep, text).sample
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert seen == [(2, 77, TEXT_WIDTH)] * 2
    # A processor may also be set later, and keyword arguments reach the layers that know them.
    unet.set_attn_processor(AttnProcessor2_0())
    found = unet(latents, timestep, text, cross_attention_kwargs={"unknown": 1}).sample
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_masked_attention_is_diffusers() -> None:
    unet = build_unet()
    mask = torch.ones(2, 77)
    mask[:, 9:] = 0
    expected = unet(*inputs(), encoder_attention_mask=mask).sample
    assert (expected - unet(*inputs()).sample).abs().max() > 1e-3
    install_attention(unet)
    torch.testing.assert_close(unet(*inputs(), encoder_attention_mask=mask).sample, expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lora_layers_that_are_not_merged_count() -> None:
    peft = pytest.importorskip("peft")
    unet = build_unet()
    plain = unet(*inputs()).sample
    with torch.inference_mode(False):
        unet.add_adapter(peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_k", "to_v"]))
    expected = unet(*inputs()).sample
    assert (expected - plain).abs().max() > 1e-3
    attentions = install_attention(unet)
    torch.testing.assert_close(predict_from_cache(unet, attentions), expected, rtol=0, atol=1e-5)


def test_an_error_leaves_nothing_behind() -> None:
    unet = build_unet()
    attentions = install_attention(unet)
    texts = project_text(unet, attentions, inputs()[2])
    with pytest.raises(RuntimeError), attending_to(attentions, texts):
        unet(torch.zeros(2, 5, 8, 8), 1, inputs()[2])
    assert all(isinstance(layer.processor, InferenceAttention) and layer.processor.text is None for layer in attentions)


def test_rows() -> None:
    both, conditional = torch.arange(6), torch.arange(3, 6)
    assert torch.equal(Rows.BOTH.take(both, 3), both)
    assert torch.equal(Rows.UNCONDITIONAL.take(both, 3), torch.arange(3))
    for tensor in (both, conditional):
        assert torch.equal(Rows.CONDITIONAL.take(tensor, 3), conditional)
