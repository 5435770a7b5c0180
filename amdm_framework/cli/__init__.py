"""The command `amdm`. Importing it loads nothing heavy: every command imports what it needs when it runs."""

from __future__ import annotations

import click

from .. import __version__
from .ablate import ablate
from .batch import batch
from .bench import bench
from .check import check
from .compare import compare
from .contact_sheet import contact_sheet
from .group import AmdmGroup
from .inspect import inspect
from .installed import plugins, strategies
from .new_plugin import new_plugin
from .plugin_check import plugin_check
from .preview import preview
from .rerun import rerun
from .run import run
from .schema import schema
from .studio import studio
from .sweep import sweep
from .tune import tune


@click.group(cls=AmdmGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks, those of broken plugins too.")
@click.version_option(__version__, prog_name="amdm")
def main(debug: bool) -> None:
    """Draw one picture from several conditional diffusion models.

    A composition (YAML) says which models take part and how they are aggregated, a scene (YAML) what to draw.
    Results go to standard output, progress and warnings to standard error.

    Exit codes: 0 done, 1 some jobs failed, 2 the input was wrong, 130 interrupted.
    """


for _command in (
    run,
    studio,
    batch,
    contact_sheet,
    preview,
    inspect,
    bench,
    compare,
    sweep,
    ablate,
    tune,
    check,
    rerun,
    plugins,
    strategies,
    schema,
    new_plugin,
    plugin_check,
):
    main.add_command(_command)

__all__ = ["main"]
