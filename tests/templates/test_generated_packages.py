"""Generated packages install, pass their own tests and are found, in an environment of their own as a user has one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from amdm_framework.plugin_template import PluginName, write_plugin

# The tests, then what is installed, in one process: importing torch takes most of a short command's time.
CODE = """
import json, sys
import pytest
code = pytest.main(["-p", "no:cacheprovider", *sys.argv[1:]])
from amdm_framework.cli import main
print(end="\\f")
main(["plugins", "--json"], standalone_mode=False)
sys.exit(code)
"""


def run(*command, cwd):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "AMDM_", "VIRTUAL_ENV"))}
    environment = {**kept, "OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def python(tmp_path):
    """A new environment that sees what is installed in that of the tests."""
    venv.create(tmp_path / "venv", with_pip=False)
    program = tmp_path / "venv" / "bin" / "python"
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    own = Path(sysconfig.get_path("purelib", vars=paths))
    (own / "lent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return program


def test_new_packages_pass_their_own_tests(tmp_path, python):
    names = [PluginName("provider", "my_model"), PluginName("strategy", "my_rule")]
    folders = [write_plugin(name, tmp_path) for name in names]
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-build-isolation")
    run(*pip, "--no-compile", *(f"--editable={folder}" for folder in folders), cwd=tmp_path)
    printed, _, listed = run(python, "-c", CODE, *folders, cwd=tmp_path).partition("\f")
    installed = json.loads(listed)
    for name in names:
        # Every file's tests ran, those of the contract and its own.
        assert re.search(rf"/test_{name.word}\.py \S+ +\[", printed), printed
        (plugin,) = [one for one in installed["plugins"] if one["distribution"] == name.distribution]
        assert (plugin["entry_point"], plugin["status"]) == (name.word, "ok")
    assert [one["status"] for one in installed["providers"] if one["name"] == "my_model"] == ["ok"]
    assert [one["status"] for one in installed["strategies"] if one["name"] == "my_rule"] == ["ok"]
