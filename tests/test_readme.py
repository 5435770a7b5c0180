"""What README.md shows is what works: its files are written, its commands and code are run."""

import re

import pytest
from PIL import Image

from code_blocks import ROOT, run_page

README = ROOT / "README.md"


def test_everything_runs_as_shown(tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    run_page(README, tmp_path, monkeypatch)
    first, again = Image.open("pictures/scene-1.png"), Image.open("scene-1.png")
    assert first.tobytes() == again.tobytes()
    assert (tmp_path / "pictures/scene-2.png").is_file()
    assert (tmp_path / "amdm-plugin-my-model/pyproject.toml").is_file()
    # What the Python code draws and prints.
    assert Image.open("picture.png").size == (64, 64)
    assert "'shape': 25, 'colour': 12" in capsys.readouterr().out


def test_the_picture_shown_is_there():
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text())
    with Image.open(ROOT / picture) as image:
        assert min(image.size) > 500
