"""Checkpoints that run code when they are unpickled; here the code makes a file, the mark."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Reduce:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.answer = (function, arguments) if state is None else (function, arguments, state)

    def __call__(self) -> None:
        """Pickle asks that what is called can be; the answer takes its place."""

    def __reduce__(self) -> tuple[Any, ...]:
        return self.answer


def touch(path: Path) -> str:
    """Return the shell command that makes a file."""
    return f"touch {path}"


def write_zip(path: Path, hostile: object) -> None:
    """Write the format of PyTorch since 1.6."""
    torch.save({"state_dict": {"w": torch.ones(2)}, "other": hostile}, path)


def write_legacy(path: Path, hostile: object) -> None:
    """Write the format of PyTorch before 1.6."""
    torch.save({"state_dict": {"w": torch.ones(2)}, "other": hostile}, path, _use_new_zipfile_serialization=False)


def write_plain(path: Path, hostile: object, protocol: int | None = None) -> None:
    """Write what `pickle.dump` writes."""
    path.write_bytes(pickle.dumps(hostile, protocol=protocol))


HOSTILE_WRITERS: tuple[Callable[[Path, object], None], ...] = (write_zip, write_legacy, write_plain)


def hostile_copy(original: Path, copy: Path, write: Callable[[Path, object], None], mark: Path) -> Path:
    """Return a hostile file in the place of a file of weights, or a folder whose weights are hostile.

    Args:
        original: a file or folder that an option leads to.
        copy: where the hostile one is written.
        write: writes one object.
        mark: the file that appears where the code runs.
    """
    hostile = Reduce(os.system, touch(mark))
    if original.is_file():
        copy.mkdir()
        path = copy / f"{original.stem}.ckpt"
        write(path, hostile)
        return path
    shutil.copytree(original, copy)
    for weights in sorted(copy.rglob("*.safetensors")) + sorted(copy.rglob("*.bin")):
        # Readers of folders ask for names: those of diffusers and those of transformers, which calls pickles otherwise.
        weights.unlink()
        for name in {f"{weights.stem}.bin", "pytorch_model.bin"}:
            write(weights.with_name(name), hostile)
    return copy
