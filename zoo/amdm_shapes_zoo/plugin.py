"""Announces the zoo to the framework: `zoo://base` in a composition leads into this package; `amdm bench shapes`; the
benchmark `shapes` of the framework's own commands; two examples.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from amdm_framework import hookimpl
from amdm_framework.errors import CheckpointError, did_you_mean

if TYPE_CHECKING:
    import click

    from amdm_framework.benchmark import Benchmark
    from amdm_framework.example import Example

PACKAGE = Path(__file__).parent
WEIGHTS = PACKAGE / "weights"
EXAMPLES = PACKAGE / "examples"


@hookimpl
def register_checkpoints(register: Callable[[str, Callable[[str], Path]], None]) -> None:
    """Register the scheme `zoo`."""
    register("zoo", find_weights)


@hookimpl
def register_benchmarks(register: Callable[[Benchmark], None]) -> None:
    """Register the benchmark `shapes`."""
    from amdm_shapes_zoo.bench.benchmark import BENCHMARK

    register(BENCHMARK)


@hookimpl
def register_examples(register: Callable[[Example], None]) -> None:
    """Register `shapes`, with all three miniatures, and `shapes_two_models`."""
    from amdm_framework.example import Example

    register(
        Example(
            "shapes",
            "Three models: interactions, colours and the style of a reference picture.",
            PACKAGE / "three_models.yaml",
            EXAMPLES / "shapes_scene.yaml",
        )
    )
    register(
        Example(
            "shapes_two_models",
            "Two models: interactions and colours.",
            EXAMPLES / "two_models.yaml",
            EXAMPLES / "two_models_scene.yaml",
        )
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `amdm bench shapes`."""
    from click import Group

    from amdm_shapes_zoo.bench.command import shapes

    bench = cli.commands["bench"]
    assert isinstance(bench, Group)
    bench.add_command(shapes)


def find_weights(name: str) -> Path:
    """Return the folder or file of an embedded model.

    Raises:
        CheckpointError: no such model, naming those there are.
    """
    known = {
        entry.stem: entry for entry in sorted(WEIGHTS.iterdir()) if entry.is_dir() or entry.suffix == ".safetensors"
    }
    if name not in known:
        raise CheckpointError(
            f"zoo://{name}: the shapes zoo has no such model.{did_you_mean(name, known)} Embedded: {', '.join(known)}"
        )
    return known[name]
