"""What a strategy computes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ..sampling.guidance import Guidance
from ..strategies.base import Advance
from .strategy_checks import StrategyChecks
from .strategy_runs import SEEDS, STEPS, draw, same_providers, watch_advance

NOT_SQUARE = (4, 6, 10)


class ResultChecks(StrategyChecks):
    """Tests of the latents that a run ends with, and of what they depend on."""

    def test_results_are_finite(self) -> None:
        """With any number of providers, with and without noise and guidance, also where all members agree."""
        for count in self.provider_counts:
            for eta in self.etas(count):
                unguided = self.draw(count, eta, guidance=Guidance(scale=1.0))
                assert unguided.latents.isfinite().all(), f"not finite with {count} providers, eta {eta}, no guidance"
                agreed = self.draw(count, eta, providers=same_providers(count), same_start=True, same_noise=True)
                assert agreed.latents.isfinite().all(), f"not finite where {count} providers agree, eta {eta}"

    def test_shapes_and_dtypes_are_those_of_the_latents(self) -> None:
        """Double precision stays double, and latents need not be square."""
        for count in self.provider_counts:
            for dtype in (torch.float32, torch.float64):
                strategy = self.make()
                with watch_advance(strategy, after=partial(_check_latents, count=count, dtype=dtype)):
                    draw(strategy, count, self.etas(count)[0], dtype=dtype, shape=NOT_SQUARE)

    def test_an_image_of_a_batch_equals_its_single_run(self) -> None:
        """Whatever its neighbours are and however many instances they have."""
        for count in self.provider_counts:
            for eta in self.etas(count):
                batch = self.draw(count, eta).latents
                singles = [self.draw(count, eta, seeds=[seed]).latents for seed in SEEDS]
                torch.testing.assert_close(batch, torch.cat(singles), rtol=1e-9, atol=1e-9)

    def test_equal_seeds_draw_equal_pictures(self) -> None:
        """All randomness comes from `state.noise`, none from torch's global generator."""
        for count in self.provider_counts:
            for eta in self.etas(count):
                pictures = []
                for seed in (1, 2):
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(seed)
                        pictures.append(self.draw(count, eta).latents)
                assert torch.equal(*pictures), "two runs of equal seeds differ"

    def test_no_noise_is_drawn_where_the_grid_adds_none(self) -> None:
        """A deterministic run takes nothing from the generators."""
        for count in self.provider_counts:
            if 0.0 in self.etas(count):
                assert not self.draw(count).noise, "noise was drawn at eta 0"

    def test_an_object_used_again_equals_a_fresh_one(self) -> None:
        """`begin` forgets the run before, which may have had another size."""
        used = self.make()
        for count in (*self.provider_counts, *reversed(self.provider_counts)):
            eta = self.etas(count)[-1]
            draw(used, count, eta, seeds=[11], steps=STEPS + 1)
            again, fresh = draw(used, count, eta), self.draw(count, eta)
            assert torch.equal(again.latents, fresh.latents), "the second run of an object differs from a first"

    def test_changes_nothing_that_it_was_given(self) -> None:
        """Latents, predictions and regions belong to the loop: an operation in place would reach others."""
        for count in self.provider_counts:
            strategy = self.make()
            given: list[torch.Tensor] = []
            copies: list[torch.Tensor] = []
            with watch_advance(strategy, partial(_remember, given, copies)):
                draw(strategy, count, self.etas(count)[0])
            assert all(map(torch.equal, given, copies)), "a tensor of the states or the regions was changed"


def _remember(given: list[torch.Tensor], copies: list[torch.Tensor], tensors: Sequence[torch.Tensor]) -> None:
    given += tensors
    copies += [tensor.clone() for tensor in tensors]


def _check_latents(advance: Advance, count: int, dtype: torch.dtype) -> None:
    assert len(advance.latents) == count, f"found {len(advance.latents)} latents, expected {count}"
    for latents in advance.latents:
        if latents is not None:
            assert latents.shape == (len(SEEDS), *NOT_SQUARE)
            assert latents.dtype == dtype
