"""The hooks of a plugin. Implement any of them in a module of your package, mark each with `@hookimpl`, and name the
module in your pyproject.toml:

    [project.entry-points.amdm_framework]
    my_model = "my_package.plugin"

Import your model inside the hooks rather than at the top of that module: commands that do not need it start faster.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    import click

    from .benchmark import Benchmark
    from .example import Example
    from .provider import ProviderSpec
    from .strategies.base import AggregationStrategy

hookspec = HookspecMarker("amdm_framework")
hookimpl = HookimplMarker("amdm_framework")


@hookspec
def register_providers(register: Callable[[ProviderSpec], None]) -> None:
    """Announce models.

    Args:
        register: call `register(spec)` once for every `ProviderSpec`.
    """


@hookspec
def register_strategies(register: Callable[[type[AggregationStrategy]], None]) -> None:
    """Announce aggregation strategies.

    Args:
        register: call `register(strategy_class)` once for every subclass of `AggregationStrategy`.
    """


@hookspec
def register_benchmarks(register: Callable[[Benchmark], None]) -> None:
    """Announce benchmarks: scenes to draw and a judge of the pictures.

    Args:
        register: call `register(benchmark)` once for every `Benchmark`.
    """


@hookspec
def register_examples(register: Callable[[Example], None]) -> None:
    """Offer examples: compositions and scenes that work with what the package ships. Tools begin with them.

    Args:
        register: call `register(example)` once for every `Example`, the one to begin with first.
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to `amdm`. Called before any command runs, so nothing heavy should be imported here.

    Args:
        cli: the click group behind `amdm`; add to it with `@cli.command()` or `cli.add_command(...)`. A command that
            exists already cannot be replaced. The group `amdm bench` is there for benchmarks that are commands of their
            own: `cli.commands["bench"].add_command(...)`.
    """


@hookspec
def register_checkpoints(register: Callable[[str, Callable[[str], Path]], None]) -> None:
    """Offer weights that a package ships, behind references of the form `scheme://name`.

    Args:
        register: call `register(scheme, resolver)` once for every scheme. `resolver(name)` returns the local file or
            folder for the part behind `://`, and raises `CheckpointError` for a name it does not know.
    """
