"""Every hook does what its documentation says, and has a documentation and a test."""

from __future__ import annotations

import inspect
import re
import warnings

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

import amdm_framework
from amdm_framework import hookspecs
from amdm_framework.cli import main
from amdm_framework.errors import CheckpointError, PluginError
from amdm_framework.plugins import PluginWarning, discover
from fake_distributions import benchmark_module, example_module, provider_module, strategy_module

HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("register_")}


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_documents_its_signature(name):
    hook = HOOKS[name]
    documentation = inspect.getdoc(hook)
    assert documentation and len(documentation.splitlines()[0]) > 10
    for parameter in inspect.signature(hook).parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        assert re.search(rf"^ +{parameter.name}: \w+", documentation, re.MULTILINE), parameter.name


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_test(name):
    assert f"test_{name}" in globals()


def test_no_hook_is_missing_from_the_specifications():
    assert {name for name, value in vars(hookspecs).items() if hasattr(value, "amdm_framework_spec")} == set(HOOKS)


def test_the_markers_come_from_the_package():
    assert amdm_framework.hookimpl is hookspecs.hookimpl
    assert amdm_framework.hookspec is hookspecs.hookspec


def test_register_providers(install):
    install("toy-plugin", provider_module("toy") + '    register(spec("second"))\n')
    registry = discover()
    assert registry.provider("toy").name == "toy"
    assert registry.provider("second").options(checkpoint="x").scale == 1.0


def test_register_strategies(install):
    install("toy-plugin", strategy_module("pull"))
    strategy = discover().strategy("pull")
    assert strategy(strategy.options(pull=1)).settings.pull == 1


def test_register_benchmarks(install):
    install("toy-plugin", benchmark_module("captions") + '    register(benchmark("second"))\n')
    registry = discover()
    benchmark = registry.benchmark("captions")
    assert benchmark is registry.benchmarks["captions"].value and registry.benchmark("second").name == "second"
    cases = benchmark.draw_cases(3, seed=2)
    assert [(case.seed, case.truth) for case in cases] == [(200, 0), (201, 1), (202, 2)]
    assert benchmark.measure(np.full((3, 8, 8, 3), 51, np.uint8), cases) == {"bright": 20.0, "none": None}


def test_register_examples(install, tmp_path):
    install("toy-plugin", example_module("pair") + '    register(example("again", summary="Another."))\n')
    examples = discover().examples
    assert list(examples) == ["pair", "again"], "the one to begin with comes first"
    assert str(examples["pair"].distribution) == "toy-plugin 1.0"
    assert examples["pair"].value.composition == tmp_path / "composition.yaml"
    assert examples["again"].value.scene == tmp_path / "scene.yaml"


COMMANDS = """
import click
from amdm_framework import hookimpl

@hookimpl
def register_commands(cli):
    @cli.command()
    def hello():
        "Say hello."
        click.echo("hello from NAME")
"""


@pytest.fixture
def cli() -> click.Group:
    """A command group that has one command of its own."""

    @click.group()
    def group() -> None:
        pass

    @group.command()
    def run() -> None:
        click.echo("the framework's own")

    return group


def test_register_commands(install, cli):
    install("toy-plugin", COMMANDS)
    discover().add_commands(cli)
    assert CliRunner().invoke(cli, ["hello"]).output == "hello from NAME\n"
    assert "Say hello." in CliRunner().invoke(cli, ["--help"]).output


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("cli.add_command(click.Command('good')); 1 / 0", "ZeroDivisionError: division by zero"),
        ("cli.add_command(click.Command('run'))", "command 'run' exists already, in amdm-framework"),
        ("del cli.commands['run']", "command 'run' exists already, in amdm-framework"),
        ("cli.add_command(click.Command('hello'))", r"command 'hello' exists already, in a-plugin 1\.0"),
    ],
)
def test_a_plugin_whose_commands_do_not_fit_adds_none(install, cli, body, reason):
    head = "import click\nfrom amdm_framework import hookimpl\n@hookimpl\ndef register_commands(cli):\n    "
    install("a-plugin", COMMANDS)
    install("bad-plugin", head + body)
    install("c-plugin", COMMANDS.replace("def hello", "def bye"))
    with pytest.warns(PluginWarning, match=rf"bad-plugin 1\.0 is broken: register_commands: {reason}"):
        discover().add_commands(cli)
    assert cli.commands.keys() == {"run", "hello", "bye"}
    assert CliRunner().invoke(cli, ["run"]).output == "the framework's own\n"
    assert CliRunner().invoke(cli, ["hello"]).output == "hello from NAME\n"


BENCH = """
import click
from amdm_framework import hookimpl

@hookimpl
def register_commands(cli):
    cli.commands["bench"].add_command(click.Command("NAME", callback=lambda: click.echo("measured by NAME")))
"""


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


def test_every_plugin_adds_to_one_group_of_benchmarks(install):
    names = ("a-plugin", "b-plugin")
    for name in names:
        install(name, BENCH.replace("NAME", name))
    for name in names:
        assert bench(name).output == f"measured by {name}\n"


def test_the_group_of_benchmarks_is_made_anew_and_says_where_it_is_empty(install, monkeypatch):
    install("a-plugin", BENCH.replace("NAME", "a-plugin"))
    assert "a-plugin" in bench("--help").output
    monkeypatch.setenv("AMDM_NO_PLUGINS", "1")
    shown = " ".join(bench("--help").output.split())
    assert (
        "a-plugin" not in shown and "None: no installed package adds a benchmark. README.md of amdm-framework" in shown
    )
    assert bench("a-plugin").exit_code == 2


def test_a_benchmark_of_another_plugin_is_not_replaced(install):
    head = "import click\nfrom amdm_framework import hookimpl\n@hookimpl\ndef register_commands(cli):\n    "
    install("a-plugin", BENCH.replace("NAME", "a-plugin"))
    install("bad-plugin", f'{head}[cli.commands["bench"].add_command(click.Command(n)) for n in ("good", "a-plugin")]')
    with pytest.warns(PluginWarning, match=r"bad-plugin 1\.0 is broken: .*'a-plugin' exists already, in a-plugin 1\.0"):
        group = main.with_commands_of(discover())
    assert list(group.commands["bench"].commands) == ["a-plugin"]


CHECKPOINTS = """
from pathlib import Path
from amdm_framework import hookimpl
from amdm_framework.errors import CheckpointError

def resolve(name):
    if name != "base":
        raise CheckpointError(f"toy://{name}: there is only toy://base")
    return Path(__file__).parent / name

@hookimpl
def register_checkpoints(register):
    register("toy", resolve)
"""


def test_register_checkpoints(install, tmp_path):
    install("toy-plugin", CHECKPOINTS)
    resolver = discover().checkpoint_sources["toy"]
    assert resolver("base") == tmp_path / "base"
    with pytest.raises(CheckpointError, match="there is only toy://base"):
        resolver("other")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("register('hf', resolve)", "the scheme 'hf' is the framework's own"),
        ("register('Toy://', resolve)", "a scheme must be a lower-case word like 'zoo', found 'Toy://'"),
        ("register('other', Path('.'))", "the resolver of scheme 'other' must be a function of the name"),
    ],
)
def test_a_malformed_checkpoint_source_is_refused(install, call, reason):
    install("toy-plugin", CHECKPOINTS + f"    {call}\n")
    with pytest.warns(PluginWarning, match=re.escape(reason)):
        assert discover().checkpoint_sources.keys() == {"toy"}


def test_a_scheme_of_two_distributions_is_refused_when_it_is_used(install):
    install("first-plugin", CHECKPOINTS)
    install("second-plugin", CHECKPOINTS)
    with pytest.warns(PluginWarning):
        sources = discover().checkpoint_sources
    with pytest.raises(PluginError, match=r"scheme 'toy' is offered by first-plugin 1\.0 and second-plugin 1\.0"):
        sources["toy"]("base")


def test_hooks_are_not_called_before_somebody_asks(install):
    heavy = provider_module("toy").replace("    register(", "    raise RuntimeError('called')\n    register(")
    install("toy-plugin", heavy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry = discover()
        assert registry.failures == []
    with pytest.warns(PluginWarning, match="RuntimeError: called"):
        assert "toy" not in registry.providers
