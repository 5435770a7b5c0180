"""Damaged configs of a model's folder end in success or in an error of our own, both looked at and loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fuzzing import cases
from hypothesis import given
from hypothesis import strategies as st
from mutations import damaged, damaged_bytes
from test_fuzz_checkpoints import examine_and_load

CONFIGS = {
    "sd/unet/config.json": 0.02,
    "sd/vae/config.json": 0.02,
    "sd/text_encoder/config.json": 0.02,
    "sd/scheduler/scheduler_config.json": 0.02,
    "sd/tokenizer/tokenizer_config.json": 0.01,
    "sd/tokenizer/vocab.json": 0.01,
    "sd/tokenizer/merges.txt": 0.01,
    "sd/tokenizer/special_tokens_map.json": 0.01,
    "image_encoder/config.json": 0.02,
    "interactdiffusion/unet/config.json": 0.02,
}


@pytest.mark.parametrize(("config", "share"), CONFIGS.items())
def test_configs(home: Path, config: str, share: float) -> None:
    folder = config.partition("/")[0]
    copy = f"damaged_{folder}"
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    text = Path(config).read_bytes()
    place = Path(copy, *Path(config).parts[1:])
    options = {
        "sd": {"provider": "stable_diffusion", "checkpoint": copy, "loras": []},
        "image_encoder": {"provider": "ip_adapter", "image_encoder": copy},
        "interactdiffusion": {"provider": "interactdiffusion", "checkpoint": copy},
    }[folder]
    contents: st.SearchStrategy[bytes] = damaged_bytes(text)
    if place.suffix == ".json":
        contents = st.one_of(damaged(json.loads(text)).map(_dumped), contents)

    @cases(share)
    @given(contents)
    def check(content: bytes) -> None:
        place.write_bytes(content)
        examine_and_load(**options)

    check()


def _dumped(content: Any) -> bytes:
    return json.dumps(content, skipkeys=True).encode()
