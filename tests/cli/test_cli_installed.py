"""`amdm plugins`, `amdm strategies`, `amdm schema`, and the program around them."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import Result

from amdm_framework import hookimpl
from amdm_framework.cli import group
from amdm_framework.composition import read_composition
from amdm_framework.errors import InputError
from amdm_framework.example import Example
from amdm_framework.plugins import Distribution, Plugin, PluginRegistry, discover
from amdm_framework.scene import Scene, read_scene
from amdm_framework.schema import composition_schema
from fake_distributions import write_distribution
from toy_benchmark import grey_registry
from toy_plugin import toy_registry

Amdm = Callable[..., Result]
REPOSITORY = Path(__file__).parents[2]


def test_plugins_lists_everything_and_the_options_of_one(home: Path, amdm: Amdm) -> None:
    text = amdm("plugins").stdout
    assert "providers\n  stable_diffusion  (amdm-framework" in text and "required" not in text
    content = json.loads(amdm("plugins", "--json").stdout)
    # A line for each, and for every title, the empty line after it, and the advice at the end.
    assert len(text.splitlines()) == sum(2 + len(rows) for rows in content.values() if rows) + 1
    text = amdm("plugins", "stable_diffusion").stdout
    assert text.startswith("providers\n  stable_diffusion  (amdm-framework") and "strategies" not in text
    assert "checkpoint" in text and "required" in text
    assert "strategies\n" in amdm("plugins", "amdm-framework").stdout
    (strategy,) = json.loads(amdm("plugins", "slerp", "--json").stdout)["strategies"]
    assert strategy["name"] == "slerp"
    assert (
        "error: nothing installed is called 'stable_difusion'. Did you mean 'stable_diffusion'? `amdm plugins` lists"
        in amdm("plugins", "stable_difusion", code=2).stderr
    )


def test_the_json_of_plugins_has_every_option(home: Path, amdm: Amdm) -> None:
    content = json.loads(amdm("plugins", "--json").stdout)
    assert [one["name"] for one in content["providers"]] == ["stable_diffusion"]
    assert {"amdm", "slerp", "single"} <= {one["name"] for one in content["strategies"]}
    options = {option["name"]: option for option in content["providers"][0]["options"]}
    assert options["checkpoint"]["required"] is True and options["vae"]["default"] is None


def test_plugins_lists_benchmarks_with_their_figures(monkeypatch: pytest.MonkeyPatch, amdm: Amdm) -> None:
    monkeypatch.setattr(group, "discover", grey_registry)
    assert "\nbenchmarks\n  greys  (amdm-grey 1.0)  Grey pictures.\n\n" in amdm("plugins").stdout
    text = amdm("plugins", "greys").stdout
    assert text.startswith("benchmarks\n  greys  (amdm-grey 1.0)  Grey pictures.\n")
    assert "      near    nearness to the grey asked for (the objective)\n      bright  brightness\n" in text
    (content,) = json.loads(amdm("plugins", "--json").stdout)["benchmarks"]
    assert content["objective"] == "near" and list(content["figures"]) == ["near", "bright"]


def test_plugins_lists_examples_with_their_files(home: Path, monkeypatch: pytest.MonkeyPatch, amdm: Amdm) -> None:
    files = (home / "composition.yaml", home / "scene.yaml")

    @hookimpl
    def register_examples(register: Callable[[Example], None]) -> None:
        register(Example("pair", "Two models.", *files))
        register(Example("lost", "Two models.", files[0], home / "gone.yaml"))

    plugin = Plugin(
        Distribution("amdm-pair", "1.0"), "pair", lambda: SimpleNamespace(register_examples=register_examples)
    )
    monkeypatch.setattr(group, "discover", lambda: PluginRegistry([plugin]))
    text = amdm("plugins").stdout
    assert (
        "plugins\n  pair  (amdm-pair 1.0)  broken\n      register_examples: example lost: scene must be a file" in text
    )
    assert "\nexamples\n  pair  (amdm-pair 1.0)  Two models.\n\n" in text
    assert (
        f"Two models.\n      composition  {files[0]}\n      scene        {files[1]}\n" in amdm("plugins", "pair").stdout
    )
    (content,) = json.loads(amdm("plugins", "--json").stdout)["examples"]
    assert (content["composition"], content["scene"], content["status"]) == (str(files[0]), str(files[1]), "ok")


def test_strategies_explains_one(home: Path, amdm: Amdm) -> None:
    names = [line.split()[0] for line in amdm("strategies").stdout.splitlines()]
    assert {"amdm", "slerp", "composable"} <= set(names)
    text = amdm("strategies", "amdm").stdout
    assert "formula" in text and "step_size_unit" in text and "the first model is privileged" in text
    assert "53 with 2 models, 56 with 3 models (the target alone: 50)" in text
    content = json.loads(amdm("strategies", "amdm", "--json").stdout)
    assert content["name"] == "amdm" and content["space"] == "x_{t-1}"
    assert [one["name"] for one in json.loads(amdm("strategies", "--json").stdout)] == names
    assert "Did you mean 'slerp'?" in amdm("strategies", "slrep", code=2).stderr


COMPOSITIONS: list[tuple[dict[str, Any], bool]] = [
    ({"providers": [{"use": "toy"}]}, True),
    ({"providers": [{"use": "toy", "strength": 2, "layers": [{"file": "a"}], "guidance": {"kind": "apg"}}]}, True),
    ({"providers": [{"use": "toy", "condition": {"prompt": "blue"}}], "sampler": {"steps": 3, "eta": 1}}, True),
    ({"providers": [{"use": "toy"}], "aggregation": {"steps": 2}}, True),
    ({"providers": [{"use": "toy"}], "aggregation": {"strategy": "amdm", "window": [0, 2]}}, True),
    ({"providers": [{"use": "toys"}]}, False),
    ({"providers": []}, False),
    ({}, False),
    ({"providers": [{"strength": 1}]}, False),
    ({"providers": [{"use": "toy", "strenght": 1}]}, False),
    ({"providers": [{"use": "toy", "strength": -1}]}, False),
    ({"providers": [{"use": "toy", "layers": [{"scale": 1}]}]}, False),
    ({"providers": [{"use": "toy", "condition": {"promt": "blue"}}]}, False),
    ({"providers": [{"use": "toy"}], "aggregation": {"strategy": "amd"}}, False),
    ({"providers": [{"use": "toy"}], "aggregation": {"strategy": "slerp", "step_sizes": [1]}}, False),
    ({"providers": [{"use": "toy"}], "aggregation": {"strategy": "amdm", "weights": [2]}}, False),
    ({"providers": [{"use": "toy"}], "aggregation": {"strategy": "amdm", "window": [0, 2, 3]}}, False),
    ({"providers": [{"use": "toy"}], "sampler": {"steps": 0}}, False),
    ({"providers": [{"use": "toy"}], "smapler": {}}, False),
]


@pytest.mark.parametrize(("content", "good"), COMPOSITIONS)
def test_the_schema_accepts_what_the_program_accepts(content: dict[str, Any], good: bool) -> None:
    registry = toy_registry()
    schema = composition_schema(registry)
    jsonschema.Draft7Validator.check_schema(schema)
    assert jsonschema.Draft7Validator(schema).is_valid(content) is good
    try:
        read_composition(copy.deepcopy(content), registry)
        accepted = True
    except InputError:
        accepted = False
    assert accepted is good


def test_the_schema_holds_every_installed_option(home: Path, amdm: Amdm) -> None:
    schema = json.loads(amdm("schema", "composition").stdout)
    assert schema == json.loads(amdm("schema").stdout)
    (block,) = schema["properties"]["providers"]["items"]["anyOf"]
    assert block["properties"]["use"]["const"] == "stable_diffusion" and block["required"] == ["use", "checkpoint"]
    assert {"loras", "step_size", "guidance"} <= set(block["properties"])
    assert set(block["properties"]["condition"]["properties"]) == {"prompt", "negative"}
    installed = {one["name"] for one in json.loads(amdm("strategies", "--json").stdout)}
    assert {one["title"] for one in schema["properties"]["aggregation"]["anyOf"]} == installed
    text = json.dumps(schema)
    names = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert names == set(schema["$defs"])


def test_the_schema_of_a_scene(home: Path, amdm: Amdm) -> None:
    validator = jsonschema.Draft7Validator(json.loads(amdm("schema", "scene").stdout))
    scene = {"caption": "x", "instances": {"a": {"phrase": "y", "box": [0, 0, 1, 1]}}}
    assert validator.is_valid(scene) and Scene.model_validate(scene)
    assert not validator.is_valid({"instances": {"a": {"phrase": "y", "box": [0, 0, 1]}}})
    assert not validator.is_valid({"capton": "x"})


@pytest.mark.parametrize("name", ["shapes"])
def test_the_examples_follow_their_schemas(name: str) -> None:
    registry = discover({})
    composition = REPOSITORY / "examples" / f"{name}.yaml"
    jsonschema.Draft7Validator(composition_schema(registry)).validate(yaml.safe_load(composition.read_text()))
    scene = read_scene(REPOSITORY / "examples" / f"{name}_scene.yaml")
    assert len(read_composition(composition, registry).conditions([scene])) == 3


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([*filter(None, [environment.pop("PYTHONPATH", "")]), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "AMDM_NO_PLUGINS": "0", "PYTHONPATH": paths, **environment},
        check=False,
    )


def test_help_and_version_import_nothing_heavy() -> None:
    code = """
import sys
from amdm_framework.cli import main
for arguments in (["--help"], ["run", "--help"], ["--version"]):
    try:
        main(arguments, prog_name="amdm")
    except SystemExit as end:
        assert end.code == 0
print(sorted({"torch", "diffusers", "transformers", "matplotlib", "PIL", "numpy"} & set(sys.modules)), file=sys.stderr)
"""
    done = run_python(code, AMDM_NO_PLUGINS="1")
    assert done.stderr.strip() == "[]" and "amdm, version 0" in done.stdout
    assert all(command in done.stdout for command in ("run", "check", "rerun", "plugins", "strategies", "schema"))


PLUGIN = """
import click
from amdm_framework import hookimpl

@hookimpl
def register_commands(cli):
    @cli.command()
    @click.pass_obj
    def hello(plugins):
        click.echo(f"hello from {type(plugins).__name__}")
"""


def test_plugins_add_commands_and_broken_ones_harm_nobody(tmp_path: Path) -> None:
    write_distribution(tmp_path, "amdm-hello", PLUGIN)
    write_distribution(tmp_path, "amdm-broken", "import nothing_of_that_name", "2.0")
    call = "from amdm_framework.cli import main; main({}, prog_name='amdm')"
    done = run_python(call.format(["hello"]), PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "hello from PluginRegistry\n")
    assert done.stderr.count("\n") == 1 and "warning: plugin amdm-broken 2.0 is broken: import:" in done.stderr
    assert "hello" in run_python(call.format(["--help"]), PYTHONPATH=str(tmp_path)).stdout
    done = run_python(call.format(["--debug", "hello"]), PYTHONPATH=str(tmp_path))
    assert "Traceback" in done.stderr and "nothing_of_that_name" in done.stderr and done.returncode == 0
    # Limits on what is loaded hold for commands too.
    assert run_python(call.format(["hello"]), PYTHONPATH=str(tmp_path), AMDM_NO_PLUGINS="1").returncode == 2


def test_colours_only_for_terminals_that_want_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from amdm_framework.cli import main

    arguments = ["strategies", "none_such"]
    assert "\x1b[" not in CliRunner().invoke(main, arguments).stderr
    assert "\x1b[31m" in CliRunner().invoke(main, arguments, color=True).stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(main, arguments, color=True).stderr
