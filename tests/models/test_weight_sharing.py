"""Equal weights are held once, and stay so."""

from __future__ import annotations

import gc

import pytest
import torch

from amdm_framework.models.weight_sharing import WeightStore, unique_bytes
from amdm_framework.testing.tiny_models import build_unet


def linear(seed: int, width: int = 4) -> torch.nn.Linear:
    torch.manual_seed(seed)
    return torch.nn.Linear(width, width)


def size(*modules: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for module in modules for p in module.parameters())


def test_equal_contents_become_one_parameter():
    store = WeightStore()
    first, second, other = linear(0), linear(0), linear(1)
    for module in (first, second, other):
        store.share(module)
    assert first.weight is second.weight
    assert other.weight is not first.weight
    assert unique_bytes([first, second, other]) == size(first, other)


@pytest.mark.parametrize("change", ["dtype", "shape", "last value", "sign of zero"])
def test_anything_less_than_equal_is_kept_apart(change):
    store = WeightStore()
    weight = torch.zeros(1000)
    other = {
        "dtype": torch.zeros(1000, dtype=torch.float16),
        "shape": torch.zeros(10, 100),
        "last value": torch.zeros(1000).index_fill(0, torch.tensor([999]), 1.0),
        "sign of zero": -torch.zeros(1000),
    }[change]
    assert store.parameter(weight) is not store.parameter(other)


def test_nan_is_shared_by_its_bytes():
    store = WeightStore()
    weight = torch.full((3,), torch.nan)
    assert store.parameter(weight) is store.parameter(weight.clone())


def test_sharing_survives_moves_and_casts():
    store = WeightStore()
    first, second = linear(0), linear(0)
    store.share(first)
    store.share(second)
    first.to(torch.float16)
    second.to(torch.float16)
    assert first.weight is second.weight
    assert unique_bytes([first, second]) == size(first)


def test_a_module_that_comes_after_a_cast_finds_its_weights():
    store = WeightStore()
    first = linear(0)
    store.share(first)
    first.to(torch.bfloat16)
    late = linear(0).to(torch.bfloat16)
    store.share(late)
    assert late.weight is first.weight


def test_weights_changed_in_place_are_not_taken_for_what_they_were():
    store = WeightStore()
    first, second = linear(0), linear(0)
    store.share(first)
    first.weight.data.mul_(2)
    store.share(second)
    assert second.weight is not first.weight
    assert not torch.equal(second.weight, first.weight)


def test_the_store_keeps_nothing_alive():
    store = WeightStore()
    module = linear(0)
    store.share(module)
    del module
    gc.collect()
    store.refresh()
    assert not list(store._alive())


def test_module_trees_stay_independent():
    store = WeightStore()
    first, second = build_unet(seed=0), build_unet(seed=0)
    store.share(first)
    store.share(second)
    assert unique_bytes([first, second]) == unique_bytes([first])
    second.conv_in.register_forward_hook(lambda *_: torch.zeros(1))
    second.mid_block.resnets[0].conv1 = torch.nn.Identity()
    assert not first.conv_in._forward_hooks
    assert isinstance(first.mid_block.resnets[0].conv1, torch.nn.Conv2d)


def test_tied_and_frozen_weights():
    store = WeightStore()
    module = torch.nn.ModuleList([linear(0), linear(0)])
    module[1].weight = module[0].weight
    store.share(module)
    assert module[1].weight is module[0].weight
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_weights_without_contents_are_counted_one_by_one():
    with torch.device("meta"):
        module = torch.nn.Linear(4, 4)
    WeightStore().share(module)
    assert unique_bytes([module]) == size(module)
