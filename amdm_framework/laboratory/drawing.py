"""Drawing many compositions with models that are loaded once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..benchmark import BenchmarkCase
from ..composition import ResolvedComposition
from ..devices import memory_explained
from ..loading import MemberLoader
from ..models.context import LoadContext, load_contexts
from ..models.offload import OffloadedWeights
from ..models.weight_sharing import WeightStore
from ..pipeline import AMDMPipeline
from ..plugins import PluginRegistry
from ..provider import EpsilonProvider, WeightFile
from ..scene import Scene
from .figures import Figures, figures_of

Key = tuple[Any, ...]

LOADING_OPTIONS = ("compile", "channels_last", "offload", "vae_tiling")
"""Options of execution that change a network while it is loaded; all others belong to a run."""


@dataclass(frozen=True)
class Drawn:
    """What came of one composition.

    Attributes:
        pictures: in the order of the scenes.
        figures: of every picture.
        warnings: what the runs had to say.
    """

    pictures: list[Image.Image]
    figures: list[Figures]
    warnings: list[str]


class Laboratory:
    """Draws compositions, one after the other, with members that stay loaded from one to the next.

    Members are equal where their provider, options, device and dtype are; guidance, conditions, step sizes, strategy
    and sampler may vary without anything being loaded. Members that differ share the weights that they have in common.
    `release` in a composition has no effect here.

    Args:
        plugins: the installed plugins.
        device: `auto` takes a GPU where there is one; `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: what networks compute in; `auto` is what each composition says.
    """

    def __init__(self, plugins: PluginRegistry, device: str = "auto", dtype: str = "auto") -> None:
        self._plugins = plugins
        self._device = device
        self._dtype = dtype
        self._loaded: dict[Key, _LoadedMember] = {}
        self._shared: dict[Key, _SharedWeights] = {}

    def pipeline(self, resolved: ResolvedComposition) -> AMDMPipeline:
        """Return a pipeline of a composition, after loading whatever was not yet.

        Pipelines of one laboratory must not run at the same time.

        Raises:
            CheckpointError: a checkpoint is missing, damaged, unsafe or of another architecture.
            IncompatibleProvidersError: the models do not share a latent space or a noise schedule.
            AMDMError: the device has too little memory to load the models.
        """
        loader, keys, shared = self._loader(resolved)
        for position, key in enumerate(keys):
            if key not in self._loaded:
                with memory_explained("load the models"):
                    provider = loader.load(position)
                self._loaded[key] = _LoadedMember(provider, list(loader.contexts[position].weight_files), shared)
        return _VariantPipeline(loader, [self._loaded[key] for key in keys])

    def draw(
        self,
        resolved: ResolvedComposition,
        scenes: Sequence[Scene],
        seeds: Sequence[int],
        batch_size: int | None = None,
        on_step: Callable[[], object] = lambda: None,
    ) -> Drawn:
        """Draw one picture per scene.

        Args:
            resolved: the composition.
            scenes: what to draw.
            seeds: one per scene.
            batch_size: pictures that are drawn at once [all]; pictures drawn in batches of other sizes may differ in
                the last bit.
            on_step: called after every step of every batch.

        Raises:
            AMDMError: the models cannot be loaded, the scenes cannot be drawn with them, or do not fit into memory.
        """
        pipeline = self.pipeline(resolved)
        drawn = Drawn([], [], [])
        size = batch_size or len(scenes)
        for start in range(0, len(scenes), size):
            batch = list(scenes[start : start + size])
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + size]]
            # They are returned, too.
            with warnings.catch_warnings(), memory_explained(f"draw {len(batch)} picture(s) at once"):
                warnings.simplefilter("ignore")
                output = pipeline(batch, generator=generators, callback_on_step_end=partial(_call, on_step))
            drawn.pictures.extend(output.images)
            drawn.figures.extend(figures_of(output.trace, image) for image in range(len(batch)))
            drawn.warnings.extend(sentence for sentence in output.warnings if sentence not in drawn.warnings)
        return drawn

    def draw_cases(
        self,
        resolved: ResolvedComposition,
        cases: Sequence[BenchmarkCase],
        batch_size: int,
        on_step: Callable[[], object] = lambda: None,
    ) -> tuple[Drawn, NDArray[np.uint8]]:
        """Draw cases of a benchmark; what came of it, and the pictures as a benchmark wants them: (N, H, W, 3).

        Raises:
            AMDMError: as `draw`.
        """
        scenes, seeds = [case.scene for case in cases], [case.seed for case in cases]
        drawn = self.draw(resolved, scenes, seeds, batch_size, on_step)
        return drawn, np.stack([np.asarray(picture.convert("RGB")) for picture in drawn.pictures])

    def keep(self, compositions: Sequence[ResolvedComposition]) -> None:
        """Drop every loaded member that none of these compositions has, with the weights that no other one has."""
        kept = {key for resolved in compositions for key in self._loader(resolved)[1]}
        self._loaded = {key: member for key, member in self._loaded.items() if key in kept}
        for key, shared in list(self._shared.items()):
            providers = [member.provider for member in self._loaded.values() if member.shared is shared]
            if not providers:
                del self._shared[key]
            elif shared.offloaded is not None:
                shared.offloaded.keep(network for provider in providers for network in provider.modules().values())

    def contexts(self, resolved: ResolvedComposition) -> list[LoadContext]:
        """Return what each member of a composition is loaded with.

        Raises:
            InputError: a device that is not here, or an option of the composition that these devices cannot do.
        """
        return load_contexts(resolved, self._plugins, self._device, self._dtype)

    def _loader(self, resolved: ResolvedComposition) -> tuple[MemberLoader, list[Key], _SharedWeights]:
        # A loader of this composition, for every member the key under which it stays loaded, and what they share.
        contexts = self.contexts(resolved)
        loader = MemberLoader(resolved, contexts)
        execution: Key = tuple(getattr(resolved.composition, option) for option in LOADING_OPTIONS)
        shared = self._shared.setdefault((*execution, contexts[0].device), _SharedWeights())
        for context in contexts:
            context.weights = shared.store
        if loader.offloaded is not None:
            # One keeper of books for weights that several compositions share.
            shared.offloaded = shared.offloaded or loader.offloaded
            loader.offloaded = shared.offloaded
        keys: list[Key] = []
        for member, context in zip(resolved.members, contexts, strict=True):
            options = member.options.model_dump_json()
            base = (member.spec.name, options, resolved.base_dir, context.device, context.dtype, execution)
            # Two equal members of one composition are two models: each keeps what belongs to its own run.
            keys.append((*base, sum(key[:-1] == base for key in keys)))
        return loader, keys, shared


@dataclass
class _SharedWeights:
    store: WeightStore = field(default_factory=WeightStore)
    offloaded: OffloadedWeights | None = None


@dataclass(frozen=True)
class _LoadedMember:
    provider: EpsilonProvider
    weight_files: list[WeightFile]
    shared: _SharedWeights


class _VariantPipeline(AMDMPipeline):
    """A pipeline of a composition, as `from_composition` makes it, of members that are loaded already."""

    def __init__(self, loader: MemberLoader, members: Sequence[_LoadedMember]) -> None:
        resolved = loader.resolved
        super().__init__(
            [member.provider for member in members],
            resolved.strategy,
            [member.guidance for member in resolved.members],
            resolved.composition.sampler,
            [member.name for member in resolved.members],
        )
        self.resolved = resolved
        self.weight_files = dict(zip(self.names, (member.weight_files for member in members), strict=True))
        # Members stay loaded for the next composition.
        self.execution = resolved.composition.model_copy(update={"release": False})
        self._loader = loader
        self.set_progress_bar_config(disable=True)


def _call(on_step: Callable[[], object], *_step: object) -> None:
    on_step()
