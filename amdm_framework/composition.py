"""A composition: which models take part, how they are aggregated and sampled; its YAML and its JSON schema."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import AMDMError, InputError, Problem, did_you_mean
from .execution import ExecutionSettings
from .option_texts import with_whole_paths
from .plugins import PluginRegistry
from .provider import ProviderSpec
from .sampling.guidance import Guidance
from .sampling.plan import check_independent_noise
from .scene import Scene, StrictModel
from .strategies.base import AggregationStrategy
from .yaml_files import apply_overrides, problems_of, read_yaml

Finite = Annotated[float, Field(allow_inf_nan=False)]


class ProviderBlock(BaseModel):
    """One member: the framework's keys; every other key is an option of the provider named by `use`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str = Field(description="Name of an installed provider.")
    name: str | None = Field(default=None, description="The member's name in messages and traces [that of `use`].")
    step_size: float | None = Field(
        default=None,
        description="This member's entry of `aggregation.step_sizes`; give it for all members or for none.",
    )
    guidance_scale: Finite | None = Field(default=None, description="Overrides `sampler.guidance_scale`.")
    guidance: Guidance | None = Field(default=None, description="Overrides `sampler.guidance`.")
    condition: dict[str, Any] = Field(
        default_factory=dict, description="Overrides parts of the condition that the provider takes from the scene."
    )
    device: str | None = Field(
        default=None,
        description="Where this member runs, at the same time as members on other devices: cpu, cuda:1 and so on "
        "[the device of the run].",
    )

    @field_validator("device")
    @classmethod
    def _device_is_one(cls, device: str | None) -> str | None:
        # Whether it is here is another question: `amdm check` and `amdm run` ask it, where the networks shall run.
        if device is not None and not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", device):
            raise ValueError(f"found {device!r}, expected cpu, cuda, cuda:N or mps")
        return device


class AggregationBlock(BaseModel):
    """The strategy; every key beside its name is an option of it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    strategy: str = Field(default="composable", description="Name of an installed aggregation strategy.")


class SamplerSettings(StrictModel):
    """The sampling grid and its noise."""

    steps: int = Field(default=50, ge=1, description="Number of sampling steps T.")
    eta: float = Field(default=0.0, ge=0, le=1, description="Noise level of a step: 0 DDIM, 1 DDPM.")
    guidance_scale: Finite | None = Field(default=None, description="Guidance scale of all members [7.5].")
    guidance: Guidance | None = Field(default=None, description="Guidance of all members.")
    initial_noise: Literal["shared", "independent"] = Field(
        default="shared", description="One x_T for all members, or one for each."
    )
    step_noise: Literal["independent", "shared"] = Field(
        default="independent", description="For eta above 0: every member's own noise, or one draw for all."
    )
    height: int | None = Field(
        default=None, ge=8, description="Picture height in pixels [what the target was made for]."
    )
    width: int | None = Field(default=None, ge=8, description="Picture width in pixels [what the target was made for].")


class Composition(ExecutionSettings):
    """Which models take part (the first is the target), how they are aggregated, sampled and run."""

    providers: tuple[ProviderBlock, ...] = Field(min_length=1, description="The members, the target first.")
    aggregation: AggregationBlock = Field(default_factory=AggregationBlock, description="How samples become one.")
    sampler: SamplerSettings = Field(default_factory=SamplerSettings, description="The sampling grid and its noise.")


@dataclass(frozen=True)
class ResolvedMember:
    """One member with its provider found and its options checked.

    Attributes:
        name: the member's name in messages and traces.
        spec: the provider named by `use`.
        options: its options.
        guidance: how its two halves become one.
        condition_overrides: keys of its condition that are not taken from the scene.
        base_dir: pictures in these overrides are relative to this folder.
    """

    name: str
    spec: ProviderSpec
    options: BaseModel
    guidance: Guidance
    condition_overrides: dict[str, Any]
    base_dir: Path

    def condition(self, scene: Scene) -> BaseModel:
        """Take this member's condition from a scene, with the composition's overrides.

        Raises:
            InputError: the scene lacks what the model needs, a picture of it cannot be read, or an override does not
                fit.
        """
        key = f"provider {self.name}"
        try:
            taken = self.spec.condition_from_scene(scene, self.options)
            if not self.condition_overrides:
                return taken
            merged = {**{k: getattr(taken, k) for k in type(taken).model_fields}, **self.condition_overrides}
            return self.spec.condition.model_validate(merged, context={"base_dir": self.base_dir})
        except ValidationError as error:
            raise InputError(problems_of(error, self.spec.condition, prefix=(key, "condition"))) from error
        except (ValueError, InputError) as error:
            raise InputError([Problem(str(error), key)]) from error


@dataclass(frozen=True)
class ResolvedComposition:
    """A composition whose names were found among the installed plugins and whose options were checked.

    Attributes:
        composition: what was written.
        members: target first.
        strategy: a strategy object with its options.
        base_dir: relative paths in options are relative to this folder.
    """

    composition: Composition
    members: Sequence[ResolvedMember]
    strategy: AggregationStrategy
    base_dir: Path

    def conditions(self, scenes: Sequence[Scene]) -> list[list[BaseModel]]:
        """Take every member's conditions from B scenes: for each member a list of B.

        Raises:
            InputError: with all that is missing, over all members and scenes.
        """
        problems: list[Problem] = []
        taken: list[list[BaseModel]] = []
        for member in self.members:
            taken.append([])
            for scene in scenes:
                try:
                    taken[-1].append(member.condition(scene))
                except InputError as error:
                    problems += [problem for problem in error.problems if problem not in problems]
        if problems:
            raise InputError(problems)
        return taken


def read_composition(
    source: str | Path | dict[str, Any],
    plugins: PluginRegistry,
    overrides: Sequence[str] = (),
    base_dir: Path | None = None,
) -> ResolvedComposition:
    """Read, override, check and resolve a composition.

    Args:
        source: a YAML file, or its parsed content.
        plugins: the installed providers and strategies.
        overrides: `dotted.key=value` texts, applied before checking.
        base_dir: for parsed content, the folder its paths are relative to.

    Raises:
        InputError: with every mistake of the file.
    """
    if isinstance(source, dict):
        content, file = copy.deepcopy(source), ""
    else:
        path = Path(source)
        content, file, base_dir = read_yaml(path), str(path), path.parent
    _refuse_scene(content, file)
    apply_overrides(content, overrides)
    try:
        composition = Composition.model_validate(content)
    except ValidationError as error:
        # Parts that are well-formed are checked all the same, so that all mistakes come in one message.
        problems = problems_of(error, Composition, file)
        written = content.get("providers")
        blocks = [_checked(ProviderBlock, block) for block in written] if isinstance(written, list) else []
        aggregation = _checked(AggregationBlock, content.get("aggregation", {}))
        sampler = _checked(SamplerSettings, content.get("sampler", {}))
        _resolve(blocks, aggregation, sampler, plugins, file, base_dir or Path(), problems)
        raise InputError(problems) from error
    return resolve(composition, plugins, file, base_dir)


def resolve(
    composition: Composition, plugins: PluginRegistry, file: str = "", base_dir: Path | None = None
) -> ResolvedComposition:
    """Find a composition's names among the installed plugins and check all options.

    Raises:
        InputError: with every mistake; `file` names the composition in them.
    """
    problems: list[Problem] = []
    base_dir = base_dir or Path()
    members, strategy = _resolve(
        composition.providers, composition.aggregation, composition.sampler, plugins, file, base_dir, problems
    )
    if problems or strategy is None:
        raise InputError(problems)
    return ResolvedComposition(composition, members, strategy, base_dir)


def _refuse_scene(content: dict[str, Any], file: str) -> None:
    # An override may have made `providers` in a scene, but no list of them.
    if (keys := _keys_of(content, Scene)) and not isinstance(content.get("providers"), list):
        raise InputError(
            [Problem(f"this is a scene, not a composition (it has {keys}): are two files swapped?", file=file)]
        )


def _keys_of(content: dict[str, Any], model: type[BaseModel]) -> str:
    return ", ".join(str(key) for key in content if key in model.model_fields)


def guidance_of(block: ProviderBlock, sampler: SamplerSettings) -> Guidance:
    """Return a member's guidance: what its own block says goes before what the sampler says.

    `guidance_scale` and `guidance.scale` mean the same, so a block that states only the scale keeps the sampler's kind.
    """
    guidance = block.guidance or sampler.guidance or Guidance()
    scale = _stated_scale(block)
    if scale is None:
        scale = _stated_scale(sampler)
    return guidance if scale is None else guidance.model_copy(update={"scale": scale})


def _stated_scale(owner: ProviderBlock | SamplerSettings) -> float | None:
    if owner.guidance is not None and "scale" in owner.guidance.model_fields_set:
        return owner.guidance.scale
    return owner.guidance_scale


def _scale_problems(owner: ProviderBlock | SamplerSettings, key: str, file: str) -> list[Problem]:
    stated_twice = owner.guidance is not None and "scale" in owner.guidance.model_fields_set
    if owner.guidance_scale is None or not stated_twice:
        return []
    return [Problem("give `guidance_scale` or `guidance.scale`, not both", f"{key}.guidance", file)]


Part = TypeVar("Part", bound=BaseModel)


def _checked(model: type[Part], content: Any) -> Part | None:
    try:
        return model.model_validate(content)
    except ValidationError:
        return None


def _resolve(
    blocks: Sequence[ProviderBlock | None],
    aggregation: AggregationBlock | None,
    sampler: SamplerSettings | None,
    plugins: PluginRegistry,
    file: str,
    base_dir: Path,
    problems: list[Problem],
) -> tuple[list[ResolvedMember], AggregationStrategy | None]:
    # None stands for a part whose own mistakes are among the problems already.
    names = _member_names(blocks, file, problems)
    members = []
    problems += _scale_problems(sampler, "sampler", file) if sampler is not None else []
    for index, (name, block) in enumerate(zip(names, blocks, strict=True)):
        if block is None:
            continue
        problems += _scale_problems(block, f"providers.{index}", file)
        guidance = guidance_of(block, sampler or SamplerSettings())
        found = _find_provider(block, index, plugins, file, problems)
        if found is not None:
            members.append(ResolvedMember(name, *found, guidance, block.condition, base_dir))
    strategy = None if aggregation is None else _find_strategy(aggregation, blocks, plugins, file, base_dir, problems)
    if strategy is not None and blocks and sampler is not None:
        try:
            strategy.begin(len(blocks), sampler.steps)
            if sampler.initial_noise == "independent":
                check_independent_noise(strategy, names)
        except InputError as error:
            problems += [Problem(problem.message, problem.key, file) for problem in error.problems]
    return members, strategy


def _member_names(blocks: Sequence[ProviderBlock | None], file: str, problems: list[Problem]) -> list[str]:
    # Unnamed members of one provider are told apart by a number: stable_diffusion, stable_diffusion-2.
    given = [block.name for block in blocks if block is not None and block.name is not None]
    names: list[str] = []
    for index, block in enumerate(blocks):
        if block is not None and block.name is not None:
            if block.name in names:
                message = f"two providers are named {block.name!r}: names must differ"
                problems.append(Problem(message, f"providers.{index}.name", file))
            names.append(block.name)
            continue
        use = "" if block is None else block.use
        name, count = use, 2
        while name in names or name in given:
            name, count = f"{use}-{count}", count + 1
        names.append(name)
    return names


def _find_provider(
    block: ProviderBlock, index: int, plugins: PluginRegistry, file: str, problems: list[Problem]
) -> tuple[ProviderSpec, BaseModel] | None:
    try:
        spec = plugins.provider(block.use)
    except AMDMError as error:
        problems.append(Problem(str(error), f"providers.{index}.use", file))
        return None
    known = list(spec.condition.model_fields)
    for key in block.condition:
        if key not in known:
            message = f"unknown key.{did_you_mean(key, known)} Known keys: {', '.join(known)}"
            problems.append(Problem(message, f"providers.{index}.condition.{key}", file))
    try:
        return spec, spec.options.model_validate(block.model_extra or {})
    except ValidationError as error:
        own_keys = list(ProviderBlock.model_fields)
        problems += problems_of(error, spec.options, file, ("providers", index), own_keys)
        return None


def _find_strategy(
    block: AggregationBlock,
    providers: Sequence[ProviderBlock | None],
    plugins: PluginRegistry,
    file: str,
    base_dir: Path,
    problems: list[Problem],
) -> AggregationStrategy | None:
    try:
        strategy_class = plugins.strategy(block.strategy)
    except AMDMError as error:
        problems.append(Problem(str(error), "aggregation.strategy", file))
        return None
    # A strategy gets no folder: what it opens has to be a path that holds by itself.
    written = with_whole_paths(block.model_extra or {}, strategy_class.options, base_dir)
    options, from_members = _with_step_sizes(written, providers, strategy_class, file, problems)
    try:
        return strategy_class(strategy_class.options.model_validate(options))
    except ValidationError as error:
        own_keys = list(AggregationBlock.model_fields)
        for problem in problems_of(error, strategy_class.options, file, ("aggregation",), own_keys):
            position = problem.key.removeprefix("aggregation.step_sizes.")
            at_member = from_members and position != problem.key
            key = f"providers.{position}.step_size" if at_member else problem.key
            problems.append(Problem(problem.message, key, file))
        return None


def _with_step_sizes(
    options: dict[str, Any],
    providers: Sequence[ProviderBlock | None],
    strategy_class: type[AggregationStrategy],
    file: str,
    problems: list[Problem],
) -> tuple[dict[str, Any], bool]:
    # Step sizes may stand with the members they belong to; strategies know them as one list.
    step_sizes = [None if provider is None else provider.step_size for provider in providers]
    first = next((index for index, size in enumerate(step_sizes) if size is not None), None)
    if first is None or None in providers:
        return options, False
    problem = ""
    if "step_sizes" not in strategy_class.options.model_fields:
        problem = f"strategy {strategy_class.name} has no step sizes"
    elif "step_sizes" in options:
        problem = "step sizes stand here and in `aggregation.step_sizes`: give one of the two"
    elif None in step_sizes:
        problem = f"give a step_size to every member or to none; providers.{step_sizes.index(None)} has none"
    if problem:
        problems.append(Problem(problem, f"providers.{first}.step_size", file))
        return options, False
    return {**options, "step_sizes": step_sizes}, True
