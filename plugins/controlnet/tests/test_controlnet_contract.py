"""The provider keeps the contract of all providers."""

from __future__ import annotations

from amdm_plugin_controlnet.contract import ControlNetContract as TestContract

__all__ = ["TestContract"]
