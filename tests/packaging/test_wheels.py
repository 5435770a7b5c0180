"""Every distribution of this repository builds a wheel that works outside the checkout."""

from __future__ import annotations

import email
import functools
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
PLUGINS = [file.parent for file in sorted(REPOSITORY.glob("plugins/*/pyproject.toml"))]
FOLDERS = [REPOSITORY, *PLUGINS]
FOLDERS += [p.parent for p in REPOSITORY.glob("zoo/pyproject.toml")]
FOLDERS += [p.parent for p in sorted(REPOSITORY.glob("benchmarks/*/pyproject.toml"))]
FOLDERS += [p.parent for p in sorted(REPOSITORY.glob("examples/*/pyproject.toml"))]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program without any trace of the checkout in its environment, and return what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "AMDM_", "VIRTUAL_ENV"))}
    environment = kept | {"OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment["XDG_CACHE_HOME"] = str(cwd / "cache")
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def build_wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Return a function from the folder of a distribution to its wheel, built once."""

    @functools.cache
    def build(folder: Path) -> Path:
        output = tmp_path_factory.mktemp("wheel")
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", output, folder, cwd=output)
        (wheel,) = output.iterdir()
        return wheel

    return build


def make_clean_environment(folder: Path, wheels: list[Path]) -> Path:
    """Install wheels into a new virtual environment and return the folder of its programs.

    Heavy dependencies are lent by the environment of the tests: links to everything in it but our distributions.
    """
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv" / "bin"
    python = programs / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", *wheels, cwd=folder)
    lent = folder / "lent"
    lent.mkdir()
    for site_packages in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(site_packages).iterdir():
            if not entry.name.startswith("amdm") and entry.suffix != ".pth":
                (lent / entry.name).symlink_to(entry)
    clean_site_packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    Path(clean_site_packages.strip(), "lent.pth").write_text(f"{lent}\n")
    return programs


def amdm_json(programs: Path, *commands: list[str], cwd: Path) -> list[Any]:
    """Return what `amdm` commands print with `--json`.

    One process for all of them, since importing torch takes most of a command's time.
    """
    code = """
import json, sys
from amdm_framework.cli import main
for command in json.loads(sys.argv[1]):
    main([*command, "--json"], standalone_mode=False)
    print(end="\\f")
"""
    printed = run(programs / "python", "-c", code, json.dumps(commands), cwd=cwd)
    return [json.loads(text) for text in printed.split("\f")[:-1]]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_wheel_holds_only_its_package(build_wheel, folder):
    with zipfile.ZipFile(build_wheel(folder)) as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(wheel.read(next(n for n in names if n.endswith(".dist-info/METADATA"))))
    packages = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert packages == {metadata["Name"].replace("-", "_")}
    # The templates of new plugins are packages with tests of their own.
    assert not [name for name in names if "/tests/" in name and "/templates/" not in name]
    assert not [name for name in names if "__pycache__" in name or "_cache/" in name]
    if folder == REPOSITORY:
        assert "amdm_framework/py.typed" in names
        for kind in ("provider", "strategy"):
            assert f"amdm_framework/templates/{kind}/.github/workflows/test.yml" in names
            assert f"amdm_framework/templates/{kind}/tests/test_example.py" in names
        assert any(name.endswith("licenses/LICENSE") for name in names)
    else:
        needs = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
        (framework,) = [need for need in needs if need.name == "amdm-framework"]
        assert {bound.operator for bound in framework.specifier} >= {">=", "<"}, "it must bound the framework's version"


@pytest.mark.parametrize("folders", [FOLDERS[:1], FOLDERS], ids=["framework", "everything"])
def test_wheels_work_outside_the_checkout(build_wheel, folders, tmp_path):
    programs = make_clean_environment(tmp_path, [build_wheel(folder) for folder in folders])
    where = run(programs / "python", "-c", "import amdm_framework; print(amdm_framework.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
    installed = json.loads(run(programs / "amdm", "plugins", "--json", cwd=tmp_path))
    providers = {provider["name"]: provider for provider in installed["providers"]}
    assert providers["stable_diffusion"]["distribution"] == "amdm-framework"
    assert "amdm" in {strategy["name"] for strategy in installed["strategies"]}
    # Every distribution of the repository has a plugin, and all of them work.
    assert [plugin for plugin in installed["plugins"] if plugin["status"] != "ok"] == []
    assert {plugin["distribution"].replace("-", "_") for plugin in installed["plugins"]} == {
        build_wheel(folder).name.split("-")[0] for folder in folders
    }
    # Examples bring all their files along.
    examples = installed["examples"]
    assert [example["name"] for example in examples] == (["shapes", "shapes_two_models"] if folders == FOLDERS else [])
    for checked in amdm_json(
        programs, *(["check", one["composition"], "--scene", one["scene"]] for one in examples), cwd=tmp_path
    ):
        assert all(member["downloads"] == [] for member in checked["members"])


def test_a_plugin_adds_its_model_alone_and_takes_it_away_again(build_wheel, compositions, tmp_path):
    programs = make_clean_environment(tmp_path, [build_wheel(REPOSITORY)])
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    for folder in PLUGINS:
        wheel, name = build_wheel(folder), folder.name
        run(*pip, "install", "--no-deps", wheel, cwd=tmp_path)
        installed, checked = amdm_json(programs, ["plugins"], ["check", str(compositions[name])], cwd=tmp_path)
        assert [plugin for plugin in installed["plugins"] if plugin["status"] != "ok"] == []
        # Those that were here before are gone.
        assert {provider["name"] for provider in installed["providers"]} == {"stable_diffusion", name}
        (member,) = checked["members"]
        assert (member["name"], member["downloads"]) == (name, []) and member["components"]
        run(*pip, "uninstall", "--yes", wheel.name.split("-")[0], cwd=tmp_path)
    (installed,) = amdm_json(programs, ["plugins"], cwd=tmp_path)
    assert {provider["name"] for provider in installed["providers"]} == {"stable_diffusion"}
