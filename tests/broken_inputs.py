"""The small provider with defects of options and files, each with the tests of the contract that notice it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import nn

import small_provider
from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import resolve_reference
from amdm_framework.models.context import LoadContext
from amdm_framework.provider import EpsilonProvider, WeightFile
from broken_providers import caught_by
from small_provider import NETWORKS, SPEC, SmallContract, SmallOptions, SmallProvider


class ModeOptions(SmallOptions):
    """With a text of which one value is known."""

    mode: str = Field(default="plain", description="How.")


@caught_by("odd_values_of_options_are_refused", says="mode='' is accepted, and `load` or `encode` ends in KeyError")
def looks_up_a_word() -> dict[str, Any]:
    def load(options: ModeOptions, context: LoadContext) -> EpsilonProvider:
        {"plain": 1}[options.mode]
        return small_provider.load(options, context)

    return {"options": ModeOptions, "load": load}


class SlotsOptions(SmallOptions):
    """With a number that may be negative."""

    slots: int = Field(default=4, description="How many.")


@caught_by(
    "odd_values_of_options_are_refused", says="slots=-1 is accepted, and `load` or `encode` ends in RuntimeError"
)
def makes_room_for_less_than_nothing() -> dict[str, Any]:
    def load(options: SlotsOptions, context: LoadContext) -> EpsilonProvider:
        torch.zeros(options.slots, 8)
        return small_provider.load(options, context)

    return {"options": SlotsOptions, "load": load}


def load_folder(options: SmallOptions, context: LoadContext, weights_only: bool = False) -> EpsilonProvider:
    path = resolve_reference(options.checkpoint, context) / "weights.pt"
    try:
        tensors = torch.load(path, weights_only=weights_only)
    except Exception as error:
        raise CheckpointError(f"{path}: {error}") from error
    networks: dict[str, nn.Module] = {}
    for name, network in NETWORKS.items():
        module = network()
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        module.load_state_dict(own)
        networks[name] = module.to(context.device, context.dtype).eval().requires_grad_(False)
        context.weights.share(networks[name])
    context.weight_files.append(WeightFile("model", path))
    return SmallProvider(networks, options.strength)


class FolderContract(SmallContract):
    """The weights lie in a folder, as PyTorch saves them."""

    spec = SPEC.model_copy(update={"load": load_folder, "inspect": None})

    def options(self, folder: Path) -> dict[str, Any]:
        super().options(folder)
        (folder / "model").mkdir()
        torch.save(load_file(folder / "small.safetensors"), folder / "model" / "weights.pt")
        return {"checkpoint": "model"}


@caught_by("hostile_pickles_are_refused", says="executed")
class UnpicklesAFolder(FolderContract):
    pass
