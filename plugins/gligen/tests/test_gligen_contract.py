"""What every provider must do."""

from amdm_plugin_gligen.contract import GLIGENContract as TestContract

__all__ = ["TestContract"]
