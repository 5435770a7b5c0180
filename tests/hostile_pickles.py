"""Pickles that run code when they are loaded by `pickle` or `torch.load`; here the code makes a file, the mark."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import tarfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import torch

from amdm_framework.testing.hostile_files import Reduce, touch, write_legacy, write_plain, write_zip


class TrainerState:
    """An object of a class that the reader does not know (it does, but is not told so)."""

    def __init__(self) -> None:
        self.callbacks = {"best": torch.zeros(2), "scores": [1, 2]}


def hostile_objects(mark: Path) -> dict[str, object]:
    """Return objects that make a file when they are unpickled, by what they do."""
    code = f"open({str(mark)!r}, 'w').close()"
    system = Reduce(os.system, touch(mark))
    return {
        "os.system": system,
        "subprocess.call": Reduce(subprocess.call, ["touch", str(mark)]),
        "subprocess.Popen": Reduce(subprocess.Popen, ["touch", str(mark)]),
        "builtins.eval": Reduce(builtins.eval, code),
        "builtins.exec": Reduce(builtins.exec, code),
        "builtins.open": Reduce(builtins.open, str(mark), "w"),
        "getattr": Reduce(getattr, Reduce(__import__, "os"), "system"),
        "getattr chain": Reduce(Reduce(getattr, Reduce(__import__, "os"), "system"), touch(mark)),
        "nested": {"state_dict": {"w": torch.ones(1), "deep": [{"x": (system,)}]}},
        "in an ordered dictionary": OrderedDict(w=torch.ones(1), x=(1, (2, system))),
        "in a key": {system: 1},
        "as state": Reduce(TrainerState, state={"x": system}),
        "as state of a module": Reduce(torch.nn.Linear, 1, 1, state={"_parameters": {"weight": system}}),
        "as tensor argument": Reduce(torch._utils._rebuild_tensor_v2, system, 0, (1,), (1,)),
        "path method": Reduce(Path.touch, mark),
        "another pickle": Reduce(pickle.loads, pickle.dumps(system)),
    }


NAMES = list(hostile_objects(Path("mark")))


def write_tar(path: Path, hostile: object) -> None:
    """Write the format of PyTorch before 0.2."""
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(0 if name != "pickle" else hostile) + pickle.dumps(hostile)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


WRITERS = [write_zip, write_legacy, write_plain, write_tar]
ALL_WRITERS = [*WRITERS, *(partial(write_plain, protocol=protocol) for protocol in range(6))]
