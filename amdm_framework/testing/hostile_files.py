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


WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".pkl")


def hostile_copies(original: Path, copy: Path, write: Callable[[Path, object], None], mark: Path) -> list[Path]:
    """Return hostile files in the place of a file of weights, or folders whose weights are hostile.

    In one of them the weights have names under which pickles are looked for, in the other their own.

    Args:
        original: a file or folder that an option leads to.
        copy: folder that is made for them.
        write: writes one object.
        mark: the file that appears where the code runs.

    Returns:
        One or two paths; none where a folder holds no weights.
    """
    hostile = Reduce(os.system, touch(mark))
    copy.mkdir()
    if original.is_file():
        paths = sorted({copy / f"{original.stem}.ckpt", copy / original.name})
        for path in paths:
            write(path, hostile)
        return paths
    names = [path.relative_to(original) for path in sorted(original.rglob("*")) if path.suffix in WEIGHT_SUFFIXES]
    if not names:
        return []
    pickles, own = copy / "pickles" / original.name, copy / "own" / original.name
    for folder in (pickles, own):
        shutil.copytree(original, folder)
    for name in names:
        write(own / name, hostile)
        # Readers of folders ask for names: those of diffusers and those of transformers, which calls pickles otherwise.
        for other in {name.with_suffix(".bin"), name.with_name("pytorch_model.bin")}:
            write(pickles / other, hostile)
        if name.suffix == ".safetensors":
            (pickles / name).unlink()
        else:
            write(pickles / name, hostile)
    # Without safetensors the one has all that the other has.
    return [pickles, own] if any(name.suffix == ".safetensors" for name in names) else [pickles]
