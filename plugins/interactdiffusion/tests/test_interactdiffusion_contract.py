"""The contract that every provider keeps."""

from amdm_plugin_interactdiffusion.contract import InteractDiffusionContract as TestContract

__all__ = ["TestContract"]
