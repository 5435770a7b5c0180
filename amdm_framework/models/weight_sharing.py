"""Weights held once: tensors of equal contents become one `nn.Parameter`, whichever files and models they came from.

Sharing is by `nn.Parameter` object, not by storage: `module.to(...)` replaces a parameter's data in place, so modules
that hold the same object stay shared when they are moved or cast one after the other. Modules that share weights are
otherwise independent trees: an adapter attached to one is not seen by the others.

    module = build_on_meta(...)                        # loaders: see checkpoints.load_strict, which shares as it loads
    context.weights.share(module)                      # or afterwards, for a module that came from elsewhere
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch

_SAMPLES = 64


class WeightStore:
    """Knows every distinct weight of a pipeline, without keeping any of them alive.

    Weights are shared only if shape, dtype, device and every byte are equal. Shared weights are for inference: they do
    not require gradients, and whoever wants to change one in place has to replace it in its own module instead.
    """

    def __init__(self) -> None:
        self._parameters: dict[tuple[Any, ...], list[weakref.ref[torch.nn.Parameter]]] = {}

    def parameter(self, tensor: torch.Tensor) -> torch.nn.Parameter:
        """Return the parameter that holds exactly these contents; a new one around `tensor` where there is none."""
        key = _key(tensor)
        candidates = self._parameters.setdefault(key, [])
        for reference in candidates:
            known = reference()
            if known is not None and (known is tensor or _same_bytes(known, tensor)):
                return known
        created = tensor if isinstance(tensor, torch.nn.Parameter) else torch.nn.Parameter(tensor, requires_grad=False)
        candidates.append(weakref.ref(created))
        return created

    def share(self, module: torch.nn.Module) -> None:
        """Replace every parameter of a module by the one of equal contents, where a module before had it already."""
        self.refresh()
        for submodule in module.modules():
            for name, parameter in list(submodule.named_parameters(recurse=False)):
                if parameter.device.type != "meta":
                    setattr(submodule, name, self.parameter(parameter))
        module.requires_grad_(False)

    def refresh(self) -> None:
        """Find out where known weights have gone: a module that was moved or cast took its parameters with it."""
        alive = list(self._alive())
        self._parameters = {}
        for key, parameter in alive:
            if key[1:3] != (parameter.dtype, parameter.device):
                key = _key(parameter)
            self._parameters.setdefault(key, []).append(weakref.ref(parameter))

    def _alive(self) -> Iterator[tuple[tuple[Any, ...], torch.nn.Parameter]]:
        for key, references in self._parameters.items():
            for reference in references:
                parameter = reference()
                if parameter is not None:
                    yield key, parameter


def unique_bytes(modules: Iterable[torch.nn.Module]) -> int:
    """Return the bytes of all distinct storages behind the parameters and buffers of some modules."""
    storages = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.untyped_storage()
            place = id(tensor) if tensor.device.type == "meta" else storage.data_ptr()
            storages[tensor.device, place] = storage.nbytes()
    return sum(storages.values())


def _key(tensor: torch.Tensor) -> tuple[Any, ...]:
    # A few values tell nearly all different weights apart; equality of the contents is decided afterwards.
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, len(flat) // _SAMPLES)][:_SAMPLES].contiguous().view(torch.uint8).cpu()
    return tuple(tensor.shape), tensor.dtype, tensor.device, bytes(sample.tolist())


def _same_bytes(first: torch.Tensor, second: torch.Tensor) -> bool:
    # Bytes and not values: 0.0 equals -0.0, and NaN equals nothing.
    flat = (tensor.detach().reshape(-1).contiguous().view(torch.uint8) for tensor in (first, second))
    return torch.equal(*flat)
