"""Announces the zoo's checkpoints to the framework: `zoo://base` in a composition leads into this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from amdm_framework import hookimpl
from amdm_framework.errors import CheckpointError, did_you_mean

WEIGHTS = Path(__file__).parent / "weights"


@hookimpl
def register_checkpoints(register: Callable[[str, Callable[[str], Path]], None]) -> None:
    """Register the scheme `zoo`."""
    register("zoo", find_weights)


def find_weights(name: str) -> Path:
    """Return the folder of an embedded model.

    Raises:
        CheckpointError: no such model, naming those there are.
    """
    known = sorted(entry.name for entry in WEIGHTS.iterdir() if entry.is_dir())
    if name not in known:
        raise CheckpointError(
            f"zoo://{name}: the shapes zoo has no such model.{did_you_mean(name, known)} Embedded: {', '.join(known)}"
        )
    return WEIGHTS / name
