"""Fake distributions on disk: a module and what pip leaves behind beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

PROVIDER = """
from pydantic import BaseModel, ConfigDict, Field
from amdm_framework import hookimpl

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    checkpoint: str = Field(description="Where the weights are.")
    scale: float = Field(default=1.0, ge=0, le=2, description="Strength.")

def spec(name):
    from amdm_framework.provider import ProviderSpec
    return ProviderSpec(
        name=name,
        summary="A toy named " + name + ".",
        options=Options,
        condition=Options,
        condition_from_scene=lambda scene, options: options,
        load=lambda options, context: None,
    )

@hookimpl
def register_providers(register):
    register(spec("NAME"))
"""

STRATEGY = """
from pydantic import BaseModel, ConfigDict, Field
from amdm_framework import hookimpl
from amdm_framework.strategies.base import Advance, AggregationStrategy, Evaluation

class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pull: float = Field(default=0.5, description="How much.")

class Toy(AggregationStrategy):
    name = "NAME"
    summary = "A toy."
    formula = "x' = x"
    space = "x0"
    privileged_target = True
    source = "this test"
    options = Options

    def evaluated(self, index):
        return {0: Evaluation.GUIDED}

    def advance(self, step, states, transition):
        return Advance([state.latents for state in states])

@hookimpl
def register_strategies(register):
    register(Toy)
"""

BENCHMARK = """
from amdm_framework import hookimpl

@hookimpl
def register_benchmarks(register):
    from amdm_framework.benchmark import Benchmark, BenchmarkCase
    from amdm_framework.scene import Scene

    def benchmark(name, **changes):
        fields = {
            "summary": "Captions.",
            "objective": "bright",
            "figures": {"bright": "how bright the pictures are", "none": "nothing"},
            "cases": lambda count, seed: [BenchmarkCase(Scene(caption="a"), seed * 100 + i, i) for i in range(count)],
            "score": lambda pictures, cases: {"bright": pictures.mean() / 2.55, "none": None},
        }
        return Benchmark(name, **{**fields, **changes})

    register(benchmark("NAME"))
"""


EXAMPLE = """
from pathlib import Path
from amdm_framework import hookimpl

@hookimpl
def register_examples(register):
    from amdm_framework.example import Example

    def example(name, **changes):
        files = {key: Path(__file__).with_name(f"{key}.yaml") for key in ("composition", "scene")}
        for file in files.values():
            file.touch()
        return Example(name, **{"summary": "A toy.", **files, **changes})

    register(example("NAME"))
"""


def provider_module(name: str) -> str:
    """Return a module that registers one good provider."""
    return PROVIDER.replace("NAME", name)


def strategy_module(name: str) -> str:
    """Return a module that registers one good strategy."""
    return STRATEGY.replace("NAME", name)


def benchmark_module(name: str) -> str:
    """Return a module that registers one good benchmark, of the brightness of pictures."""
    return BENCHMARK.replace("NAME", name)


def example_module(name: str) -> str:
    """Return a module that registers one good example, whose files lie beside the module and are empty."""
    return EXAMPLE.replace("NAME", name)


def write_distribution(
    folder: Path, name: str, source: str, version: str = "1.0", entry_points: Mapping[str, str] | None = None
) -> None:
    """Write what pip leaves behind after it installed a package: `name` with dashes, its module with underscores."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{key} = {value}" for key, value in (entry_points or {name: module}).items()]
    (info / "entry_points.txt").write_text("\n".join(["[amdm_framework]", *lines, ""]))
    (info / "RECORD").write_text("")
