"""Files that a strategy's options name: beside the composition, in digests and in records, and found again by name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from amdm_framework.composition import read_composition
from amdm_framework.errors import InputError
from amdm_framework.metadata import composition_digest, record_run
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.rebuild import rebuild
from amdm_framework.record import RunRecord
from amdm_framework.scene import Scene
from table_strategy import Table, table_registry

PLUGINS = table_registry()
SCENE = Scene(caption="a red circle")


@pytest.fixture
def composition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A composition in a folder that is not the current one, with files of its strategy beside it."""
    folder = tmp_path / "mine"
    (folder / "nets").mkdir(parents=True)
    (folder / "table.csv").write_text("1,2")
    # Words that are the names of something, too.
    (folder / "plain").mkdir()
    aggregation = {"strategy": "table", "table": "table.csv", "nets": {"a": "nets", "b": "hf://x/y"}, "kind": "plain"}
    content = {"providers": [{"use": "toy"}], "aggregation": aggregation, "sampler": {"steps": 2}}
    (folder / "composition.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    return folder / "composition.yaml"


def test_they_lie_beside_the_composition(composition: Path) -> None:
    resolved = read_composition(composition, PLUGINS)
    assert isinstance(resolved.strategy, Table) and resolved.strategy.words == "1,2"
    assert resolved.strategy.settings.nets == {"a": str(composition.parent / "nets"), "b": "hf://x/y"}
    # What was written stays so.
    assert resolved.composition.aggregation.model_extra is not None
    assert resolved.composition.aggregation.model_extra["table"] == "table.csv"


def test_an_option_that_is_no_text_is_still_explained(composition: Path) -> None:
    content = yaml.safe_load(composition.read_text())
    content["aggregation"]["table"] = 3
    with pytest.raises(InputError) as refused:
        read_composition(content, PLUGINS)
    assert [problem.key for problem in refused.value.problems] == ["aggregation.table"]


def test_their_contents_are_part_of_the_digest(composition: Path) -> None:
    before = composition_digest(read_composition(composition, PLUGINS))
    (composition.parent / "table.csv").write_text("1,3")
    assert composition_digest(read_composition(composition, PLUGINS)) != before


def record_of(composition: Path) -> RunRecord:
    pipeline = AMDMPipeline.from_composition(composition, device="cpu", plugins=PLUGINS)
    output = pipeline(SCENE, generator=torch.Generator().manual_seed(1))
    (record,) = record_run(pipeline, SCENE, output, PLUGINS)
    return record


def test_a_record_carries_their_names_and_digests(composition: Path) -> None:
    record = record_of(composition)
    assert str(composition.parent) not in record.model_dump_json()
    assert {item.key: (item.file, item.sha256) for item in record.inputs} == {
        ("aggregation", "table"): ("table.csv", hashlib.sha256(b"1,2").hexdigest()),
        ("aggregation", "nets", "a"): ("nets", None),
    }


def test_they_are_found_again_by_name(composition: Path, tmp_path: Path) -> None:
    record = record_of(composition)
    other = tmp_path / "other"
    (other / "nets").mkdir(parents=True)
    with pytest.raises(InputError, match=r"there is no file 'table.csv' in any of"):
        rebuild(record, [other], PLUGINS)
    (other / "table.csv").write_text("1,2")
    rebuilt = rebuild(record, [other], PLUGINS)
    assert isinstance(rebuilt.resolved.strategy, Table) and rebuilt.resolved.strategy.words == "1,2"
    assert rebuilt.differences == []
    (other / "table.csv").write_text("9")
    (difference,) = rebuild(record, [other], PLUGINS).differences
    assert difference.startswith("table.csv (aggregation.table) is sha256")


def test_a_record_may_not_name_files_that_it_does_not_list(composition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of(composition)
    content: dict[str, Any] = {**record.composition, "aggregation": {"strategy": "table", "table": "/etc/passwd"}}
    opened: list[Path] = []
    monkeypatch.setattr(Table, "opened", opened.append)
    with pytest.raises(InputError, match="names a file of a machine that is not among the recorded inputs"):
        rebuild(record.model_copy(update={"composition": content, "inputs": ()}), [], PLUGINS)
    assert opened == []
