"""`amdm inspect`: what made this picture?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .results import echo_json, echo_title, json_option, printable

if TYPE_CHECKING:
    from ..record import RecordedInput, RunRecord

Row = tuple[str, str]

_SHORT_DIGEST = 12


@click.command(short_help="Say what made a picture.")
@click.argument("picture", type=click.Path(path_type=Path))
@click.option(
    "--composition", "composition_file", type=click.Path(path_type=Path, dir_okay=False),
    help="Write the composition to this file, too.",
)  # fmt: skip
@click.option(
    "--scene", "scene_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the scene to this file, too."
)
@json_option
def inspect(picture: Path, composition_file: Path | None, scene_file: Path | None, as_json: bool) -> None:
    """Say what made PICTURE, a PNG of `amdm run` or `amdm batch`: scene, seed, models with their weights, versions.

    Nothing is loaded, and the models need not be installed. A picture knows names and digests of the files it was made
    of, not their folders: in the files that --composition and --scene write, names of local files stand alone. An
    existing file is never overwritten, the new one gets a number.
    """
    from ..picture_files import check_folder
    from ..record import read_record, read_summary

    record = read_record(picture)
    for file in (composition_file, scene_file):
        if file is not None:
            check_folder(file.parent)
    if as_json:
        echo_json(record.model_dump(mode="json"))
    else:
        _echo_record(record, read_summary(picture), picture)
    if composition_file is not None:
        _write(composition_file, "composition", record.composition, picture)
    if scene_file is not None:
        _write(scene_file, "scene", record.scene, picture)


def _write(file: Path, what: str, content: Mapping[str, Any], picture: Path) -> None:
    from ..picture_files import prepare_folder, save_new
    from ..yaml_files import to_yaml

    comment = f"# {_line(f'The {what} of {picture.name}.')} Names of local files stand without their folders.\n"
    prepare_folder(file.parent)
    written = save_new(
        file.parent, file.stem, file.suffix, lambda stream: stream.write((comment + to_yaml(content)).encode())
    )
    click.echo(f"written: {written}", err=True)


def _echo_record(record: RunRecord, summary: Mapping[str, str], picture: Path) -> None:
    from ..record import folders_near

    framework = record.versions.get("amdm-framework", "of an unknown version")
    echo_title(_line(f"{picture.name}: drawn by amdm-framework {framework}"))
    click.echo()
    _echo_part("picture", _picture_rows(record, summary))
    aggregation = _mapping(record.composition.get("aggregation"))
    strategy = aggregation.pop("strategy", summary.get("Aggregation", "the usual one"))
    _echo_part("aggregation", [("strategy", _shown(strategy)), *_written(aggregation)])
    written = record.composition.get("providers")
    blocks = written if isinstance(written, list) else []
    for position, member in enumerate(record.members):
        role = "target" if position == 0 else "secondary"
        rows = _written(_mapping(blocks[position] if position < len(blocks) else None))
        rows += [(f"{one.component} weights", f"{one.file}  sha256 {one.sha256[:_SHORT_DIGEST]}…")
                 for one in member.weights]  # fmt: skip
        _echo_part(f"member {position + 1}: {member.name} ({role})", rows)
    _echo_part("scene", _scene_rows(record.scene))
    _echo_part("versions", _version_rows(record.versions))
    if record.inputs:
        _echo_part("local files that `amdm rerun` will look for", _input_rows(record.inputs, folders_near(picture)))
    else:
        click.echo("`amdm rerun` needs no local files for it.")


def _echo_part(title: str, rows: Iterable[Row]) -> None:
    echo_title(_line(title))
    shown = [(_line(name), printable(text)) for name, text in rows]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        # A text of several lines keeps them, below each other.
        first, *others = text.split("\n")
        click.echo(f"  {name.ljust(width)}  {first}".rstrip())
        for line in others:
            click.echo(f"  {''.ljust(width)}  {line}".rstrip())
    click.echo()


def _picture_rows(record: RunRecord, summary: Mapping[str, str]) -> Iterator[Row]:
    for key in ("caption", "negative"):
        yield key, _shown(record.scene.get(key) or "none")
    seed = str(record.seed)
    if len(record.seeds) > 1:
        shown = ", ".join(map(str, record.seeds[:8])) + (", ..." if len(record.seeds) > 8 else "")
        seed += f"  (picture {record.position + 1} of {len(record.seeds)} that were drawn at once, seeds {shown})"
    yield "seed", seed
    yield "size", f"{record.width}x{record.height}"
    sampler = _mapping(record.composition.get("sampler"))
    for key, name in (("steps", "Steps"), ("eta", "Eta"), ("guidance_scale", "CFG scale")):
        # What is not written is what it was for the version that drew the picture.
        if key in sampler or name in summary:
            yield key.replace("_", " "), _shown(sampler.pop(key, summary.get(name, "")))
    yield from ((f"sampler.{key}", text) for key, text in _written(sampler))
    others = {
        key: value for key, value in record.composition.items() if key not in ("providers", "aggregation", "sampler")
    }
    yield from _written(others)
    yield "computed", f"on {record.device} in {record.dtype}"


def _scene_rows(scene: Mapping[str, Any]) -> Iterator[Row]:
    for name, instance in _mapping(scene.get("instances")).items():
        content = _mapping(instance)
        yield name, f"{_shown(content.get('phrase', ''))}, in {_shown(content.get('box', ''))}"
    for interaction in _list(scene.get("interactions")):
        content = _mapping(interaction)
        subject, action, acted_upon = (_shown(content.get(key, "")) for key in ("subject", "action", "object"))
        yield "interaction", f"{subject} - {action} -> {acted_upon}"
    for reference in _list(scene.get("references")):
        content = _mapping(reference)
        about = f", of {_shown(content['instance'])}" if content.get("instance") else ""
        yield "reference", f"{_shown(content.get('image', ''))}  ({_shown(content.get('role', ''))}{about})"


def _version_rows(versions: Mapping[str, str]) -> Iterator[Row]:
    for name, drawn_with in versions.items():
        try:
            here = version(name)
        except (PackageNotFoundError, ValueError):
            yield name, f"{drawn_with}  is not installed here"
            continue
        yield name, f"{drawn_with}  {'the same here' if here == drawn_with else f'here is {here}'}"


def _input_rows(inputs: Sequence[RecordedInput], folders: Sequence[Path]) -> Iterator[Row]:
    for item in inputs:
        digest = "a folder" if item.sha256 is None else f"sha256 {item.sha256[:_SHORT_DIGEST]}…"
        key = ".".join(map(str, (item.where, *item.key)))
        there = [place for place in folders if (place / item.file).exists()]
        where = f"one of that name is in {there[0].absolute()}" if there else (
            "is not beside the picture nor in the current folder: `amdm rerun --models FOLDER`"
        )  # fmt: skip
        yield item.file, f"{digest}  ({key})\n{where}"


def _line(text: str) -> str:
    return printable(text).replace("\n", "\\n")


def _written(content: Mapping[str, Any], at: str = "") -> list[Row]:
    """Return what was written, a row per value, those of nested blocks with dotted keys."""
    rows: list[Row] = []
    for key, value in content.items():
        nested = isinstance(value, dict) and value
        rows += _written(value, f"{at}{key}.") if nested else [(f"{at}{key}", _shown(value))]
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _mapping(value: Any) -> dict[str, Any]:
    # A record's composition and scene are whatever somebody wrote into the picture.
    return dict(value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
