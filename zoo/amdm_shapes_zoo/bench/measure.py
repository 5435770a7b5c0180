"""Draws the scenes with every row's composition and has the judge look at the pictures."""

from __future__ import annotations

import multiprocessing
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from amdm_framework.composition import ResolvedComposition, read_composition
from amdm_framework.cost import examine, inspect_members
from amdm_framework.errors import InputError
from amdm_framework.models.context import load_contexts
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import PluginRegistry, discover
from amdm_framework.provider import EpsilonProvider
from amdm_framework.sampling.plan import evaluation_plan
from amdm_framework.yaml_files import read_yaml
from amdm_shapes_zoo.bench.rows import Row
from amdm_shapes_zoo.bench.scenes import sample_bench_scenes
from amdm_shapes_zoo.judge import Scores, judge

COMPOSITION = Path(__file__).parents[1] / "three_models.yaml"
BATCH = 40
"""Pictures of one batch. Batches are the same however many processes share them."""


@dataclass(frozen=True)
class Job:
    """All that is to be measured.

    Attributes:
        rows: of the table.
        scenes: how many are drawn for every row.
        seed: of scenes and noise.
        held_out: whether the scenes are those kept for evaluation.
        steps: of the sampling grid.
        device: of the networks, which compute in float32.
        composition: the file that says how the members are loaded.
    """

    rows: tuple[Row, ...]
    scenes: int
    seed: int
    held_out: bool
    steps: int
    device: str
    composition: Path = COMPOSITION


@dataclass(frozen=True)
class Drawn:
    """What came of one row's scenes, or of a batch of them.

    Attributes:
        scores: of the pictures.
        seconds: that sampling and decoding took, over all pictures.
        warnings: what the strategies had to say.
    """

    scores: Scores
    seconds: float
    warnings: tuple[str, ...]


def resolve_row(row: Row, steps: int, composition: Path, plugins: PluginRegistry) -> ResolvedComposition:
    """The composition of a row: the members of a file under the row's rule.

    Raises:
        InputError: a provider or strategy that is not installed, a window that does not fit the run.
    """
    content = read_yaml(composition)
    blocks = {block.get("name", block["use"]): block for block in content["providers"]}
    content = {
        "providers": [blocks[member] for member in row.members],
        "aggregation": row.aggregation,
        "sampler": {**content.get("sampler", {}), **row.sampler, "steps": steps},
    }
    return read_composition(content, plugins, base_dir=composition.parent)


def check_models(job: Job, plugins: PluginRegistry) -> None:
    """Check that the weights of a job's models are here and belong together, without loading them.

    Raises:
        InputError: weights are missing or damaged, or there is no such device.
        IncompatibleProvidersError: the models do not share a latent space or a noise schedule.
    """
    resolved = _all_members(job, plugins)
    contexts = load_contexts(resolved, plugins, job.device, "float32")
    examine(resolved, inspect_members(resolved, contexts), contexts)


def _all_members(job: Job, plugins: PluginRegistry) -> ResolvedComposition:
    members = dict.fromkeys(member for row in job.rows for member in row.members)
    row = Row("", tuple(members), "", None, {"strategy": "single"}, {})
    return resolve_row(row, job.steps, job.composition, plugins)


def count_evaluations(resolved: ResolvedComposition) -> int:
    """Network evaluations per picture; a guided one counts once."""
    steps = resolved.composition.sampler.steps
    resolved.strategy.begin(len(resolved.members), steps)
    plan = evaluation_plan(resolved.strategy, [member.guidance for member in resolved.members], steps)
    return sum(len(step) for step in plan)


class Painter:
    """Draws batches of a job's rows with models that are loaded once."""

    def __init__(self, job: Job) -> None:
        self.plugins = discover()
        self.job = job
        self.resolved = [resolve_row(row, job.steps, job.composition, self.plugins) for row in job.rows]
        loaded = AMDMPipeline.from_composition(_all_members(job, self.plugins), job.device, "float32", self.plugins)
        self.providers: Mapping[str, EpsilonProvider] = dict(zip(loaded.names, loaded.providers, strict=True))
        self.bench = sample_bench_scenes(job.scenes, job.seed, job.held_out)
        self.scenes = self.bench.scenes()

    def draw(self, row: int, start: int, stop: int) -> Drawn:
        """Draw and judge scenes `start` to `stop` of a row."""
        resolved, members = self.resolved[row], self.job.rows[row].members
        pipeline = AMDMPipeline(
            [self.providers[member] for member in members],
            resolved.strategy,
            [member.guidance for member in resolved.members],
            resolved.composition.sampler,
            members,
        )
        # So that the pipeline knows how its members read a scene.
        pipeline.resolved = resolved
        pipeline.set_progress_bar_config(disable=True)
        generators = [torch.Generator().manual_seed(seed) for seed in self.bench.seeds[start:stop]]
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = pipeline(self.scenes[start:stop], generator=generators, output_type="np")
        seconds = time.perf_counter() - began
        pictures = (output.images * 255).round().astype(np.uint8)
        return Drawn(judge(pictures, self.bench.layouts[start:stop]), seconds, tuple(output.warnings))


def measure(job: Job, processes: int) -> list[Drawn]:
    """Draw and judge all rows of a job, with a progress bar.

    Args:
        job: what to measure.
        processes: how many share the work, each with one thread; 1 is this process with all of its threads.
    """
    starts = range(0, job.scenes, BATCH)
    tasks = [(row, start, min(start + BATCH, job.scenes)) for row in range(len(job.rows)) for start in starts]
    parts: list[list[Drawn]] = [[] for _ in job.rows]
    with tqdm(total=len(job.rows) * job.scenes, unit="picture", disable=None) as bar:
        for (row, start, stop), drawn in zip(tasks, _results(job, tasks, processes), strict=True):
            parts[row].append(drawn)
            bar.update(stop - start)
    return [_together(of_row) for of_row in parts]


def _results(job: Job, tasks: Sequence[tuple[int, int, int]], processes: int) -> Iterator[Drawn]:
    if processes == 1:
        painter = Painter(job)
        yield from (painter.draw(*task) for task in tasks)
        return
    # A forked child would inherit the parent's thread pools without their threads.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(job,))
    others = set(multiprocessing.active_children())
    # Children inherit that interruptions are ignored, from their very start; this process ends them.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        futures = [executor.submit(_draw, task) for task in tasks]
    finally:
        signal.signal(signal.SIGINT, handler)
    children = set(multiprocessing.active_children()) - others
    try:
        yield from (future.result() for future in futures)
    except BaseException as error:
        # Not cancelled: in Python 3.11 a pool whose processes end stumbles over cancelled futures.
        for child in children:
            child.terminate()
        executor.shutdown()
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                "a process ended before its work, perhaps for lack of memory: try fewer --processes"
            ) from error
        raise
    executor.shutdown()


_painters: list[Painter] = []
"""The painter of a process of the pool."""


def _begin(job: Job) -> None:
    torch.set_num_threads(1)
    _painters.append(Painter(job))


def _draw(task: tuple[int, int, int]) -> Drawn:
    return _painters[0].draw(*task)


def _together(parts: Sequence[Drawn]) -> Drawn:
    scores = {
        field.name: np.concatenate([getattr(part.scores, field.name) for part in parts]) for field in fields(Scores)
    }
    said = dict.fromkeys(sentence for part in parts for sentence in part.warnings)
    return Drawn(Scores(**scores), sum(part.seconds for part in parts), tuple(said))


def rows_that_fit(
    rows: Sequence[Row], steps: int, composition: Path, plugins: PluginRegistry
) -> tuple[list[Row], list[str]]:
    """Separate rows whose rule works in this run from those whose does not, with the reasons for the latter.

    Raises:
        InputError: something else than the rule is wrong.
    """
    fitting, reasons = [], []
    for row in rows:
        try:
            resolve_row(row, steps, composition, plugins)
            fitting.append(row)
        except InputError as error:
            if not all(problem.key.startswith(("aggregation.", "sampler.")) for problem in error.problems):
                raise
            reasons.append(f"{row.label} by {row.rule}, window {row.window}: {error}")
    return fitting, reasons
