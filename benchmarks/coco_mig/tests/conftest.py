"""Makes the helpers beside these tests importable."""

from __future__ import annotations

import sys
from pathlib import Path

# Tests are imported one by one (importlib mode), which leaves the helpers beside them out of the path.
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from tiny_judges import write_detector, write_segmenter


@pytest.fixture(scope="session")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny random judges, `dino` and `sam`."""
    folder = tmp_path_factory.mktemp("judges")
    write_detector(folder / "dino")
    write_segmenter(folder / "sam")
    return folder
