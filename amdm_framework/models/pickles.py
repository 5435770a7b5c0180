"""Tensors out of pickled checkpoints, without running anything that a pickle asks for.

`load_pickle(path)` is `torch.load(weights_only=True)`. Some original files hold more than tensors (configuration
objects, callbacks of a training framework); `foreign_objects=True` reads them with an unpickler of our own, which puts
an inert `Placeholder` in the place of everything that is not a tensor or a plain container. No class or function that
a file names is ever imported or called.
"""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..errors import CheckpointError

_UNREADABLE = (
    *(RuntimeError, EOFError, OSError, MemoryError, RecursionError, ImportError),
    *(ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError),
)


def load_pickle(path: Path, *, foreign_objects: bool = False) -> Any:
    """Return the contents of a `torch.save` file: plain containers, numbers, strings and tensors on the CPU.

    Tensors of the zip format (every release since PyTorch 1.6) are mapped from the file, not read.

    Args:
        path: the file.
        foreign_objects: put a `Placeholder` in the place of objects of unknown classes instead of refusing the file
            (zip format only).

    Raises:
        CheckpointError: the file is not a pickle of tensors, is damaged, or asks for code and `foreign_objects` is off.
    """
    try:
        zipped = _is_zip(path)
        if foreign_objects and zipped:
            # Everything that torch takes from the pickle module it is given comes from the restricted unpickler.
            inert: Any = SimpleNamespace(Unpickler=InertUnpickler, __name__="pickle")
            return torch.load(path, map_location="cpu", mmap=True, weights_only=False, pickle_module=inert)
        return torch.load(path, map_location="cpu", mmap=zipped, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, this pickle holds more than tensors ({_first_line(error)}). Loading it could run code "
            "that came with the file; convert it to safetensors where you trust it"
        ) from error
    except _UNREADABLE as error:
        # What a torn or hostile file may raise inside torch and pickle is not documented.
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint, it is damaged or incomplete ({_first_line(error)})"
        ) from error


class Placeholder:
    """Stands for an object of a class that is not known here. Takes every state and does nothing with it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Placeholder:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Placeholder:
        return Placeholder()

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Ignore an item of a container."""

    def extend(self, values: Any) -> None:
        """Ignore items of a container."""

    def add(self, value: Any) -> None:
        """Ignore an item of a container."""


class InertUnpickler(pickle.Unpickler):
    """Builds tensors and plain containers; every other name in the file becomes a `Placeholder` class.

    What stands for an allowed name is a fresh object without attributes, so that a pickle cannot change it for others.
    Storages are resolved by torch itself through `persistent_load`. Meant for the zip format only: the older formats
    give a pickle more say over what torch does.
    """

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name in _ALLOWED:
            return _ALLOWED[name]()
        if module_name == "torch" and isinstance(dtype := getattr(torch, global_name, None), torch.dtype):
            return dtype
        return type("Placeholder", (Placeholder,), {"__doc__": name})


class _Dict(dict[Any, Any]):
    def __setstate__(self, state: Any) -> None:
        """Ignore attributes of an ordered dictionary (`_metadata` of a state dict)."""


class _NewDict:
    __slots__ = ()

    def __call__(self, items: Any = ()) -> _Dict:
        return _Dict(items)


class _NewTuple:
    __slots__ = ()

    def __call__(self, items: Any = ()) -> tuple[Any, ...]:
        return tuple(items)


class _RebuildTensor:
    __slots__ = ()

    def __call__(self, storage: Any, offset: int, size: Any, stride: Any, *ignored: Any) -> torch.Tensor:
        rebuild: Callable[..., torch.Tensor] = torch._utils._rebuild_tensor
        return rebuild(storage, offset, size, stride)


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, data: Any, *ignored: Any) -> torch.Tensor:
        if not isinstance(data, torch.Tensor):
            raise TypeError("a parameter without a tensor")
        return data


_ALLOWED: dict[str, type] = {
    "collections.OrderedDict": _NewDict,
    "torch.Size": _NewTuple,
    "torch._utils._rebuild_tensor": _RebuildTensor,
    "torch._utils._rebuild_tensor_v2": _RebuildTensor,
    "torch._utils._rebuild_parameter": _RebuildParameter,
}


def _is_zip(path: Path) -> bool:
    # Decided as torch decides it, by the first bytes and torch's own reader, so that both see the same file.
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped and "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise CheckpointError(f"{path}: refused, this is a TorchScript program and not a checkpoint of tensors")
    if not zipped and tarfile.is_tarfile(path):
        raise CheckpointError(
            f"{path}: refused, checkpoints in the tar format of PyTorch before 0.2 cannot be read safely; convert it "
            "to safetensors where you trust it"
        )
    return zipped


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch's first lines advise to switch the protection off; the cause stands behind it.
    cause = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0] if lines else "")
    return (cause or type(error).__name__)[:200]
