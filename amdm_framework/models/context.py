"""What a provider is loaded with: device, dtype, where references lead, and the store of shared weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..provider import WeightFile
from .weight_sharing import WeightStore


@dataclass
class LoadContext:
    """Handed to every spec's `load` and `inspect`; one per pipeline.

    Attributes:
        device: where networks shall live.
        dtype: what networks shall compute in.
        base_dir: relative paths in options are relative to this folder (the composition's own).
        checkpoint_sources: resolvers of reference schemes registered by plugins, e.g. `zoo` for `zoo://name`;
            each maps the part behind `://` to a local file or folder.
        weights: holds every tensor once, over all members of the pipeline.
        weight_files: every file of weights that was read; loaders append to it.
    """

    device: torch.device
    dtype: torch.dtype
    base_dir: Path = field(default_factory=Path)
    checkpoint_sources: Mapping[str, Callable[[str], Path]] = field(default_factory=dict)
    weights: WeightStore = field(default_factory=WeightStore)
    weight_files: list[WeightFile] = field(default_factory=list)
