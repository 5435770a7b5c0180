"""Loading the members of a composition and making their networks ready to run as it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import AutoencoderKL

from .composition import ResolvedComposition
from .errors import AMDMError
from .execution import ExecutionSettings
from .models.context import LoadContext
from .models.offload import OffloadedWeights
from .provider import EpsilonProvider

UNET = "unet"
"""Name, among a provider's `modules`, of the network that is evaluated at every step: the one worth compiling."""


class MemberLoader:
    """Loads members, each as often as it is needed.

    Args:
        resolved: the composition.
        contexts: one per member.

    Attributes:
        offloaded: the weights of all members, where they wait in main memory; None where they do not.
    """

    def __init__(self, resolved: ResolvedComposition, contexts: Sequence[LoadContext]) -> None:
        self.resolved = resolved
        self.contexts = contexts
        offload = resolved.composition.offload
        self.offloaded = None if offload == "none" else OffloadedWeights(contexts[0].device)

    def load(self, position: int) -> EpsilonProvider:
        """Load a member, ready to run.

        Raises:
            CheckpointError: its weights are missing, damaged, unsafe or of another architecture.
            InputError: an option does not fit its weights.
        """
        member, context = self.resolved.members[position], self.contexts[position]
        context.weight_files.clear()
        if self.offloaded is not None:
            context = replace(context, device=torch.device("cpu"))
        try:
            provider = member.spec.load(member.options, context)
        except AMDMError as error:
            error.add_note(f"This is about the member {member.name} (providers.{position}).")
            raise
        provider.name = member.name
        make_ready(provider, self.resolved.composition, self.offloaded)
        return provider


def make_ready(
    provider: EpsilonProvider, execution: ExecutionSettings, offloaded: OffloadedWeights | None = None
) -> None:
    """Change a provider's networks in place as the options say: all but those that belong to a run.

    Args:
        provider: just loaded, in main memory where its weights are to be offloaded.
        execution: the options.
        offloaded: takes care of its weights; None where they stay on the device.
    """
    networks = provider.modules()
    if execution.channels_last:
        for network in networks.values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if execution.vae_tiling:
        for network in networks.values():
            if isinstance(network, AutoencoderKL):
                network.enable_tiling()
    if UNET in networks and execution.compile:
        _compile(networks[UNET], execution.compile_mode)
    if offloaded is not None:
        offloaded.attach(networks.values(), layer_by_layer=execution.offload == "sequential")


def _compile(unet: Any, mode: str) -> None:
    # Shapes stay the same during a run; what a new size compiles is kept beside what the old one did.
    if mode == "regional" and hasattr(unet, "compile_repeated_blocks"):
        unet.compile_repeated_blocks(dynamic=False)
    elif mode == "reduce-overhead":
        _capture(unet)
    else:
        unet.compile(dynamic=False)


def _capture(unet: Any) -> None:
    compiled: Any = torch.compile(unet.forward, mode="reduce-overhead", dynamic=False)

    def forward(*arguments: Any, **keywords: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        output = compiled(*arguments, **keywords)
        # The next replay writes its output to the same place.
        return tuple(part.clone() for part in output) if isinstance(output, tuple) else output

    unet.forward = forward
