"""What a run takes, from configs and file headers alone: network evaluations, parameters, bytes, downloads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from .composition import ResolvedComposition, ResolvedMember
from .errors import AMDMError, InputError, Problem
from .latents import LatentSpace, NoiseSchedule, check_compatible
from .models.context import LoadContext, load_contexts
from .models.references import path_of
from .option_texts import option_texts
from .plugins import PluginRegistry
from .provider import ProviderReport, TensorInfo
from .sampling.plan import evaluation_plan
from .sampling.transition import transitions
from .scene import Scene

Reports = list[ProviderReport | None]

_REMEMBERED = 1024


@dataclass(frozen=True)
class ComponentCost:
    """One component of a member, such as its `unet`.

    Attributes:
        name: the component.
        parameters: number of values.
        bytes: memory they take in the dtype of the run.
        shared_bytes: the part of it that a member or component before it holds already.
        shared_with: the other members that hold it.
    """

    name: str
    parameters: int
    bytes: int
    shared_bytes: int
    shared_with: tuple[str, ...]


@dataclass(frozen=True)
class MemberCost:
    """One member of a run.

    Attributes:
        name: the member.
        provider: what it is an instance of.
        evaluations: calls of its network per picture; a guided one counts once.
        forward_rows: latents that pass its network per picture; a guided call passes two.
        components: what it is made of, None where its provider cannot say without loading it.
        downloads: references that would be fetched first.
    """

    name: str
    provider: str
    evaluations: int
    forward_rows: int
    components: tuple[ComponentCost, ...] | None
    downloads: tuple[str, ...]


@dataclass(frozen=True)
class RunCost:
    """A run of a composition.

    Attributes:
        height: of the picture in pixels, None where the target cannot say without being loaded.
        width: likewise.
        steps: length of the sampling grid.
        dtype: what the target's networks compute in.
        evaluations: over all members, per picture.
        forward_rows: likewise.
        parameters: over all members that are known, shared ones counted every time.
        bytes: likewise.
        unique_bytes: with shared weights counted once.
        members: target first.
        unknown: facts that could not be compared because some member does not state them, one sentence each.
    """

    height: int | None
    width: int | None
    steps: int
    dtype: str
    evaluations: int
    forward_rows: int
    parameters: int
    bytes: int
    unique_bytes: int
    members: tuple[MemberCost, ...]
    unknown: tuple[str, ...]


def inspect_members(resolved: ResolvedComposition, contexts: Sequence[LoadContext]) -> Reports:
    """Read what every member's files say about it; None for providers that cannot be inspected.

    Args:
        resolved: the composition.
        contexts: one per member.

    Raises:
        InputError: with what is wrong with any of them.
    """
    reports: Reports = []
    problems: list[Problem] = []
    for index, (member, context) in enumerate(zip(resolved.members, contexts, strict=True)):
        try:
            reports.append(None if member.spec.inspect is None else member.spec.inspect(member.options, context))
        except AMDMError as error:
            problems.append(Problem(str(error), f"providers.{index}"))
    if problems:
        raise InputError(problems)
    return reports


class MemberInspections:
    """`inspect_members` that remembers what the files of a member said, until they change; for many compositions of the
    same members."""

    def __init__(self) -> None:
        self._reports: OrderedDict[tuple[object, ...], ProviderReport | None] = OrderedDict()

    def __call__(self, resolved: ResolvedComposition, contexts: Sequence[LoadContext]) -> Reports:
        """Return one report per member.

        Raises:
            InputError: as `inspect_members`.
        """
        keys = [
            (member.spec.name, member.options.model_dump_json(), context.base_dir, context.dtype, _state(member))
            for member, context in zip(resolved.members, contexts, strict=True)
        ]
        # Looked up once: another thread may inspect, and forget, at the same time.
        known = {key: self._reports[key] for key in keys if key in self._reports}
        if len(known) < len(set(keys)):
            known = dict(zip(keys, inspect_members(resolved, contexts), strict=True))
            # What has to be downloaded first will look different then.
            self._reports.update((key, one) for key, one in known.items() if one is None or not one.downloads)
            while len(self._reports) > _REMEMBERED:
                self._reports.popitem(last=False)
        return [known[key] for key in keys]


def _state(member: ResolvedMember) -> tuple[tuple[str, int, int, int], ...]:
    """Return place, size, time of change and identity of the files that a member's options name.

    Of a folder these are the files in it and in the folders in it: a model's own and those of its components.
    """
    found = []
    for text in option_texts(member.options.model_dump(mode="json"), member.spec.options):
        if text.declared:
            path = path_of(text.value, member.base_dir)
            # What cannot be looked at is told by whoever opens it; and somebody may take a file away meanwhile.
            with suppress(OSError, ValueError):
                for file in (path, *path.glob("*"), *path.glob("*/*")):
                    state = file.stat()
                    found.append((str(file), state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(sorted(found))


def examine_scenes(
    resolved: ResolvedComposition,
    scenes: Sequence[Scene],
    plugins: PluginRegistry,
    device: str,
    dtype: str,
    inspect: Callable[[ResolvedComposition, Sequence[LoadContext]], Reports] = inspect_members,
) -> tuple[RunCost, Reports]:
    """Check all that can be checked before networks are built: conditions, files, compatibility, sampler and size.

    Args:
        resolved: the composition.
        scenes: what it is to draw; none where that is not known yet.
        plugins: the installed plugins.
        device: of members that do not name their own.
        dtype: what networks compute in.
        inspect: reads what the members' files say.

    Returns:
        What a run takes, and what the files say.

    Raises:
        InputError: with every condition, file, option or device that does not fit.
        IncompatibleProvidersError: the models cannot be aggregated.
    """
    problems: list[Problem] = []
    contexts: list[LoadContext] = []
    reports: Reports = []
    try:
        contexts = load_contexts(resolved, plugins, device, dtype)
        reports = inspect(resolved, contexts)
    except InputError as error:
        problems += error.problems
    try:
        resolved.conditions(scenes)
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    return examine(resolved, reports, contexts), reports


def examine(
    resolved: ResolvedComposition, reports: Sequence[ProviderReport | None], contexts: Sequence[LoadContext]
) -> RunCost:
    """Check that the members of a composition fit each other and the sampler, and count what a run takes.

    Args:
        resolved: the composition.
        reports: of `inspect_members`.
        contexts: device and dtype of every member.

    Raises:
        IncompatibleProvidersError: the models do not share a latent space or a noise schedule.
        InputError: the sampler's steps or the picture's size do not fit the target.
    """
    known = [
        _Inspected(member.name, report.latent_space, report.noise_schedule)
        for member, report in zip(resolved.members, reports, strict=True)
        if report is not None
    ]
    unknown = check_compatible(known) if known else []
    sampler = resolved.composition.sampler
    target = reports[0]
    height, width = sampler.height, sampler.width
    if target is not None:
        transitions(target.noise_schedule, sampler.steps, sampler.eta)
        height, width = height or target.default_size[0], width or target.default_size[1]
        scale = target.latent_space.scale
        problems = [
            Problem(f"found {side}, expected a multiple of {scale}", f"sampler.{name}")
            for name, side in (("height", height), ("width", width))
            if side % scale
        ]
        if problems:
            raise InputError(problems)
    plan = evaluation_plan(resolved.strategy, [member.guidance for member in resolved.members], sampler.steps)
    # Weights are held once per device.
    holders: dict[tuple[torch.device, str], str] = {}
    members = []
    for position, (member, report) in enumerate(zip(resolved.members, reports, strict=True)):
        halves = [step[position] for step in plan if position in step]
        components = None
        if report is not None:
            components = tuple(
                _component(name, tensors, member.name, holders, contexts[position])
                for name, tensors in report.components.items()
            )
        members.append(
            MemberCost(
                member.name,
                member.spec.name,
                len(halves),
                sum(halves),
                components,
                () if report is None else tuple(report.downloads),
            )
        )
    counted = [component for one in members for component in one.components or ()]
    total = sum(component.bytes for component in counted)
    return RunCost(
        height,
        width,
        sampler.steps,
        str(contexts[0].dtype).removeprefix("torch."),
        sum(one.evaluations for one in members),
        sum(one.forward_rows for one in members),
        sum(component.parameters for component in counted),
        total,
        total - sum(component.shared_bytes for component in counted),
        tuple(members),
        tuple(unknown),
    )


@dataclass(frozen=True)
class _Inspected:
    name: str
    latent_space: LatentSpace
    noise_schedule: NoiseSchedule


def _component(
    name: str,
    tensors: Sequence[TensorInfo],
    member: str,
    holders: dict[tuple[torch.device, str], str],
    context: LoadContext,
) -> ComponentCost:
    parameters = size = shared = 0
    shared_with: dict[str, None] = {}
    for tensor in tensors:
        count = 1
        for side in tensor.shape:
            count *= side
        held = count * _bytes_in_memory(tensor.dtype, context.dtype.itemsize)
        parameters += count
        size += held
        place = context.device, tensor.identity
        holder = holders.setdefault(place, "")
        if holder:
            shared += held
            if holder != member:
                shared_with[holder] = None
        else:
            holders[place] = member
    return ComponentCost(name, parameters, size, shared, tuple(shared_with))


def _bytes_in_memory(stored: str, float_bytes: int) -> int:
    # Floating-point weights are cast to the dtype of the run, integers and booleans keep theirs.
    if "F" in stored:
        return float_bytes
    return 1 if stored == "BOOL" else int(stored.lstrip("IU")) // 8
