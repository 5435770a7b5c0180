"""Digests of files and of single tensors, computed once per file and remembered in the user's cache folder.

The cache is `amdm_framework/digests` below `$XDG_CACHE_HOME` (or `~/.cache`); entries are small JSON files that hold
for one size and modification time of the file. It can be deleted at any time, and where it cannot be written the
digests are computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..provider import TensorInfo
from .tensor_files import TensorMapping

_STORED_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def cache_folder() -> Path:
    """Return the folder of this program's caches; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "amdm_framework"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's contents in hex, remembered by path, size and modification time.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        signature = _signature([path])
        remembered = _read_cache(signature, "sha256").get("sha256")
        if isinstance(remembered, str):
            return remembered
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    _write_cache(signature, "sha256", {"sha256": digest})
    return digest


def tensor_infos(tensors: TensorMapping, component: str, dtype: torch.dtype) -> list[TensorInfo]:
    """Describe tensors as they will be held in memory, with identities by content.

    Two tensors get one identity if and only if `WeightStore` will hold them once: same shape, and same bytes after the
    cast to the dtype of the run. So a float32 and a float16 file of one model share in a float16 run. The contents are
    read (about a gigabyte per second and core) unless the digests are remembered from before; no network is built.

    Args:
        tensors: under their final names, as a loader hands them to a module.
        component: tells mappings of one file apart (`unet`, `vae`).
        dtype: what floating-point weights are cast to.

    Raises:
        CheckpointError: the tensors cannot be read, or hold complex numbers, say.
    """
    kind = f"{component} {dtype}"
    signature = _signature(tensors.files)
    remembered = _read_cache(signature, kind)
    if remembered.keys() != set(tensors):
        names = list(tensors)
        remembered = {}
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(names), 64):
                batch = names[start : start + 64]
                digests = pool.map(_digest, (tensors[name] for name in batch), [dtype] * len(batch))
                remembered |= dict(zip(batch, digests, strict=True))
                tensors.release()
        _write_cache(signature, kind, remembered)
    infos = []
    for name in tensors:
        tensor = tensors[name]
        if tensor.dtype not in _STORED_NAMES:
            kind_of_number = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{tensors.source}: {name} holds numbers of kind {kind_of_number}, which no weight is of"
            )
        shape, stored = tuple(tensor.shape), _STORED_NAMES[tensor.dtype]
        infos.append(TensorInfo(shape, stored, f"{remembered[name]} {shape}"))
    tensors.release()
    return infos


def bytes_of(tensor: torch.Tensor) -> Any:
    """Return the contents of a tensor on the CPU as a buffer of bytes, in logical order."""
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy()


def _digest(tensor: torch.Tensor, dtype: torch.dtype) -> str:
    value = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return hashlib.blake2b(bytes_of(value), digest_size=16).hexdigest()


# What a cache entry holds for: [path, size, modification time] of every file.
Signature = list[list[str | int]]


def _signature(paths: Sequence[Path]) -> Signature:
    stats = [(path.resolve(), path.stat()) for path in paths]
    return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def _entry(signature: Signature, kind: str) -> Path:
    key = json.dumps([kind, *(path for path, _, _ in signature)])
    return cache_folder() / "digests" / f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}.json"


def _read_cache(signature: Signature, kind: str) -> dict[str, Any]:
    try:
        stored = json.loads(_entry(signature, kind).read_text())
        if stored["files"] == signature and isinstance(stored["values"], dict):
            return dict(stored["values"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        # Absent, damaged, of another version, or there is no home folder: computed again.
        pass
    return {}


def _write_cache(signature: Signature, kind: str, values: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        entry = _entry(signature, kind)
        entry.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=entry.parent, suffix=".part")
        with os.fdopen(descriptor, "w") as file:
            json.dump({"files": signature, "values": values}, file)
        os.replace(temporary, entry)
