"""The contract between the engine and a model: `EpsilonProvider` predicts noise, `ProviderSpec` announces it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .latents import LatentSpace, NoiseSchedule
from .scene import Scene

CHECKPOINT_REFERENCE_FORMAT = "checkpoint-reference"

CheckpointReference = Annotated[str, Field(min_length=1, json_schema_extra={"format": CHECKPOINT_REFERENCE_FORMAT})]
"""Type of an option that names weights by a path relative to the composition, `hf://repo` or another scheme.

It tells the framework which texts are files: pictures carry their names and digests, never their folders.
"""


@dataclass(frozen=True)
class NoisePrediction:
    """What a network predicted for a batch, in the space its noise schedule names (epsilon, v or x0).

    Attributes:
        conditional: (B, C, H, W).
        unconditional: (B, C, H, W), or None where guidance was not asked for.
    """

    conditional: torch.Tensor
    unconditional: torch.Tensor | None = None


@dataclass(frozen=True)
class RunSettings:
    """Facts about a run that a provider may need while it encodes its conditions.

    Attributes:
        height: picture height in pixels.
        width: picture width in pixels.
        num_inference_steps: length of the sampling grid.
        guided: whether the unconditional half will be needed at any step.
        seeds: one integer per image; whatever a provider draws at random must depend on nothing else.
        sequential_guidance: whether the two halves of a guided step are evaluated one after the other, which takes
            half the memory for activations.
    """

    height: int
    width: int
    num_inference_steps: int
    guided: bool
    seeds: tuple[int, ...]
    sequential_guidance: bool = False


@dataclass(frozen=True)
class Step:
    """One position in the sampling grid.

    Attributes:
        index: 0 is the noisiest step.
        count: number of steps in the grid.
        timestep: the training timestep the networks are asked about.
        guided: whether the unconditional half is wanted from this provider at this step.
        regions: (B, K, H, W) one mask per instance of the scene at latent resolution, values in [0, 1], rows of
            absent instances zero; None unless the strategy asked for regions.
    """

    index: int
    count: int
    timestep: int
    guided: bool = True
    regions: torch.Tensor | None = None


class EpsilonProvider(ABC):
    """A conditional diffusion model: it encodes conditions once and predicts noise at every step.

    One object holds one loaded model and may serve many runs; everything that belongs to a run lives in the opaque
    conditioning that `encode` returns.

    Attributes:
        name: the member's name in messages and traces; the pipeline sets it.
        latent_space: the space its samples live in.
        noise_schedule: the diffusion process it was trained on, and what its network predicts.
        default_size: picture height and width in pixels it was trained for.
    """

    name: str = ""
    latent_space: LatentSpace
    noise_schedule: NoiseSchedule
    default_size: tuple[int, int]

    @abstractmethod
    def encode(self, conditions: Sequence[Any], settings: RunSettings) -> Any:
        """Compute everything that depends on neither the latents nor the timestep, once per run.

        Args:
            conditions: B conditions of the spec's condition type, one per image.
            settings: size, steps, guidance and seeds of the run.

        Returns:
            An opaque conditioning, handed back at every step.
        """

    @abstractmethod
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: Any) -> NoisePrediction:
        """Evaluate the network at one step.

        Args:
            latents: (B, C, H, W) float32 on the device of the run; cast to the network's dtype inside.
            step: the position in the grid; `step.guided` says whether the unconditional half is wanted. Where it is
                not, it must not be computed.
            conditioning: what `encode` returned.

        Returns:
            The network's own prediction (epsilon, v or x0, as `noise_schedule.prediction_type` says) for both halves.
        """

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode (B, C, H, W) latents to (B, 3, H * scale, W * scale) float32 pictures in [0, 1]."""

    def modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the provider's networks by name, for moving, offloading, counting and compiling.

        The one that is evaluated at every step is called `unet`: it is what gets compiled. Weights that are offloaded
        come when a module is called, so call modules and do not use their weights directly; `devices.device_of` says
        where a network computes.

        Providers without networks (a closed-form predictor, say) need not override this.
        """
        return {}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> EpsilonProvider:
        """Move and cast all networks in place and return the provider."""
        for module in self.modules().values():
            module.to(device=device, dtype=dtype)
        return self


@dataclass(frozen=True)
class WeightFile:
    """One file of weights that a member reads.

    Attributes:
        component: what the file is for (`unet`, `vae`, `text_encoder`, `adapter`).
        path: the file.
        sha256: digest of its contents.
    """

    component: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of one stored tensor, as a file's header states them, and an identity for sharing.

    Attributes:
        shape: the tensor's shape.
        dtype: name of the stored dtype in safetensors spelling (`F16`, `F32`).
        identity: two tensors with equal identities are held once in memory.
    """

    shape: tuple[int, ...]
    dtype: str
    identity: str


@dataclass(frozen=True)
class ProviderReport:
    """What a provider's files say about it without any network being built.

    Attributes:
        latent_space: the latent space, as far as configs state it.
        noise_schedule: the diffusion process.
        components: for each component (`unet`, `vae`, ...) its tensors.
        default_size: picture height and width in pixels the model was trained for.
        downloads: checkpoint references that would be fetched first.
    """

    latent_space: LatentSpace
    noise_schedule: NoiseSchedule
    default_size: tuple[int, int]
    components: Mapping[str, Sequence[TensorInfo]] = field(default_factory=dict)
    downloads: Sequence[str] = ()


class ProviderSpec(BaseModel):
    """What a plugin registers: a name, the options its block in a composition takes, and how to load it."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    RESERVED_OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {"use", "name", "step_size", "guidance", "guidance_scale", "condition", "device", "dtype"}
    )

    name: str = Field(description="The word that stands behind `use:` in a composition.")
    summary: str = Field(min_length=1, description="One line for `amdm plugins`.")
    options: type[BaseModel] = Field(description="The keys its block in a composition takes.")
    condition: type[BaseModel] = Field(description="This model's own part of the task.")
    condition_from_scene: Callable[[Scene, Any], BaseModel] = Field(
        description="(scene, options) -> condition; raises ValueError where the scene lacks what the model needs (and "
        "InputError of `Reference.open` where a picture cannot be read)."
    )
    load: Callable[[Any, Any], EpsilonProvider] = Field(
        description="(options, LoadContext) -> a provider on `context.device` in `context.dtype`."
    )
    inspect: Callable[[Any, Any], ProviderReport] | None = Field(
        default=None, description="(options, LoadContext) -> a report from configs and headers, for `amdm check`."
    )
    contract: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description="`module:Class` of its `ProviderContract`, which `amdm plugin-check` runs; imported only then.",
    )

    @field_validator("name")
    @classmethod
    def _name_is_a_word(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"a provider's name must be a lower-case word like 'my_model', found {name!r}")
        return name

    @model_validator(mode="after")
    def _options_do_not_clash(self) -> ProviderSpec:
        clash = self.RESERVED_OPTIONS & set(self.options.model_fields)
        if clash:
            raise ValueError(f"options named {sorted(clash)} are the framework's own keys of a provider's block")
        for field_name in ("options", "condition"):
            if getattr(self, field_name).model_config.get("extra") != "forbid":
                raise ValueError(f"the {field_name} model must forbid unknown keys (ConfigDict(extra='forbid'))")
        return self
