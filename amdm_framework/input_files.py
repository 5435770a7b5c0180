"""Which files of this machine a run reads besides the composition and the scene themselves."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .composition import AggregationBlock, ProviderBlock, ResolvedComposition
from .content_keys import Key
from .errors import AMDMError
from .models.references import path_of
from .option_texts import OptionText, option_texts
from .plugins import PluginRegistry
from .provider import ProviderSpec
from .scene import Scene
from .strategies.base import AggregationStrategy


@dataclass(frozen=True)
class InputFile:
    """One value of a composition or a scene that leads to a file or folder of this machine.

    Attributes:
        key: where the value stands.
        path: where it leads.
        declared: whether its type says that it names a file; otherwise something of that name exists.
    """

    key: Key
    path: Path
    declared: bool = True

    @property
    def in_condition(self) -> bool:
        """Whether it is a picture in a member's condition, and no file of an option."""
        return self.key[0] == "providers" and self.key[2] == "condition"


def files_of_composition(resolved: ResolvedComposition) -> list[InputFile]:
    """Return the local files and folders that a composition names: in options of its providers and its strategy, and in
    conditions.

    Options of the types `Path` and `CheckpointReference` name files; so does every other text option that is the path
    of something that exists. References to elsewhere (`hf://...`) are left out.
    """
    texts = []
    for index, (block, member) in enumerate(zip(resolved.composition.providers, resolved.members, strict=True)):
        texts += _member_texts(index, block.model_extra or {}, block.condition, member.spec)
    texts += _strategy_texts(resolved.composition.aggregation.model_extra or {}, type(resolved.strategy))
    files = [InputFile(text.key, path_of(text.value, resolved.base_dir), text.declared) for text in texts]
    return [file for file in files if file.declared or _exists(file.path)]


def paths_in_composition(content: Mapping[str, Any], plugins: PluginRegistry, base_dir: Path) -> list[InputFile]:
    """Return where every text of a composition would lead as a path, whether anything is there or not.

    Nothing of the composition is checked or made before, so a strategy cannot have opened any of them yet. Parts whose
    provider or strategy is not known are left out, and so are texts of a condition that do not say that they name a
    file: they are words for the model.

    Args:
        content: of a composition, as it was written.
        plugins: the installed plugins.
        base_dir: the folder its paths are relative to.
    """
    texts: list[OptionText] = []
    providers = content.get("providers")
    for index, block in enumerate(providers if isinstance(providers, list) else ()):
        if isinstance(block, dict):
            options = {key: value for key, value in block.items() if key not in ProviderBlock.model_fields}
            condition = block.get("condition")
            with suppress(AMDMError):
                spec = plugins.provider(str(block.get("use")))
                texts += _member_texts(index, options, condition if isinstance(condition, dict) else {}, spec)
    aggregation = content.get("aggregation", {})
    if isinstance(aggregation, dict):
        options = {key: value for key, value in aggregation.items() if key not in AggregationBlock.model_fields}
        name = aggregation.get("strategy", AggregationBlock.model_fields["strategy"].default)
        with suppress(AMDMError):
            texts += _strategy_texts(options, plugins.strategy(str(name)))
    return [InputFile(text.key, path_of(text.value, base_dir), text.declared) for text in texts]


def files_of_scene(scene: Scene) -> list[InputFile]:
    """Return the pictures that a scene refers to."""
    return [
        InputFile(("references", index, "image"), reference.image)
        for index, reference in enumerate(scene.references)
        if isinstance(reference.image, Path)
    ]


def _member_texts(
    index: int, options: Mapping[str, Any], condition: Mapping[str, Any], spec: ProviderSpec
) -> list[OptionText]:
    at: Key = ("providers", index)
    texts = [*option_texts(options, spec.options, at)]
    # Whatever lies in the folder under the same name.
    return texts + [text for text in option_texts(condition, spec.condition, (*at, "condition")) if text.declared]


def _strategy_texts(options: Mapping[str, Any], strategy: type[AggregationStrategy]) -> list[OptionText]:
    return [*option_texts(options, strategy.options, ("aggregation",))]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
