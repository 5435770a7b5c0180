"""Hostile pickles in every place where a checkpoint may stand: nothing runs, and the error is one of our own."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fuzzed_files import PROVIDERS
from fuzzing import CASES, amdm

from amdm_framework.plugins import discover
from amdm_framework.provider import CHECKPOINT_REFERENCE_FORMAT
from hostile_pickles import ALL_WRITERS, NAMES, hostile_objects

SUFFIXES = (".ckpt", ".pth", ".pt", ".bin", ".safetensors")
FORMS = (*SUFFIXES, "model", "shards", "flat", "tokenizer")
STRIDE = 5 if CASES < 10_000 else 1
"""Every place meets one or two of the forms, or all of them."""

TIMES = max(1, CASES // 2000)
"""How many hostile files stand in each place in each form, of every kind and container by seeded chance."""

BLOCKS = {name: {**block, "base": "sd.safetensors"} for name, block in PROVIDERS.items() if "base" in block}
BLOCKS["stable_diffusion"] = {"checkpoint": "sd.safetensors"}
BLOCKS["controlnet"] = {"checkpoint": "controlnet", "base": "sd.safetensors"}
BLOCKS["gligen"] = {"checkpoint": "sd.safetensors"}


@cache
def places() -> list[tuple[str, tuple[str | int, ...]]]:
    """Return every option of every installed provider that leads to weights, with the key it stands at."""
    found = []
    for name, offer in discover().providers.items():
        schema = offer.value.options.model_json_schema()
        found += [(name, key) for key in _references(schema, schema.get("$defs", {}))]
    return found


def _references(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[tuple[str | int, ...]]:
    if schema.get("format") == CHECKPOINT_REFERENCE_FORMAT:
        yield ()
    if "$ref" in schema:
        yield from _references(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for inner in itertools.chain(*(schema.get(union, ()) for union in ("anyOf", "oneOf", "allOf"))):
        yield from _references(inner, definitions)
    for name, inner in schema.get("properties", {}).items():
        yield from ((name, *key) for key in _references(inner, definitions))
    if isinstance(schema.get("items"), dict):
        yield from ((0, *key) for key in _references(schema["items"], definitions))


def block_with(provider: str, key: tuple[str | int, ...], value: str) -> dict[str, Any]:
    """Return a block of a provider in which one option, at whatever depth, leads to a file."""
    nested: Any = value
    for part in reversed(key[1:]):
        nested = [nested] if part == 0 else {part: nested}
    return {"use": provider, **BLOCKS[provider], str(key[0]): nested}


def write_hostile(folder: Path, form: str, name: str, writer: Any, mark: Path) -> Path:
    """Write a hostile object in one of the forms in which a model may lie on disk."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    hostile = hostile_objects(mark)[name]
    if form in SUFFIXES:
        writer(folder / f"hostile{form}", hostile)
        return folder / f"hostile{form}"
    if form == "tokenizer":
        # Code that a tokenizer's config names lies beside it, and pickles under the names that older ones had.
        shutil.copytree("tokenizer", folder, dirs_exist_ok=True)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config |= {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}, "tokenizer_class": "Tokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "code.py").write_text(f"open({str(mark)!r}, 'w').close()\n\n\nclass Tokenizer:\n    pass\n")
        for file in ("vocab.pkl", "tokenizer.pkl", "vocab.bin", "spiece.model"):
            writer(folder / file, hostile)
        return folder
    if form == "flat":
        shutil.copy("image_encoder/config.json", folder)
        for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
            writer(folder / f"{stem}.bin", hostile)
        return folder
    shutil.copytree("sd", folder, dirs_exist_ok=True)
    for component in ("unet", "vae", "text_encoder"):
        stem = "model" if component == "text_encoder" else "diffusion_pytorch_model"
        (folder / component / f"{stem}.safetensors").unlink()
        stem = "pytorch_model" if component == "text_encoder" else stem
        writer(folder / component / f"{stem}.bin", hostile)
        if form == "shards":
            (folder / component / f"{stem}.bin").rename(folder / component / "shard.bin")
            index = {"weight_map": {"w": "shard.bin"}}
            (folder / component / f"{stem}.bin.index.json").write_text(json.dumps(index))
    return folder


def refused(block: dict[str, Any], mark: Path) -> None:
    composition = {"providers": [block], "aggregation": {"strategy": "single"}, "sampler": {"steps": 1}}
    Path("hostile.yaml").write_text(yaml.safe_dump(composition))
    shutil.rmtree("out", ignore_errors=True)
    amdm("run", "hostile.yaml", "--scene", "scene.yaml", "--seed", "1", "--output", "out", "--no-progress", codes=(2,))
    assert not mark.exists(), "code from a checkpoint ran"
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_every_installed_provider_has_places_for_checkpoints() -> None:
    assert {"checkpoint", "vae", "loras", "tokenizer"} == {
        key[0] for name, key in places() if name == "stable_diffusion"
    }
    assert {name for name, _ in places()} == set(discover().providers) == set(BLOCKS), (
        "a new provider needs a block here"
    )


@pytest.mark.parametrize("form", FORMS)
def test_hostile_files_run_nothing(home: Path, tmp_path: Path, form: str) -> None:
    mark = tmp_path / "mark"
    chance = random.Random(form)
    for provider, key in places()[FORMS.index(form) % STRIDE :: STRIDE]:
        if key == ("tokenizer",) and form in ("model", "shards"):
            # A model's folder stands for the tokenizer inside, which is none of its weights.
            continue
        for _ in range(TIMES):
            name, writer = chance.choice(NAMES), chance.choice(ALL_WRITERS)
            path = write_hostile(home / "hostile", form, name, writer, mark)
            if form == "tokenizer" and key != ("tokenizer",):
                path = path / "vocab.bin"
            refused(block_with(provider, key, str(path)), mark)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_one_hostile_component_is_enough(home: Path, tmp_path: Path, component: str) -> None:
    folder = write_hostile(home / "hostile", "model", "os.system", ALL_WRITERS[0], tmp_path / "mark")
    for other in {"unet", "vae", "text_encoder"} - {component}:
        shutil.rmtree(folder / other)
        shutil.copytree(home / "sd" / other, folder / other)
    refused({"use": "stable_diffusion", "checkpoint": str(folder)}, tmp_path / "mark")


def test_programs_are_refused(home: Path, tmp_path: Path) -> None:
    path = home / "program.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    for provider, key in places()[::STRIDE]:
        refused(block_with(provider, key, str(path)), tmp_path / "mark")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_called_hostile_is(tmp_path: Path, name: str) -> None:
    # Loaded by pickle itself the objects do run, so that a silent mark elsewhere means something.
    mark = tmp_path / "mark"
    torch.save(hostile_objects(mark)[name], tmp_path / "x.pt")
    try:
        loaded = torch.load(tmp_path / "x.pt", weights_only=False)
    except Exception:
        loaded = None
    if hasattr(loaded, "wait"):
        loaded.wait()
    assert mark.exists() or (name == "getattr" and loaded is os.system)
