"""MIGC's block, against the original's outputs and intermediates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from migc_goldens import CPU, GOLDEN, assert_close, box_coordinates, condition_of, layouts_of, read_case, runs
from safetensors.torch import load_file

from amdm_plugin_migc.checkpoint import block_sizes
from amdm_plugin_migc.layout import InstanceRows, LayerLayout
from amdm_plugin_migc.modules import BlockConstants, MIGCBlock, PositionNet, embed_boxes
from amdm_plugin_migc.phase_order import draw_phase_orders, instance_slots

CASE, RECORDED = read_case("module")
RUNS = runs("module")


@pytest.fixture(scope="module")
def block() -> MIGCBlock:
    weights = load_file(GOLDEN / "module" / "weights.safetensors")
    block = MIGCBlock(block_sizes({name: tuple(tensor.shape) for name, tensor in weights.items()}))
    block.load_state_dict(weights, strict=True)
    return block.eval().requires_grad_(False)


def single(block: MIGCBlock, tag: str) -> tuple[InstanceRows, LayerLayout, BlockConstants, torch.Tensor]:
    """Return everything the block takes for a recorded run beside features."""
    run = RUNS[tag]
    rows, layout = layouts_of(run, RECORDED[f"{tag}.in.guidance_mask"], RECORDED[f"{tag}.in.supplement_mask"])
    pooled = RECORDED[f"{tag}.in.context_pooler"][1:, 0]
    constants = block.prepare(pooled, box_coordinates(run["boxes"]), 1, layout.size)
    slots = rows.stack_slots([instance_slots(RECORDED[f"{tag}.perm"][None], run["instances"])], block.phases)[0]
    return rows, layout, constants, slots


def test_box_embedding_and_position_net_equal_the_originals() -> None:
    case, recorded = read_case("fourier")
    weights = load_file(GOLDEN / "fourier" / "weights.safetensors")
    net = PositionNet(64, 24, 32)
    net.load_state_dict(weights, strict=True)
    boxes = recorded["boxes"][:, 0]
    assert_close(embed_boxes(boxes, 8), recorded["embedding"][:, 0], case["tolerance"])
    assert_close(net(boxes, torch.float32), recorded["token"][:, 0], case["tolerance"])


@pytest.mark.parametrize("tag", RUNS)
def test_block_equals_the_original(block: MIGCBlock, tag: str) -> None:
    rows, layout, constants, slots = single(block, tag)
    fused = block(RECORDED[f"{tag}.in.ca_x"][0], RECORDED[f"{tag}.in.image_token"], rows, layout, constants, slots)
    assert_close(fused[None], RECORDED[f"{tag}.out"], CASE["tolerance"])


@pytest.mark.parametrize("tag", [tag for tag in RUNS if tag != "n28"])
def test_intermediates_equal_the_originals(block: MIGCBlock, tag: str) -> None:
    rows, layout, constants, slots = single(block, tag)
    shaded, features = RECORDED[f"{tag}.in.ca_x"][0], RECORDED[f"{tag}.in.image_token"]
    normalised = block.norm(features)
    enhanced = block.ea(normalised, constants.tokens, rows.image_of_instance)
    share = block.ea.phrase_share(normalised, constants.tokens, rows.image_of_instance).mean(-1)
    layout_attention = block.la(features, layout.permissions)
    phases = torch.cat(
        [
            layout.guides[:1] * shaded[:1],
            layout.shading_weights * shaded[1:] + layout.enhancement_weights * enhanced,
            layout_attention,
        ]
    )
    weights = block.phase_weights(phases, rows, layout, constants, slots).unflatten(2, layout.size)
    coordinates = box_coordinates(RUNS[tag]["boxes"])
    boxes_first = torch.cat([layout.guides[1:-1], layout.guides[:1]])[..., 0].unflatten(1, layout.size)
    for found, name in (
        (coordinates[None], "in.box"),
        (block.pos_net(coordinates, torch.float32)[:, None], "mid.box_token"),
        (boxes_first[None], "mid.layer_masks"),
        (enhanced, "mid.ea"),
        (layout_attention, "mid.la"),
        (weights, "out.sac_softmax"),
        (torch.stack([share, 1 - share], -1).unflatten(1, layout.size)[None], "out.ea_attn"),
    ):
        assert_close(found, RECORDED[f"{tag}.{name}"], CASE["tolerance"])


@pytest.mark.parametrize("tag", RUNS)
def test_phase_orders_of_a_seed_are_those_the_original_draws(tag: str) -> None:
    assert torch.equal(draw_phase_orders(RUNS[tag]["perm_seed"], 1, 28)[0], RECORDED[f"{tag}.perm"])


def test_the_slot_of_an_instance_is_where_the_permutation_puts_it() -> None:
    order = torch.tensor([[2, 0, 3, 1]])
    listed = torch.tensor([10, 11, 0, 0])
    stack = listed[order[0]]
    assert [int(stack[slot]) for slot in instance_slots(order, 2)[0]] == [10, 11]


def batch_of(block: MIGCBlock, tags: list[str]) -> list[Any]:
    """Return the block's arguments for a batch of recorded runs; an empty tag is an image without instances."""
    counts = [RUNS[tag]["instances"] if tag else 0 for tag in tags]
    rows = InstanceRows.of(counts, CPU)
    like = RECORDED["n1.in.ca_x"][0]
    shading = [RECORDED[f"{tag}.in.ca_x"][0] if tag else like[:1] for tag in tags]
    masks = [
        (RECORDED[f"{tag}.in.guidance_mask"][0], RECORDED[f"{tag}.in.supplement_mask"][0])
        if tag
        else (torch.zeros(0, 16, 16), torch.ones(1, 16, 16))
        for tag in tags
    ]
    conditions = [condition_of(RUNS[tag] if tag else {"boxes": []}) for tag in tags]
    layout = LayerLayout.of(conditions, masks, (8, 8), True, CPU, torch.float32)
    pooled = torch.cat([RECORDED[f"{tag}.in.context_pooler"][1:, 0] for tag in tags if tag])
    boxes = torch.cat([box_coordinates(RUNS[tag]["boxes"]) for tag in tags if tag])
    slots = rows.stack_slots(
        [instance_slots(RECORDED[f"{tag or 'n1'}.perm"][None], count) for tag, count in zip(tags, counts, strict=True)],
        block.phases,
    )[0]
    stacked = torch.cat([part[:1] for part in shading] + [part[1:] for part in shading])
    features = torch.cat([RECORDED[f"{tag or 'n1'}.in.image_token"] for tag in tags])
    return [stacked, features, rows, layout, block.prepare(pooled, boxes, len(tags), (8, 8)), slots]


def test_images_of_a_batch_do_not_see_each_other(block: MIGCBlock) -> None:
    tags = ["n2_scales", "n1", "", "n4", "n2_sac_partial"]
    arguments = batch_of(block, tags)
    fused = block(*arguments)
    for image, tag in enumerate(tags):
        expected = RECORDED[f"{tag}.out"][0, 0] if tag else RECORDED["n1.in.ca_x"][0, 0]
        torch.testing.assert_close(fused[image], expected, rtol=0, atol=5e-6)
    assert torch.equal(fused[2], arguments[0][2])


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_half_precision_stays_near(block: MIGCBlock, dtype: torch.dtype, limit: float) -> None:
    tag = "n4"
    run = RUNS[tag]
    half = MIGCBlock(block_sizes({name: tuple(t.shape) for name, t in block.state_dict().items()}))
    half.load_state_dict(block.state_dict())
    half = half.to(dtype).requires_grad_(False)
    masks = [(RECORDED[f"{tag}.in.guidance_mask"][0], RECORDED[f"{tag}.in.supplement_mask"][0])]
    layout = LayerLayout.of([condition_of(run)], masks, (8, 8), True, CPU, dtype)
    rows, _, _, slots = single(block, tag)
    pooled = RECORDED[f"{tag}.in.context_pooler"][1:, 0].to(dtype)
    constants = half.prepare(pooled, box_coordinates(run["boxes"]), 1, (8, 8))
    inputs = [RECORDED[f"{tag}.in.ca_x"][0].to(dtype), RECORDED[f"{tag}.in.image_token"].to(dtype)]
    fused = half(*inputs, rows, layout, constants, slots)
    assert fused.dtype == dtype
    expected = RECORDED[f"{tag}.out"][0]
    assert (fused.float() - expected).abs().max() <= limit * expected.abs().max()
