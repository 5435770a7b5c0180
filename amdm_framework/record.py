"""What a picture's record holds, and how it is read: data from anywhere, limited in size, checked, never evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from .errors import InputError, Problem
from .yaml_files import problems_of

MAX_RECORD_BYTES = 2**20
"""Largest record that is written or read, uncompressed; Pillow refuses larger texts too."""

UPLOADS = "uploads"
"""Folder in which the studio keeps reference pictures, beside its pictures."""

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


def folders_near(picture: Path) -> list[Path]:
    """Return where files that a picture was made of may lie: beside it, among the studio's uploads, in this folder."""
    # Pictures of single members stand in a folder of their own, below the one with the uploads.
    folders = [picture.parent, picture.parent / UPLOADS, picture.parent.parent / UPLOADS, Path()]
    unique: dict[Path, Path] = {}
    for folder in folders:
        if folder.is_dir():
            unique.setdefault(folder.resolve(), folder)
    return list(unique.values())


def read_record(path: Path) -> RunRecord:
    """Read the record of a picture.

    Raises:
        InputError: the picture cannot be read, carries no record, or a damaged one.
    """
    text = _texts_in(path).get(RECORD_KEY)
    if text is None:
        raise InputError([Problem("carries no settings of `amdm run` (drawn elsewhere, or with --no-metadata)",
                                  file=str(path))])  # fmt: skip
    if len(text) > MAX_RECORD_BYTES:
        raise InputError([Problem(f"its settings are longer than {MAX_RECORD_BYTES} bytes", file=str(path))])
    try:
        return RunRecord.model_validate_json(text)
    except ValidationError as error:
        raise InputError(problems_of(error, RunRecord, f"settings in {path}")) from error


def read_summary(path: Path) -> dict[str, str]:
    """Read the settings that a picture carries for other tools, such as `Steps`, `Eta` and `CFG scale`.

    They hold what was not written in the composition, too, as the version that drew the picture understood it. Where
    another tool took them out of the picture, there are none.

    Raises:
        InputError: the picture cannot be read.
    """
    line = _texts_in(path).get(TEXT_KEY, "").rpartition("\n")[2]
    return dict(part.split(": ", 1) for part in line.split(", ") if ": " in part)


def open_picture(path: Path) -> Image.Image:
    """Return the pixels of a picture that carries a record, as RGB.

    Raises:
        InputError: the picture cannot be read.
    """
    with _reading(path), Image.open(path, formats=("PNG",)) as picture:
        return picture.convert("RGB")


def _texts_in(path: Path) -> dict[str, str]:
    with _reading(path), Image.open(path, formats=("PNG",)) as picture:
        return {key: text for key, text in picture.info.items() if isinstance(key, str) and isinstance(text, str)}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError([Problem("no such file", file=str(path))]) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError([Problem(f"is not a PNG picture that can be read: {error}", file=str(path))]) from error
