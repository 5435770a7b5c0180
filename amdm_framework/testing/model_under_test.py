"""A tiny model on disk and in memory, and the runs that the tests of a contract make with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import BaseModel

from ..composition import Composition, ResolvedComposition, ResolvedMember
from ..errors import InputError
from ..input_files import InputFile, files_of_composition
from ..models.context import LoadContext
from ..models.stable_diffusion import StableDiffusionProvider, TextConditioning
from ..models.weight_sharing import WeightStore
from ..provider import EpsilonProvider, NoisePrediction, ProviderSpec, RunSettings, Step
from ..sampling.guidance import Guidance
from ..scene import Scene, StrictModel
from ..strategies.single import Single

if TYPE_CHECKING:
    from .provider_contract import ProviderContract

STEPS = 4
"""Steps of the grid of all runs."""

HALF = torch.bfloat16
"""Of the two half precisions the one in which a CPU has all operations."""

PARTED_BATCH = (
    "this batch has a prompt beyond the text model's context, so one UNet call has some images only: see `group.take`"
)
"""What explains most errors that arise in such a batch and in no other."""

TOLERANCE = 1e-4
"""How far float32 results of equal computations may be apart, as a share of the largest value."""


@dataclass(frozen=True)
class Run:
    """Encoded conditions of a batch, and its latents.

    Attributes:
        provider: that encoded them.
        conditioning: what its `encode` returned.
        latents: (B, C, H, W) float32.
    """

    provider: EpsilonProvider
    conditioning: Any
    latents: torch.Tensor

    @torch.inference_mode()
    def predict(self, index: int = 1, guided: bool = True, timestep: int | None = None) -> NoisePrediction:
        """Ask the provider at one step of the grid, about its timestep or another."""
        trained = self.provider.noise_schedule.num_train_timesteps
        usual = trained * (STEPS - index) // STEPS - 1
        step = Step(index, STEPS, usual if timestep is None else timestep, guided)
        try:
            return self.provider.predict_noise(self.latents, step, self.conditioning)
        except Exception as error:
            if _has_prompts_of_two_lengths(self.conditioning):
                error.add_note(PARTED_BATCH)
            raise


class ModelUnderTest:
    """The tiny model of a contract, loaded once for all of its tests.

    Args:
        contract: says which model, and what it is asked for.
        folder: empty; the model's files are written to it.

    Attributes:
        spec: of the provider.
        block: the options as the contract gave them.
    """

    def __init__(self, contract: ProviderContract, folder: Path) -> None:
        self.spec: ProviderSpec = contract.spec
        self.sizes = contract.sizes
        self.half_precision_tolerance = contract.half_precision_tolerance
        self.texts = contract.texts
        self.constant_layers = contract.constant_layers
        self.device = torch.device(contract.device)
        self.folder = folder
        self.block = contract.options(folder)
        self._contract = contract

    @cached_property
    def scenes(self) -> list[Scene]:
        """What is drawn."""
        return self._contract.scenes(self.folder)

    @cached_property
    def options(self) -> BaseModel:
        """The checked options."""
        return self.spec.options.model_validate(self.block)

    @cached_property
    def conditions(self) -> list[BaseModel]:
        """What the model takes from each scene. Skips a test where it refuses one."""
        self.need_scenes()
        return [self.spec.condition_from_scene(scene, self.options) for scene in self.scenes]

    @cached_property
    def refusal(self) -> str:
        """Which scene of the contract the model refuses, why, and what to do; empty where it takes all of them."""
        for number, scene in enumerate(self.scenes):
            try:
                self.spec.condition_from_scene(scene, self.options)
            except (ValueError, InputError) as error:
                return (
                    f"`condition_from_scene` refuses a scene of the contract (scene {number}: {error}): override "
                    "`scenes` so that every scene has what the model needs (`amdm_framework.testing.write_picture` "
                    "makes pictures)"
                )
        return ""

    def need_scenes(self) -> None:
        """Skip a test where the model refuses a scene of the contract: another one says so."""
        if self.refusal:
            pytest.skip("a scene of the contract is refused: see `test_the_scenes_have_what_the_model_needs`")

    @cached_property
    def loaded_with(self) -> LoadContext:
        """What `provider` is loaded with."""
        return self.context()

    @cached_property
    def provider(self) -> EpsilonProvider:
        """The model in float32. Tests that change it in any way load their own."""
        return self.load(self.loaded_with)

    @cached_property
    def half_provider(self) -> EpsilonProvider:
        """The model in half precision."""
        return self.load(self.context(HALF))

    def context(
        self,
        dtype: torch.dtype = torch.float32,
        weights: WeightStore | None = None,
        folder: Path | None = None,
        device: torch.device | None = None,
    ) -> LoadContext:
        """Return what the model is loaded with."""
        return LoadContext(device or self.device, dtype, folder or self.folder, weights=weights or WeightStore())

    def load(self, context: LoadContext | None = None, block: Mapping[str, Any] | None = None) -> EpsilonProvider:
        """Load the model again.

        Args:
            context: [float32, and weights shared with nobody].
            block: other options than the contract's.
        """
        options = self.options if block is None else self.spec.options.model_validate(dict(block))
        provider = self.spec.load(options, context or self.context())
        provider.name = self.spec.name
        return provider

    def files(self) -> list[InputFile]:
        """Return the files and folders that the options name, with keys within the block."""
        composition = Composition.model_validate({"providers": [{"use": self.spec.name, **self.block}]})
        # Conditions have files as well, but those of a composition's block alone, which has none here.
        spec = self.spec.model_copy(update={"condition": StrictModel})
        member = ResolvedMember(self.spec.name, spec, self.options, Guidance(), {}, self.folder)
        resolved = ResolvedComposition(composition, [member], Single(Single.options()), self.folder)
        return [InputFile(file.key[2:], file.path, file.declared) for file in files_of_composition(resolved)]

    def settings(
        self,
        seeds: Sequence[int],
        *,
        size: tuple[int, int] | None = None,
        guided: bool = True,
        sequential: bool = False,
    ) -> RunSettings:
        """Return the facts of a run."""
        height, width = size or self.sizes[0]
        return RunSettings(height, width, STEPS, guided, tuple(seeds), sequential)

    def latents(self, seeds: Sequence[int], size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return (B, C, H, W) normal noise, each image's from its seed."""
        space = self.provider.latent_space
        height, width = (side // space.scale for side in size or self.sizes[0])
        rows = [
            torch.randn(space.channels, height, width, generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        return torch.stack(rows).to(self.device)

    def run(
        self,
        conditions: Sequence[BaseModel | None] | None = None,
        *,
        provider: EpsilonProvider | None = None,
        seeds: Sequence[int] | None = None,
        size: tuple[int, int] | None = None,
        guided: bool = True,
        sequential: bool = False,
        device: torch.device | None = None,
    ) -> Run:
        """Encode conditions [all of them], image i with seed i; the latents are on [the contract's] device."""
        provider = provider or self.provider
        conditions = self.conditions if conditions is None else conditions
        seeds = range(len(conditions)) if seeds is None else seeds
        settings = self.settings(seeds, size=size, guided=guided, sequential=sequential)
        with torch.inference_mode():
            try:
                conditioning = provider.encode(conditions, settings)
            except RuntimeError as error:
                # What its base alone makes of the batch tells whether the batch was parted.
                if isinstance(provider, StableDiffusionProvider) and _has_prompts_of_two_lengths(
                    StableDiffusionProvider.encode(provider, conditions, settings)
                ):
                    error.add_note(PARTED_BATCH)
                raise
        return Run(provider, conditioning, self.latents(seeds, size).to(device or self.device))

    def with_changes(self, scene: Scene, **changes: Any) -> BaseModel:
        """Return the condition of a scene of which some keys are replaced."""
        self.need_scenes()
        return self.spec.condition_from_scene(scene.model_copy(update=changes), self.options)


def _has_prompts_of_two_lengths(conditioning: Any) -> bool:
    groups = conditioning.groups if isinstance(conditioning, TextConditioning) else ()
    return len({group.conditional.shape[1] for group in groups}) > 1


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest difference of two tensors as a share of the largest value."""
    largest = max(float(first.abs().max()), float(second.abs().max()), 1e-12)
    return float((first.float() - second.float()).abs().max()) / largest


def assert_alike(first: NoisePrediction, second: NoisePrediction, message: str, tolerance: float = TOLERANCE) -> None:
    """Check that both halves of two predictions are equal, up to rounding or, with tolerance 0, bit for bit."""
    for half in ("unconditional", "conditional"):
        one, other = getattr(first, half), getattr(second, half)
        assert (one is None) == (other is None), f"{message}: the {half} half is None in one of them only"
        if one is not None:
            assert one.shape == other.shape, f"{message}: {half} halves of shapes {one.shape} and {other.shape}"
            found = distance(one, other)
            assert found <= tolerance, f"{message}: the {half} halves differ by {found:.2g} of the largest value"
