"""The contract that every provider keeps."""

from amdm_plugin_migc.contract import MIGCContract as TestContract

__all__ = ["TestContract"]
