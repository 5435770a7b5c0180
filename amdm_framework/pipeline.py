"""`AMDMPipeline`: load the members, check that they fit, run the loop, decode; with diffusers' calling conventions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from tqdm import tqdm

from .collected_warnings import collected_warnings
from .composition import Composition, ResolvedComposition, SamplerSettings, read_composition, resolve
from .devices import device_of
from .errors import AMDMError, InputError
from .execution import ExecutionSettings, execution_of_networks
from .latents import check_compatible
from .loading import MemberLoader
from .models.context import load_contexts
from .plugins import PluginRegistry, discover
from .provider import EpsilonProvider, RunSettings, WeightFile
from .regions import instance_masks
from .sampling.guidance import Guidance
from .sampling.loop import Member, NoiseSource, StepReport, denoise
from .sampling.noise import RunNoise
from .sampling.plan import check_independent_noise, evaluation_plan
from .sampling.trace import Trace
from .sampling.transition import transitions
from .scene import Scene
from .strategies.base import AggregationStrategy

OutputType = Literal["pil", "np", "pt", "latent"]
StepCallback = Callable[["AMDMPipeline", int, int, dict[str, Any]], Mapping[str, Any] | None]


@dataclass
class AMDMOutput:
    """What a run returns.

    Attributes:
        images: PIL pictures, a (B, H, W, 3) array, a (B, 3, H, W) tensor in [0, 1], or the latents, as asked for.
        latents: (B, C, H, W) the target's final latents.
        trace: what happened at every step.
        seeds: one per image; the same seed draws the same picture.
        warnings: what there is to say about the run; also issued as Python warnings.
    """

    images: Any
    latents: torch.Tensor
    trace: Trace
    seeds: tuple[int, ...]
    warnings: list[str]


class AMDMPipeline:
    """Samples one picture per scene from several providers, the first of which is the target.

    Args:
        providers: loaded providers, target first. They must share a latent space and a noise schedule.
        strategy: how their samples become one.
        guidance: one guidance for all, or one per provider.
        sampler: steps, noise and size of the run; every call may override them.
        names: the providers' names in messages and traces [provider-1, provider-2, ...].

    Attributes:
        execution: options of execution that belong to a run (`attention`, `sequential_guidance`, `release`); the others
            are applied to networks while a composition is loaded.

    Raises:
        IncompatibleProvidersError: the providers cannot be aggregated.
        InputError: lists of different lengths, or options that do not fit the number of providers.
    """

    def __init__(
        self,
        providers: Sequence[EpsilonProvider],
        strategy: AggregationStrategy,
        guidance: Guidance | Sequence[Guidance] = Guidance(),  # noqa: B008 - frozen
        sampler: SamplerSettings = SamplerSettings(),  # noqa: B008 - frozen
        names: Sequence[str] | None = None,
    ) -> None:
        if not providers:
            raise InputError("a pipeline needs at least one provider")
        count = len(providers)
        self.guidance = [guidance] * count if isinstance(guidance, Guidance) else list(guidance)
        names = [f"provider-{position + 1}" for position in range(count)] if names is None else list(names)
        if len(self.guidance) != count or len(names) != count:
            raise InputError(f"found {len(self.guidance)} guidances and {len(names)} names for {count} providers")
        self.names = names
        self._loaded = dict(enumerate(providers))
        for provider, name in zip(providers, names, strict=True):
            provider.name = name
        self.strategy = strategy
        self.sampler = sampler
        self.resolved: ResolvedComposition | None = None
        self.weight_files: dict[str, list[WeightFile]] = {name: [] for name in names}
        self.execution = ExecutionSettings()
        self._loader: MemberLoader | None = None
        self._progress: dict[str, Any] = {"disable": None}
        check_compatible(providers)

    @classmethod
    def from_composition(
        cls,
        composition: str | Path | dict[str, Any] | Composition | ResolvedComposition,
        device: str = "auto",
        dtype: str = "auto",
        plugins: PluginRegistry | None = None,
        overrides: Sequence[str] = (),
    ) -> AMDMPipeline:
        """Load every member of a composition.

        Args:
            composition: a YAML file, its parsed content, or a checked composition.
            device: `auto` takes a GPU where there is one; `cpu`, `cuda`, `cuda:1`, `mps`. A member's own `device`
                goes before it.
            dtype: what networks compute in; `auto` is what the composition says, or else float16 on a GPU and float32
                elsewhere.
            plugins: the installed plugins [discovered].
            overrides: `dotted.key=value` texts for a file or its content.

        Raises:
            InputError: every mistake of the composition.
            CheckpointError: a checkpoint is missing, damaged, unsafe or of another architecture.
            IncompatibleProvidersError: the models do not share a latent space or a noise schedule.
        """
        plugins = discover() if plugins is None else plugins
        if isinstance(composition, Composition):
            resolved = resolve(composition, plugins)
        elif isinstance(composition, ResolvedComposition):
            resolved = composition
        else:
            resolved = read_composition(composition, plugins, overrides)
        loader = MemberLoader(resolved, load_contexts(resolved, plugins, device, dtype))
        pipeline = cls(
            [loader.load(position) for position in range(len(resolved.members))],
            resolved.strategy,
            [member.guidance for member in resolved.members],
            resolved.composition.sampler,
            [member.name for member in resolved.members],
        )
        pipeline.resolved = resolved
        pipeline.weight_files = dict(
            zip(pipeline.names, (context.weight_files for context in loader.contexts), strict=True)
        )
        pipeline.execution = resolved.composition
        pipeline._loader = loader
        return pipeline

    @property
    def providers(self) -> list[EpsilonProvider]:
        """The members, target first. One that was released after its window is loaded again."""
        for position in range(len(self.names)):
            if position not in self._loaded and self._loader is not None:
                self._loaded[position] = self._loader.load(position)
        return [self._loaded[position] for position in range(len(self.names))]

    @property
    def device(self) -> torch.device:
        """Where the target computes."""
        return self._device_of(0) or torch.device("cpu")

    def _device_of(self, position: int) -> torch.device | None:
        # A provider without networks computes wherever the latents are.
        networks = list(self._loaded[position].modules().values())
        if not networks:
            return None
        return device_of(networks[0]) if self._loader is None else self._loader.contexts[position].device

    @property
    def dtype(self) -> torch.dtype:
        """What the target's networks compute in."""
        return next((p.dtype for p in self._target_parameters() if p.is_floating_point()), torch.float32)

    @property
    def finite_advice(self) -> str:
        """What to do where latents are not finite at the end of a run."""
        half = self.dtype == torch.float16
        return "use dtype float32 or bfloat16" if half else "a smaller guidance scale, step size or weight may help"

    def _target_parameters(self) -> Iterator[torch.nn.Parameter]:
        return (p for module in self._loaded[0].modules().values() for p in module.parameters())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> AMDMPipeline:
        """Move and cast all networks and return the pipeline; weights that members share stay shared.

        Raises:
            InputError: the composition has them offloaded, so that they are where they are needed by themselves.
        """
        if self.execution.offload != "none":
            raise InputError(
                f"networks with `offload: {self.execution.offload}` cannot be moved or cast: load the composition with "
                "another device or dtype"
            )
        for provider in self.providers:
            provider.to(device, dtype)
        for context in self._loader.contexts if self._loader is not None else ():
            context.device = torch.device(device) if device is not None else context.device
            context.dtype = dtype or context.dtype
        return self

    def set_progress_bar_config(self, **arguments: Any) -> None:
        """Set arguments of the progress bar, as for diffusers' pipelines; `disable=True` hides it."""
        self._progress.update(arguments)

    @torch.inference_mode()
    def __call__(
        self,
        scene: Scene | Sequence[Scene] | None = None,
        *,
        conditions: Sequence[Sequence[Any]] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        eta: float | None = None,
        height: int | None = None,
        width: int | None = None,
        latents: torch.Tensor | Sequence[torch.Tensor] | None = None,
        noise: NoiseSource | None = None,
        output_type: OutputType = "pil",
        callback_on_step_end: StepCallback | None = None,
    ) -> AMDMOutput:
        """Draw one picture per scene.

        Args:
            scene: one scene or a batch of them; the composition says what each member takes from it.
            conditions: instead of scenes, for every provider its B conditions; None stands for B empty ones, which a
                model may refuse.
            generator: one for the batch, or one per image; image i of a batch equals the single run with generator i.
            num_inference_steps: overrides the sampler's steps.
            guidance_scale: overrides every member's guidance scale.
            eta: overrides the sampler's eta.
            height: picture height in pixels.
            width: picture width in pixels.
            latents: x_T (B, C, H, W) for all members, or one per member. Float64 stays float64.
            noise: source of the noise of stochastic steps, for runs that must repeat recorded noise.
            output_type: `pil`, `np`, `pt` or `latent`.
            callback_on_step_end: called as (pipeline, index, timestep, {"latents", "report"}) after every step; may
                return {"latents": x} to replace the target's latents.

        Raises:
            InputError: sizes, steps or options that do not fit, before the first evaluation.
        """
        sampler = self.sampler
        steps = sampler.steps if num_inference_steps is None else num_inference_steps
        target = self._loaded[0]
        batch, scenes, conditions = self._conditions(scene, conditions, latents)
        given = [latents] * len(self.names) if isinstance(latents, torch.Tensor) else latents
        shape = self._latent_shape(batch, given, height or sampler.height, width or sampler.width)
        grid = transitions(target.noise_schedule, steps, sampler.eta if eta is None else eta)
        self.strategy.begin(len(self.names), steps)
        if self.strategy.needs_regions and scenes is None:
            raise InputError(f"strategy {self.strategy.name} acts on the scene's boxes: pass a scene")

        run_noise = RunNoise(
            generator,
            shape,
            self.device,
            torch.float32 if given is None else torch.promote_types(given[0].dtype, torch.float32),
            sampler.step_noise == "shared",
        )
        advice: list[str] = []
        try:
            initial = self._initial_latents(given, run_noise)
            members = self._members(conditions, initial, guidance_scale, steps, run_noise, advice)
            regions = None
            if self.strategy.needs_regions and scenes is not None:
                regions = instance_masks(scenes, shape[2], shape[3], self.device)

            with tqdm(total=steps, **self._progress) as bar:

                def on_step_end(report: StepReport) -> None:
                    bar.update()
                    if callback_on_step_end is None:
                        return
                    kwargs = {"latents": report.latents[0], "report": report}
                    returned = callback_on_step_end(self, report.step.index, report.step.timestep, kwargs)
                    if returned and "latents" in returned:
                        report.latents[0] = returned["latents"]

                with execution_of_networks(self.execution):
                    final, trace = denoise(members, self.strategy, grid, noise or run_noise, regions, on_step_end)
            advice += self.strategy.review(trace)
            if not torch.isfinite(final).all():
                advice.append(f"the latents are not finite at the end, so there is no picture: {self.finite_advice}")
            for sentence in advice:
                warnings.warn(sentence, stacklevel=2)
            images = final if output_type == "latent" else _pictures(target.decode(final), output_type)
        finally:
            if self._loader is not None and self._loader.offloaded is not None:
                self._loader.offloaded.take_away_all()
        return AMDMOutput(images, final, trace, run_noise.seeds, advice)

    def _conditions(
        self,
        scene: Scene | Sequence[Scene] | None,
        conditions: Sequence[Sequence[Any]] | None,
        latents: torch.Tensor | Sequence[torch.Tensor] | None,
    ) -> tuple[int, list[Scene] | None, Sequence[Sequence[Any]]]:
        if scene is not None:
            if conditions is not None:
                raise InputError("give a scene or conditions, not both")
            if self.resolved is None:
                raise InputError(
                    "this pipeline was made of provider objects, which do not say how they read a scene: pass "
                    "`conditions`, one list per provider, or use AMDMPipeline.from_composition"
                )
            scenes = [scene] if isinstance(scene, Scene) else list(scene)
            if not scenes:
                raise InputError("the batch of scenes is empty")
            return len(scenes), scenes, self.resolved.conditions(scenes)
        if conditions is not None:
            lengths = {len(per_provider) for per_provider in conditions}
            if len(conditions) != len(self.names) or len(lengths) != 1 or lengths == {0}:
                raise InputError(
                    f"conditions: expected {len(self.names)} lists (one per provider) of one length, found lengths "
                    f"{[len(per_provider) for per_provider in conditions]}"
                )
            return lengths.pop(), None, conditions
        if latents is None:
            raise InputError("pass a scene, or conditions, or latents")
        batch = len(latents) if isinstance(latents, torch.Tensor) else len(latents[0])
        return batch, None, [[None] * batch for _ in self.names]

    def _latent_shape(
        self, batch: int, latents: Sequence[torch.Tensor] | None, height: int | None, width: int | None
    ) -> tuple[int, int, int, int]:
        space = self._loaded[0].latent_space
        if latents is not None:
            if len(latents) != len(self.names):
                raise InputError(f"latents: found {len(latents)} tensors for {len(self.names)} providers")
            shapes = {tuple(tensor.shape) for tensor in latents}
            shape = shapes.pop()
            if shapes or len(shape) != 4 or shape[:2] != (batch, space.channels):
                raise InputError(
                    f"latents: found {[tuple(t.shape) for t in latents]}, expected ({batch}, {space.channels}, H, W)"
                )
            return shape
        default_height, default_width = self._loaded[0].default_size
        height, width = height or default_height, width or default_width
        for side, name in ((height, "height"), (width, "width")):
            if side % space.scale or side <= 0:
                raise InputError(f"{name} is {side}, expected a positive multiple of {space.scale}")
        return batch, space.channels, height // space.scale, width // space.scale

    def _initial_latents(self, given: Sequence[torch.Tensor] | None, run_noise: RunNoise) -> list[torch.Tensor]:
        count = len(self.names)
        if given is not None:
            return [tensor.to(self.device, torch.promote_types(tensor.dtype, torch.float32)) for tensor in given]
        first = run_noise.initial(0)
        if self.sampler.initial_noise == "shared":
            return [first] * count
        check_independent_noise(self.strategy, self.names)
        return [first, *(run_noise.initial(position) for position in range(1, count))]

    def _members(
        self,
        conditions: Sequence[Sequence[Any]],
        latents: Sequence[torch.Tensor],
        guidance_scale: float | None,
        steps: int,
        run_noise: RunNoise,
        advice: list[str],
    ) -> list[Member]:
        members = []
        guidances = self.guidance
        if guidance_scale is not None:
            guidances = [guidance.model_copy(update={"scale": guidance_scale}) for guidance in guidances]
        plan = evaluation_plan(self.strategy, guidances, steps)
        for position, (provider, guidance) in enumerate(zip(self.providers, guidances, strict=True)):
            scale = provider.latent_space.scale
            height, width = (side * scale for side in latents[position].shape[2:])
            guided = any(halves.get(position) == 2 for halves in plan)
            settings = RunSettings(
                height, width, steps, guided, run_noise.seeds, sequential_guidance=self.execution.sequential_guidance
            )
            try:
                with collected_warnings(advice, self.names[position]):
                    conditioning = provider.encode(conditions[position], settings)
            except AMDMError as error:
                error.add_note(f"This is about the member {self.names[position]}.")
                raise
            # Networks are freed once nothing refers to the provider: neither the loop nor the pipeline.
            forget = partial(self._loaded.pop, position) if self.execution.release and position else None
            device = self._device_of(position)
            members.append(Member(provider, conditioning, latents[position], guidance, forget, device))
        return members


def _pictures(decoded: torch.Tensor, output_type: OutputType) -> list[Image.Image] | np.ndarray | torch.Tensor:
    if output_type == "pt":
        return decoded
    array: np.ndarray = VaeImageProcessor.pt_to_numpy(decoded.nan_to_num())  # black where it is not finite
    return array if output_type == "np" else VaeImageProcessor.numpy_to_pil(array)
