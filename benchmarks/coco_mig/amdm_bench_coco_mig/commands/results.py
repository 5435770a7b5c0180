"""What a judgement found, written as JSON and printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


def give_report(report: Mapping[str, Any], output: Path | None, as_json: bool) -> None:
    """Write a report where that is wanted, and print it as JSON or as a table.

    Raises:
        InputError: the disk is full, or the folder cannot be made or written to.
    """
    import json

    from amdm_bench_coco_mig.table import table
    from amdm_framework.picture_files import prepare_folder, replace_file

    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if output is not None:
        prepare_folder(output.parent)
        replace_file(output, lambda file: file.write(text.encode()))
    click.echo(text if as_json else table(report), nl=not as_json)
