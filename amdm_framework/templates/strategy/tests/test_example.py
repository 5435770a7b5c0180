"""The contract that every strategy keeps, and what this one does beyond it.

Change: the test below to something that you did not write: a closed form, recorded values of the original code.
"""

from __future__ import annotations

import torch
from amdm_framework.provider import Step
from amdm_framework.sampling.transition import Transition
from amdm_framework.strategies.base import ProviderState

from amdm_strategy_example.contract import ExampleContract as TestContract
from amdm_strategy_example.strategy import Example

__all__ = ["TestContract"]


def test_the_secondaries_fade_out():
    strategy = Example(Example.options(keep=0.4, steps=3))
    strategy.begin(provider_count=3, num_inference_steps=8)
    transition = Transition(timestep=500, alpha_cumprod=0.5, alpha_cumprod_previous=0.6, std=0.0, alpha=0.99)
    latents = torch.zeros(1, 4, 8, 8)
    # The target says 0 and the others 1 and 2, so the mixture is 1.5 times the secondaries' part.
    states = [ProviderState(latents, torch.full_like(latents, k), None, 1.0, lambda: latents) for k in range(3)]
    for index, part in enumerate([0.6, 0.4, 0.2]):
        found = strategy.aggregate(Step(index, 8, 500), states, transition).latents[0]
        torch.testing.assert_close(found, transition.mean(latents, torch.full_like(latents, 1.5 * part)))
