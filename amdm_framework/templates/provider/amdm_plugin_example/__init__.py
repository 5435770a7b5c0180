"""Example as a model of the AMDM framework. The model is imported when it is asked for.

Change nothing here, unless the package offers more: further models, strategies, commands or weights have hooks of their
own (`amdm_framework.hookspecs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amdm_framework import hookimpl

if TYPE_CHECKING:
    from amdm_framework.provider import ProviderSpec


@hookimpl
def register_providers(register: Callable[[ProviderSpec], None]) -> None:
    """Announce `example`."""
    from .provider import SPEC

    register(SPEC)
