"""What a picture carries about its making: text that people's tools read, and all that is needed to draw it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

from PIL import Image, PngImagePlugin

from . import __version__
from .composition import Composition, ResolvedComposition, guidance_of
from .content_keys import Key, replace_value
from .errors import InputError
from .input_files import InputFile, files_of_composition, files_of_scene
from .models.digests import file_sha256
from .pipeline import AMDMOutput, AMDMPipeline
from .plugins import PluginRegistry
from .record import (
    MAX_RECORD_BYTES,
    RECORD_KEY,
    TEXT_KEY,
    Device,
    Dtype,
    RecordedInput,
    RecordedMember,
    RecordedWeights,
    RunRecord,
)
from .scene import Scene


def record_run(pipeline: AMDMPipeline, scene: Scene, output: AMDMOutput, plugins: PluginRegistry) -> list[RunRecord]:
    """Return the record of every picture of a run that drew one scene with one seed per picture.

    Args:
        pipeline: made from a composition.
        scene: what was drawn.
        output: with PIL pictures.
        plugins: tell the versions of the plugins that took part.

    Raises:
        InputError: the pipeline was not made from a composition, or the scene holds a picture that is not a file.
    """
    pictures = [(scene, picture.size, output.seeds, position) for position, picture in enumerate(output.images)]
    return _records(pipeline, pictures, plugins)


def record_pictures(
    pipeline: AMDMPipeline, scenes: Sequence[Scene], output: AMDMOutput, plugins: PluginRegistry
) -> list[RunRecord]:
    """Return the record of every picture of a run that drew one picture per scene, each as if it was drawn alone.

    Args:
        pipeline: made from a composition.
        scenes: what was drawn.
        output: with PIL pictures.
        plugins: tell the versions of the plugins that took part.

    Raises:
        InputError: as `record_run`.
    """
    pictures = [
        (scene, picture.size, (seed,), 0)
        for scene, picture, seed in zip(scenes, output.images, output.seeds, strict=True)
    ]
    return _records(pipeline, pictures, plugins)


def _records(
    pipeline: AMDMPipeline,
    pictures: Sequence[tuple[Scene, tuple[int, int], tuple[int, ...], int]],
    plugins: PluginRegistry,
) -> list[RunRecord]:
    # A picture is its scene, its size, the seeds of its batch and its position there.
    resolved = pipeline.resolved
    if resolved is None:
        raise InputError("only runs of a composition can be recorded, this pipeline was made of provider objects")
    composition = resolved.composition.model_dump(mode="json", exclude_unset=True)
    files = _without_folders("composition", composition, files_of_composition(resolved))
    members = tuple(RecordedMember(name=name, weights=weights_of(pipeline, name)) for name in pipeline.names)
    versions = versions_of(resolved, plugins)
    records = []
    for scene, (width, height), seeds, position in pictures:
        if any(isinstance(reference.image, Image.Image) for reference in scene.references):
            raise InputError("a scene with pictures that are not files cannot be recorded")
        drawn = scene.model_dump(mode="json", exclude_unset=True)
        inputs = (*files, *_without_folders("scene", drawn, files_of_scene(scene)))
        records.append(
            RunRecord(
                composition=composition,
                scene=drawn,
                seeds=seeds,
                position=position,
                height=height,
                width=width,
                device=cast(Device, pipeline.device.type),
                dtype=cast(Dtype, str(pipeline.dtype).removeprefix("torch.")),
                versions=versions,
                members=members,
                inputs=inputs,
            )
        )
    return records


def weights_of(pipeline: AMDMPipeline, member: str) -> tuple[RecordedWeights, ...]:
    """Return the files of weights that a member was read from, with their digests."""
    return tuple(
        RecordedWeights(component=file.component, file=file.path.name, sha256=file.sha256 or file_sha256(file.path))
        for file in pipeline.weight_files.get(member, ())
    )


def versions_of(resolved: ResolvedComposition, plugins: PluginRegistry) -> dict[str, str]:
    """Return the versions of everything that may change a picture, by distribution."""
    versions = {"amdm-framework": __version__}
    versions |= {name: version(name) for name in ("torch", "diffusers", "transformers")}
    offers = [plugins.providers[member.spec.name].distribution for member in resolved.members]
    offers.append(plugins.strategies[resolved.strategy.name].distribution)
    return versions | {distribution.name: distribution.version for distribution in offers}


def text_of_record(record: RunRecord) -> str:
    """Return the settings in the form that most tools for generated pictures show and search."""
    composition = Composition.model_validate(record.composition)
    sampler = composition.sampler
    settings: dict[str, object] = {
        "Steps": sampler.steps,
        "Sampler": "DDIM",
        "Eta": sampler.eta,
        "CFG scale": guidance_of(composition.providers[0], sampler).scale,
        "Seed": record.seed,
        "Size": f"{record.width}x{record.height}",
        "Model": " + ".join(member.name for member in record.members),
        "Aggregation": composition.aggregation.strategy,
        "Version": f"amdm {record.versions.get('amdm-framework', '')}",
    }
    lines = [str(record.scene.get("caption", ""))]
    if record.scene.get("negative"):
        lines.append(f"Negative prompt: {record.scene['negative']}")
    lines.append(", ".join(f"{key}: {value}" for key, value in settings.items()))
    return "\n".join(lines)


def png_info(record: RunRecord) -> PngImagePlugin.PngInfo | None:
    """Return a record as PNG text chunks; None where it is too large to be carried by a picture."""
    text = record.model_dump_json()
    if len(text.encode()) > MAX_RECORD_BYTES:
        return None
    info = PngImagePlugin.PngInfo()
    info.add_itxt(TEXT_KEY, text_of_record(record), zip=True)
    info.add_itxt(RECORD_KEY, text, zip=True)
    return info


def sha256_of(path: Path) -> str | None:
    """Return the digest of a file, None for a folder."""
    return None if path.is_dir() else file_sha256(path)


def contents_digest(path: Path) -> str:
    """Return the sha256 of a file; of a folder, that of the names, sizes and times of change of the files in it."""
    return sha256_of(path) or hashlib.sha256(json.dumps(_folder_listing(path)).encode()).hexdigest()


def composition_digest(resolved: ResolvedComposition) -> str:
    """Return the sha256 of a composition as it was written and of the local files it names.

    Of files their contents count; of folders the names, sizes and times of change of the files in them.
    """
    named = [
        [".".join(map(str, file.key)), sha256_of(file.path) or _folder_listing(file.path)]
        for file in files_of_composition(resolved)
    ]
    content = [resolved.composition.model_dump(mode="json", exclude_unset=True), named]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _folder_listing(folder: Path) -> list[list[str | int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(path, path.stat()) for path in files]
    return [[str(path.relative_to(folder)), stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def _without_folders(
    where: Literal["composition", "scene"], content: dict[str, Any], files: Sequence[InputFile]
) -> list[RecordedInput]:
    recorded = []
    for file in files:
        name = file.path.resolve().name if file.path.name in ("", "..") else file.path.name
        key: Key = file.key
        replace_value(content, key, name)
        recorded.append(RecordedInput(where=where, key=key, file=name, sha256=sha256_of(file.path)))
    return recorded
