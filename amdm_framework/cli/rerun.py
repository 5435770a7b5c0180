"""`amdm rerun`: draw a picture again from the settings it carries."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import click

from ..errors import AMDMError, InputError, Problem
from ..plugins import PluginRegistry
from .request import device_option, draw, examine_request, load, output_option
from .results import echo_json, json_option


@click.command(short_help="Draw a picture again from the PNG.")
@click.argument("picture", type=click.Path(path_type=Path))
@output_option
@click.option(
    "--models",
    "folders",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    multiple=True,
    help="Look here first for weights and reference pictures, then beside the picture and in the current folder. "
    "Repeatable.",
)
@click.option(
    "--allow-different", is_flag=True, help="Draw even where an input is not the one the picture was made of."
)
@device_option
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@json_option
@click.pass_obj
def rerun(
    plugins: PluginRegistry,
    picture: Path,
    output: Path,
    folders: tuple[Path, ...],
    allow_different: bool,
    device: str,
    no_progress: bool,
    as_json: bool,
) -> None:
    """Draw PICTURE again, a PNG of `amdm run`: the same pixels, where every input is the same.

    Weights and reference pictures that it was made of are found by name and verified by digest: beside the picture, in
    the current folder, and in the folders that --models gives. Where one is missing or another than it was, the message
    says which. --allow-different draws with another one all the same.
    """
    from ..devices import choose_device, choose_dtype
    from ..metadata import png_info, record_run
    from ..picture_files import prepare_folder, save_new
    from ..rebuild import differing_weights, on_this_machine, rebuild
    from ..record import folders_near, read_record

    record = read_record(picture)
    rebuilt = rebuild(record, [*folders, *folders_near(picture)], plugins)
    for sentence in rebuilt.newer:
        warnings.warn(sentence, stacklevel=1)
    chosen, differences = _choose_device(device, record.device)
    torch_device = choose_device(chosen)
    # A member on another kind of device may compute in another dtype, which `auto` chooses for it again.
    usual = str(choose_dtype(rebuilt.resolved.composition.dtype, torch_device)).removeprefix("torch.")
    dtype = "auto" if usual == record.dtype else record.dtype
    resolved, adapted = on_this_machine(rebuilt.resolved, torch_device, dtype)
    differences += [*adapted, *rebuilt.differences]
    prepare_folder(output)
    try:
        examine_request(resolved, rebuilt.scene, chosen, dtype, plugins)
        pipeline, load_seconds = load(resolved, chosen, dtype, plugins, not no_progress)
    except AMDMError as error:
        # What differs may be the reason.
        for sentence in differences:
            error.add_note(f"{picture}: {sentence}")
        raise
    differences += differing_weights(record, pipeline)
    if differences and not allow_different:
        problems = [Problem(sentence, file=str(picture)) for sentence in differences]
        raise InputError([*problems, Problem("use --allow-different to draw all the same; the picture may differ")])
    for sentence in differences:
        warnings.warn(f"{sentence}: the picture may differ", stacklevel=1)

    # As one batch again: floating-point sums, and so the last bit of a pixel, depend on the size of a batch.
    result, sample_seconds = draw(pipeline, rebuilt.scene, record.seeds, output)
    drawn = result.images[record.position]
    info = png_info(record_run(pipeline, rebuilt.scene, result, plugins)[record.position])
    path = save_new(output, picture.stem, ".png", partial(drawn.save, format="PNG", pnginfo=info))
    if not as_json:
        click.echo(str(path))
        return
    echo_json(
        {
            "pictures": [{"seed": record.seed, "file": str(path)}],
            "differences": differences,
            "evaluations": result.trace.evaluations,
            "seconds": {"load": round(load_seconds, 3), "sample": round(sample_seconds, 3)},
            "warnings": [*rebuilt.newer, *result.warnings],
        }
    )


def _choose_device(asked: str, recorded: str) -> tuple[str, list[str]]:
    from ..devices import choose_device

    if asked == "auto":
        try:
            choose_device(recorded)
            return recorded, []
        except InputError:
            asked = choose_device("auto").type
    kind = choose_device(asked).type
    return asked, [] if kind == recorded else [f"the picture was drawn on {recorded}, here on {kind}"]
