"""What a plugin may register: each check returns the name and the thing itself, or raises what is wrong with it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

from .benchmark import Benchmark
from .descriptions import describe_options
from .errors import PluginError
from .example import Example
from .provider import ProviderSpec
from .strategies.base import AggregationStrategy

RESERVED_STRATEGY_OPTIONS = frozenset({"strategy"})
RESERVED_SCHEMES = frozenset({"hf", "file", "http", "https"})


def check_provider(spec: Any) -> tuple[str, ProviderSpec]:
    """Check what was handed to `register_providers`; the spec has checked its own fields when it was made.

    Raises:
        PluginError: it is no `ProviderSpec`, or its options cannot be described.
    """
    if not isinstance(spec, ProviderSpec):
        raise PluginError(f"expected a ProviderSpec, found {spec!r}")
    _check_describable(spec.options)
    return spec.name, spec


def check_strategy(strategy: Any) -> tuple[str, type[AggregationStrategy]]:
    """Check what was handed to `register_strategies`.

    Raises:
        PluginError: with everything that is missing or wrong.
    """
    if not (inspect.isclass(strategy) and issubclass(strategy, AggregationStrategy)):
        raise PluginError(f"expected a subclass of AggregationStrategy, found {strategy!r}")
    problems = []
    if inspect.isabstract(strategy):
        problems.append(f"{', '.join(sorted(strategy.__abstractmethods__))} not implemented")
    name = getattr(strategy, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        problems.append(f"name must be a lower-case word like 'my_strategy', found {name!r}")
    for attribute in ("summary", "formula", "source"):
        value = getattr(strategy, attribute, None)
        if not isinstance(value, str) or not value:
            problems.append(f"{attribute} must be a text, found {value!r}")
    spaces = get_args(get_args(get_type_hints(AggregationStrategy)["space"])[0])
    if getattr(strategy, "space", None) not in spaces:
        problems.append(f"space must be one of {', '.join(spaces)}, found {getattr(strategy, 'space', None)!r}")
    for attribute in ("privileged_target", "needs_regions"):
        if not isinstance(getattr(strategy, attribute, None), bool):
            problems.append(f"{attribute} must be True or False, found {getattr(strategy, attribute, None)!r}")
    contract = strategy.contract
    if contract is not None and not (isinstance(contract, str) and re.fullmatch(r"[\w.]+:\w+", contract)):
        problems.append(f"contract must be a text like 'module:Class', found {contract!r}")
    options = getattr(strategy, "options", None)
    if not (inspect.isclass(options) and issubclass(options, BaseModel)):
        problems.append(f"options must be a pydantic model, found {options!r}")
    else:
        if options.model_config.get("extra") != "forbid":
            problems.append("options must forbid unknown keys (ConfigDict(extra='forbid'))")
        if clash := RESERVED_STRATEGY_OPTIONS & options.model_fields.keys():
            problems.append(f"options named {sorted(clash)} are the framework's own keys of the aggregation block")
    if problems:
        raise PluginError(f"strategy {strategy.__name__}: {'; '.join(problems)}")
    _check_describable(strategy.options)
    return strategy.name, strategy


def check_benchmark(benchmark: Any) -> tuple[str, Benchmark]:
    """Check what was handed to `register_benchmarks`; the benchmark has checked its own fields when it was made.

    Raises:
        PluginError: it is no `Benchmark`.
    """
    if not isinstance(benchmark, Benchmark):
        raise PluginError(f"expected a Benchmark, found {benchmark!r}")
    return benchmark.name, benchmark


def check_example(example: Any) -> tuple[str, Example]:
    """Check what was handed to `register_examples`; the example has checked its own fields when it was made.

    Raises:
        PluginError: it is no `Example`.
    """
    if not isinstance(example, Example):
        raise PluginError(f"expected an Example, found {example!r}")
    return example.name, example


def check_checkpoint_source(scheme: Any, resolver: Any) -> tuple[str, Callable[[str], Path]]:
    """Check what was handed to `register_checkpoints`.

    Raises:
        PluginError: the scheme is no word or the framework's own, or the resolver cannot be called.
    """
    if not isinstance(scheme, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", scheme):
        raise PluginError(f"a scheme must be a lower-case word like 'zoo', found {scheme!r}")
    if scheme in RESERVED_SCHEMES:
        raise PluginError(f"the scheme '{scheme}' is the framework's own")
    if not callable(resolver):
        raise PluginError(f"the resolver of scheme '{scheme}' must be a function of the name, found {resolver!r}")
    return scheme, resolver


def _check_describable(options: type[BaseModel]) -> None:
    try:
        describe_options(options)
    except Exception as error:
        raise PluginError(f"options {options.__name__} have no JSON schema: {error}") from error
