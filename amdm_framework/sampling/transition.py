"""One step of the sampling grid: the DDIM transition with free noise level, and the epsilon / v / x0 conversions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler

from ..errors import InputError
from ..latents import NoiseSchedule, PredictionType


@dataclass(frozen=True)
class Transition:
    """The Gaussian transition from one timestep of the grid to the next (lower) one.

    Equations 4 and 6 of the AMDM paper with the cumulative alphas that the DDIM paper derives (the printed equations
    put the single-step alpha under both fractions, a misprint; see docs/concepts.md):

        x0   = (x_t - sqrt(1 - a) eps) / sqrt(a)
        mean = sqrt(a') x0 + sqrt(1 - a' - std^2) eps
        x_t' = mean + std z,    std = eta sqrt((1 - a') / (1 - a)) sqrt(1 - a / a')

    All members are Python floats, so that no arithmetic on latents ever waits for a device.

    Attributes:
        timestep: the training timestep t the step starts from.
        alpha_cumprod: a, the cumulative alpha at t.
        alpha_cumprod_previous: a', the cumulative alpha at the next timestep of the grid.
        std: standard deviation of the noise added by the step; 0 is the deterministic DDIM step.
        alpha: the single-training-step alpha at t (1 - beta).
    """

    timestep: int
    alpha_cumprod: float
    alpha_cumprod_previous: float
    std: float
    alpha: float

    def original_sample(self, latents: torch.Tensor, noise_prediction: torch.Tensor) -> torch.Tensor:
        """Return the predicted x0 for latents x_t and an epsilon prediction, both (B, C, H, W)."""
        return (latents - math.sqrt(1 - self.alpha_cumprod) * noise_prediction) / math.sqrt(self.alpha_cumprod)

    def noise_from_original(self, latents: torch.Tensor, original_sample: torch.Tensor) -> torch.Tensor:
        """Return the epsilon that explains latents x_t by a given x0, both (B, C, H, W)."""
        return (latents - math.sqrt(self.alpha_cumprod) * original_sample) / math.sqrt(1 - self.alpha_cumprod)

    @property
    def noise_weight(self) -> float:
        """How far the mean moves with the noise prediction: its derivative, the same at all latents."""
        direction = math.sqrt(max(1 - self.alpha_cumprod_previous - self.std**2, 0.0))
        return direction - math.sqrt(self.alpha_cumprod_previous * (1 - self.alpha_cumprod) / self.alpha_cumprod)

    def mean(self, latents: torch.Tensor, noise_prediction: torch.Tensor) -> torch.Tensor:
        """Return the mean of the transition, (B, C, H, W)."""
        direction = math.sqrt(max(1 - self.alpha_cumprod_previous - self.std**2, 0.0))
        original_sample = self.original_sample(latents, noise_prediction)
        return math.sqrt(self.alpha_cumprod_previous) * original_sample + direction * noise_prediction

    def add_noise(self, mean: torch.Tensor, noise: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Return a sample around a mean; `noise` is called for a standard normal draw only where std is positive.

        For std = 0 the very same tensor comes back, so that mean and sample compare as identical.
        """
        return mean if self.std == 0 else mean + self.std * noise()

    def sample(
        self, latents: torch.Tensor, noise_prediction: torch.Tensor, noise: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """Return x_t' = mean + std z for latents x_t and an epsilon prediction, all (B, C, H, W)."""
        return self.add_noise(self.mean(latents, noise_prediction), noise)


def transitions(schedule: NoiseSchedule, num_inference_steps: int, eta: float = 0.0) -> list[Transition]:
    """Lay a sampling grid over a noise schedule; equal to stepping `diffusers.DDIMScheduler` without clipping.

    Args:
        schedule: the diffusion process.
        num_inference_steps: length T of the grid.
        eta: 0 for DDIM, 1 for DDPM noise, anything between.

    Returns:
        T transitions, noisiest first.

    Raises:
        InputError: the grid does not fit the schedule, or starts where no signal is left.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"sampler.eta is {eta}, expected a number between 0 (DDIM) and 1 (DDPM)")
    if schedule.timestep_spacing not in ("leading", "trailing", "linspace"):
        raise InputError(
            f"scheduler config: timestep_spacing is {schedule.timestep_spacing!r}, expected leading, trailing or "
            "linspace"
        )
    train_steps = schedule.num_train_timesteps
    if not 1 <= num_inference_steps <= train_steps:
        raise InputError(
            f"sampler.steps is {num_inference_steps}, expected 1 to {train_steps}, the number of training timesteps"
        )
    scheduler = DDIMScheduler(
        num_train_timesteps=train_steps,
        timestep_spacing=schedule.timestep_spacing,
        steps_offset=schedule.steps_offset,
    )
    scheduler.set_timesteps(num_inference_steps)
    timesteps = scheduler.timesteps.tolist()
    if timesteps[0] >= train_steps:
        raise InputError(
            f"sampler.steps is {num_inference_steps}: with {schedule.timestep_spacing} spacing and offset "
            f"{schedule.steps_offset} the grid would start at timestep {timesteps[0]}, beyond the last training "
            f"timestep {train_steps - 1}; take fewer steps"
        )
    # The tables are float32 in every scheduler of the ecosystem; the arithmetic below them is double.
    alphas_cumprod = schedule.alphas_cumprod.double().tolist()
    alphas = schedule.alphas.double().tolist()
    if alphas_cumprod[timesteps[0]] <= 0:
        raise InputError(
            f"at timestep {timesteps[0]} this noise schedule has alphas_cumprod 0 (zero terminal SNR), where a noise "
            "prediction says nothing about the picture. Choose `timestep_spacing: leading` in the model's scheduler "
            "config, or fewer steps"
        )
    result = []
    for timestep in timesteps:
        previous_timestep = timestep - train_steps // num_inference_steps
        alpha_cumprod = alphas_cumprod[timestep]
        previous = alphas_cumprod[previous_timestep] if previous_timestep >= 0 else schedule.final_alpha_cumprod
        variance = (1 - previous) / (1 - alpha_cumprod) * (1 - alpha_cumprod / previous)
        std = eta * math.sqrt(max(variance, 0.0))
        result.append(Transition(timestep, alpha_cumprod, previous, std, alphas[timestep]))
    return result


def to_epsilon(
    prediction: torch.Tensor, latents: torch.Tensor, alpha_cumprod: float, prediction_type: PredictionType
) -> torch.Tensor:
    """Convert a network's prediction to a noise prediction; the one place where this is done.

    Args:
        prediction: (B, C, H, W), what the network predicted.
        latents: (B, C, H, W), the x_t it was asked about.
        alpha_cumprod: cumulative alpha at its timestep.
        prediction_type: `epsilon`, `v_prediction` (v = sqrt(a) eps - sqrt(1 - a) x0) or `sample` (x0).
    """
    if prediction_type == "epsilon":
        return prediction
    signal, noise = math.sqrt(alpha_cumprod), math.sqrt(1 - alpha_cumprod)
    if prediction_type == "v_prediction":
        return signal * prediction + noise * latents
    return (latents - signal * prediction) / noise
