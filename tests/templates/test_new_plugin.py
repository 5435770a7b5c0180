"""`amdm new-plugin` writes a whole package under its own name, or nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from amdm_framework import __version__, plugin_template
from amdm_framework.plugin_template import PREFIXES, TEMPLATES, PluginName, write_plugin
from command_line import invoke

REPOSITORY = Path(__file__).parents[2]
KINDS = list(PREFIXES)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def without_plugins(monkeypatch):
    monkeypatch.setenv("AMDM_NO_PLUGINS", "1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["my-model", "my_model"])
def test_everything_has_the_new_name(tmp_path, kind, name):
    printed = invoke("new-plugin", name, "--kind", kind, "--output", tmp_path / "new").stdout
    (folder,) = (tmp_path / "new").iterdir()
    module = {"provider": "amdm_plugin_my_model", "strategy": "amdm_strategy_my_model"}[kind]
    assert folder.name == module.replace("_", "-")
    assert {"cd " + str(folder), "pytest", "amdm plugin-check my_model"} <= set(map(str.strip, printed.splitlines()))
    found = {str(path.relative_to(folder)) for path in files_of(folder)}
    assert found >= {f"{module}/__init__.py", "tests/test_my_model.py", ".github/workflows/test.yml", "README.md"}
    for path in files_of(folder):
        assert "example" not in str(path.relative_to(folder)).lower()
        assert "example" not in path.read_text().lower(), path
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == folder.name
    assert project["entry-points"]["amdm_framework"] == {"my_model": module}
    assert "class MyModel" in "".join(path.read_text() for path in folder.glob(f"{module}/*.py"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["my-example", "counterexample", "example-2"])
def test_a_name_may_hold_that_of_the_template(tmp_path, kind, name):
    invoke("new-plugin", name, "--kind", kind, "--output", tmp_path)
    distribution = PREFIXES[kind] + name
    module, word = distribution.replace("-", "_"), name.replace("-", "_")
    folder = tmp_path / distribution
    # The same package as under another name, but for the name.
    other = write_plugin(PluginName(kind, "QQQ"), tmp_path / "other")
    new = {"amdm-plugin-QQQ": distribution, "amdm-strategy-QQQ": distribution, "Qqq": PluginName(kind, word).title,
           "QQQ": word}  # fmt: skip

    def renamed(text):
        for old, name in new.items():
            text = text.replace(old, name)
        return text

    expected = {renamed(str(path.relative_to(other))): renamed(path.read_text()) for path in files_of(other)}
    assert {str(path.relative_to(folder)): path.read_text() for path in files_of(folder)} == expected
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == distribution and project["entry-points"]["amdm_framework"] == {word: module}


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_takes_the_versions_that_are_tested(kind):
    project = tomllib.loads((TEMPLATES / kind / "pyproject.toml").read_text())["project"]
    pins = {pin.name: pin for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
            if line and not line.startswith("#") for pin in [Requirement(line)]}  # fmt: skip
    needs = [Requirement(line) for line in project["dependencies"]]
    (framework,) = [need for need in needs if need.name == "amdm-framework"]
    assert framework.specifier.contains(__version__)
    assert {bound.operator for bound in framework.specifier} == {">=", "<"}
    for need in needs:
        if need is not framework:
            assert need.specifier.contains(Version(str(pins[need.name].specifier).removeprefix("==")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["a", "sd_2_x", "a_model_with_quite_a_long_name"])
def test_code_of_any_name_is_in_order(tmp_path, kind, word):
    folder = write_plugin(PluginName(kind, word), tmp_path)
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", folder], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_names_every_option(kind):
    (options,) = [
        block
        for path in files_of(TEMPLATES / kind)
        if path.name in ("options.py", "strategy.py")
        for block in path.read_text().split("\nclass ")
        if block.startswith("ExampleOptions")
    ]
    own = [line.split(":")[0].strip() for line in options.splitlines() if "Field(" in line and ": " in line]
    readme = (TEMPLATES / kind / "README.md").read_text()
    assert own and [name for name in own if f"| `{name}` |" not in readme] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_ci_file_runs_the_tests(kind):
    (job,) = yaml.safe_load((TEMPLATES / kind / ".github/workflows/test.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == "pytest"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My Model", "lower-case letters .* found 'My Model'. Did you mean 'my-model'?"),
        ("my--model", "Did you mean 'my-model'?"),
        ("3d-model", "begins with a letter; found '3d-model'.$"),
        ("3d", "begins with a letter; found '3d'.$"),
        ("über", "found 'über'. Did you mean 'uber'?"),
        ("../model", "Did you mean 'model'?"),
        ("模型", "found '模型'.$"),
        ("amdm-plugin-depth", "amdm-plugin- is put before the name for you. Did you mean 'depth'?"),
        ("amdm_strategy_depth", "amdm-strategy- is put before the name for you. Did you mean 'depth'?"),
        ("class", "'class' is a word of the language Python. Did you mean 'class-model'?"),
        *(
            (word, f"YAML does not take '{word}' for a word. Did you mean '{word}-model'?")
            for word in ("on", "off", "yes", "no", "true", "false", "null")
        ),
        ("example", "is what the template is called"),
        ("stable-diffusion", r"installed already, from amdm-framework \S+. Did you mean 'my-stable-diffusion'?"),
        ("slerp", r"installed already, from amdm-framework \S+. Did you mean 'my-slerp'?"),
    ],
)
def test_names_that_cannot_be_taken(tmp_path, name, message):
    found = invoke("new-plugin", name, "--output", tmp_path / "new", code=2)
    assert re.search(message.replace("?", r"\?"), " ".join(found.stderr.split())), found.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_as_it_is(tmp_path):
    mine = tmp_path / "amdm-plugin-my-model"
    mine.mkdir()
    (mine / "work.py").write_text("mine")
    found = invoke("new-plugin", "my-model", "--output", tmp_path, code=2)
    assert "amdm-plugin-my-model: exists already: choose another name or --output" in found.stderr
    assert [path.name for path in files_of(tmp_path)] == ["work.py"]
    assert (mine / "work.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device"), 2, "cannot be written: No space left"),
        (KeyboardInterrupt(), 130, "interr"),
    ],
)
def test_a_package_that_is_not_finished_leaves_nothing(tmp_path, monkeypatch, error, code, said):
    write_text = Path.write_text
    written = []

    def failing(path, *arguments, **more):
        written.append(path)
        if len(written) == 5:
            raise error
        return write_text(path, *arguments, **more)

    monkeypatch.setattr(Path, "write_text", failing)
    found = invoke("new-plugin", "my-model", "--output", tmp_path, code=code)
    assert said in found.stderr
    assert len(written) == 5 and list(tmp_path.iterdir()) == []


def test_what_tools_left_in_the_template_is_not_copied(tmp_path, monkeypatch):
    shutil.copytree(TEMPLATES, tmp_path / "templates", ignore=shutil.ignore_patterns("__pycache__"))
    expected = [path.name for path in files_of(write_plugin(PluginName("provider", "a"), tmp_path / "clean"))]
    for cache in ("amdm_plugin_example/__pycache__", ".pytest_cache/v", ".ruff_cache", ".mypy_cache/3.12", "dist",
                  "build/lib", "amdm_plugin_example.egg-info"):  # fmt: skip
        (tmp_path / "templates/provider" / cache).mkdir(parents=True, exist_ok=True)
        (tmp_path / "templates/provider" / cache / "left.pyc").write_bytes(b"\xff\xfe")
    monkeypatch.setattr(plugin_template, "TEMPLATES", tmp_path / "templates")
    found = write_plugin(PluginName("provider", "a"), tmp_path / "found")
    assert [path.name for path in files_of(found)] == expected
