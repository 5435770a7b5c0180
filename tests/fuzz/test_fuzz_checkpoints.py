"""Damaged checkpoints of every kind end in success or in an error of our own, both looked at and loaded."""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fuzzed_files import composition_of, lora_tensors
from fuzzing import amdm, cases
from hypothesis import given
from hypothesis import strategies as st
from mutations import VALUES, damaged_bytes
from safetensors.torch import load_file, save_file
from watching import watched

from amdm_framework.errors import AMDMError
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.testing.tiny_models import TINY_UNET, build_unet
from amdm_plugin_ip_adapter.tiny_model import adapter_tensors
from amdm_plugin_migc.tiny_model import original_tensors


def examine_and_load(provider: str, **options: Any) -> None:
    """Look at a damaged file and load it, as `amdm check` and `amdm run` do."""
    composition = composition_of(provider, **options)
    Path("damaged.yaml").write_text(yaml.safe_dump(composition))
    amdm("check", "damaged.yaml")
    try:
        with watched():
            AMDMPipeline.from_composition("damaged.yaml", device="cpu")
    except AMDMError as error:
        assert str(error)


NUMBERS: list[Any] = [
    0,
    1,
    -1,
    2,
    3,
    32,
    64,
    10**6,
    2**31,
    2**40,
    2**62,
    2**63,
    2**64,
    10**30,
    0.5,
    None,
    "1",
    [],
    True,
]
DTYPES = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "F4",
    "I64",
    "I8",
    "U64",
    "BOOL",
    "C64",
    "f32",
    "",
    None,
    1,
]


def safetensors_parts() -> tuple[dict[str, Any], bytes]:
    content = Path("sd.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@st.composite
def damaged_headers(draw: st.DrawFn) -> tuple[list[tuple[str, Any]], int]:
    """Return what is put over the entries of a header, position by position, and how wrong the stated length is."""
    changes = []
    for _ in range(draw(st.integers(1, 3))):
        field = draw(st.sampled_from(["shape", "dtype", "begin", "end", "entry", "name", "twice", "metadata", "drop"]))
        if field == "shape":
            value: Any = draw(st.lists(st.sampled_from(NUMBERS), max_size=5))
        elif field in ("dtype", "metadata", "entry"):
            value = draw(st.sampled_from([*DTYPES, *VALUES] if field == "dtype" else VALUES))
        elif field in ("begin", "end"):
            value = draw(st.sampled_from([*NUMBERS, 4, 8, 100, 4096]))
        else:
            value = draw(
                st.sampled_from(["", "x", "\x00", "a" * 5000, "model.diffusion_model.out.2.bias", "__metadata__"])
            )
        changes.append((f"{draw(st.integers(0, 400))} {field}", value))
    return changes, draw(st.sampled_from([0, 0, 0, 0, 1, -1, 8, 2**20, 2**40, -(2**10)]))


def write_safetensors(path: Path, changes: list[tuple[str, Any]], wrong_by: int) -> None:
    header, data = safetensors_parts()
    entries = list(header.items())
    for change, value in changes:
        position, field = change.split()
        index = int(position) % len(entries)
        name, entry = entries[index]
        entry = dict(entry) if isinstance(entry, dict) else {}
        if field in ("shape", "dtype"):
            entries[index] = name, {**entry, field: value}
        elif field in ("begin", "end"):
            offsets = list(entry.get("data_offsets", [0, 0]))
            offsets[field == "end"] = value
            entries[index] = name, {**entry, "data_offsets": offsets}
        elif field == "entry":
            entries[index] = name, value
        elif field == "name":
            entries[index] = value, entry
        elif field == "twice":
            entries.append((name, entry))
        elif field == "metadata":
            entries.append(("__metadata__", value))
        elif len(entries) > 1:
            del entries[index]
    # By hand, since a dictionary cannot hold one key twice.
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in entries) + "}"
    content = text.encode()
    path.write_bytes(struct.pack("<Q", max(0, len(content) + wrong_by)) + content + data)


@cases(0.1)
@given(damaged_headers())
def test_safetensors_headers(damage: tuple[list[tuple[str, Any]], int]) -> None:
    write_safetensors(Path("damaged.safetensors"), *damage)
    examine_and_load("stable_diffusion", checkpoint="damaged.safetensors", loras=[])


@cases(0.05)
@given(st.data())
def test_torn_safetensors(data: st.DataObject) -> None:
    content = Path("sd.safetensors").read_bytes()
    until = data.draw(st.sampled_from([16, 200, int.from_bytes(content[:8], "little")]))
    Path("damaged.safetensors").write_bytes(data.draw(damaged_bytes(content, until)))
    examine_and_load("stable_diffusion", checkpoint="damaged.safetensors", loras=[])


@cases(0.03)
@given(st.data())
def test_torn_pickles(data: st.DataObject) -> None:
    provider, file = data.draw(
        st.sampled_from([("migc", "MIGC_SD14.ckpt"), ("interactdiffusion", "interact-diffusion-v1.pth")])
    )
    content = Path(file).read_bytes()
    until = data.draw(st.sampled_from([64, 4096, len(content)]))
    damaged_file = Path("damaged").with_suffix(Path(file).suffix)
    damaged_file.write_bytes(data.draw(damaged_bytes(content, until)))
    examine_and_load(provider, checkpoint=str(damaged_file))


@st.composite
def damaged_tensors(draw: st.DrawFn) -> list[tuple[int, str, Any]]:
    """Return changes of a file's tensors: which of them, what is changed, and how."""
    changes = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(
            st.sampled_from(["drop", "rename", "shape", "shape", "dtype", "values", "object", "move", "prefix"])
        )
        value: Any = None
        if kind == "rename":
            value = draw(st.sampled_from([("attn2", "attn1"), ("weight", "bias"), (".", ""), ("1", "7"), ("0", "-1"),
                                          ("0", "99999999999"), ("", "x."), ("migc", "migc.migc"), ("image_proj", "y"),
                                          ("lora_A", "lora_B"), ("block", "\x00"), ("ip_adapter", "1")]))  # fmt: skip
        elif kind == "shape":
            value = draw(st.lists(st.sampled_from([0, 1, 2, 3, 7, 30, 64, 65, 512]), max_size=5))
        elif kind == "dtype":
            dtypes = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
            value = draw(st.sampled_from([*dtypes, torch.float8_e4m3fn, torch.uint8]))
        elif kind == "values":
            value = draw(st.sampled_from([float("nan"), float("inf"), 0.0, 1e38]))
        elif kind == "object":
            value = draw(st.sampled_from([None, 1, "x", [], {}, (1, 2), b"x", torch.Size([1])]))
        elif kind == "prefix":
            value = draw(
                st.sampled_from(["model.", "state_dict.", "module.", "unet.", "model.diffusion_model.", "opt."])
            )
        changes.append((draw(st.integers(0, 10_000)), kind, value))
    return changes


def damage_tensors(valid: dict[str, torch.Tensor], changes: list[tuple[int, str, Any]]) -> dict[str, Any]:
    tensors: dict[str, Any] = OrderedDict(valid)
    for position, kind, value in changes:
        name = list(tensors)[position % len(tensors)]
        if kind == "drop" and len(tensors) > 1:
            del tensors[name]
        elif kind == "rename":
            tensors[name.replace(*value, 1)] = tensors.pop(name)
        elif kind == "shape":
            tensors[name] = torch.zeros(value)
        elif kind == "dtype" and isinstance(tensors[name], torch.Tensor):
            tensors[name] = tensors[name].to(value)
        elif kind == "values" and isinstance(tensors[name], torch.Tensor):
            tensors[name] = torch.full(tensors[name].shape, value)
        elif kind == "object":
            tensors[name] = value
        elif kind == "move":
            tensors[name] = tensors[list(tensors)[(position * 7 + 1) % len(tensors)]]
        elif kind == "prefix":
            tensors = OrderedDict((f"{value}{key}", tensor) for key, tensor in tensors.items())
    return tensors


def write_tensors(name: str, tensors: dict[str, Any], pickled: bool) -> str:
    if pickled:
        torch.save({"state_dict": tensors}, f"{name}.ckpt")
        return f"{name}.ckpt"
    kept = {key: value.clone().contiguous() for key, value in tensors.items() if isinstance(value, torch.Tensor)}
    save_file(kept, f"{name}.safetensors")
    return f"{name}.safetensors"


ADAPTERS: dict[str, Any] = {
    "stable_diffusion": lambda home: load_file(home / "sd.safetensors"),
    "interactdiffusion": lambda home: load_file(home / "interactdiffusion.safetensors"),
    "migc": lambda home: original_tensors(),
    "ip_adapter": lambda home: adapter_tensors(build_unet(TINY_UNET), "base", seed=1),
    "ip_adapter plus": lambda home: adapter_tensors(build_unet(TINY_UNET), "plus", seed=1),
}


@pytest.mark.parametrize("name", ADAPTERS)
@cases(0.03)
@given(changes=damaged_tensors(), pickled=st.booleans())
def test_adapter_files(home: Path, name: str, changes: list[tuple[int, str, Any]], pickled: bool) -> None:
    provider = name.split()[0]
    file = write_tensors("damaged", damage_tensors(ADAPTERS[name](home), changes), pickled)
    more = {"tokenizer": "tokenizer", "loras": []} if provider == "stable_diffusion" else {}
    examine_and_load(provider, checkpoint=file, **more)


@cases(0.03)
@given(changes=damaged_tensors(), pickled=st.booleans())
def test_lora_files(changes: list[tuple[int, str, Any]], pickled: bool) -> None:
    file = write_tensors("damaged", damage_tensors(lora_tensors(), changes), pickled)
    examine_and_load("stable_diffusion", checkpoint="sd", loras=[{"checkpoint": file}])
