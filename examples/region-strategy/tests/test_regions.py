"""The restricted interpolation: the contract of every strategy, and what is its own."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from amdm_framework.errors import InputError
from amdm_framework.strategies.single import Single
from amdm_framework.strategies.slerp import Slerp
from amdm_framework.testing import StrategyContract
from amdm_framework.testing.closed_form import initial_latents, make_strategy, run_toys, toy_providers
from amdm_strategy_regions.contract import RegionsContract as TestContract
from amdm_strategy_regions.strategy import Regions, soft_masks

__all__ = ["TestContract"]

SHAPE = (4, 8, 8)


class TestContractWithInstancesOfTheirOwn(StrategyContract):
    strategy = Regions
    # The third instance is in no scene of the contract.
    options: ClassVar[dict[str, Any]] = {"weights": [0.2, 0.0], "instances": [[1], [0, 2]], "softness": 0.2}
    provider_counts = (3,)


def box(rows: slice, columns: slice, size: int = 8) -> torch.Tensor:
    masks = torch.zeros(1, 1, size, size)
    masks[0, 0, rows, columns] = 1
    return masks


def draw(
    strategy: Any, masks: torch.Tensor | None = None, count: int = 2, length: int = 6, **options: Any
) -> torch.Tensor:
    latents = [initial_latents([1], SHAPE)] * count
    return run_toys(toy_providers(count, SHAPE), make_strategy(strategy, **options), latents, length, regions=masks)[0]


def test_outside_the_boxes_a_step_is_exactly_the_targets() -> None:
    masks = box(slice(2, 5), slice(1, 6))
    found, alone = draw(Regions, masks, length=1), draw(Single, length=1)
    outside = (masks == 0).expand_as(found)
    assert torch.equal(found[outside], alone[outside])
    assert (found[~outside] != alone[~outside]).any()


@pytest.mark.parametrize("count", [2, 3])
def test_a_box_of_the_whole_picture_is_plain_slerp(count: int) -> None:
    everywhere = torch.ones(1, 1, *SHAPE[1:])
    found = draw(Regions, everywhere, count, softness=0)
    torch.testing.assert_close(found, draw(Slerp, None, count), rtol=1e-5, atol=1e-6)


def test_a_scene_without_boxes_is_the_targets() -> None:
    nothing = torch.zeros(1, 0, *SHAPE[1:])
    assert torch.equal(draw(Regions, nothing), draw(Single))


def test_each_secondary_acts_in_its_own_boxes() -> None:
    left, right = box(slice(0, 8), slice(0, 3)), box(slice(0, 8), slice(5, 8))
    both = torch.cat([left, right], dim=1)
    found = draw(Regions, both, 3, length=1, instances=[[0], [1]], weights=[0.0, 0.0], softness=0)
    providers = toy_providers(3, SHAPE)
    alone = [run_toys([provider], make_strategy(Single), [initial_latents([1], SHAPE)], 1)[0] for provider in providers]
    torch.testing.assert_close(found[..., :3], alone[1][..., :3])
    torch.testing.assert_close(found[..., 5:], alone[2][..., 5:])
    torch.testing.assert_close(found[..., 3:5], alone[0][..., 3:5])


def test_edges_rise_inwards_to_the_depth_that_was_asked_for() -> None:
    masks = box(slice(2, 18), slice(4, 20), size=24)
    soft = soft_masks(masks, softness=4 / 24)
    assert (soft <= masks).all()
    row = soft[0, 0, 10]
    assert row[:4].tolist() == [0.0] * 4
    assert row[4:12].tolist() == [0.125, 0.375, 0.625, 0.875, 1.0, 1.0, 1.0, 1.0]
    assert torch.equal(row[4:20], row[4:20].flip(0))
    assert (soft[0, 0, :, 12][2:10].diff() >= 0).all()
    assert soft[0, 0, 2, 4] == pytest.approx(0.125**2)
    assert torch.equal(soft_masks(masks, softness=0), masks)


def test_a_cell_that_a_box_cuts_keeps_its_part() -> None:
    masks = torch.zeros(1, 1, 1, 6)
    masks[0, 0, 0] = torch.tensor([0.0, 0.5, 1.0, 1.0, 0.0, 0.0])
    soft = soft_masks(masks.expand(1, 1, 6, 6), softness=1 / 6)
    # Half a cell of the box, whose middle lies a quarter of a cell from its edge.
    assert soft[0, 0, 3].tolist() == [0.0, 0.125, 1.0, 0.5, 0.0, 0.0]


def test_a_list_per_secondary_is_asked_for() -> None:
    with pytest.raises(
        InputError, match=r"aggregation.instances: found 1 values .* expected 2 \(one list per secondary"
    ):
        draw(Regions, box(slice(0, 4), slice(0, 4)), count=3, instances=[[0]])
