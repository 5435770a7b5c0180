"""The contract that every provider keeps."""

from amdm_plugin_ip_adapter.contract import IPAdapterContract as TestContract

__all__ = ["TestContract"]
