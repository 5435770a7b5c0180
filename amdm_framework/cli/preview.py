"""`amdm preview`: a scene, or that of a picture, drawn as labelled boxes."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError, Problem
from .results import printable

if TYPE_CHECKING:
    from PIL import Image

    from ..scene import Scene

_SMALLEST, _USUAL_SIZE, _LARGEST = 128, 512, 4096


def _parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    numbers = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", value)
    sides = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (0, 0)
    if not all(_SMALLEST <= side <= _LARGEST for side in sides):
        raise click.BadParameter(
            f"expected a number of pixels or WIDTHxHEIGHT, of {_SMALLEST} to {_LARGEST} each, found {value!r}",
            ctx,
            param,
        )
    return sides


@click.command(short_help="Draw a scene as labelled boxes.")
@click.argument("scene", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default="NAME-preview.png in the current folder",
    help="PNG file for the drawing.",
)
@click.option(
    "--size",
    callback=_parse_size,
    metavar="N|WxH",
    show_default="512, or a picture's own, enlarged by a whole number to at least that",
    help="Size of the part with the boxes, in pixels.",
)
def preview(scene: Path, output: Path | None, size: tuple[int, int] | None) -> None:
    """Draw SCENE (a YAML file) for people: labelled boxes, arrows of interactions, caption and reference pictures.

    SCENE may also be a PNG of `amdm run` or `amdm batch`: then the boxes of the scene that it carries are drawn over
    it, which shows what stands where it should. No model is loaded. Prints the drawing's path; an existing file is
    never overwritten, the new one gets a number.
    """
    from ..picture_files import check_folder, prepare_folder, save_new
    from ..scene import read_scene
    from ..scene_preview import draw_scene

    target = output or Path(f"{scene.stem}-preview.png")
    if target.suffix.lower() != ".png":
        raise InputError([Problem(f"is {str(target)!r}, expected a name that ends in .png", "--output")])
    check_folder(target.parent)
    picture = None
    if scene.suffix.lower() == ".png":
        drawn, picture = _open(scene)
    else:
        drawn = read_scene(scene)
    width, height = size or (_USUAL_SIZE, _USUAL_SIZE)
    if picture is not None and size is None:
        scale = max(1, -(-_USUAL_SIZE // max(picture.size)))
        width, height = scale * picture.width, scale * picture.height
    page = draw_scene(drawn, width, height, picture)
    prepare_folder(target.parent)
    click.echo(str(save_new(target.parent, target.stem, target.suffix, partial(page.save, format="PNG"))))


def _open(path: Path) -> tuple[Scene, Image.Image]:
    from ..record import folders_near, open_picture, read_record
    from ..recorded_scene import recorded_scene

    record = read_record(path)
    scene, missing = recorded_scene(record, folders_near(path), str(path))
    for name in missing:
        click.echo(f"not shown: {printable(name)}, which is not beside the picture nor in the current folder", err=True)
    return scene, open_picture(path)
