"""ControlNet as a model of the AMDM framework: a control picture (edges, depth, pose) says what is where."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amdm_framework import hookimpl

if TYPE_CHECKING:
    from amdm_framework.provider import ProviderSpec


@hookimpl
def register_providers(register: Callable[[ProviderSpec], None]) -> None:
    from .provider import SPEC

    register(SPEC)
