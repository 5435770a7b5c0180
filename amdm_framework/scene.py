"""What the picture should show, in terms no model owns: every provider takes from a scene what it understands."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, cast, get_args

from PIL import Image, ImageOps
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from .errors import InputError, Problem, did_you_mean
from .yaml_files import problems_of, read_yaml


def _check_box(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    if not all(math.isfinite(value) for value in box):
        raise ValueError(f"box {list(box)} holds a number that is not finite")
    if any(value > 1 for value in box):
        raise ValueError(
            f"box {list(box)} lies outside [0, 1]; boxes are [left, top, right, bottom] as fractions of the picture's "
            "width and height. These look like pixels: divide by the picture's width and height"
        )
    if any(value < 0 for value in box):
        raise ValueError(f"box {list(box)} lies outside [0, 1]; boxes are fractions of the picture's width and height")
    if x0 >= x1 or y0 >= y1:
        raise ValueError(
            f"box {list(box)} is reversed or empty; boxes are [left, top, right, bottom] with left < right and "
            f"top < bottom: did you mean {[min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]}?"
        )
    return box


Box = Annotated[tuple[float, float, float, float], AfterValidator(_check_box)]
"""Left, top, right, bottom as fractions of the picture's width and height, all in [0, 1]."""


class StrictModel(BaseModel):
    """A pydantic model that refuses unknown keys and cannot be changed after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Instance(StrictModel):
    """One thing in the picture: what it is and where."""

    phrase: str = Field(min_length=1, description="What it is, e.g. `a red hair girl`.")
    box: Box = Field(description="Where it is: left, top, right, bottom in [0, 1].")


class Interaction(StrictModel):
    """What one instance does to another."""

    subject: str = Field(description="Name of the acting instance.")
    action: str = Field(min_length=1, description="The action's word, e.g. `drinking`.")
    object: str = Field(description="Name of the instance acted upon.")


def _resolve_image(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str | Path):
        return value
    base = (info.context or {}).get("base_dir")
    return Path(base, value) if base is not None else Path(value)


class Reference(StrictModel):
    """A picture that says something words cannot: a style, a face, a depth map."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    role: str = Field(min_length=1, description="What the picture is for, e.g. `style`; providers look for their role.")
    image: Annotated[
        Path | Image.Image, BeforeValidator(_resolve_image), WithJsonSchema({"type": "string", "format": "path"})
    ] = Field(description="The picture: a file (relative to the scene's file), or a PIL picture from Python.")
    instance: str | None = Field(default=None, description="Name of the instance it speaks about [the whole picture].")

    @field_validator("image")
    @classmethod
    def _must_exist(cls, image: Path | Image.Image) -> Path | Image.Image:
        # Not the path's own question, which raises where a name is too long.
        if isinstance(image, Path) and not os.path.isfile(image):
            raise ValueError(f"no such picture: {image}")
        return image

    def open(self) -> Image.Image:
        """Return the picture as 8-bit RGB, turned as its EXIF data say (as `diffusers.utils.load_image` does).

        Raises:
            InputError: the file is not a picture that can be read, or one of more than 8 bits, as some depth maps are.
        """
        if isinstance(self.image, Image.Image):
            return as_rgb(self.image, f"the picture of role {self.role!r}")
        return open_reference(self.image)


def open_reference(file: Path) -> Image.Image:
    """Return the picture in a file as `Reference.open` does.

    Raises:
        InputError: as there.
    """
    try:
        with Image.open(file) as picture:
            return as_rgb(picture, file.name)
    except InputError:
        raise
    except Exception as error:
        # Decoders fail in many ways at what is damaged.
        raise InputError(f"{file.name} is not a picture that can be read: {error}") from error


def as_rgb(picture: Image.Image, name: str) -> Image.Image:
    """Return a picture as 8-bit RGB, turned as its EXIF data say; `name` is what messages call it.

    Raises:
        InputError: it has more than 8 bits per value, as some depth maps have.
    """
    if picture.mode.startswith(("I", "F")):
        raise InputError(
            f"{name} has more than 8 bits per value (mode {picture.mode}), and would turn white where it is cut to 8: "
            "scale it to the range from 0 to 255 and store it as an 8-bit picture"
        )
    return ImageOps.exif_transpose(picture).convert("RGB")


class Scene(StrictModel):
    """What one picture should show, independent of any model."""

    caption: str = Field(default="", description="The whole picture in words.")
    negative: str = Field(default="", description="What the picture should not show.")
    instances: dict[str, Instance] = Field(default_factory=dict, description="Things in the picture, by name.")
    interactions: tuple[Interaction, ...] = Field(default=(), description="Who does what to whom.")
    references: tuple[Reference, ...] = Field(default=(), description="Pictures the models may look at.")

    @model_validator(mode="wrap")
    @classmethod
    def _check_names(cls, data: Any, handler: ModelWrapValidatorHandler[Scene]) -> Scene:
        # Around the fields' own checks, so that a wrong name is reported together with whatever else is wrong.
        mistakes: list[InitErrorDetails] = _unknown_names(data) if isinstance(data, dict) else []
        try:
            scene = handler(data)
        except ValidationError as error:
            mistakes = [_again(item) for item in error.errors()] + mistakes
        if mistakes:
            raise ValidationError.from_exception_data(cls.__name__, mistakes)
        return scene


def read_scene(source: str | Path | dict[str, Any], base_dir: Path | None = None) -> Scene:
    """Read and check a scene.

    Args:
        source: a YAML file, or its parsed content.
        base_dir: for parsed content, the folder its pictures are relative to.

    Raises:
        InputError: with every mistake of the file.
    """
    if isinstance(source, dict):
        content, file = source, ""
    else:
        path = Path(source)
        content, file, base_dir = read_yaml(path), str(path), path.parent
    # The one key that every composition has.
    if "providers" in content and not any(key in Scene.model_fields for key in content):
        raise InputError(
            [Problem("this is a composition, not a scene (it has providers): are two files swapped?", file=file)]
        )
    try:
        return Scene.model_validate(content, context={"base_dir": base_dir})
    except ValidationError as error:
        raise InputError(problems_of(error, Scene, file)) from error


def _unknown_names(data: dict[str, Any]) -> list[InitErrorDetails]:
    instances = data.get("instances", {})
    if not isinstance(instances, dict):
        return []
    mistakes: list[InitErrorDetails] = []
    for field, keys in (("interactions", ("subject", "object")), ("references", ("instance",))):
        entries = data.get(field, ())
        for index, entry in enumerate(entries if isinstance(entries, list | tuple) else ()):
            for key in keys:
                given = entry.get(key) if isinstance(entry, dict) else getattr(entry, key, None)
                if isinstance(given, bytes):
                    # Text for pydantic, as YAML's `!!binary` makes it.
                    given = given.decode(errors="replace")
                if isinstance(given, str) and given not in instances:
                    known = ", ".join(map(str, instances)) or "none"
                    hint = did_you_mean(given, map(str, instances))
                    error = ValueError(f"there is no instance named {given!r}.{hint} Instances: {known}")
                    location = (field, index, key)
                    mistakes.append({"type": "value_error", "loc": location, "input": given, "ctx": {"error": error}})
    return mistakes


def _again(item: ErrorDetails) -> InitErrorDetails:
    kind: Any = item["type"]
    if kind not in get_args(ErrorType):
        # One of pydantic's own that its core does not know by name (`path_type`).
        kind = PydanticCustomError(kind, cast(Any, item["msg"]))
    return {"type": kind, "loc": item["loc"], "input": item["input"], "ctx": item.get("ctx", {})}
