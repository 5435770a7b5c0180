"""MIGC as a model of the AMDM framework: every instance where its box is. The model is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amdm_framework import hookimpl

if TYPE_CHECKING:
    from amdm_framework.provider import ProviderSpec


@hookimpl
def register_providers(register: Callable[[ProviderSpec], None]) -> None:
    """Announce `migc`."""
    from .provider import SPEC

    register(SPEC)
