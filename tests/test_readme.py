"""What README.md shows is what works: its files are written, its commands and code are run."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from amdm_framework.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the composition and the scene that README.md shows."""
    for block in blocks("yaml"):
        name = re.match(r"# (\S+\.yaml)\n", block)
        assert name, "every YAML block begins with the file's name"
        (tmp_path / name[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run_as_shown(folder):
    commands = [
        line.split("#")[0].split()[1:]
        for line in README.splitlines()
        if re.match(r"    amdm (check|run|rerun|plugins)\b", line)
    ]
    assert [command[0] for command in commands] == ["check", "run", "rerun", "plugins"]
    for command in commands:
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    first, again = Image.open("pictures/scene-1.png"), Image.open("scene-1.png")
    assert first.tobytes() == again.tobytes()
    assert (folder / "pictures/scene-2.png").is_file()


def test_the_python_code_runs_as_shown(folder, capsys):
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert Image.open(folder / "picture.png").size == (64, 64)
    assert "'shape': 25, 'colour': 12" in capsys.readouterr().out


def test_the_hook_shown_is_one_that_the_framework_calls():
    names: dict = {}
    exec(compile(blocks("python")[1], "README.md", "exec"), names)
    from amdm_framework import hookspecs

    assert hasattr(hookspecs, "register_providers")
    assert names["register_providers"].amdm_framework_impl


def test_the_picture_shown_is_there():
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", README)
    with Image.open(Path(__file__).parent.parent / picture) as image:
        assert min(image.size) > 500
