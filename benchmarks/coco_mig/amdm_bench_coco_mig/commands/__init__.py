"""`amdm bench coco-mig`. Importing it loads nothing heavy."""

from __future__ import annotations

import click

from amdm_bench_coco_mig.commands.evaluate import evaluate
from amdm_bench_coco_mig.commands.generate import generate
from amdm_bench_coco_mig.commands.prepare import prepare
from amdm_bench_coco_mig.commands.table import table


@click.group(name="coco-mig", short_help="Positions and colours of two to six instances.")
def coco_mig() -> None:
    """Position and colour of two to six instances in a picture: the COCO-MIG benchmark, as in the paper's Table 1.

    prepare checks or samples the benchmark's file, generate draws its pictures, evaluate judges them;
    table does all of this, for the paper's table.
    """


for _command in (prepare, generate, evaluate, table):
    coco_mig.add_command(_command)

__all__ = ["coco_mig"]
