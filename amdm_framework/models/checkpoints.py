"""From a reference to loaded weights: the entrance to this folder.

    path = resolve_reference("hf://owner/repo/file.safetensors@main", context)     # references.py
    tensors = read_tensors(path)                        # tensor_files.py: a lazy mapping, names as stored
    module = build_on_meta(lambda: UNet2DConditionModel(**config))
    load_strict(module, tensors, context, ignore=("*.position_ids",))

Every step raises `CheckpointError` with a sentence for the user. Nothing stored in a file is ever executed.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from accelerate import init_empty_weights

from ..errors import CheckpointError
from .context import LoadContext
from .digests import file_sha256
from .pickles import load_pickle
from .references import locate_reference, resolve_reference
from .tensor_files import RenamedTensors, TensorMapping, read_header, read_tensors

__all__ = [
    "RenamedTensors",
    "TensorMapping",
    "build_on_meta",
    "file_sha256",
    "load_pickle",
    "load_strict",
    "locate_reference",
    "read_header",
    "read_tensors",
    "release",
    "resolve_reference",
]

_MAX_LISTED = 10
_RELEASE_BYTES = 64 * 2**20

Module = TypeVar("Module", bound=torch.nn.Module)


def build_on_meta(build: Callable[[], Module]) -> Module:
    """Build a module whose parameters take no memory (meta device) and whose buffers are real."""
    with init_empty_weights(include_buffers=False):
        module = build()
    return module.eval().requires_grad_(False)


def load_strict(
    module: Module,
    tensors: Mapping[str, torch.Tensor],
    context: LoadContext,
    *,
    source: str = "",
    ignore: Iterable[str] = (),
) -> Module:
    """Fill a module that was built on the meta device; every parameter and persistent buffer must be in the file.

    Weights are copied one after the other to `context.device` in `context.dtype` (integers keep their dtype), and a
    weight whose contents another member of the pipeline holds already becomes the same `nn.Parameter`. At no time does
    more than a few tensors exist twice.

    Args:
        module: see `build_on_meta`. Parameters that are not on the meta device are replaced as well.
        tensors: names of the module's own state dict to tensors.
        context: device, dtype and the store of shared weights.
        source: what messages call the file; by default what the mapping says.
        ignore: surplus names that are no mistake, as `fnmatch` patterns (`*.position_ids`).

    Returns:
        The module, without gradients and in eval mode.

    Raises:
        CheckpointError: all missing, surplus and misshaped names (the first of them), with found and expected shapes.
    """
    source = source or getattr(tensors, "source", "") or "checkpoint"
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    _check(module, expected, tensors, source, tuple(ignore))
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    context.weights.refresh()
    filled: dict[str, torch.Tensor] = {}
    since_release = 0
    for name in expected:
        stored = tensors[name]
        dtype = context.dtype if stored.is_floating_point() else stored.dtype
        value = stored.to(context.device, dtype, copy=True).contiguous()
        filled[name] = context.weights.parameter(value) if name in parameters else value
        since_release += stored.numel() * stored.element_size()
        del stored, value
        if since_release > _RELEASE_BYTES:
            release(tensors)
            since_release = 0
    release(tensors)
    module.load_state_dict(filled, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def release(tensors: Mapping[str, torch.Tensor]) -> None:
    """Let go of what a mapping has read from its files; nothing happens to a plain dictionary."""
    if isinstance(tensors, TensorMapping):
        tensors.release()


def _check(
    module: torch.nn.Module,
    expected: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, torch.Tensor],
    source: str,
    ignore: tuple[str, ...],
) -> None:
    missing = [f"{name} {list(shape)}" for name, shape in expected.items() if name not in tensors]
    surplus = [
        f"{name} {list(tensors[name].shape)}"
        for name in tensors
        if name not in expected and not any(fnmatch.fnmatchcase(name, pattern) for pattern in ignore)
    ]
    misshaped = [
        f"{name}: found {list(tensors[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    no_weights = [
        f"{name}: found {str(tensors[name].dtype).removeprefix('torch.')}"
        for name, _ in module.named_parameters(remove_duplicate=False)
        if name in tensors and not tensors[name].is_floating_point()
    ]
    kinds = {
        "missing": missing,
        "not known to the model": surplus,
        "of another shape": misshaped,
        "not of real numbers": no_weights,
    }
    if not any(kinds.values()):
        return
    lines = [f"{source}: these weights do not fit {type(module).__name__}, the architecture is another one:"]
    for kind, entries in kinds.items():
        if entries:
            lines.append(f"  {len(entries)} {kind}:")
            lines += [f"    {entry}" for entry in entries[:_MAX_LISTED]]
            if len(entries) > _MAX_LISTED:
                lines.append(f"    and {len(entries) - _MAX_LISTED} more")
    raise CheckpointError("\n".join(lines))
