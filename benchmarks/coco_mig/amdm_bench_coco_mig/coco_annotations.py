"""COCO's annotations: which images there are, and what stands where in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from amdm_framework.batch.plain_json import read_object
from amdm_framework.errors import InputError, Problem
from amdm_framework.yaml_files import problems_of

MAX_FILE_BYTES = 2 * 2**30
"""The largest published file, instances_train2014.json, has less than 0.5 GiB."""

_SHOWN_PROBLEMS = 20


class _Image(BaseModel):
    id: int
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]


class _Category(BaseModel):
    id: int
    name: str = Field(pattern=r"^\S+( \S+)*$")


class _Annotations(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of COCO.

    Attributes:
        id: its number.
        instances: name of the category and box of each annotation, in the order of the file; the box is left, top,
            right, bottom as fractions of width and height.
    """

    id: int
    instances: tuple[tuple[str, tuple[float, float, float, float]], ...]


def read_annotations(path: Path) -> list[AnnotatedImage]:
    """Read a file `instances_*.json` of COCO.

    Returns:
        All images, by their numbers.

    Raises:
        InputError: it is none; with the first mistakes.
    """
    content = read_object(path, MAX_FILE_BYTES)
    file = str(path)
    try:
        read = _Annotations.model_validate(content)
    except ValidationError as error:
        problems = problems_of(error, _Annotations, file)
        raise _not_annotations(problems, file) from error
    names = {category.id: category.name for category in read.categories}
    images = {image.id: image for image in read.images}
    instances: dict[int, list[tuple[str, tuple[float, float, float, float]]]] = {number: [] for number in images}
    problems = []
    for position, annotation in enumerate(read.annotations):
        image = images.get(annotation.image_id)
        for key, known in (("image_id", images), ("category_id", names)):
            if (number := getattr(annotation, key)) not in known:
                problems.append(Problem(f"there is none with the id {number}", f"annotations.{position}.{key}", file))
        if image is None or annotation.category_id not in names:
            continue
        left, top, width, height = annotation.bbox
        # Some of COCO's boxes leave the image by a fraction of a pixel.
        sides = (left / image.width, top / image.height, (left + width) / image.width, (top + height) / image.height)
        clipped = tuple(min(max(side, 0.0), 1.0) for side in sides)
        instances[image.id].append((names[annotation.category_id], clipped))  # type: ignore[arg-type]
    if problems:
        raise _not_annotations(problems, file)
    return [AnnotatedImage(number, tuple(instances[number])) for number in sorted(images)]


def _not_annotations(problems: list[Problem], file: str) -> InputError:
    shown = problems[:_SHOWN_PROBLEMS]
    if len(problems) > len(shown):
        shown.append(Problem(f"and {len(problems) - len(shown)} more mistakes", file=file))
    expected = "expected the annotations of COCO's instances (instances_val2014.json)"
    return InputError([*shown, Problem(expected, file=file)])
