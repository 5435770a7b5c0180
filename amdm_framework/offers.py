"""What is known of plugins and of the things they register: where each comes from, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from . import __version__

Offered = TypeVar("Offered")


@dataclass(frozen=True)
class Distribution:
    """An installed package."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


FRAMEWORK = Distribution("amdm-framework", __version__)


@dataclass(frozen=True)
class Plugin:
    """A module with hooks, not yet imported.

    Attributes:
        distribution: the package it comes from.
        entry_point: its name in that package's metadata.
        load: imports and returns it.
    """

    distribution: Distribution
    entry_point: str
    load: Callable[[], Any]


@dataclass(frozen=True)
class Failure:
    """One thing that a plugin could not do.

    Attributes:
        plugin: whose fault it is.
        stage: `import`, or the hook.
        name: what it tried to register, empty where that is unknown.
        reason: what went wrong.
        trace: the traceback, for `--debug`.
    """

    plugin: Plugin
    stage: str
    name: str
    reason: str
    trace: str

    def __str__(self) -> str:
        return f"{self.plugin.distribution}: {self.stage}: {self.reason}"


@dataclass(frozen=True)
class Offer(Generic[Offered]):
    """Something a plugin registered.

    Attributes:
        name: what people write to get it.
        value: a `ProviderSpec`, a strategy class, a `Benchmark`, an `Example`, or a resolver of checkpoint references.
        distribution: the package it comes from.
    """

    name: str
    value: Offered
    distribution: Distribution


def clash(offers: Sequence[Offer[Any]]) -> str:
    """Say that one name was offered by several distributions, and what to do."""
    owners = " and ".join(str(offer.distribution) for offer in offers)
    return (
        f"'{offers[0].name}' is offered by {owners}, so that neither can be meant by it: uninstall one, or name those "
        "that shall be loaded in AMDM_LOAD_PLUGINS"
    )
