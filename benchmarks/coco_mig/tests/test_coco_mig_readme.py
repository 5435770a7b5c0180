"""What README.md shows is what works."""

from __future__ import annotations

from pathlib import Path

import pytest

from code_blocks import run_page


def test_everything_runs_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_page(Path(__file__).parents[1] / "README.md", tmp_path, monkeypatch)
    assert len(names["scores"]) == 2
