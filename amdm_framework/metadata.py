"""What a picture carries about its making: text that people's tools read, and all that is needed to draw it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from . import __version__
from .composition import Composition, ResolvedComposition, guidance_of
from .errors import InputError, Problem
from .input_files import InputFile, Key, files_of_composition, files_of_scene, replace_value
from .models.digests import file_sha256
from .pipeline import AMDMOutput, AMDMPipeline
from .plugins import PluginRegistry
from .scene import Scene
from .yaml_files import problems_of

MAX_RECORD_BYTES = 2**20
"""Largest record that is written or read, uncompressed; Pillow refuses larger texts too."""

RECORD_KEY = "amdm"
TEXT_KEY = "parameters"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[^/\\\x00]+$", max_length=255)]

Device = Literal["cpu", "cuda", "mps"]
Dtype = Literal["float32", "float16", "bfloat16"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RecordedWeights(_Strict):
    """One file of weights that a member read."""

    component: str
    file: FileName
    sha256: Sha256


class RecordedMember(_Strict):
    """One member of the composition, and the weights it was made of."""

    name: str
    weights: tuple[RecordedWeights, ...]


class RecordedInput(_Strict):
    """One value of the composition or the scene that led to a file or folder (`sha256` is null) of the machine."""

    where: Literal["composition", "scene"]
    key: tuple[str | int, ...]
    file: FileName
    sha256: Sha256 | None


class RunRecord(_Strict):
    """Everything that decides about a picture. Folders of the machine it was drawn on are not in here.

    Attributes:
        format: version of this layout.
        composition: as it was written, after overrides; file names stand for local paths.
        scene: likewise.
        seeds: of the whole batch the picture was drawn in.
        position: the picture's place in that batch.
        height: in pixels.
        width: in pixels.
        device: kind of device the networks ran on.
        dtype: what they computed in.
        versions: of this framework, the libraries below it, and the plugins that took part.
        members: target first.
        inputs: the values of composition and scene in which file names stand for local paths.
    """

    format: Literal[1] = 1
    composition: dict[str, JsonValue]
    scene: dict[str, JsonValue]
    seeds: Annotated[tuple[int, ...], Field(min_length=1, max_length=10_000)]
    position: int = Field(ge=0)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    device: Device
    dtype: Dtype
    versions: dict[str, str]
    members: tuple[RecordedMember, ...]
    inputs: tuple[RecordedInput, ...]

    @model_validator(mode="after")
    def _position_in_batch(self) -> RunRecord:
        if self.position >= len(self.seeds):
            raise ValueError(f"position {self.position} is not in a batch of {len(self.seeds)}")
        return self

    @property
    def seed(self) -> int:
        """The picture's own seed."""
        return self.seeds[self.position]


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


def read_record(path: Path) -> RunRecord:
    """Read the record of a picture. It is data from anywhere: limited in size, checked, never evaluated.

    Raises:
        InputError: the picture cannot be read, carries no record, or a damaged one.
    """
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            text = picture.info.get(RECORD_KEY)
    except FileNotFoundError:
        raise InputError([Problem("no such file", file=str(path))]) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError([Problem(f"is not a PNG picture that can be read: {error}", file=str(path))]) from error
    if not isinstance(text, str):
        raise InputError([Problem("carries no settings of `amdm run` (drawn elsewhere, or with --no-metadata)",
                                  file=str(path))])  # fmt: skip
    if len(text) > MAX_RECORD_BYTES:
        raise InputError([Problem(f"its settings are longer than {MAX_RECORD_BYTES} bytes", file=str(path))])
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        raise InputError(problems_of(error, RunRecord, f"settings in {path}")) from error


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
