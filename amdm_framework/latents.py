"""What models must share to be aggregated: one latent space and one diffusion process (Definition 2 of the paper)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import torch
from diffusers import DDIMScheduler

from .errors import IncompatibleProvidersError, InputError

PredictionType = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True)
class LatentSpace:
    """The space in which a model's samples live.

    Attributes:
        channels: channels of a latent.
        scale: picture pixels per latent cell along each side (8 for Stable Diffusion).
        scaling_factor: factor between the autoencoder's output and the latents that are diffused.
        encoder_fingerprint: digest of the autoencoder's *encoder* weights, None where it is unknown. The encoder
            defines the space; a fine-tuned decoder reads the same space.
    """

    channels: int
    scale: int
    scaling_factor: float
    encoder_fingerprint: str | None = None


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The diffusion process a model was trained on, and the sampling grid laid over it.

    Attributes:
        alphas_cumprod: (num_train_timesteps,) float32, cumulative products of 1 - beta.
        prediction_type: what the network predicts: `epsilon`, `v_prediction` or `sample` (x0).
        timestep_spacing: how a grid of T timesteps is laid over the training steps (`leading`, `trailing`,
            `linspace`), as in diffusers' schedulers.
        steps_offset: added to every timestep of a `leading` grid.
        final_alpha_cumprod: alphas_cumprod after the last step of the grid.
        alphas: (num_train_timesteps,) float32, 1 - beta; derived from alphas_cumprod where it is not given.
    """

    alphas_cumprod: torch.Tensor
    prediction_type: PredictionType = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    final_alpha_cumprod: float = 1.0
    alphas: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        if len(self.alphas) == 0:
            ratios = self.alphas_cumprod.clone()
            ratios[1:] /= self.alphas_cumprod[:-1]
            object.__setattr__(self, "alphas", ratios)

    @classmethod
    def from_scheduler_config(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Read the schedule from a diffusers scheduler config, of whichever scheduler class.

        The tables are made by `diffusers.DDIMScheduler` from the keys that describe the diffusion process.

        Raises:
            InputError: the prediction type is not one that can be converted to epsilon.
        """
        prediction_type = config.get("prediction_type", "epsilon")
        if prediction_type not in get_args(PredictionType):
            raise InputError(
                f"scheduler config: prediction_type is {prediction_type!r}, expected one of "
                f"{', '.join(get_args(PredictionType))} (a flow-matching model has another diffusion process)"
            )
        known = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
                 "set_alpha_to_one", "steps_offset", "timestep_spacing", "rescale_betas_zero_snr")  # fmt: skip
        scheduler = DDIMScheduler(
            **{key: config[key] for key in known if key in config},
            prediction_type=prediction_type,
            clip_sample=False,
        )
        return cls(
            alphas_cumprod=scheduler.alphas_cumprod.float(),
            prediction_type=prediction_type,
            timestep_spacing=scheduler.config.timestep_spacing,
            steps_offset=scheduler.config.steps_offset,
            final_alpha_cumprod=float(scheduler.final_alpha_cumprod),
            alphas=scheduler.alphas.float(),
        )

    @property
    def num_train_timesteps(self) -> int:
        """Number of steps of the training process."""
        return len(self.alphas_cumprod)


class HasDiffusionSpace(Protocol):
    """What `check_compatible` reads of a provider."""

    @property
    def name(self) -> str: ...
    @property
    def latent_space(self) -> LatentSpace: ...
    @property
    def noise_schedule(self) -> NoiseSchedule: ...


def check_compatible(providers: Sequence[HasDiffusionSpace]) -> list[str]:
    """Check that all providers are t-compatible: same latent space, same diffusion process (Definition 2).

    Prediction types may differ, since every prediction is converted to epsilon; each must be convertible. The grid
    of timesteps is a choice of the run, not of the model: the target's is used for all.

    Args:
        providers: the members, target first.

    Returns:
        One sentence for every fact that is unknown for some member and therefore could not be compared. Where others
        state it, the sentence is also issued as a warning.

    Raises:
        IncompatibleProvidersError: with a table of who differs in what.
    """
    facts: dict[str, list[str]] = {
        "latent channels": [str(p.latent_space.channels) for p in providers],
        "pixels per latent cell": [str(p.latent_space.scale) for p in providers],
        "VAE scaling factor": [f"{p.latent_space.scaling_factor:g}" for p in providers],
        "VAE encoder": [(p.latent_space.encoder_fingerprint or "unknown")[:12] for p in providers],
        "training steps": [str(p.noise_schedule.num_train_timesteps) for p in providers],
        "alphas_cumprod": _describe_alphas([p.noise_schedule.alphas_cumprod for p in providers]),
        "prediction": [_describe_prediction(p.noise_schedule) for p in providers],
    }
    differing = {}
    unknown = []
    for fact, values in facts.items():
        known = {value for value in values if value != "unknown"}
        if len(known) > 1 or any("not convertible" in value for value in known):
            differing[fact] = values
        elif known and "unknown" in values:
            who = ", ".join(p.name for p, value in zip(providers, values, strict=True) if value == "unknown")
            unknown.append(f"{fact} is unknown for {who}: assumed to be the same as the others'")
    if differing:
        rows = [["", *(p.name for p in providers)], *([fact, *values] for fact, values in differing.items())]
        raise IncompatibleProvidersError(
            "these models cannot be aggregated, they do not share one diffusion space:\n" + format_table(rows)
        )
    for sentence in unknown:
        warnings.warn(sentence, stacklevel=2)
    nowhere = [fact for fact, values in facts.items() if len(values) > 1 and set(values) == {"unknown"}]
    return unknown + [f"{fact} is unknown for all: could not be compared" for fact in nowhere]


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of cells in aligned columns, two spaces apart."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join("  " + line.rstrip() for line in lines)


def _describe_alphas(tables: Sequence[torch.Tensor]) -> list[str]:
    # The tolerance separates every schedule in use (scaled_linear, linear, zero-SNR) and ignores the rounding of the
    # same betas computed by another route, which reaches 1e-6.
    descriptions = []
    for table in tables:
        same = (
            other for other in tables if len(other) == len(table) and torch.allclose(other, table, rtol=1e-4, atol=1e-6)
        )
        twin = next(same)
        middle = len(twin) // 2
        descriptions.append(f"{twin[0]:.5f} .. {twin[middle]:.5f} .. {twin[-1]:.5f}")
    return descriptions


def _describe_prediction(schedule: NoiseSchedule) -> str:
    if schedule.prediction_type in get_args(PredictionType):
        return "epsilon"
    return f"{schedule.prediction_type} (not convertible)"
