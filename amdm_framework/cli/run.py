"""`amdm run`: draw a scene."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import InputError
from ..plugins import PluginRegistry
from .request import (
    SeedType,
    device_option,
    draw,
    dtype_option,
    examine_request,
    load,
    output_option,
    read_request,
    set_option,
)
from .results import echo_json, in_units, json_option

if TYPE_CHECKING:
    from ..composition import ResolvedComposition
    from ..cost import RunCost


@click.command(short_help="Draw a scene.")
@click.argument("composition", type=click.Path(path_type=Path))
@click.option("--scene", type=click.Path(path_type=Path), required=True, help="YAML file that says what to draw.")
@click.option(
    "--seed",
    "seeds",
    type=SeedType(),
    multiple=True,
    help="Draw a picture with this seed; repeatable, all are drawn in one batch [random, and printed].",
)
@output_option
@set_option
@device_option
@dtype_option
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done; draw nothing.")
@click.option("--trace", is_flag=True, help="Write what happened at every step beside each picture: JSON and a plot.")
@click.option("--no-metadata", is_flag=True, help="Keep the settings out of the pictures.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@json_option
@click.pass_obj
def run(
    plugins: PluginRegistry,
    composition: Path,
    scene: Path,
    seeds: tuple[int, ...],
    output: Path,
    overrides: tuple[str, ...],
    device: str,
    dtype: str,
    dry_run: bool,
    trace: bool,
    no_metadata: bool,
    no_progress: bool,
    as_json: bool,
) -> None:
    """Draw a scene with the models of COMPOSITION (a YAML file), one picture per seed.

    Prints the pictures' paths. They are named after scene and seed; an existing file is never overwritten, the new one
    gets a number. A picture carries its settings, so that `amdm rerun` draws it again.
    """
    from ..picture_files import check_folder, prepare_folder, save_new
    from ..trace_plot import require_matplotlib

    if len(set(seeds)) < len(seeds):
        raise InputError(f"--seed: a seed is given twice: {', '.join(map(str, seeds))}")
    resolved, drawn = read_request(composition, scene, overrides, plugins)
    if not seeds:
        seeds = (secrets.randbelow(2**32),)
        click.echo(f"seed: {seeds[0]}", err=True)
    assert drawn is not None
    if trace:
        require_matplotlib()
    check_folder(output)
    cost = examine_request(resolved, drawn, device, dtype, plugins)
    stems = [f"{scene.stem}-{seed}" for seed in seeds]
    if dry_run:
        _echo_plan(resolved, cost, [str(output / f"{stem}.png") for stem in stems], as_json)
        return

    prepare_folder(output)
    pipeline, load_seconds = load(resolved, device, dtype, plugins, not no_progress)
    result, sample_seconds = draw(pipeline, drawn, seeds, output)
    infos: list[Any] = [None] * len(seeds)
    if not no_metadata:
        from ..metadata import png_info, record_run

        infos = [png_info(record) for record in record_run(pipeline, drawn, result, plugins)]
    pictures = []
    for position, (seed, stem, picture, info) in enumerate(zip(seeds, stems, result.images, infos, strict=True)):
        path = save_new(output, stem, ".png", partial(picture.save, format="PNG", pnginfo=info))
        entry: dict[str, Any] = {"seed": seed, "file": str(path)}
        if trace:
            entry |= _save_trace(path, result.trace, position, seed, resolved.strategy.name)
        pictures.append(entry)
        if not as_json:
            for key in ("file", "trace", "plot"):
                if key in entry:
                    click.echo(entry[key])
    if as_json:
        echo_json(
            {
                "pictures": pictures,
                "evaluations": result.trace.evaluations,
                "device": pipeline.device.type,
                "dtype": str(pipeline.dtype).removeprefix("torch."),
                "seconds": {"load": round(load_seconds, 3), "sample": round(sample_seconds, 3)},
                "warnings": result.warnings,
            }
        )


def _save_trace(picture: Path, trace: Any, position: int, seed: int, strategy: str) -> dict[str, str]:
    from ..picture_files import replace_file
    from ..trace_plot import plot_trace, trace_of_picture

    own = trace_of_picture(trace, position)
    data = picture.with_name(f"{picture.stem}.trace.json")
    plot = picture.with_name(f"{picture.stem}.trace.png")
    # The picture's name was free a moment ago, so whatever lies here belongs to a picture that is no more.
    content = json.dumps({"seed": seed, **own.to_dict()}, indent=1)
    replace_file(data, lambda file: file.write(content.encode()))
    replace_file(plot, lambda file: plot_trace(own, f"{picture.name}, drawn by {strategy}", file))
    return {"trace": str(data), "plot": str(plot)}


def _echo_plan(resolved: ResolvedComposition, cost: RunCost, files: list[str], as_json: bool) -> None:
    if as_json:
        echo_json({"pictures": files, "cost": asdict(cost)})
        return
    size = f", {cost.width}x{cost.height} pixels" if cost.width and cost.height else ""
    members = ", ".join(f"{member.name} ({member.evaluations} evaluations)" for member in cost.members)
    click.echo(f"would draw {len(files)} picture(s){size}, {cost.steps} steps, {cost.dtype}")
    click.echo(f"  models      {members}")
    click.echo(f"  aggregation {resolved.strategy.name}")
    click.echo(f"  weights     {in_units(cost.unique_bytes)}")
    for member in cost.members:
        for reference in member.downloads:
            click.echo(f"  download    {reference}")
    for file in files:
        click.echo(f"  picture     {file}")
