"""The built-in provider keeps the contract of all providers."""

from amdm_framework.builtin.contract import StableDiffusionContract as TestContract

__all__ = ["TestContract"]
