"""Files of tensors: what is read, what is refused, and that nothing is read twice into memory."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from amdm_framework.errors import CheckpointError
from amdm_framework.models.tensor_files import RenamedTensors, read_header, read_tensors


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}, path)
    return path


def test_headers_agree_with_safetensors_itself(tiny_file):
    header = read_header(tiny_file)
    with safe_open(tiny_file, framework="pt") as file:
        expected = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        assert {name: (list(info.shape), info.dtype) for name, info in header.items()} == {
            name: (list(part.get_shape()), part.get_dtype()) for name, part in expected.items()
        }


def test_tensors_stay_readable_after_release(stored):
    tensors = read_tensors(stored)
    kept = tensors["a"]
    tensors.release()
    assert torch.equal(kept, tensors["a"])
    assert tensors.files == (stored,)


def test_damaged_safetensors_are_named(stored):
    content = stored.read_bytes()
    huge = struct.pack("<Q", 2**60)
    for damaged in (b"", content[:5], content[:40], content[:-1], huge + content[8:], b"\x02" + bytes(7) + b"[]"):
        stored.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="weights.safetensors"):
            read_tensors(stored)
        with pytest.raises(CheckpointError, match="weights.safetensors"):
            read_header(stored)


@pytest.mark.parametrize("entry", [1, {}, {"dtype": "F32"}, {"shape": 1, "dtype": "F32", "data_offsets": [0, 4]}])
def test_damaged_headers_are_named(tmp_path, entry):
    path = tmp_path / "x.safetensors"
    header = json.dumps({"a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="damaged"):
        read_header(path)


def test_other_files_are_refused_with_the_kinds_that_are_read(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"unknown kind of checkpoint '.onnx'.*\.safetensors"):
        read_tensors(path)
    with pytest.raises(CheckpointError, match="no such file"):
        read_tensors(tmp_path / "absent.safetensors")


def test_shards_are_one_mapping(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "model-00002-of-00002.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
    )
    tensors = read_tensors(index)
    assert torch.equal(tensors["b"], torch.zeros(2))
    assert len(tensors) == len(tensors.files) == 2
    tensors.release()
    assert torch.equal(tensors["a"], torch.ones(1))


def test_an_index_cannot_lead_out_of_its_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    for name in ("../secret.safetensors", "/etc/passwd", 3):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(CheckpointError, match="not a file name in the same folder|not an index"):
            read_tensors(folder / "model.safetensors.index.json")
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not an index"):
        read_tensors(folder / "model.safetensors.index.json")


def test_renaming_and_changing(stored):
    renamed = RenamedTensors(read_tensors(stored), {"x": "a", "y": "b"}, {"x": torch.t})
    assert renamed["x"].shape == (3, 2)
    assert list(renamed) == ["x", "y"]
    assert "a" not in renamed
