"""The example of a cluster is one that Ray accepts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

util = pytest.importorskip("ray.autoscaler._private.util")
local_config = pytest.importorskip("ray.autoscaler._private.local.config")

FILE = Path(__file__).parents[2] / "examples" / "cluster" / "cluster.yaml"


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The file as Ray completes it before it connects to any machine."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return util.prepare_config(yaml.safe_load(FILE.read_text()))


def test_ray_accepts_the_file(prepared: dict[str, Any]) -> None:
    prepared.setdefault("cluster_synced_files", [])
    util.validate_config(prepared)
    with pytest.raises(Exception, match="cluster_nmae"):
        util.validate_config({**prepared, "cluster_nmae": "amdm"})


def test_all_machines_are_used_and_start_the_ray_of_one_environment(prepared: dict[str, Any]) -> None:
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["min_workers"] == prepared["max_workers"] == len(prepared["provider"]["worker_ips"])
    commands = [*prepared["head_start_ray_commands"], *prepared["worker_start_ray_commands"]]
    starts = [command for command in commands if re.search(r"/shared/amdm/\.venv/bin/ray start ", command)]
    assert len(starts) == 2 and "--head" in starts[0] and "--address=$RAY_HEAD_IP:6379" in starts[1]


def test_the_page_about_services_shows_the_example_that_runs() -> None:
    page = (FILE.parents[2] / "docs" / "serve.md").read_text()
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown in FILE.with_name("serve.py").read_text()
