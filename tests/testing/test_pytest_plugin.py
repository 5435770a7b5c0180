"""What pytest loads at every start where the framework is installed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import amdm_framework.testing
from amdm_framework.testing.pytest_plugin import REWRITTEN


def test_it_is_light() -> None:
    code = "import sys, amdm_framework.testing.pytest_plugin; print({'torch', 'diffusers', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_failed_checks_show_their_values() -> None:
    # Every module whose asserts an author may meet.
    (folder,) = amdm_framework.testing.__path__
    asserting = {
        f"amdm_framework.testing.{file.stem}"
        for file in Path(folder).glob("*.py")
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(file.read_text())))
    }
    assert asserting <= set(REWRITTEN)
