"""Announces the benchmark to the framework: `amdm bench coco-mig`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amdm_framework import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `amdm bench coco-mig`."""
    from click import Group

    from amdm_bench_coco_mig.commands import coco_mig

    bench = cli.commands["bench"]
    assert isinstance(bench, Group)
    bench.add_command(coco_mig)
