"""Choosing where networks live and what they compute in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch

from .errors import AMDMError, InputError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """Return the device of a name; `auto` takes a GPU where there is one, and `cuda` is the current one by its number.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps': this machine has none")
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps")
    # `cuda` and `cuda:0` are one device, and must be seen to be.
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a name; `auto` is float16 on a GPU and float32 elsewhere.

    Raises:
        InputError: no such dtype.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise InputError(f"dtype {name!r} is none of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def device_of(network: torch.nn.Module) -> torch.device:
    """Return where a network computes: where its weights are, or where they are brought when they are offloaded."""
    for module in network.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
        # Lazily, and no further than the first weight: a UNet has hundreds of modules, and this is asked in every run.
        for tensor in chain(module.parameters(recurse=False), module.buffers(recurse=False)):
            # A hook of a layer further down brings what is on the meta device.
            if tensor.device.type != "meta":
                return tensor.device
    return torch.device("cpu")


@contextmanager
def memory_explained(what: str) -> Iterator[None]:
    """Explain an error about memory.

    Args:
        what: what there is too little memory for, e.g. `load the models`.

    Raises:
        AMDMError: there is too little memory for what happens inside.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise AMDMError(
            f"the device has too little memory to {what}: fewer pictures at once, a smaller `sampler.height` and "
            "`sampler.width`, --dtype float16, or --set offload=model take less"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is about memory that a device, or this machine, does not have."""
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
