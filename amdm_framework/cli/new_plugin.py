"""`amdm new-plugin`: a package for a model or a strategy of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ..plugin_template import PREFIXES, Kind, plugin_name, write_plugin
from ..plugins import PluginRegistry


@click.command("new-plugin", short_help="Write a package for a model or strategy of your own.")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(list(PREFIXES)),
    default="provider",
    show_default=True,
    help="What the package adds: a model, or an aggregation strategy.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="the current folder",
    help="Where the package's folder is made.",
)
@click.pass_obj
def new_plugin(registry: PluginRegistry, name: str, kind: Kind, output: Path) -> None:
    """Write an installable package for a model or strategy called NAME.

    It works as it is, tests included, and is changed piece by piece: the first lines of every file say what to change.
    """
    installed = registry.describe()
    taken = {one.name: f"{one.distribution} {one.version}" for one in (*installed.providers, *installed.strategies)}
    chosen = plugin_name(name, kind, taken)
    folder = write_plugin(chosen, output)
    click.echo(f"wrote {folder}\n\nnext:")
    for command in (
        f"cd {shlex.quote(str(folder))}",
        'pip install -e ".[test]"  # or, where amdm-framework is installed: pip install --no-deps -e .',
        "pytest",
        f"amdm plugin-check {chosen.word}",
    ):
        click.echo(f"  {command}")
    click.echo("\nThe first lines of every file say what to change in it.")
