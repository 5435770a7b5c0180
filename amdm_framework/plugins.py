"""Which plugins are installed, what they offer, and what is wrong with those that are broken."""

from __future__ import annotations

import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import pluggy

from . import hookspecs
from .errors import PluginError, did_you_mean
from .offers import FRAMEWORK, Distribution, Failure, Offer, Offered, Plugin, clash

if TYPE_CHECKING:
    import click

    from .benchmark import Benchmark
    from .descriptions import InstalledDescription
    from .example import Example
    from .provider import ProviderSpec
    from .strategies.base import AggregationStrategy

ENTRY_POINT_GROUP = "amdm_framework"

Resolver = Callable[[str], Path]

__all__ = ["FRAMEWORK", "Distribution", "Failure", "Offer", "Plugin", "PluginRegistry", "PluginWarning", "discover"]


class PluginWarning(UserWarning):
    """A plugin is broken; everything else works."""


class PluginRegistry:
    """What a set of plugins offers.

    Plugins are imported at once; a hook is called when somebody first asks for its kind of thing. A plugin that fails
    is remembered in `failures` and warned about once; what it registered all the same can be used.

    A name that two distributions register belongs to neither: asking for it raises a `PluginError` that names both,
    and everything else of both works. The framework's own names cannot be taken: there the newcomer is refused.

    Args:
        plugins: in the order in which their hooks are called.
        limit: the environment variable that keeps other plugins out, empty where none does.

    Attributes:
        plugins: all of them, the broken ones included.
        failures: all that went wrong so far.
    """

    def __init__(self, plugins: Sequence[Plugin], limit: str = "") -> None:
        self.failures: list[Failure] = []
        self.plugins = tuple(plugins)
        self._limit = limit
        self._hooks: list[tuple[Plugin, pluggy.HookRelay]] = []
        for plugin in plugins:
            with self._attempt(plugin, "import"):
                self._hooks.append((plugin, _hooks_of(plugin)))

    @property
    def providers(self) -> Mapping[str, Offer[ProviderSpec]]:
        """The providers that can be used, by name."""
        return {name: offers[0] for name, offers in self._providers.items() if len(offers) == 1}

    @property
    def strategies(self) -> Mapping[str, Offer[type[AggregationStrategy]]]:
        """The aggregation strategies that can be used, by name."""
        return {name: offers[0] for name, offers in self._strategies.items() if len(offers) == 1}

    @property
    def benchmarks(self) -> Mapping[str, Offer[Benchmark]]:
        """The benchmarks that can be used, by name."""
        return {name: offers[0] for name, offers in self._benchmarks.items() if len(offers) == 1}

    @property
    def examples(self) -> Mapping[str, Offer[Example]]:
        """The examples that can be used, by name."""
        return {name: offers[0] for name, offers in self._examples.items() if len(offers) == 1}

    @property
    def checkpoint_sources(self) -> Mapping[str, Resolver]:
        """For every registered scheme what resolves `scheme://name`; a scheme claimed twice raises `PluginError`."""
        return {
            scheme: offers[0].value if len(offers) == 1 else partial(_refuse_clash, offers)
            for scheme, offers in self._checkpoints.items()
        }

    def provider(self, name: str) -> ProviderSpec:
        """Return the provider behind `use: name`.

        Raises:
            PluginError: there is none, it is broken, or two distributions claim the name.
        """
        return self._find("provider", "register_providers", self._providers, name)

    def strategy(self, name: str) -> type[AggregationStrategy]:
        """Return the aggregation strategy behind `strategy: name`.

        Raises:
            PluginError: there is none, it is broken, or two distributions claim the name.
        """
        return self._find("strategy", "register_strategies", self._strategies, name)

    def benchmark(self, name: str) -> Benchmark:
        """Return the benchmark behind `--benchmark name`.

        Raises:
            PluginError: there is none, it is broken, or two distributions claim the name.
        """
        return self._find("benchmark", "register_benchmarks", self._benchmarks, name)

    def add_commands(self, cli: click.Group) -> None:
        """Let every plugin add its commands, to groups in the group too.

        One that fails or replaces an existing command adds none.
        """
        from click import Group

        def groups(group: Group) -> Iterator[Group]:
            yield group
            for command in group.commands.values():
                if isinstance(command, Group):
                    yield from groups(command)

        owners = {(group, name): FRAMEWORK for group in groups(cli) for name in group.commands}
        for plugin, hooks in self._hooks:
            before = {group: dict(group.commands) for group in groups(cli)}
            accepted = False
            with self._attempt(plugin, "register_commands"):
                hooks.register_commands(cli=cli)
                for group, commands in before.items():
                    for name, command in commands.items():
                        if group.commands.get(name) is not command:
                            raise PluginError(f"command '{name}' exists already, in {owners[group, name]}")
                accepted = True
            if not accepted:
                for group, commands in before.items():
                    group.commands.clear()
                    group.commands.update(commands)
            for group in groups(cli):
                for name in group.commands:
                    owners.setdefault((group, name), plugin.distribution)

    def describe(self) -> InstalledDescription:
        """Describe everything installed, broken things included."""
        from .descriptions import (
            BenchmarkDescription,
            CheckpointSourceDescription,
            ExampleDescription,
            InstalledDescription,
            PluginDescription,
            ProviderDescription,
            StrategyDescription,
            describe_options,
        )

        details: dict[str, Any]
        providers = []
        for origin, spec in self._rows("register_providers", self._providers):
            details = {"summary": spec.summary, "options": describe_options(spec.options)} if spec else {}
            providers.append(ProviderDescription(*origin, **details))
        facts = ("summary", "formula", "space", "privileged_target", "needs_regions", "source")
        strategies = []
        for origin, strategy in self._rows("register_strategies", self._strategies):
            details = {fact: getattr(strategy, fact) for fact in facts} if strategy else {}
            options = describe_options(strategy.options) if strategy else ()
            strategies.append(StrategyDescription(*origin, **details, options=options))
        benchmarks = []
        for origin, benchmark in self._rows("register_benchmarks", self._benchmarks):
            details = {}
            if benchmark:
                details = {"summary": benchmark.summary, "objective": benchmark.objective}
                details["figures"] = dict(benchmark.figures)
            benchmarks.append(BenchmarkDescription(*origin, **details))
        examples = []
        for origin, example in self._rows("register_examples", self._examples):
            details = {}
            if example:
                details = {"summary": example.summary}
                details |= {"composition": str(example.composition), "scene": str(example.scene)}
            examples.append(ExampleDescription(*origin, **details))
        sources = [
            CheckpointSourceDescription(*origin) for origin, _ in self._rows("register_checkpoints", self._checkpoints)
        ]
        # Last, because the hooks called above may have failed.
        plugins = []
        for plugin in self.plugins:
            reason = "; ".join(f"{f.stage}: {f.reason}" for f in self.failures if f.plugin is plugin)
            plugins.append(
                PluginDescription(
                    plugin.entry_point,
                    plugin.distribution.name,
                    plugin.distribution.version,
                    "broken" if reason else "ok",
                    reason,
                )
            )
        return InstalledDescription(
            tuple(plugins), tuple(providers), tuple(strategies), tuple(benchmarks), tuple(examples), tuple(sources)
        )

    @cached_property
    def _providers(self) -> dict[str, list[Offer[ProviderSpec]]]:
        from .plugin_checks import check_provider

        return self._collect("register_providers", check_provider)

    @cached_property
    def _strategies(self) -> dict[str, list[Offer[type[AggregationStrategy]]]]:
        from .plugin_checks import check_strategy

        return self._collect("register_strategies", check_strategy)

    @cached_property
    def _benchmarks(self) -> dict[str, list[Offer[Benchmark]]]:
        from .plugin_checks import check_benchmark

        return self._collect("register_benchmarks", check_benchmark)

    @cached_property
    def _examples(self) -> dict[str, list[Offer[Example]]]:
        from .plugin_checks import check_example

        return self._collect("register_examples", check_example)

    @cached_property
    def _checkpoints(self) -> dict[str, list[Offer[Resolver]]]:
        from .plugin_checks import check_checkpoint_source

        return self._collect("register_checkpoints", check_checkpoint_source)

    def _collect(self, hook: str, check: Callable[..., tuple[str, Any]]) -> dict[str, list[Offer[Any]]]:
        collected: dict[str, list[Offer[Any]]] = {}
        for plugin, hooks in self._hooks:
            with self._attempt(plugin, hook):
                getattr(hooks, hook)(register=partial(self._register, plugin, hook, check, collected))
        return collected

    def _register(
        self,
        plugin: Plugin,
        hook: str,
        check: Callable[..., tuple[str, Any]],
        collected: dict[str, list[Offer[Any]]],
        *offered: Any,
    ) -> None:
        # What is malformed is remembered here and not raised, so that the plugin goes on to register the rest.
        first = offered[0] if offered else None
        claimed = first if isinstance(first, str) else getattr(first, "name", None)
        with self._attempt(plugin, hook, claimed if isinstance(claimed, str) else ""):
            name, value = check(*offered)
            offers = collected.setdefault(name, [])
            if offers and offers[0].distribution in (FRAMEWORK, plugin.distribution):
                raise PluginError(f"'{name}' exists already, in {offers[0].distribution}")
            offers.append(Offer(name, value, plugin.distribution))
            if len(offers) > 1:
                raise PluginError(clash(offers))

    @contextmanager
    def _attempt(self, plugin: Plugin, stage: str, name: str = "") -> Iterator[None]:
        try:
            yield
        # Whatever a plugin does wrong, sys.exit() on import included, must not stop the others.
        except (Exception, SystemExit) as error:
            message = " ".join(str(error).split())
            reason = message if isinstance(error, PluginError) else f"{type(error).__name__}: {message}".rstrip(": ")
            if all(failure.plugin is not plugin for failure in self.failures):
                warnings.warn(
                    f"plugin {plugin.distribution} is broken: {stage}: {reason} (everything else works; `amdm plugins` "
                    "lists it, --debug shows the trace)",
                    PluginWarning,
                    stacklevel=2,
                )
            trace = "".join(traceback.format_exception(error))
            self.failures.append(Failure(plugin, stage, name, reason, trace))

    def _find(self, kind: str, hook: str, collected: Mapping[str, Sequence[Offer[Offered]]], name: str) -> Offered:
        offers = collected.get(name, ())
        if len(offers) > 1:
            raise PluginError(f"{kind} {clash(offers)}")
        if offers:
            return offers[0].value
        suspects = [f for f in self.failures if f.stage in ("import", hook)]
        culprits = [f for f in suspects if name in (f.name, f.plugin.entry_point)]
        if culprits:
            raise PluginError(f"{kind} '{name}' is broken: {'; '.join(map(str, culprits))}")
        command = "strategies" if kind == "strategy" else "plugins"
        hint = did_you_mean(name, collected)
        others = f"`amdm {command}` lists all" if hint else f"Installed: {', '.join(sorted(collected)) or 'none'}"
        message = f"there is no {kind} '{name}'.{hint} {others}."
        if suspects:
            message += f" Broken plugins, which may have brought it: {'; '.join(map(str, suspects))}."
        if self._limit:
            message += f" {self._limit} is set and keeps other plugins out."
        raise PluginError(message)

    def _rows(
        self, hook: str, collected: Mapping[str, Sequence[Offer[Offered]]]
    ) -> list[tuple[tuple[str, str, str, Literal["ok", "broken"], str], Offered | None]]:
        # Name, distribution, version, status, reason; and the thing itself where it can be used.
        rows: dict[tuple[str, Distribution], tuple[str, Offered | None]] = {}
        for name, offers in collected.items():
            for offer in offers:
                rows[name, offer.distribution] = (clash(offers), None) if len(offers) > 1 else ("", offer.value)
        for failure in self.failures:
            if failure.stage == hook and failure.name:
                rows.setdefault((failure.name, failure.plugin.distribution), (failure.reason, None))
        return [
            ((name, where.name, where.version, "broken" if reason else "ok", reason), value)
            for (name, where), (reason, value) in rows.items()
        ]


def discover(environment: Mapping[str, str] | None = None) -> PluginRegistry:
    """Find the installed plugins: the built-ins, then every entry point of the group `amdm_framework`.

    `AMDM_LOAD_PLUGINS=a,b` loads, beside the built-ins, only the plugins of these names, each the name of an entry
    point or of a distribution; empty loads none. `AMDM_NO_PLUGINS=1` loads the built-ins alone.

    Args:
        environment: where these variables are looked up; by default the process's own.
    """
    if environment is None:
        environment = os.environ
    built_in = Plugin(FRAMEWORK, "built-in", partial(import_module, "amdm_framework.builtin.plugin"))
    if environment.get("AMDM_NO_PLUGINS", "") not in ("", "0"):
        return PluginRegistry([built_in], limit="AMDM_NO_PLUGINS")
    found = [Plugin(_distribution_of(entry), entry.name, entry.load) for entry in entry_points(group=ENTRY_POINT_GROUP)]
    found.sort(key=lambda plugin: (plugin.distribution.name, plugin.entry_point))
    if "AMDM_LOAD_PLUGINS" not in environment:
        return PluginRegistry([built_in, *found])
    wanted = [word.strip() for word in environment["AMDM_LOAD_PLUGINS"].split(",") if word.strip()]
    known = {name for plugin in found for name in (plugin.entry_point, plugin.distribution.name)}
    for word in wanted:
        if _canonical(word) not in map(_canonical, known):
            message = f"AMDM_LOAD_PLUGINS names '{word}', which is not installed.{did_you_mean(word, known)}"
            warnings.warn(message, PluginWarning, stacklevel=2)
    names = {_canonical(word) for word in wanted}
    chosen = [p for p in found if names & {_canonical(p.entry_point), _canonical(p.distribution.name)}]
    return PluginRegistry([built_in, *chosen], limit="AMDM_LOAD_PLUGINS")


def _distribution_of(entry_point: EntryPoint) -> Distribution:
    # A distribution that was half removed may have lost its name and version.
    metadata = entry_point.dist
    name, version = (metadata.name, metadata.version) if metadata is not None else (None, None)
    return Distribution(name or entry_point.name, version or "of unknown version")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _hooks_of(plugin: Plugin) -> pluggy.HookRelay:
    # Every plugin has a manager of its own, so that what pluggy refuses in one cannot reach another.
    manager = pluggy.PluginManager("amdm_framework")
    manager.add_hookspecs(hookspecs)
    module = plugin.load()
    manager.register(module)
    callers = manager.get_hookcallers(module) or []
    if not callers:
        raise PluginError("it has no hooks: mark its functions with `@amdm_framework.hookimpl`")
    known = [name for name in vars(hookspecs) if name.startswith("register_")]
    for caller in callers:
        if not caller.has_spec() and not all(hook.optionalhook for hook in caller.get_hookimpls()):
            raise PluginError(f"there is no hook '{caller.name}'.{did_you_mean(caller.name, known)}")
    return manager.hook


def _refuse_clash(offers: Sequence[Offer[Any]], _name: str) -> NoReturn:
    raise PluginError(f"checkpoint scheme {clash(offers)}")
