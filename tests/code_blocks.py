"""The code blocks of a Markdown page, and how they are run.

A block whose first line is a comment with a file's name (`# scene.yaml`) is that file; the page's files are written to an
empty folder first. Then, in the page's order and in that folder: Python blocks run in one namespace; lines `$ amdm ...` of
`console` blocks and lines `amdm ...` of indented blocks run as commands, whose output must be what a `console` block
shows below them, `…` standing for anything; and YAML blocks, files or not, are checked
as compositions, as parts of compositions or as scenes. Blocks below a line `<!-- not run: reason -->` and those in other
languages are left alone.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from amdm_framework.cli import main
from amdm_framework.composition import Composition, read_composition
from amdm_framework.plugins import discover
from amdm_framework.scene import Scene, read_scene
from amdm_framework.yaml_files import parse_yaml

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

_FILE_NAME = re.compile(r"# ([\w./-]+\.(?:yaml|yml|py|jsonl|json|toml))\b.*\n")
_NOT_RUN = re.compile(r"^<!-- not run: \S.* -->$")
# Where a block shows a part of a composition, these stand for the rest.
_OTHER_PARTS = {"providers": [{"use": "stable_diffusion", "checkpoint": "zoo://base"}] * 2}


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        language: as named behind the fence; `indented` for a block without one.
        text: its lines.
        line: number of its first line, from 1.
        file: the name of the file that it is, or an empty string.
        not_run: whether the page says that it cannot run here.
    """

    language: str
    text: str
    line: int
    file: str
    not_run: bool

    @property
    def content(self) -> str:
        """What the file holds; JSON has no comments, so the line with the name is not part of it."""
        return self.text.partition("\n")[2] if self.file.endswith((".jsonl", ".json")) else self.text

    @property
    def commands(self) -> list[Command]:
        """Every `amdm` command in it, with the output that is shown below the command."""
        prompt = {"console": "$ amdm ", "indented": "amdm "}.get(self.language)
        commands: list[Command] = []
        output: list[str] = []
        for line in self.text.replace("\\\n", " ").splitlines() if prompt else ():
            if line.startswith(str(prompt)):
                output = []
                commands.append(Command(shlex.split(line[len(str(prompt)) :], comments=True), output))
            elif line.startswith("$ "):
                # What another program prints is nobody's to check.
                output = []
            elif self.language == "console":
                output.append(line.rstrip())
        return commands


@dataclass(frozen=True)
class Command:
    """One call of `amdm`.

    Attributes:
        arguments: what stands behind `amdm`.
        output: the lines shown below it; none where the page shows no output. `…` stands for anything.
    """

    arguments: list[str]
    output: list[str]


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    lines = page.splitlines()
    for token in MarkdownIt("commonmark").enable("table").parse(page):
        if token.type not in ("fence", "code_block") or token.map is None:
            continue
        language = token.info.split()[0] if token.info.split() else "indented" if token.type == "code_block" else ""
        name = _FILE_NAME.match(token.content) if language in ("yaml", "python", "jsonl", "json", "toml") else None
        above = [line for line in lines[: token.map[0]] if line.strip()]
        not_run = bool(above and _NOT_RUN.match(above[-1]))
        yield Block(language, token.content, token.map[0] + 1, name[1] if name else "", not_run)


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write a page's files, and run its blocks.

    Args:
        page: the Markdown file.
        folder: an empty folder, which becomes the working directory; the repository's examples are copied to it.
        monkeypatch: takes back the working directory after the test.

    Returns:
        The names that its Python blocks defined.
    """
    blocks = [block for block in blocks_of(page.read_text()) if not block.not_run]
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for block in reversed(blocks):
        _write(block, folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        where = f"{page.name}, line {block.line}"
        if block.file:
            # A page may show a file in a second version.
            _write(block, folder)
        if block.language == "yaml":
            _check_yaml(block, folder, where)
        elif block.language == "python":
            # A file is only compiled: whoever is shown it runs it by other means.
            code = compile("\n" * block.line + block.text, str(page), "exec", dont_inherit=True)
            if not block.file:
                exec(code, names)
        for command in block.commands:
            _run_command(command, where)
    return names


def _write(block: Block, folder: Path) -> None:
    if block.file:
        file = folder / block.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.content)


def _run_command(command: Command, where: str) -> None:
    arguments, target = command.arguments, None
    if arguments[-2:-1] == [">"]:
        arguments, target = arguments[:-2], Path(arguments[-1])
    result = CliRunner().invoke(main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, f"{where}: amdm {shlex.join(arguments)}\n{result.output}"
    if target is not None:
        target.write_text(result.stdout)
    shown = "\n".join(command.output).strip()
    if shown:
        printed = "\n".join(line.rstrip() for line in result.stdout.splitlines()).strip()
        pattern = ".*".join(re.escape(part) for part in shown.split("…"))
        assert re.fullmatch(pattern, printed, re.DOTALL), f"{where}: amdm {shlex.join(arguments)} prints\n{printed}"


def _check_yaml(block: Block, folder: Path, where: str) -> None:
    content = parse_yaml(block.text, where)
    if set(content) <= set(Scene.model_fields):
        for reference in content.get("references", ()):
            # Pictures that a reader has to bring.
            if not (folder / reference["image"]).exists():
                shutil.copy(EXAMPLES / "shapes_style.png", folder / reference["image"])
        read_scene(content, folder)
    elif set(content) <= set(Composition.model_fields):
        read_composition({**_OTHER_PARTS, **content}, discover(), base_dir=folder)
    else:
        raise AssertionError(f"{where}: neither a composition nor a scene: {json.dumps(list(content))}")
