"""What the pages show is what works: their files are written, their commands and their code are run."""

from __future__ import annotations

from pathlib import Path

import pytest

from code_blocks import ROOT, run_page

DOCS = ROOT / "docs"
# What is below these folders is generated or is not a page.
OTHERS = {"reference", "_build"}
PAGES = [page.relative_to(DOCS) for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).parts[0] not in OTHERS]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_runs_as_shown(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(DOCS / page, tmp_path, monkeypatch)
