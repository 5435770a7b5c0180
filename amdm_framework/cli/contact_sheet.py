"""`amdm contact-sheet`: the pictures of a batch on sheets that a person can look through."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ..errors import InputError, Problem
from .request import output_option


@click.command("contact-sheet", short_help="Show the pictures of a batch on sheets.")
@click.argument("folder", type=click.Path(path_type=Path))
@output_option
@click.option("--boxes", is_flag=True, help="Draw the boxes of every scene over its picture.")
def contact_sheet(folder: Path, output: Path, boxes: bool) -> None:
    """Arrange the pictures in FOLDER, that of `amdm batch --output`, on sheets of thirty with names, seeds and captions.

    They stand in the order of the ledger; scenes that failed have an empty place with the reason. Works while the batch
    is still being drawn, too. Prints the sheets' paths, which are named after the folder; an existing file is never
    overwritten, the new one gets a number.
    """
    from ..batch.contact_sheet import PER_SHEET
    from ..batch.contact_sheet import contact_sheet as arrange
    from ..batch.ledger import read_entries
    from ..picture_files import prepare_folder, save_new
    from ..picture_grid import draw_grid

    if folder.is_file():
        raise InputError([Problem("is a file, expected the folder of a batch", file=str(folder))])
    entries = read_entries(folder)
    if not entries:
        raise InputError([Problem("nothing of this batch is drawn yet", file=str(folder))])
    prepare_folder(output)
    failed = sum(entry.state == "failed" for entry in entries)
    counts = f"{len(entries) - failed} drawn" + (f", {failed} failed" if failed else "")
    parts = [entries[first : first + PER_SHEET] for first in range(0, len(entries), PER_SHEET)]
    for number, part in enumerate(parts, 1):
        stem, page = f"{folder.resolve().name}-sheet", counts
        if len(parts) > 1:
            stem, page = f"{stem}-{number}of{len(parts)}", f"{counts}; sheet {number} of {len(parts)}"
        sheet = draw_grid(arrange(folder, part, page, boxes))
        click.echo(str(save_new(output, stem, ".png", partial(sheet.save, format="PNG"))))
