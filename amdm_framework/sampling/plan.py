"""What a run will compute, known before it starts: whose network, at which step, for one or both halves of guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import InputError, Problem
from ..strategies.base import AggregationStrategy, Evaluation
from .guidance import Guidance, Guider


def evaluation_plan(
    strategy: AggregationStrategy, guidance: Sequence[Guidance], num_inference_steps: int
) -> list[Mapping[int, int]]:
    """Return, for every step, the halves that each evaluated provider computes: 1 conditional only, 2 both.

    Args:
        strategy: has begun (`strategy.begin`) with as many providers as there are guidances.
        guidance: one per provider.
        num_inference_steps: length of the sampling grid.
    """
    guiders = [Guider(one, num_inference_steps) for one in guidance]

    def halves(provider: int, evaluation: Evaluation, index: int) -> int:
        if evaluation is Evaluation.GUIDED:
            return 2 if guiders[provider].is_active(index) else 1
        return 2 if evaluation is Evaluation.BOTH_HALVES else 1

    return [
        {k: halves(k, evaluation, index) for k, evaluation in strategy.evaluated(index).items()}
        for index in range(num_inference_steps)
    ]


def check_independent_noise(strategy: AggregationStrategy, names: Sequence[str]) -> None:
    """Check that every member's own initial noise would matter.

    Args:
        strategy: has begun with as many providers as there are names.
        names: of the members, target first.

    Raises:
        InputError: the members share their latents, or one that takes part is not evaluated at the first step.
    """
    if strategy.shared_latents:
        late = list(names[1:])
        reason = "keeps one latent for all members"
    else:
        plan = [strategy.evaluated(index) for index in range(strategy.num_inference_steps)]
        takes_part = set().union(*plan) - set(plan[0])
        late = [names[position] for position in sorted(takes_part)]
        reason = f"does not evaluate {', '.join(late)} at the first step"
    if late:
        message = (
            f"is `independent`, but strategy {strategy.name} {reason}, so that noise of each member's own would have no "
            "effect: use `shared`"
        )
        raise InputError([Problem(message, "sampler.initial_noise")])
