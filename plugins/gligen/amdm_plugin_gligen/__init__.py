"""GLIGEN for amdm-framework. Only the hook lives here; the model is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amdm_framework import hookimpl

if TYPE_CHECKING:
    from amdm_framework.provider import ProviderSpec


@hookimpl
def register_providers(register: Callable[[ProviderSpec], None]) -> None:
    """Announce `gligen`."""
    from .provider import SPEC

    register(SPEC)
