"""`amdm check`: do these models fit each other, and what does a run take?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import IncompatibleProvidersError
from ..plugins import PluginRegistry
from .request import device_option, dtype_option, examine_request, read_request, set_option
from .results import echo_json, echo_title, in_units, json_option

if TYPE_CHECKING:
    from ..cost import RunCost


@click.command(short_help="Do the models fit, and what will it cost?")
@click.argument("composition", type=click.Path(path_type=Path))
@click.option("--scene", type=click.Path(path_type=Path), help="Check that this scene has what every model needs, too.")
@set_option
@device_option
@dtype_option
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    composition: Path,
    scene: Path | None,
    overrides: tuple[str, ...],
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Say whether the models of COMPOSITION can be aggregated, and what a run takes. No network is built.

    Exit code 2 where they cannot.
    """
    plugins = ctx.find_object(PluginRegistry)
    assert plugins is not None
    resolved, drawn = read_request(composition, scene, overrides, plugins)
    try:
        cost = examine_request(resolved, drawn, device, dtype, plugins)
    except IncompatibleProvidersError as error:
        if not as_json:
            raise
        echo_json({"compatible": False, "reason": str(error)})
        ctx.exit(2)
    if as_json:
        echo_json({"compatible": True, **asdict(cost)})
    else:
        _echo_cost(cost, resolved.strategy.name)


def _echo_cost(cost: RunCost, strategy: str) -> None:
    from ..latents import format_table

    verdict = "compatible: one latent space and one noise schedule"
    unseen = [member.name for member in cost.members if not member.components]
    click.echo(
        verdict if not unseen else f"{verdict}, as far as can be said without the weights of {', '.join(unseen)}"
    )
    click.echo()
    echo_title(f"network evaluations per picture ({cost.steps} steps, {strategy})")
    rows = [["model", "evaluations", "rows with guidance"]]
    rows += [[member.name, str(member.evaluations), str(member.forward_rows)] for member in cost.members]
    rows.append(["together", str(cost.evaluations), str(cost.forward_rows)])
    click.echo(format_table(rows))
    click.echo()
    echo_title(f"weights in {cost.dtype}")
    rows = [["model", "component", "parameters", "memory", "shared", "with"]]
    for member in cost.members:
        for component in member.components or ():
            shared = in_units(component.shared_bytes) if component.shared_bytes else ""
            rows.append(
                [
                    member.name,
                    component.name,
                    f"{component.parameters:,}",
                    in_units(component.bytes),
                    shared,
                    ", ".join(component.shared_with),
                ]
            )
        if not member.components:
            rows.append([member.name, "unknown" if member.components is None else "not downloaded", "", "", "", ""])
    click.echo(format_table(rows))
    if cost.bytes:
        click.echo(
            f"  {in_units(cost.unique_bytes)} in memory, where the models one by one would take {in_units(cost.bytes)}"
        )
    size = f"a picture of {cost.width}x{cost.height} pixels" if cost.width and cost.height else "a picture"
    click.echo(f"  these are the weights alone: drawing {size} takes memory beside them")
    downloads = [reference for member in cost.members for reference in member.downloads]
    if downloads:
        click.echo()
        echo_title("would be downloaded first")
        for reference in dict.fromkeys(downloads):
            click.echo(f"  {reference}")
