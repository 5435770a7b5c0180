"""Boxes as masks, against the original's."""

from __future__ import annotations

import pytest
import torch
from migc_goldens import CPU, assert_close, condition_of, layouts_of, read_case, runs

from amdm_plugin_migc.layout import InstanceRows, LayerLayout, fuse_naively
from amdm_plugin_migc.masks import draw_masks, layout_permissions, resize_masks

MASKS, RECORDED = read_case("masks")


@pytest.mark.parametrize("tag", runs("masks"))
def test_masks_equal_the_originals_at_every_size(tag: str) -> None:
    run = runs("masks")[tag]
    masks, background = draw_masks(run["boxes"], run["height"], run["width"])
    latent_size = (run["height"] // 8, run["width"] // 8)
    masks, background = resize_masks(masks, latent_size), resize_masks(background, latent_size)
    assert_close(masks, RECORDED[f"{tag}.guidance"][0], MASKS["tolerance"])
    assert_close(background, RECORDED[f"{tag}.supplement"][0], MASKS["tolerance"])
    for level, size in run["levels"].items():
        both = torch.cat([resize_masks(masks, tuple(size)), resize_masks(background, tuple(size))])
        assert_close(both, RECORDED[f"{tag}.{level}"][0], MASKS["tolerance"])


def test_without_boxes_everything_is_background() -> None:
    masks, background = draw_masks([], 64, 64)
    assert masks.shape == (0, 64, 64)
    assert resize_masks(masks, (8, 8)).shape == (0, 8, 8)
    assert torch.equal(background, torch.ones(1, 64, 64))


def test_cells_see_only_cells_of_their_own_regions() -> None:
    masks = torch.tensor([[[1.0, 0.25, 0.0, 0.0]], [[0.0, 1.0, 1.0, 0.0]]])
    background = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert torch.equal(layout_permissions(masks, background), torch.tensor(expected).bool())


@pytest.mark.parametrize("tag", runs("naive_fuser"))
def test_naive_fuser_equals_the_original(tag: str) -> None:
    case, recorded = read_case("naive_fuser")
    guidance = recorded[f"{tag}.in.guidance_mask"]
    rows, layout = layouts_of(runs("naive_fuser")[tag], guidance, torch.ones_like(guidance[:, :1]))
    assert_close(fuse_naively(recorded[f"{tag}.in.ca_x"][0], rows, layout), recorded[f"{tag}.out"], case["tolerance"])


def test_naive_fuser_keeps_images_apart() -> None:
    tags = ["n1", "n4", "n2"]
    _, recorded = read_case("naive_fuser")
    cases = [runs("naive_fuser")[tag] for tag in tags]
    shading = [recorded[f"{tag}.in.ca_x"][0] for tag in tags]
    bare = torch.full_like(shading[0][:1], 3.0)
    # The third image has no instances and keeps its caption's shading exactly.
    cases.insert(2, {"boxes": []})
    shading.insert(2, bare)
    masks = [(recorded[f"{tag}.in.guidance_mask"][0], torch.ones(1, 16, 16)) for tag in tags]
    masks.insert(2, (torch.zeros(0, 16, 16), torch.ones(1, 16, 16)))
    rows = InstanceRows.of([1, 4, 0, 2], CPU)
    conditions = [condition_of(case) for case in cases]
    layout = LayerLayout.of(conditions, masks, (8, 8), False, CPU, torch.float32)
    stacked = torch.cat([part[:1] for part in shading] + [part[1:] for part in shading])
    fused = fuse_naively(stacked, rows, layout)
    for image, tag in enumerate(["n1", "n4", "", "n2"]):
        expected = recorded[f"{tag}.out"][0] if tag else bare[0]
        torch.testing.assert_close(fused[image], expected, rtol=0, atol=1e-6)
    assert torch.equal(fused[2], bare[0])
