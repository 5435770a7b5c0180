"""Digests are right, remembered, and forgotten when the file changes; identities predict what will be shared."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import save_file

from amdm_framework.errors import CheckpointError
from amdm_framework.models import digests
from amdm_framework.models.autoencoder import encoder_fingerprint
from amdm_framework.models.checkpoints import read_tensors
from amdm_framework.models.digests import cache_folder, file_sha256, tensor_infos
from amdm_framework.testing.tiny_models import build_vae


def test_sha256_is_that_of_the_contents_and_remembered(tmp_path, monkeypatch):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()


@pytest.mark.parametrize("content", [b"two", b"longer"])
def test_a_changed_file_is_digested_again(tmp_path, content):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    file_sha256(path)
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("damage", ["", "[]", '{"files": 1}', '{"files": [], "values": 3}', "\x00"])
def test_a_damaged_cache_is_ignored(tmp_path, damage):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    file_sha256(path)
    for entry in cache_folder().rglob("*.json"):
        entry.write_text(damage)
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()


def test_an_unwritable_cache_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "weights.bin").write_bytes(b"one")
    assert file_sha256(tmp_path / "weights.bin") == hashlib.sha256(b"one").hexdigest()


def test_many_at_once_leave_whole_entries(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"x" * 100_000)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(file_sha256, [path] * 64))) == 1
    assert not list(cache_folder().rglob("*.part"))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="absent.bin"):
        file_sha256(tmp_path / "absent.bin")


def write(path, **tensors):
    save_file(tensors, path)
    return read_tensors(path)


def identities(tensors, dtype=torch.float32):
    return {name: info.identity for name, info in zip(tensors, tensor_infos(tensors, "unet", dtype), strict=True)}


def test_equal_identities_are_equal_contents_in_the_dtype_of_the_run(tmp_path):
    values = torch.randn(4, 4)
    full = write(tmp_path / "full.safetensors", a=values, b=values.clone(), c=values.reshape(16).clone(), d=values + 1)
    half = write(tmp_path / "half.safetensors", a=values.half())
    names = identities(full)
    assert names["a"] == names["b"]
    assert len({names["a"], names["c"], names["d"]}) == 3
    assert identities(half)["a"] != names["a"]
    assert identities(half, torch.float16)["a"] == identities(full, torch.float16)["a"]


def test_identities_are_remembered_per_dtype_and_component(tmp_path, monkeypatch):
    tensors = write(tmp_path / "full.safetensors", a=torch.randn(4))
    first = identities(tensors)
    half = identities(tensors, torch.float16)
    assert first != half
    monkeypatch.setattr(digests, "_digest", None)
    assert identities(tensors) == first
    assert identities(tensors, torch.float16) == half


def test_infos_tell_stored_shapes_and_dtypes(tmp_path):
    tensors = write(tmp_path / "x.safetensors", a=torch.zeros(2, 3, dtype=torch.bfloat16))
    (info,) = tensor_infos(tensors, "unet", torch.float32)
    assert (info.shape, info.dtype) == ((2, 3), "BF16")


def test_an_encoder_is_known_in_every_precision_and_with_every_decoder():
    vae = build_vae()
    weights = vae.state_dict()
    fingerprint = encoder_fingerprint(weights)
    assert encoder_fingerprint({name: value.half() for name, value in weights.items()}) == fingerprint
    assert encoder_fingerprint(weights | {"decoder.conv_in.bias": weights["decoder.conv_in.bias"] + 1}) == fingerprint
    assert encoder_fingerprint(weights | {"encoder.conv_in.bias": weights["encoder.conv_in.bias"] + 1}) != fingerprint
    assert encoder_fingerprint(weights | {"quant_conv.bias": weights["quant_conv.bias"] + 1}) != fingerprint
