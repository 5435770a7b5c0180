"""Plugins are found through entry points; a broken one harms nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from amdm_framework import __version__
from amdm_framework.errors import PluginError
from amdm_framework.plugins import PluginRegistry, PluginWarning, discover
from fake_distributions import (
    benchmark_module,
    example_module,
    provider_module,
    strategy_module,
    write_distribution,
)


def used(registry: PluginRegistry) -> PluginRegistry:
    """Call all hooks."""
    kinds = (registry.providers, registry.strategies, registry.benchmarks, registry.examples)
    assert all(kind is not None for kind in (*kinds, registry.checkpoint_sources))
    return registry


def test_built_ins_are_found_with_their_distribution_and_version():
    registry = discover({"AMDM_NO_PLUGINS": "1"})
    assert registry.provider("stable_diffusion").name == "stable_diffusion"
    assert registry.strategy("amdm").name == "amdm"
    offers = [*registry.providers.values(), *registry.strategies.values()]
    assert {str(offer.distribution) for offer in offers} == {f"amdm-framework {__version__}"}
    assert registry.failures == []


def test_a_plugin_is_used_without_a_warning(install):
    install("toy-plugin", provider_module("toy"), version="2.5")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginWarning)
        registry = used(discover())
    assert registry.provider("toy").summary == "A toy named toy."
    assert str(registry.providers["toy"].distribution) == "toy-plugin 2.5"


def test_a_strategy_plugin_is_used(install):
    install("toy-strategy", strategy_module("pull"))
    assert discover().strategy("pull").formula == "x' = x"


BROKEN_IMPORT = "import a_package_that_nobody_has"
EXITS_ON_IMPORT = "raise SystemExit('no licence')"
SYNTAX_ERROR = "def ("
HOOK_RAISES = """
    from amdm_framework import hookimpl

    @hookimpl
    def register_providers(register):
        raise RuntimeError("weights not found")
"""
WRONG_ARGUMENT = """
    from amdm_framework import hookimpl

    @hookimpl
    def register_providers(registry):
        pass
"""
UNKNOWN_HOOK = """
    from amdm_framework import hookimpl

    @hookimpl
    def register_provider(register):
        pass
"""
NO_HOOKS = "def register_providers(register): pass"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (BROKEN_IMPORT, "import: ModuleNotFoundError: No module named 'a_package_that_nobody_has'"),
        (EXITS_ON_IMPORT, "import: SystemExit: no licence"),
        (SYNTAX_ERROR, "import: SyntaxError"),
        (HOOK_RAISES, "register_providers: RuntimeError: weights not found"),
        (WRONG_ARGUMENT, "'registry'"),
        (UNKNOWN_HOOK, "import: there is no hook 'register_provider'. Did you mean 'register_providers'?"),
        (NO_HOOKS, "import: it has no hooks: mark its functions with `@amdm_framework.hookimpl`"),
    ],
)
def test_a_broken_plugin_gets_one_warning_and_harms_nobody(install, source, reason):
    install("broken-plugin", source)
    install("toy-plugin", provider_module("toy"))
    with pytest.warns(PluginWarning) as caught:
        registry = used(discover())
    assert len(caught) == 1
    assert "broken-plugin 1.0" in str(caught[0].message)
    assert reason in str(caught[0].message)
    assert registry.provider("toy") is not None
    assert registry.provider("stable_diffusion") is not None
    assert "Error" in registry.failures[0].trace or "SystemExit" in registry.failures[0].trace


def test_the_trace_leads_into_the_plugin(install):
    install("broken-plugin", HOOK_RAISES)
    with pytest.warns(PluginWarning):
        registry = used(discover())
    assert "broken_plugin.py" in registry.failures[0].trace
    assert 'raise RuntimeError("weights not found")' in registry.failures[0].trace


def test_a_plugin_that_fails_twice_is_warned_about_once(install):
    install("broken-plugin", HOOK_RAISES + HOOK_RAISES.replace("register_providers", "register_strategies"))
    with pytest.warns(PluginWarning) as caught:
        registry = used(discover())
    assert len(caught) == 1
    assert [failure.stage for failure in registry.failures] == ["register_providers", "register_strategies"]


def test_an_entry_point_that_leads_nowhere_is_broken(install):
    install("broken-plugin", provider_module("toy"), entry_points={"toy": "broken_plugin:gone"})
    with pytest.warns(PluginWarning, match="has no attribute 'gone'"):
        discover()


def test_a_distribution_that_lost_its_metadata_harms_nobody(install, tmp_path):
    install("half-gone", BROKEN_IMPORT)
    (tmp_path / "half_gone-1.0.dist-info" / "METADATA").unlink()
    install("toy-plugin", provider_module("toy"))
    with pytest.warns(PluginWarning, match="half-gone of unknown version"):
        registry = discover()
    assert registry.provider("toy") is not None


# What a plugin may not register: source of the call, and what is said about it.
MALFORMED_PROVIDERS = [
    ("register({'name': 'bad'})", "expected a ProviderSpec, found {'name': 'bad'}"),
    ("register()", "missing 1 required positional argument"),
    ("register(spec('Bad Name'))", "must be a lower-case word like 'my_model', found 'Bad Name'"),
    (
        "Options.model_fields['step_size'] = Options.model_fields['scale']; register(spec('bad'))",
        "options named ['step_size'] are the framework's own keys",
    ),
]


@pytest.mark.parametrize(("call", "reason"), MALFORMED_PROVIDERS)
def test_a_malformed_provider_leaves_the_plugins_other_providers(install, call, reason):
    install("mixed-plugin", provider_module("toy") + f"    {call}\n")
    install("other-plugin", provider_module("other"))
    with pytest.warns(PluginWarning) as caught:
        registry = used(discover())
    assert len(caught) == 1
    assert "mixed-plugin 1.0" in str(caught[0].message)
    assert reason in str(caught[0].message)
    assert {"toy", "other", "stable_diffusion"} <= registry.providers.keys()


MALFORMED_STRATEGIES = [
    ("register('pull')", "expected a subclass of AggregationStrategy, found 'pull'"),
    ("register(Toy(Options()))", "expected a subclass of AggregationStrategy"),
    ("del Toy.formula; register(Toy)", "formula must be a text, found None"),
    ("Toy.summary = ''; register(Toy)", "summary must be a text, found ''"),
    ("Toy.name = 'Pull!'; register(Toy)", "name must be a lower-case word like 'my_strategy', found 'Pull!'"),
    ("Toy.space = 'pixels'; register(Toy)", "space must be one of x_{t-1}, epsilon, x0, found 'pixels'"),
    ("Toy.privileged_target = 1; register(Toy)", "privileged_target must be True or False, found 1"),
    ("Toy.options = dict; register(Toy)", "options must be a pydantic model"),
    ("Options.model_config['extra'] = 'ignore'; register(Toy)", "options must forbid unknown keys"),
    (
        "Options.model_fields['strategy'] = Options.model_fields['pull']; register(Toy)",
        "options named ['strategy'] are the framework's own keys",
    ),
    ("Toy.__abstractmethods__ = frozenset({'advance'}); register(Toy)", "advance not implemented"),
]


@pytest.mark.parametrize(("call", "reason"), MALFORMED_STRATEGIES)
def test_a_malformed_strategy_is_refused(install, call, reason):
    install("bad-strategy", strategy_module("pull").replace("    register(Toy)", f"    {call}"))
    with pytest.warns(PluginWarning) as caught:
        registry = used(discover())
    assert len(caught) == 1
    assert "bad-strategy 1.0" in str(caught[0].message)
    assert reason in str(caught[0].message)
    assert "pull" not in registry.strategies
    assert registry.strategy("amdm") is not None


MALFORMED_BENCHMARKS = [
    ("register('bad')", "expected a Benchmark, found 'bad'"),
    ("register(benchmark('Bad'))", "name must be a lower-case word like 'my_scenes', found 'Bad'"),
    ("register(benchmark('bad', summary=''))", "summary must be a text, found ''"),
    ("register(benchmark('bad', figures={}))", "figures must be one line of text for every figure's name, found {}"),
    ("register(benchmark('bad', figures={'bright': 1}))", "figures must be one line of text"),
    ("register(benchmark('bad', objective='dark'))", "objective must be one of the figures bright, none, found 'dark'"),
    ("register(benchmark('bad', cases=[], score=3))", "cases must be a function, found []; score must be a function"),
    ("register(benchmark('good'))", "'good' exists already, in mixed-plugin 1.0"),
]


@pytest.mark.parametrize(("call", "reason"), MALFORMED_BENCHMARKS)
def test_a_malformed_benchmark_is_refused(install, call, reason):
    install("mixed-plugin", benchmark_module("good") + f"    {call}\n")
    with pytest.warns(PluginWarning) as caught:
        registry = used(discover())
    assert len(caught) == 1 and reason in str(caught[0].message)
    assert registry.benchmarks.keys() == {"good"}


def test_benchmarks_clash_and_are_missed_as_everything_else(install):
    install("first-plugin", benchmark_module("captions"))
    install("second-plugin", benchmark_module("captions") + "    register(benchmark('other'))\n")
    with pytest.warns(PluginWarning):
        registry = used(discover())
    assert registry.benchmarks.keys() == {"other"}
    with pytest.raises(PluginError, match=r"benchmark 'captions' is offered by first-plugin 1\.0 and second-plugin"):
        registry.benchmark("captions")
    with pytest.raises(PluginError, match=r"there is no benchmark 'othr'\. Did you mean 'other'\?"):
        registry.benchmark("othr")


MALFORMED_EXAMPLES = [
    ("register('bad')", "expected an Example, found 'bad'"),
    ("register(example('Bad'))", "name must be a lower-case word like 'my_example', found 'Bad'"),
    ("register(example('bad', composition=Path('x.yaml')))", "composition must be a file that exists, found 'x.yaml'"),
    ("register(example('bad', scene=Path(__file__)))", "scene must be the Path of a YAML file, found PosixPath("),
    (
        "register(example('bad', summary='', composition='x.yaml', scene=Path('gone.yml')))",
        "example bad: summary must be a text, found ''; composition must be the Path of a YAML file, found 'x.yaml'; "
        "scene must be a file that exists, found 'gone.yml'",
    ),
    ("register(example('good'))", "'good' exists already, in mixed-plugin 1.0"),
]


@pytest.mark.parametrize(("call", "reason"), MALFORMED_EXAMPLES)
def test_a_malformed_example_is_refused(install, call, reason):
    install("mixed-plugin", example_module("good") + f"    {call}\n")
    with pytest.warns(PluginWarning) as caught:
        registry = used(discover())
    assert len(caught) == 1 and reason in str(caught[0].message)
    assert registry.examples.keys() == {"good"}


def test_an_example_of_two_distributions_belongs_to_neither(install):
    install("first-plugin", example_module("pair"))
    install("second-plugin", example_module("pair") + "    register(example('other'))\n")
    with pytest.warns(PluginWarning, match=r"'pair' is offered by first-plugin 1\.0 and second-plugin 1\.0"):
        assert used(discover()).examples.keys() == {"other"}


def test_all_mistakes_of_a_strategy_are_named_at_once(install):
    install(
        "bad-strategy",
        strategy_module("pull").replace(
            "    register(Toy)", "    del Toy.formula, Toy.source, Toy.space; register(Toy)"
        ),
    )
    with pytest.warns(PluginWarning, match=r"strategy Toy: formula must .*; source must .*; space must "):
        used(discover())


def test_options_without_a_json_schema_are_refused(install):
    source = provider_module("toy").replace(
        "scale: float = Field(default=1.0, ge=0, le=2", "scale: Callable = Field(len"
    )
    install("odd-plugin", "from collections.abc import Callable\n" + source)
    with pytest.warns(PluginWarning, match="options Options have no JSON schema"):
        used(discover())


def test_a_name_of_two_distributions_belongs_to_neither(install):
    install("first-plugin", provider_module("toy") + '    register(spec("first"))\n', version="1.2")
    install("second-plugin", provider_module("toy") + '    register(spec("second"))\n', version="3.4")
    with pytest.warns(PluginWarning) as caught:
        registry = used(discover())
    assert len(caught) == 1
    with pytest.raises(PluginError, match=r"provider 'toy' is offered by first-plugin 1\.2 and second-plugin 3\.4"):
        registry.provider("toy")
    assert "toy" not in registry.providers
    assert registry.provider("first").name == "first"
    assert registry.provider("second").name == "second"


def test_a_clash_is_solved_by_loading_one_of_the_two(install):
    install("first-plugin", provider_module("toy"))
    install("second-plugin", provider_module("toy"))
    registry = discover({"AMDM_LOAD_PLUGINS": "second-plugin"})
    registry.provider("toy")
    assert registry.providers["toy"].distribution.name == "second-plugin"


def test_the_frameworks_own_names_cannot_be_taken(install):
    install("rude-plugin", provider_module("stable_diffusion") + '    register(spec("toy"))\n')
    with pytest.warns(PluginWarning, match="'stable_diffusion' exists already, in amdm-framework"):
        registry = used(discover())
    assert registry.providers["stable_diffusion"].distribution.name == "amdm-framework"
    assert registry.provider("toy") is not None


def test_one_distribution_cannot_register_a_name_twice(install):
    install("toy-plugin", provider_module("toy") + '    register(spec("toy"))\n')
    with pytest.warns(PluginWarning, match=r"'toy' exists already, in toy-plugin 1\.0"):
        registry = used(discover())
    assert registry.provider("toy") is not None


def test_an_unknown_name_gets_a_suggestion_or_the_installed_ones(install):
    install("toy-plugin", provider_module("magic"), version="2.0")
    with pytest.raises(PluginError) as raised:
        discover().provider("mgic")
    message = str(raised.value)
    assert message == "there is no provider 'mgic'. Did you mean 'magic'? `amdm plugins` lists all."
    with pytest.raises(PluginError, match=r"'slurp'\. Did you mean 'slerp'\? `amdm strategies` lists all\.$"):
        discover().strategy("slurp")
    with pytest.raises(PluginError, match=r"there is no provider 'xyz'\. Installed: magic, stable_diffusion\.$"):
        discover().provider("xyz")


def test_an_unknown_name_names_the_broken_plugins_that_may_have_brought_it(install):
    install("broken-plugin", BROKEN_IMPORT)
    with pytest.warns(PluginWarning):
        registry = discover()
    with pytest.raises(PluginError, match=r"Broken plugins, .*broken-plugin 1\.0: import: ModuleNotFoundError"):
        registry.provider("migc")


def test_a_name_of_a_broken_plugin_says_why_it_is_broken(install):
    install("amdm-plugin-migc", BROKEN_IMPORT, entry_points={"migc": "amdm_plugin_migc"})
    with pytest.warns(PluginWarning):
        registry = discover()
    with pytest.raises(PluginError, match=r"^provider 'migc' is broken: amdm-plugin-migc 1\.0: import: ModuleNotFound"):
        registry.provider("migc")


def test_load_plugins_loads_only_what_it_names(install):
    install("first-plugin", provider_module("first"), entry_points={"one": "first_plugin"})
    install("second-plugin", provider_module("second"), entry_points={"two": "second_plugin"})
    install("third-plugin", BROKEN_IMPORT)
    by_entry_point = discover({"AMDM_LOAD_PLUGINS": "one"})
    by_distribution = discover({"AMDM_LOAD_PLUGINS": " Second_Plugin "})
    both = discover({"AMDM_LOAD_PLUGINS": "one,second-plugin"})
    assert by_entry_point.providers.keys() == {"stable_diffusion", "first"}
    assert by_distribution.providers.keys() == {"stable_diffusion", "second"}
    assert both.providers.keys() == {"stable_diffusion", "first", "second"}
    assert discover({"AMDM_LOAD_PLUGINS": ""}).providers.keys() == {"stable_diffusion"}
    with pytest.raises(PluginError, match="AMDM_LOAD_PLUGINS is set and keeps other plugins out"):
        by_entry_point.provider("second")


def test_load_plugins_warns_of_what_is_not_installed(install):
    install("first-plugin", provider_module("first"))
    with pytest.warns(
        PluginWarning, match=r"names 'first-plugn', which is not installed\. Did you mean 'first-plugin'"
    ):
        discover({"AMDM_LOAD_PLUGINS": "first-plugn"})


def test_no_plugins_loads_the_built_ins_alone(install, monkeypatch):
    install("first-plugin", provider_module("first"))
    monkeypatch.setenv("AMDM_NO_PLUGINS", "1")
    registry = discover()
    assert registry.providers.keys() == {"stable_diffusion"}
    with pytest.raises(PluginError, match="AMDM_NO_PLUGINS is set and keeps other plugins out"):
        registry.provider("first")
    monkeypatch.setenv("AMDM_NO_PLUGINS", "0")
    assert "first" in discover().providers


def test_another_process_finds_what_lies_on_its_path(tmp_path):
    write_distribution(tmp_path, "toy-plugin", provider_module("toy"))
    code = (
        "import sys, amdm_framework\n"
        "from amdm_framework.plugins import discover\n"
        "registry = discover()\n"
        "assert not {'torch', 'diffusers'} & sys.modules.keys(), 'discovery is not light'\n"
        "print(*(plugin.distribution for plugin in registry.plugins), registry.failures)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "AMDM_LOAD_PLUGINS": "toy-plugin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"amdm-framework {__version__} toy-plugin 1.0 []\n", done.stderr
