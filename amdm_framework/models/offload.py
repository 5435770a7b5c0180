"""Weights that wait in main memory and are on the device only while a network, or one layer of it, computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from accelerate.utils import send_to_device


class OffloadedWeights:
    """Brings weights to a device when they are needed and takes them away again.

    It keeps book of weights and not of networks, because members share weights as one `nn.Parameter` object: what two
    networks have in common stays where it is when the one follows the other. What is in main memory stays there, so
    taking weights away costs nothing.

    Args:
        device: where networks compute.

    Attributes:
        in_main_memory: the contents of every weight.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.in_main_memory: dict[torch.Tensor, torch.Tensor] = {}
        self._on_device: dict[torch.Tensor, None] = {}
        self._resident: torch.nn.Module | None = None

    def attach(self, networks: Iterable[torch.nn.Module], layer_by_layer: bool) -> None:
        """Let networks fetch their weights by themselves, whenever they or parts of them are called.

        Args:
            networks: in main memory.
            layer_by_layer: each layer for its own call only, instead of a whole network until another one is called.
        """
        networks = list(networks)
        for network in networks:
            for tensor in (*network.parameters(), *network.buffers()):
                self.in_main_memory.setdefault(tensor, tensor.data)
        nested = {part for network in networks for part in network.modules() if part is not network}
        for network in networks:
            # A network that is part of another one comes and goes with it.
            if network in nested:
                continue
            for part in list(network.modules()):
                if not layer_by_layer:
                    add_hook_to_module(part, _FetchNetwork(self, network))
                elif part is network or _own_tensors(part):
                    add_hook_to_module(part, _FetchLayer(self))

    def bring(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put weights on the device that are not there yet."""
        # Outside of inference mode: weights that were made in it could not be used outside.
        with torch.inference_mode(False):
            for tensor in tensors:
                if tensor not in self._on_device:
                    tensor.data = self.in_main_memory[tensor].to(self.device)
                    self._on_device[tensor] = None

    def take_away(self, tensors: Iterable[torch.Tensor]) -> None:
        """Free the device of weights."""
        with torch.inference_mode(False):
            for tensor in tensors:
                if tensor in self._on_device:
                    tensor.data = self.in_main_memory[tensor]
                    del self._on_device[tensor]

    def bring_network(self, network: torch.nn.Module) -> None:
        """Have a network on the device, and no weights that are not its own."""
        if self._resident is network:
            return
        # None is whole from here on, and none is afterwards if there is too little memory.
        self._resident = None
        wanted = dict.fromkeys([*network.parameters(), *network.buffers()])
        self.take_away([tensor for tensor in self._on_device if tensor not in wanted])
        self.bring(wanted)
        self._resident = network

    def keep(self, networks: Iterable[torch.nn.Module]) -> None:
        """Forget every weight that none of some networks has."""
        kept = {tensor for network in networks for tensor in (*network.parameters(), *network.buffers())}
        self._resident = None
        self.take_away([tensor for tensor in self._on_device if tensor not in kept])
        self.in_main_memory = {tensor: data for tensor, data in self.in_main_memory.items() if tensor in kept}

    def take_away_all(self) -> None:
        """Free the device."""
        self._resident = None
        self.take_away(list(self._on_device))


@contextmanager
def weights_in_place(module: torch.nn.Module) -> Iterator[None]:
    """Bring a network's weights to where they compute, as a call of it does, for calls of its parts.

    Where whole networks are offloaded, only a call of the network itself would fetch its weights. Where its layers are
    offloaded one by one, each fetches its own, and what happens here is about the network's direct parameters.
    """
    hook = getattr(module, "_hf_hook", None)
    if hook is None:
        yield
        return
    hook.pre_forward(module)
    try:
        yield
    finally:
        hook.post_forward(module, None)


class _FetchNetwork(ModelHook):  # type: ignore[misc]  # accelerate has no types
    """Of every part of a network: a provider may call parts of it by themselves while it encodes."""

    def __init__(self, weights: OffloadedWeights, network: torch.nn.Module) -> None:
        self.weights = weights
        self.network = network
        # Where accelerate, diffusers and `device_of` look for it.
        self.execution_device = weights.device

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.weights.bring_network(self.network)
        return send_to_device(args, self.execution_device), send_to_device(kwargs, self.execution_device)


class _FetchLayer(ModelHook):  # type: ignore[misc]  # accelerate has no types
    """Of every layer with weights of its own."""

    def __init__(self, weights: OffloadedWeights) -> None:
        self.weights = weights
        self.execution_device = weights.device

    def pre_forward(self, module: torch.nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.weights.bring(_own_tensors(module))
        return send_to_device(args, self.execution_device), send_to_device(kwargs, self.execution_device)

    def post_forward(self, module: torch.nn.Module, output: Any) -> Any:
        self.weights.take_away(_own_tensors(module))
        return output


def _own_tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]
