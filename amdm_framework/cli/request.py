"""What `run`, `check` and `rerun` have in common: reading what is asked for, examining it, drawing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from ..plugins import PluginRegistry

if TYPE_CHECKING:
    from ..composition import ResolvedComposition
    from ..cost import RunCost
    from ..pipeline import AMDMOutput, AMDMPipeline
    from ..scene import Scene

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class SeedType(click.IntRange):
    """A seed on the command line: a whole number from 0 on, of at most 64 bits."""

    def __init__(self) -> None:
        super().__init__(0, 2**64 - 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, and say it in plain words where there is none."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"expected a whole number from 0 to {self.max}, found {value!r}", param, ctx)


device_option: Decorator = click.option(
    "--device", default="auto", show_default=True, help="auto (a GPU where there is one), cpu, cuda, cuda:N or mps."
)
dtype_option: Decorator = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
    default="auto",
    show_default=True,
    help="What networks compute in; auto is what the composition says, or else float16 on CUDA and float32 elsewhere.",
)
set_option: Decorator = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a value of the composition, e.g. aggregation.steps=5 or providers.0.step_size=45; a member's name "
    "(its `name`, or else its `use`) does in place of its position, providers.ip_adapter.scale=0.5. Repeatable.",
)
output_option: Decorator = click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="the current folder",
    help="Folder for the results; it is made where it is not there.",
)


def read_request(
    composition: Path, scene: Path | None, overrides: Sequence[str], plugins: PluginRegistry
) -> tuple[ResolvedComposition, Scene | None]:
    """Read a composition and a scene.

    Raises:
        InputError: with every mistake of both files.
    """
    from ..composition import read_composition
    from ..scene import read_scene

    problems = []
    resolved = drawn = None
    try:
        resolved = read_composition(composition, plugins, overrides)
    except InputError as error:
        problems += error.problems
    try:
        drawn = None if scene is None else read_scene(scene)
    except InputError as error:
        problems += error.problems
    if problems or resolved is None:
        raise InputError(problems)
    return resolved, drawn


def examine_request(
    resolved: ResolvedComposition, scene: Scene | None, device: str, dtype: str, plugins: PluginRegistry
) -> RunCost:
    """Check all that can be checked before networks are built: conditions, files, compatibility, sampler and size.

    Raises:
        InputError: a condition, file, option or device that does not fit.
        IncompatibleProvidersError: the models cannot be aggregated.
    """
    from ..cost import examine_scenes

    cost, _ = examine_scenes(resolved, [] if scene is None else [scene], plugins, device, dtype)
    return cost


def load(
    resolved: ResolvedComposition, device: str, dtype: str, plugins: PluginRegistry, progress: bool
) -> tuple[AMDMPipeline, float]:
    """Load a composition and return the pipeline and the seconds it took."""
    from ..devices import memory_explained
    from ..pipeline import AMDMPipeline

    began = time.perf_counter()
    with memory_explained("load the models"):
        pipeline = AMDMPipeline.from_composition(resolved, device, dtype, plugins)
    if not progress:
        pipeline.set_progress_bar_config(disable=True)
    return pipeline, time.perf_counter() - began


def draw(pipeline: AMDMPipeline, scene: Scene, seeds: Sequence[int], folder: Path) -> tuple[AMDMOutput, float]:
    """Draw one picture of a scene per seed, as one batch, and return them and the seconds it took.

    Raises:
        InputError: there is no room for the results on disk.
        AMDMError: there is too little memory.
    """
    import torch

    from ..devices import memory_explained
    from ..picture_files import require_space

    sampler = pipeline.sampler
    height, width = pipeline.providers[0].default_size
    require_space(folder, len(seeds), sampler.height or height, sampler.width or width)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    began = time.perf_counter()
    with memory_explained(f"draw {len(seeds)} picture(s) at once"):
        output = pipeline([scene] * len(seeds), generator=generators)
    return output, time.perf_counter() - began
