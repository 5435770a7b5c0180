"""Pickled checkpoints: tensors come out, nothing that a file asks for is run."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch

from amdm_framework.errors import CheckpointError
from amdm_framework.models.pickles import Placeholder, load_pickle
from amdm_framework.models.tensor_files import read_tensors
from amdm_framework.testing.hostile_files import Reduce, touch, write_zip
from hostile_pickles import NAMES, WRITERS, TrainerState, hostile_objects


@pytest.mark.parametrize("foreign_objects", [False, True])
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", NAMES)
def test_hostile_pickles_run_nothing(tmp_path, name, write, foreign_objects):
    mark = tmp_path / "mark"
    path = tmp_path / "hostile.ckpt"
    write(path, hostile_objects(mark)[name])
    try:
        tensors = dict(read_tensors(path, foreign_objects=foreign_objects))
    except CheckpointError as error:
        assert str(path) in str(error)
    else:
        # Read with placeholders: only the tensors came through.
        assert foreign_objects
        assert write is write_zip
        assert torch.equal(tensors["w"], torch.ones(2))
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_is_inert(tmp_path, protocol):
    mark = tmp_path / "mark"
    path = tmp_path / "hostile.ckpt"
    torch.save({"w": torch.ones(2), "x": Reduce(os.system, touch(mark))}, path, pickle_protocol=max(protocol, 2))
    path_plain = tmp_path / "plain.ckpt"
    path_plain.write_bytes(pickle.dumps(Reduce(os.system, touch(mark)), protocol=protocol))
    assert torch.equal(dict(read_tensors(path, foreign_objects=True))["w"], torch.ones(2))
    with pytest.raises(CheckpointError):
        read_tensors(path_plain, foreign_objects=True)
    assert not mark.exists()


def test_opcodes_written_by_hand_cannot_reach_functions(tmp_path):
    mark = tmp_path / "mark"
    command = touch(mark).encode()
    programs = [
        b"cos\nsystem\n(V" + command + b"\ntR.",
        b"(V" + command + b"\nios\nsystem\n.",
        b"(cos\nsystem\nV" + command + b"\no.",
        b"cposix\nsystem\n\x8c" + bytes([len(command)]) + command + b"\x85R.",
        # Attributes set on what stands for an allowed function must not reach torch's own.
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}V__defaults__\nN s tb.".replace(b" ", b""),
    ]
    rebuild = torch._utils._rebuild_tensor_v2
    before = rebuild.__defaults__
    for index, program in enumerate(programs):
        path = tmp_path / f"{index}.ckpt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + program)
            archive.writestr("archive/version", "3")
        with pytest.raises(CheckpointError):
            read_tensors(path, foreign_objects=True)
    assert not mark.exists()
    assert rebuild.__defaults__ == before


def test_legacy_container_sources_cannot_write_patches(tmp_path, monkeypatch):
    # The legacy format lets a pickle name a class together with its source, and torch may write a file about it.
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "legacy.ckpt"
    body = b"\x80\x02(V" + b"module\n" + b"ctorch.nn.modules.linear\nLinear\nVa.py\nVsource\ntQ."
    header = [pickle.dumps(number, 2) for number in (0x1950A86A20F9469CFC6C, 1001)]
    path.write_bytes(b"".join([*header, pickle.dumps({}, 2), body, pickle.dumps([], 2)]))
    with pytest.raises(CheckpointError):
        read_tensors(path, foreign_objects=True)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "cache"] == ["legacy.ckpt"]


def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    for foreign_objects in (False, True):
        with pytest.raises(CheckpointError, match="TorchScript"):
            load_pickle(path, foreign_objects=foreign_objects)


def test_foreign_objects_are_refused_unless_asked_for(tmp_path):
    path = tmp_path / "trained.pth"
    metadata = OrderedDict(w=torch.arange(3.0))
    metadata._metadata = {"version": 1}
    torch.save({"model": metadata, "config_dict": TrainerState(), "iters": 5}, path)
    with pytest.raises(CheckpointError, match="TrainerState") as caught:
        read_tensors(path)
    assert "safetensors" in str(caught.value)
    tensors = read_tensors(path, foreign_objects=True)
    assert list(tensors) == ["model.w"]
    assert torch.equal(tensors["model.w"], torch.arange(3.0))
    assert isinstance(load_pickle(path, foreign_objects=True)["config_dict"], Placeholder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("foreign_objects", [False, True])
def test_tensors_of_every_kind_come_out_as_they_went_in(tmp_path, dtype, foreign_objects):
    path = tmp_path / "weights.bin"
    base = (torch.arange(12).reshape(3, 4) % 2).to(dtype)
    saved = {"plain": base, "transposed": base.t(), "slice": base[1:], "scalar": base[0, 0].clone()}
    saved["parameter"] = torch.nn.Parameter(base.clone(), requires_grad=False)
    torch.save(saved, path)
    tensors = read_tensors(path, foreign_objects=foreign_objects)
    assert set(tensors) == set(saved)
    assert all(torch.equal(tensors[name], saved[name]) and tensors[name].dtype == dtype for name in saved)


def test_nested_dictionaries_become_dotted_names_and_a_state_dict_stands_for_the_file(tmp_path):
    path = tmp_path / "a.bin"
    torch.save({"image_proj": {"latents": torch.ones(1)}, "ip_adapter": {"1.to_k_ip.weight": torch.ones(2)}}, path)
    assert set(read_tensors(path)) == {"image_proj.latents", "ip_adapter.1.to_k_ip.weight"}
    torch.save({"state_dict": {"w": torch.ones(1)}, "optimizer": {"m": torch.ones(1)}, "epoch": 3}, path)
    assert set(read_tensors(path)) == {"w"}


def test_dictionaries_that_contain_themselves_are_refused(tmp_path):
    path = tmp_path / "loop.ckpt"
    loop: dict[str, object] = {"w": torch.ones(1)}
    loop["again"] = loop
    torch.save(loop, path)
    with pytest.raises(CheckpointError, match="nested deeper"):
        read_tensors(path)


def test_torn_files_are_named(tmp_path):
    whole = tmp_path / "whole.ckpt"
    torch.save({"w": torch.randn(1000)}, whole)
    content = whole.read_bytes()
    for length in (0, 1, 3, 4, 100, len(content) // 2, len(content) - 10):
        path = tmp_path / f"torn{length}.ckpt"
        path.write_bytes(content[:length])
        for foreign_objects in (False, True):
            with pytest.raises(CheckpointError, match=path.name):
                read_tensors(path, foreign_objects=foreign_objects)


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "claims.ckpt"
    torch.save({"w": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    data = next(name for name in entries if name.endswith("data.pkl"))
    # The number of values stands as BININT1 4 behind the storage's location.
    claimed = entries[data].replace(b"cpuq\x04K\x04", b"cpuq\x04J" + struct.pack("<i", 2**30))
    if claimed == entries[data]:
        claimed = entries[data].replace(b"K\x04", b"J" + struct.pack("<i", 2**30))
    assert claimed != entries[data]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, claimed if name == data else content)
    for foreign_objects in (False, True):
        with pytest.raises(CheckpointError):
            {name: value.sum() for name, value in read_tensors(path, foreign_objects=foreign_objects).items()}
