"""`amdm schema`: JSON schemas for editors."""

from __future__ import annotations

import click

from ..plugins import PluginRegistry
from .results import echo_json


@click.command(short_help="Print the JSON schema for an editor.")
@click.argument("kind", type=click.Choice(["composition", "scene"]), default="composition")
@click.pass_obj
def schema(registry: PluginRegistry, kind: str) -> None:
    """Print the JSON schema of a composition (with the options of everything installed) or of a scene.

    An editor with a YAML language server completes and checks a file that begins with
    `# yaml-language-server: $schema=composition.schema.json`.
    """
    from ..schema import composition_schema, scene_schema

    echo_json(scene_schema() if kind == "scene" else composition_schema(registry))
