"""SuperDiff: members are weighted by how likely they find the picture, or so that all find it equally likely."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from ..errors import InputError, Problem
from ..provider import Step
from ..sampling.transition import Transition
from .base import (
    Advance,
    Evaluation,
    ProviderState,
    WholeRunOptions,
    WindowedStrategy,
    WindowOptions,
    expect_length,
    per_sample_norm,
    pull_metrics,
    sample_metrics,
    weighted_sum,
)


@dataclass(frozen=True)
class ReverseStep:
    """A stochastic step in variance-exploding coordinates y = x / sqrt(a): dy = drift V + noise z, z ~ N(0, I).

    Attributes:
        scale: sqrt(a) at the step's start.
        next_scale: sqrt(a') at its end.
        drift: factor of the noise prediction V, negative.
        noise: standard deviation of the noise.
        kernel_variance: variance of the models' reverse kernels, by which `log_density_changes` judges the step.
    """

    scale: float
    next_scale: float
    drift: float
    noise: float
    kernel_variance: float

    @classmethod
    def ddpm(cls, transition: Transition) -> ReverseStep:
        """The transition of the sampling grid, which lands on the next noise level at any step length.

        Its mean is that of the true reverse kernel. The kernel's variance lies between the transition's and the forward
        kernel's, sigma^2 - sigma'^2, which it reaches where the data's spread exceeds the noise; the latter is taken.
        """
        scale, next_scale = math.sqrt(transition.alpha_cumprod), math.sqrt(transition.alpha_cumprod_previous)
        sigma, next_sigma = _sigma(transition.alpha_cumprod), _sigma(transition.alpha_cumprod_previous)
        noise = transition.std / next_scale
        drift = math.sqrt(max(next_sigma**2 - noise**2, 0.0)) - sigma
        return cls(scale, next_scale, drift, noise, sigma**2 - next_sigma**2)

    @classmethod
    def euler(cls, transition: Transition) -> ReverseStep:
        """The Euler-Maruyama step of the SuperDiff paper; a step to noise level 0 goes to the predicted x0."""
        scale, next_scale = math.sqrt(transition.alpha_cumprod), math.sqrt(transition.alpha_cumprod_previous)
        sigma, next_sigma = _sigma(transition.alpha_cumprod), _sigma(transition.alpha_cumprod_previous)
        if next_sigma == 0:
            return cls(scale, next_scale, -sigma, 0.0, sigma**2)
        variance = 2 * (sigma - next_sigma) * sigma
        return cls(scale, next_scale, 2 * (next_sigma - sigma), math.sqrt(variance), variance)


def _sigma(alpha_cumprod: float) -> float:
    return math.sqrt((1 - alpha_cumprod) / alpha_cumprod)


def log_density_changes(step: ReverseStep, increment: torch.Tensor, predictions: torch.Tensor) -> torch.Tensor:
    """Return how much more likely every model finds a sample after a step, up to a constant common to all models.

    A model whose reverse kernel is N(y + drift v_i, variance) finds log p_i(y') - log p_i(y) =
    log N(y'; y + drift v_i, variance) - log q(y | y') by Bayes' rule, and the forward kernel q is the same for all:

        dl_i = (drift <dy, v_i> - drift^2 |v_i|^2 / 2) / variance

    For the Euler step this is the SuperDiff paper's -(|dsigma| / sigma) |v_i|^2 - <dy, v_i> / sigma, where the constant
    vanishes with the step length.

    Args:
        step: the step's coefficients.
        increment: (B, C, H, W) dy, the increment that was taken, whichever drift made it.
        predictions: (N, B, C, H, W) every model's conditional noise prediction before the step.

    Returns:
        (N, B) float64.
    """
    wide = predictions.double()
    linear = (increment.double() * wide).flatten(2).sum(-1)
    square = (wide * wide).flatten(2).sum(-1)
    return (step.drift * linear - 0.5 * step.drift**2 * square) / step.kernel_variance


def or_weights(log_densities: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return kappa = softmax over models of temperature * log density; (N, B) to (N, B)."""
    return torch.softmax(temperature * log_densities, dim=0)


def and_weights(
    step: ReverseStep,
    predictions: torch.Tensor,
    unconditional: torch.Tensor,
    guidance_scale: float,
    noise: torch.Tensor,
) -> torch.Tensor:
    """Return the kappa, summing to 1, for which the step makes all models' log densities change by the same amount.

    Setting all dl_i equal for dy = drift V + noise z, V = eps_u + g (sum_j kappa_j v_j - eps_u), is a linear system. In
    deviations from equal weights, kappa = 1/N + delta, and from the mean prediction m, d_i = v_i - m, it reads

        sum_j <d_i, d_j> delta_j = (centred(|v_i|^2 / 2 - (1 - g) <eps_u, v_i> - noise <z, v_i> / drift)) / g - <m, d_i>

    Solved in float64: the sums run over all values of a latent and subtract. Models with equal predictions (up
    to the rounding of their dtype) get equal weights.

    Args:
        step: the step about to be taken.
        predictions: (N, B, C, H, W) conditional noise predictions.
        unconditional: (B, C, H, W) the unconditional noise prediction.
        guidance_scale: g; with 0 the models' weights do not matter and are equal.
        noise: (B, C, H, W) the very draw z that the step will take.

    Returns:
        (N, B) float64, unbounded.
    """
    wide = predictions.double()
    count = len(wide)
    equal = torch.full(wide.shape[:2], 1 / count, dtype=torch.float64, device=wide.device)
    if guidance_scale == 0:
        return equal
    mean = wide.mean(0)
    deviations = wide - mean
    # Rounding is no deviation: the weights that would even it out are as large as it is small.
    rounding = 8 * torch.finfo(predictions.dtype).eps * per_sample_norm(mean)
    deviations = torch.stack([torch.where(per_sample_norm(one) <= rounding, 0.0, one) for one in deviations])
    offset = (1 - guidance_scale) * unconditional.double() + (step.noise / step.drift) * noise.double()
    # |v_i|^2 / 2 in terms of d_i: |m|^2 / 2, common to all, drops out before anything is subtracted.
    right = 0.5 * (deviations * deviations).flatten(2).sum(-1) + (deviations * (mean - offset)).flatten(2).sum(-1)
    right = (right - right.mean(0)) / guidance_scale - (deviations * mean).flatten(2).sum(-1)
    gram = torch.stack([(deviations * row).flatten(2).sum(-1) for row in deviations]).permute(2, 0, 1)
    # The deviations sum to zero, hence the all-ones matrix makes the system regular without changing its solution. The
    # last term gives models with equal predictions equal weights, and keeps the system solvable when all are equal.
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    ones = torch.ones(count, count, dtype=torch.float64, device=wide.device)
    identity = torch.eye(count, dtype=torch.float64, device=wide.device)
    tiny = torch.finfo(torch.float64).tiny
    system = gram + size * ones / count + (1e-13 * size + tiny) * identity
    # `solve_ex` without its error check does not wait for the device.
    delta: torch.Tensor = torch.linalg.solve_ex(system, right.T.unsqueeze(-1), check_errors=False).result
    return equal + delta.squeeze(-1).T


class SuperDiffOptions(WholeRunOptions):
    """Options of both superpositions."""

    step: Literal["ddpm", "euler"] = Field(
        default="ddpm",
        description="`ddpm` the grid's own step, `euler` the published one, for grids of 50 steps or more.",
    )


class SuperDiff(WindowedStrategy):
    """What both superpositions share: the unguided members, one unconditional half, and the stochastic step."""

    space = "epsilon"
    privileged_target = True
    settings: SuperDiffOptions
    shared_latents: ClassVar[bool] = True
    default_steps: ClassVar[int | None] = None

    def evaluated_in_window(self, index: int) -> Mapping[int, Evaluation]:
        return {k: Evaluation.CONDITIONAL if k else Evaluation.BOTH_HALVES for k in range(self.provider_count)}

    def check_grid(self, grid: Sequence[Transition]) -> None:
        for index, transition in enumerate(grid):
            before, after = transition.alpha_cumprod, transition.alpha_cumprod_previous
            ddpm = math.sqrt(max((1 - after) / (1 - before) * (1 - before / after), 0.0))
            if self.in_window(index) and abs(transition.std - ddpm) > 1e-6:
                raise InputError(
                    [
                        Problem(
                            f"eta is {transition.std / ddpm:.3g}, expected 1: `{self.name}` follows log densities, "
                            "which only a run with full DDPM noise reveals",
                            "sampler.eta",
                        )
                    ]
                )

    def aggregate(self, step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        reverse = ReverseStep.ddpm(transition) if self.settings.step == "ddpm" else ReverseStep.euler(transition)
        target = states[0]
        unconditional, scale = target.unconditional_epsilon, target.guidance_scale
        noise = target.noise() if reverse.noise > 0 else torch.zeros_like(target.latents)
        predictions = torch.stack([state.epsilon for state in states])
        kappa = self.weigh(reverse, predictions, unconditional, scale, noise)
        mixture = (kappa.to(predictions.dtype)[:, :, None, None, None] * predictions).sum(0)
        increment = reverse.drift * (unconditional + scale * (mixture - unconditional)) + reverse.noise * noise
        latents = reverse.next_scale * (target.latents / reverse.scale + increment)
        metrics = sample_metrics(latents, [state.epsilon for state in states])
        metrics["kappa"] = list(kappa)
        weights = (reverse.next_scale * reverse.drift * scale * kappa).to(predictions.dtype)[:, :, None, None, None]
        parts = {k: weights[k] * (predictions[k] - predictions[0]) for k in range(1, len(states))}
        metrics |= pull_metrics(weighted_sum([1] * len(parts), list(parts.values())), parts, len(states))
        changes = log_density_changes(reverse, increment, predictions)
        self.record(changes)
        metrics["log_density_change"] = list(changes)
        return Advance([latents] * len(states), metrics)

    @abstractmethod
    def weigh(
        self,
        reverse: ReverseStep,
        predictions: torch.Tensor,
        unconditional: torch.Tensor,
        guidance_scale: float,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        """Return the weights kappa (N, B) of the conditional predictions (N, B, C, H, W)."""

    def record(self, changes: torch.Tensor) -> None:
        """Take note of the models' log-density changes (N, B) over the step just taken."""


class SuperDiffAndOptions(SuperDiffOptions):
    """Options of the conjunction by equal densities."""


class SuperDiffAnd(SuperDiff):
    """SuperDiff's AND: at every step the weights for which all members' log densities change equally.

    Mixes epsilon on shared latents. Costs N - 1 conditional evaluations more per step. Only the unconditional half and
    the guidance scale are privileged: they are the target's. Needs `eta: 1`; along a deterministic path a log density
    changes by the divergence of the prediction too, which would take derivatives of every network.

    The published step is an Euler-Maruyama step in y = x / sqrt(a), V = eps_u + g (sum_i kappa_i v_i - eps_u):
    dy = 2 dsigma V + sqrt(2 |dsigma| sigma) z. On a coarse grid it leaves more noise than the next timestep expects:
    with exact predictions latents are up to 47 % too large at 10 steps, 8 % at 50 and 3 % at 200. The default takes
    the grid's DDPM step instead; its log densities see where the members' means differ, and with `euler` on a fine
    grid also where their spreads do. Weights and densities follow from either step's kernel (see `log_density_changes`,
    `and_weights`). Source: Skreta et al. 2024, arXiv 2412.17762.
    """

    name = "superdiff_and"
    summary = "SuperDiff AND: weights for which all members find the picture equally likely."
    formula = "V = eps_u + g (sum_i kappa_i v_i - eps_u),  kappa: dl_1 = .. = dl_N, sum_i kappa_i = 1"
    source = "Skreta et al. 2024, arXiv 2412.17762"
    options: ClassVar[type[WindowOptions]] = SuperDiffAndOptions

    def weigh(
        self,
        reverse: ReverseStep,
        predictions: torch.Tensor,
        unconditional: torch.Tensor,
        guidance_scale: float,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        return and_weights(reverse, predictions, unconditional, guidance_scale, noise)


class SuperDiffOrOptions(SuperDiffOptions):
    """Options of the disjunction."""

    temperature: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="Factor on the log densities; 0 averages, large picks one."
    )
    log_priors: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = Field(
        default=None,
        json_schema_extra={"per": "member"},
        description="Log of every member's prior probability, target first [equal].",
    )


class SuperDiffOr(SuperDiff):
    """SuperDiff's OR: members are weighted by the likelihood they give to the sample so far.

    Mixes epsilon on shared latents. Costs N - 1 conditional evaluations more per step. Only the unconditional half and
    the guidance scale are privileged: they are the target's. Needs `eta: 1`, as `superdiff_and` does, and takes the
    same steps. Log densities are sums over all values of a latent: small differences between members decide early
    unless `temperature` is small. The published image script has the wrong sign on |v_i|^2 in this branch; here it is
    the paper's. Source: Skreta et al. 2024, arXiv 2412.17762.
    """

    name = "superdiff_or"
    summary = "SuperDiff OR: members weighted by how likely they find the sample so far."
    formula = "V = eps_u + g (sum_i kappa_i v_i - eps_u),  kappa = softmax(temperature (l_i + log prior_i))"
    source = "Skreta et al. 2024, arXiv 2412.17762"
    options: ClassVar[type[WindowOptions]] = SuperDiffOrOptions
    settings: SuperDiffOrOptions

    def begin(self, provider_count: int, num_inference_steps: int) -> None:
        super().begin(provider_count, num_inference_steps)
        expect_length(self.settings.log_priors, provider_count, "log_priors", "one per provider, target first")
        self._log_densities: torch.Tensor | None = None

    def weigh(
        self,
        reverse: ReverseStep,
        predictions: torch.Tensor,
        unconditional: torch.Tensor,
        guidance_scale: float,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        if self._log_densities is None:
            self._log_densities = torch.zeros(predictions.shape[:2], dtype=torch.float64, device=predictions.device)
            for row, prior in zip(self._log_densities, self.settings.log_priors or (), strict=False):
                row += prior
        return or_weights(self._log_densities, self.settings.temperature)

    def record(self, changes: torch.Tensor) -> None:
        assert self._log_densities is not None
        self._log_densities = self._log_densities + changes
