"""The contract of an aggregation strategy: whom it evaluates at a step, and what becomes of their samples."""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, Field, model_validator

from ..errors import InputError, Problem
from ..provider import Step
from ..sampling.trace import Trace
from ..sampling.transition import Transition
from ..scene import StrictModel


class Evaluation(enum.Enum):
    """What a strategy wants of a provider at one step."""

    GUIDED = "guided"
    """One noise prediction, made by the provider's own guidance."""
    CONDITIONAL = "conditional"
    """The conditional noise prediction alone; the unconditional half is not computed."""
    BOTH_HALVES = "both halves"
    """Conditional and unconditional noise predictions, not combined."""


@dataclass
class ProviderState:
    """One provider at one step, as a strategy sees it.

    Attributes:
        latents: (B, C, H, W) the provider's x_t.
        noise_prediction: (B, C, H, W) epsilon at x_t: guided for `GUIDED`, the conditional half for the other
            evaluations, None where the provider was not evaluated at this step.
        unconditional: (B, C, H, W) the unconditional epsilon, for `BOTH_HALVES` only.
        guidance_scale: the scale of the provider's own guidance.
        noise: draws (B, C, H, W) standard normal noise from the provider's own generators; every call draws anew.
    """

    latents: torch.Tensor
    noise_prediction: torch.Tensor | None
    unconditional: torch.Tensor | None
    guidance_scale: float
    noise: Callable[[], torch.Tensor]

    @property
    def epsilon(self) -> torch.Tensor:
        """The noise prediction of a provider that was evaluated at this step."""
        if self.noise_prediction is None:
            raise RuntimeError("the strategy reads a provider that it did not ask to be evaluated")
        return self.noise_prediction

    @property
    def unconditional_epsilon(self) -> torch.Tensor:
        """The unconditional half of a provider that was asked for both."""
        if self.unconditional is None:
            raise RuntimeError("the strategy reads an unconditional prediction that it did not ask for")
        return self.unconditional


@dataclass
class Advance:
    """The outcome of one step.

    Attributes:
        latents: the next x of every provider, target first; None for a provider whose latents are not needed again.
        metrics: figures for the trace by name: one (B,) tensor per provider, None where there is none. They stay on
            the device until the run has ended.
    """

    latents: Sequence[torch.Tensor | None]
    metrics: Mapping[str, Sequence[torch.Tensor | None]] = field(default_factory=dict)


class AggregationStrategy(ABC):
    """How several samples become one.

    An object belongs to one run at a time: `begin` resets whatever it carries from step to step.

    Attributes:
        name: the word behind `strategy:` in a composition.
        summary: one line for `amdm strategies`.
        formula: the update in one line.
        space: what is mixed: samples x_{t-1}, noise predictions, or predicted x0.
        privileged_target: whether the first provider plays a part the others do not.
        source: the paper or code it comes from.
        options: pydantic model of the keys it takes.
        needs_regions: whether `Step.regions` must be filled from the scene's boxes.
        shared_latents: whether all providers look at the target's latents from the first step on. Such a strategy
            returns one and the same tensor for every provider.
        contract: `module:Class` of its `StrategyContract`, which `amdm plugin-check` runs; imported only then.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    formula: ClassVar[str]
    space: ClassVar[Literal["x_{t-1}", "epsilon", "x0"]]
    privileged_target: ClassVar[bool]
    source: ClassVar[str]
    options: ClassVar[type[BaseModel]]
    needs_regions: ClassVar[bool] = False
    shared_latents: ClassVar[bool] = False
    contract: ClassVar[str | None] = None

    def __init__(self, options: Any) -> None:
        self.settings = options

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        """Check the options against the run and forget everything about the run before.

        Raises:
            InputError: a list of the wrong length, a window longer than the grid, too few providers.
        """
        self.provider_count = provider_count
        self.num_inference_steps = num_inference_steps

    def check_grid(self, grid: Sequence[Transition]) -> None:  # noqa: B027 - most strategies work on any grid
        """Refuse a sampling grid the strategy cannot work on; called after `begin`, before the first evaluation.

        Raises:
            InputError: the rule has no meaning on this grid (a rule for stochastic sampling on a deterministic one).
        """

    @abstractmethod
    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        """Say which providers are evaluated at a step, and how. Depends on nothing but the run's size and options.

        Args:
            index: position in the grid, 0 is the noisiest step.
        """

    @abstractmethod
    def advance(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        """Turn the states of all providers into their next latents.

        Args:
            step: the position in the grid.
            states: one per provider, target first; those not asked for carry no noise prediction.
            transition: from this timestep to the next.
        """

    def review(self, trace: Trace) -> list[str]:
        """Look at the trace of a finished run and return warnings for its author, one sentence each."""
        return []


class WindowOptions(StrictModel):
    """Options of every strategy that acts in a window of the sampling grid."""

    steps: int | None = Field(default=None, ge=0, description="Length s of the window, from the first step on [3].")
    window: tuple[int, int] | None = Field(
        default=None, description="The window as a range of steps [start, stop), in place of `steps`."
    )

    @model_validator(mode="after")
    def _one_window(self) -> WindowOptions:
        if self.steps is not None and self.window is not None:
            raise ValueError("give `steps` or `window`, not both")
        if self.window is not None and not 0 <= self.window[0] <= self.window[1]:
            raise ValueError(f"window {list(self.window)}: expected [start, stop] with 0 <= start <= stop")
        return self


class WholeRunOptions(WindowOptions):
    """Window options of strategies that act in the whole run unless they are told otherwise."""

    steps: int | None = Field(
        default=None, ge=0, description="Length s of the window, from the first step on [the whole run]."
    )


class WindowedStrategy(AggregationStrategy):
    """A strategy that aggregates inside a window and samples the target alone outside it.

    Until the window opens the secondaries are not evaluated; they enter it from the target's latents.

    Attributes:
        first_index: the first step that can be aggregated; where `steps` begins to count.
        default_steps: length of the window where neither `steps` nor `window` is given, None for the whole run; a share
            of the run where it is below 1.
    """

    settings: WindowOptions
    first_index: ClassVar[int] = 0
    default_steps: ClassVar[float | None] = 3

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        key = "steps" if self.settings.window is None else "window"
        if self.settings.window is not None:
            self.start, self.stop = self.settings.window
        else:
            available = max(num_inference_steps - self.first_index, 0)
            length = available if self.default_steps is None else self.default_steps
            usual = min(math.ceil(length if length >= 1 else length * num_inference_steps), available)
            self.start = self.first_index
            self.stop = self.start + (usual if self.settings.steps is None else self.settings.steps)
        if self.start == self.stop:
            return
        if self.stop > num_inference_steps:
            raise InputError(
                [Problem(f"the window ends at step {self.stop}, but the run has {num_inference_steps}",
                         f"aggregation.{key}")]
            )  # fmt: skip
        if self.start < self.first_index:
            raise InputError(
                [Problem(f"the window starts at step {self.start}, but `{self.name}` needs {self.first_index} step(s) "
                         f"before it: start at {self.first_index} or later", f"aggregation.{key}")]
            )  # fmt: skip

    def in_window(self, index: int) -> bool:
        """Say whether a step is aggregated. With one provider none is."""
        return self.start <= index < self.stop and self.provider_count > 1

    def evaluated(self, index: int) -> Mapping[int, Evaluation]:
        return self.evaluated_in_window(index) if self.in_window(index) else {0: Evaluation.GUIDED}

    def evaluated_in_window(self, index: int) -> Mapping[int, Evaluation]:
        """Say which providers are evaluated at a step inside the window: all, unless a strategy says otherwise."""
        return dict.fromkeys(range(self.provider_count), Evaluation.GUIDED)

    def advance(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        if self.in_window(step.index):
            return self.aggregate(step, states, transition)
        target = states[0]
        latents = transition.sample(target.latents, target.epsilon, target.noise)
        if step.index < self.start:
            return Advance([latents] * self.provider_count)
        return Advance([latents] + [None] * (self.provider_count - 1))

    @abstractmethod
    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        """Turn the states of all providers into their next latents, inside the window."""


Weight = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""How much of what was aggregated so far is kept when the next member joins; 1 keeps all of it."""

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A member's part in a sum, relative to the others'."""


def expect_length(values: Sequence[object] | None, length: int, key: str, meaning: str) -> None:
    """Refuse a per-provider list of the wrong length.

    Raises:
        InputError: naming the key, what was found and what is expected.
    """
    if values is not None and len(values) != length:
        raise InputError(
            [Problem(f"found {len(values)} values {list(values)}, expected {length} ({meaning})", f"aggregation.{key}")]
        )


def resolve_shares(shares: Sequence[float] | None, count: int, meaning: str) -> list[float]:
    """Return `count` shares that sum to 1: equal ones where none are given.

    Raises:
        InputError: a list of the wrong length, or one that sums to 0.
    """
    expect_length(shares, count, "shares", meaning)
    if shares is None:
        return [1 / count] * count
    total = math.fsum(shares)
    if total <= 0:
        raise InputError([Problem(f"{list(shares)} sum to 0, expected at least one above", "aggregation.shares")])
    return [share / total for share in shares]


def weighted_sum(coefficients: Sequence[float], samples: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return sum_k c_k x^k; a member of coefficient 0 takes no part at all."""
    total: torch.Tensor | None = None
    for coefficient, sample in zip(coefficients, samples, strict=True):
        if coefficient == 0:
            continue
        term = sample if coefficient == 1 else coefficient * sample
        total = term if total is None else total + term
    return torch.zeros_like(samples[0]) if total is None else total


def per_sample_norm(tensor: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of every sample of (B, C, H, W) as (B, 1, 1, 1), in at least float32."""
    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    norm: torch.Tensor = torch.linalg.vector_norm(wide, dim=tuple(range(1, tensor.ndim)), keepdim=True)
    return norm


def sample_metrics(
    aggregate: torch.Tensor, members: Sequence[torch.Tensor | None]
) -> dict[str, list[torch.Tensor | None]]:
    """Return the figures every trace shows: the aggregate's norm over sqrt(n), and each member's cosine with the first.

    Args:
        aggregate: (B, C, H, W).
        members: what was mixed, each provider's own sample or noise prediction (B, C, H, W), or None.
    """
    first = members[0]
    root_n = math.sqrt(aggregate[0].numel())
    norms: list[torch.Tensor | None] = [(per_sample_norm(aggregate) / root_n).flatten()]
    norms += [None] * (len(members) - 1)
    cosines: list[torch.Tensor | None] = []
    for member in members:
        if member is None or first is None:
            cosines.append(None)
        else:
            wide = (first, member) if first.dtype == torch.float64 else (first.float(), member.float())
            cosines.append(torch.nn.functional.cosine_similarity(wide[0].flatten(1), wide[1].flatten(1)))
    return {"norm_ratio": norms, "cosine": cosines}


def pull_metrics(
    displacement: torch.Tensor, parts: Mapping[int, torch.Tensor], provider_count: int
) -> dict[str, list[torch.Tensor | None]]:
    """Return the figures of who moved the target's next latents how far, as root mean squares over their values.

    Args:
        displacement: (B, C, H, W) the target's next latents, less those that it would have taken alone.
        parts: by secondary, (B, C, H, W) what of it is that member's: what would be missing if it had predicted what the
            target predicts, or nothing beyond the unconditional half where guidance adds up, with the weights and step
            lengths of this step held. Where a rule finds these from the predictions (the angles of `slerp`, the lengths
            of `amdm`, the weights of `superdiff`), they would have been others then, which is nobody's part.
        provider_count: of the run.
    """
    root_n = math.sqrt(displacement[0].numel())
    pulls: list[torch.Tensor | None] = [None] * provider_count
    for provider, part in parts.items():
        pulls[provider] = (per_sample_norm(part) / root_n).flatten()
    together = (per_sample_norm(displacement) / root_n).flatten()
    return {"pull": pulls, "displacement": [together, *[None] * (provider_count - 1)]}


def advance_together(
    epsilon: torch.Tensor,
    states: Sequence[ProviderState],
    transition: Transition,
    parts: Mapping[int, torch.Tensor] | None = None,
) -> Advance:
    """Step the latents that all providers share with one noise prediction.

    Noise is drawn once, from the target's generators.

    Args:
        epsilon: (B, C, H, W).
        states: one per provider, target first.
        transition: from this timestep to the next.
        parts: by secondary, (B, C, H, W) its part of the difference between `epsilon` and the target's own noise
            prediction, for the trace; None where the target has none.
    """
    latents = transition.sample(states[0].latents, epsilon, states[0].noise)
    metrics = sample_metrics(latents, [state.noise_prediction for state in states])
    if parts:
        moved = {provider: transition.noise_weight * part for provider, part in parts.items()}
        metrics |= pull_metrics(weighted_sum([1] * len(moved), list(moved.values())), moved, len(states))
    return Advance([latents] * len(states), metrics)
