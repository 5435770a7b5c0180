"""Sample one image from several conditional diffusion models (Aggregation of Multi Diffusion Models)."""

from .hookspecs import hookimpl, hookspec

__version__ = "0.1.0"

__all__ = ["__version__", "hookimpl", "hookspec"]
