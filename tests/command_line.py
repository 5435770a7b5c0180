"""Runs the command line in process, for tests."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from amdm_framework.cli import main


def invoke(*arguments: str | Path, code: int = 0) -> Result:
    """Run `amdm` with some arguments; whatever is not one of its own exit codes fails the test."""
    result = CliRunner().invoke(main, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result
