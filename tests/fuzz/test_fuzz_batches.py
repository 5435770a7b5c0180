"""Damaged lists of scenes and ledgers end in success, in scenes that failed alone, or in an error of our own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzed_files import SCENE
from fuzzing import amdm, cases, remembering_reports
from hypothesis import given
from hypothesis import strategies as st
from mutations import damaged, damaged_bytes

from amdm_framework.batch.drawing import Drawer
from amdm_framework.composition import read_composition
from amdm_framework.plugins import discover

LINES: list[dict[str, Any]] = [{**SCENE, "name": "one", "seed": 3}, {"caption": "two"}]
COCO_MIG: dict[str, Any] = {
    "0": {
        "caption": "a red bus and a blue cat",
        "segment": [
            {"label": "a red bus", "bbox": [0.1, 0.1, 0.5, 0.9]},
            {"label": "a blue cat", "bbox": [0.5, 0.1, 0.9, 0.9]},
        ],
        "image_id": "1153",
    }
}


@pytest.fixture(scope="module", autouse=True)
def _models_are_loaded_once(home: Path) -> Iterator[None]:
    plugins = discover()
    composition = read_composition(home / "sd.yaml", plugins).composition.model_dump(mode="json", exclude_unset=True)
    drawer = Drawer(composition, str(home), "cpu", "float32", True, plugins)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amdm_framework.cost.inspect_members", remembering_reports())
        patch.setattr("amdm_framework.batch.drawing.Drawer", lambda *arguments: drawer)
        yield


def batch(scenes: str, *flags: str) -> None:
    arguments = ["batch", "sd.yaml", "--scenes", scenes, "--output", "pictures", "--device", "cpu", "--no-progress"]
    result = amdm(*arguments, *flags, codes=(0, 1, 2))
    left = [path.name for path in Path("pictures").glob("*")] if Path("pictures").exists() else []
    assert not [name for name in left if name.endswith(".part")]
    assert result.exit_code == 2 or "ledger.jsonl" in left


def text_of(lines: list[Any]) -> bytes:
    return "\n".join(json.dumps(line, skipkeys=True) for line in lines).encode()


@cases(0.04)
@given(
    st.one_of(damaged(LINES).map(lambda x: text_of(x if isinstance(x, list) else [x])), damaged_bytes(text_of(LINES)))
)
def test_lists_of_scenes(content: bytes) -> None:
    shutil.rmtree("pictures", ignore_errors=True)
    Path("damaged.jsonl").write_bytes(content)
    batch("damaged.jsonl", "--batch-size", "2")


@cases(0.02)
@given(
    st.one_of(
        damaged(COCO_MIG).map(lambda content: json.dumps(content, skipkeys=True).encode()),
        damaged_bytes(json.dumps(COCO_MIG).encode()),
    )
)
def test_coco_mig_files(content: bytes) -> None:
    shutil.rmtree("pictures", ignore_errors=True)
    Path("damaged.json").write_bytes(content)
    batch("damaged.json")


@pytest.fixture(scope="module")
def finished(home: Path, _models_are_loaded_once: None) -> Path:
    """The folder of a finished batch."""
    (home / "whole.jsonl").write_bytes(text_of([{"caption": "a", "name": "a"}, {"caption": "b", "name": "b"}]))
    amdm("batch", home / "sd.yaml", "--scenes", home / "whole.jsonl", "--output", home / "finished", "--no-progress")
    return home / "finished"


@cases(0.04)
@given(data=st.data(), forced=st.booleans())
def test_ledgers(finished: Path, data: st.DataObject, forced: bool) -> None:
    content = (finished / "ledger.jsonl").read_bytes()
    lines = [json.loads(line) for line in content.splitlines()]
    shutil.rmtree("pictures", ignore_errors=True)
    shutil.copytree(finished, "pictures")
    ledger = data.draw(
        st.one_of(
            damaged(lines).map(lambda x: text_of(x if isinstance(x, list) else [x]) + b"\n"), damaged_bytes(content)
        )
    )
    (Path("pictures") / "ledger.jsonl").write_bytes(ledger)
    batch("whole.jsonl", "--resume", *(["--force"] if forced else []))
    assert {path.suffix for path in Path("pictures").iterdir()} <= {".png", ".jsonl"}
