"""A procedural world of coloured shapes and small models really trained on it."""

__version__ = "0.1.0"
