"""The tensors of checkpoint files, read one at a time when they are asked for.

`read_tensors(path)` gives a mapping from names to tensors that are mapped from the file: looking at a shape reads
nothing, and `release()` lets go of what has been read, so that loading a file never needs a second copy of it. A loader
copies what it keeps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError
from ..provider import TensorInfo
from .pickles import load_pickle

PICKLE_SUFFIXES = (".ckpt", ".pth", ".pt", ".bin")
"""Endings of files that `read_tensors` reads as pickles, without executing anything in them."""

_MAX_HEADER_BYTES = 100 * 2**20
_MAX_NESTING = 16


class TensorMapping(Mapping[str, torch.Tensor]):
    """Named tensors behind one or more files.

    Attributes:
        files: the files that are read.
        source: what messages call them.
    """

    files: tuple[Path, ...] = ()
    source: str = ""

    def release(self) -> None:
        """Let go of everything that was read; tensors are read again when they are asked for again."""


class StoredTensors(TensorMapping):
    """The tensors of one file, under the names they are stored by."""

    def __init__(self, path: Path, open_file: Callable[[], Mapping[str, torch.Tensor]], *, mapped: bool = True) -> None:
        self.files = (path,)
        self.source = str(path)
        self._open_file = open_file
        self._mapped = mapped
        self._opened: Mapping[str, torch.Tensor] | None = open_file()
        self._names = dict.fromkeys(self._opened)

    def __getitem__(self, name: str) -> torch.Tensor:
        if self._opened is None:
            self._opened = self._open_file()
        return self._opened[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def release(self) -> None:
        if self._mapped:
            self._opened = None


class RenamedTensors(TensorMapping):
    """Some tensors of another mapping under new names, optionally changed on the way.

    Args:
        tensors: where they come from.
        names: {new name: stored name}.
        changes: {new name: function applied to the tensor}, e.g. a 1x1 convolution that becomes a linear layer.
    """

    def __init__(
        self,
        tensors: TensorMapping,
        names: Mapping[str, str],
        changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> None:
        self.files, self.source = tensors.files, tensors.source
        self.stored_names = names
        self._tensors = tensors
        self._changes = changes or {}

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._tensors[self.stored_names[name]]
        return self._changes[name](tensor) if name in self._changes else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored_names)

    def __len__(self) -> int:
        return len(self.stored_names)

    def release(self) -> None:
        self._tensors.release()


class MergedTensors(TensorMapping):
    """The tensors of several files (shards) as one mapping."""

    def __init__(self, parts: list[TensorMapping], source: str) -> None:
        self.files = tuple(path for part in parts for path in part.files)
        self.source = source
        self._parts = parts
        self._part_of = {name: part for part in parts for name in part}

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._part_of[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._part_of)

    def __len__(self) -> int:
        return len(self._part_of)

    def release(self) -> None:
        for part in self._parts:
            part.release()


def read_tensors(path: Path, *, foreign_objects: bool = False) -> TensorMapping:
    """Open a checkpoint file of any supported format.

    Pickles: a top-level `state_dict` is taken where there is one; other nested dictionaries become dotted names (an
    IP-Adapter's `{"image_proj": {"latents": ...}}` is `image_proj.latents`, as in its safetensors form); whatever is
    not a dense tensor is left out.

    Args:
        path: a `.safetensors`, `.ckpt`, `.pth`, `.pt` or `.bin` file, or the `.index.json` that names the shards of
            one model.
        foreign_objects: see `pickles.load_pickle`; for original files known to carry configuration objects.

    Raises:
        CheckpointError: missing, damaged, refused or of an unknown format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if ".index." in path.name and path.suffix == ".json":
        return _read_shards(path)
    if path.suffix == ".safetensors":
        return StoredTensors(path, lambda: _SafetensorsFile(path))
    if path.suffix in PICKLE_SUFFIXES:
        with path.open("rb") as file:
            mapped = file.read(2) == b"PK"
        return StoredTensors(path, lambda: _open_pickle(path, foreign_objects), mapped=mapped)
    known = ", ".join((".safetensors", *PICKLE_SUFFIXES))
    raise CheckpointError(f"{path}: unknown kind of checkpoint {path.suffix!r}, expected one of {known}")


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read names, shapes and dtypes of a safetensors file from its header alone.

    The identities say `file:name`: equal for one tensor of one file only. See `digests.tensor_infos` for identities by
    content.

    Raises:
        CheckpointError: the header is damaged, or the file is shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                raise CheckpointError(f"{path}: not a safetensors file, or an incomplete one")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        infos = {
            name: TensorInfo(tuple(map(int, entry["shape"])), str(entry["dtype"]), f"{path}:{name}")
            for name, entry in header.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a safetensors file, its header is damaged") from error
    if 8 + length + end > size:
        raise CheckpointError(f"{path}: incomplete, it has {size} bytes of {8 + length + end}")
    return infos


class _SafetensorsFile(Mapping[str, torch.Tensor]):
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = cast(Any, safe_open(path, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not a safetensors file, or an incomplete one ({error})") from error
        self._names: dict[str, None] = dict.fromkeys(self._file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        try:
            tensor: torch.Tensor = self._file.get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(f"{self._path}: {name} cannot be read ({error})") from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _open_pickle(path: Path, foreign_objects: bool) -> dict[str, torch.Tensor]:
    contents = load_pickle(path, foreign_objects=foreign_objects)
    if isinstance(contents, Mapping) and isinstance(contents.get("state_dict"), Mapping):
        contents = contents["state_dict"]
    if not isinstance(contents, Mapping):
        raise CheckpointError(f"{path}: found {type(contents).__name__}, expected a dictionary of tensors")
    return dict(_dense_tensors(contents, path))


def _dense_tensors(
    contents: Mapping[Any, Any], path: Path, prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, torch.Tensor]]:
    if depth > _MAX_NESTING:
        raise CheckpointError(f"{path}: dictionaries are nested deeper than {_MAX_NESTING} levels")
    for key, value in contents.items():
        if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
            yield f"{prefix}{key}", value.detach()
        elif isinstance(value, Mapping):
            yield from _dense_tensors(value, path, f"{prefix}{key}.", depth + 1)


def _read_shards(index: Path) -> TensorMapping:
    try:
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: not an index of shards with a `weight_map`") from error
    parts: list[TensorMapping] = []
    for name in files:
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index}: {name!r} is not a file name in the same folder")
        parts.append(read_tensors(index.parent / name))
    return MergedTensors(parts, str(index))
