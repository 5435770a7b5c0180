"""What `amdm plugins --json` says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from amdm_framework import __version__
from amdm_framework.descriptions import OptionDescription, describe_options
from amdm_framework.plugins import PluginWarning, discover
from fake_distributions import benchmark_module, example_module, provider_module, strategy_module


class Nested(BaseModel):
    width: int = 1
    height: int = 2


class Everything(BaseModel):
    text: str
    number: float = 1.5
    share: Annotated[float, Field(ge=0, le=1)] = 0.25
    open_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    count: int | None = Field(default=None, ge=1, description="How many.")
    switch: bool = False
    choice: Literal["fast", "slow"] = "fast"
    only: Literal["one"] = "one"
    file: Path = Path("weights")
    files: Path | list[Path] = Field(default_factory=list)
    pair: tuple[int, str] = (1, "a")
    weights: tuple[Annotated[float, Field(ge=0)], ...] = (0.5,)
    mixed: list[int | str] = []
    scales: dict[str, float] = Field(default_factory=lambda: {"up": 1.0})
    size: Nested = Nested()
    derived: float = Field(default_factory=lambda data: data["number"])
    renamed: int = Field(default=3, alias="called")
    whatever: Any = None


def test_options_are_described_in_words():
    described = {option.name: (option.type, option.default) for option in describe_options(Everything)}
    assert described == {
        "text": ("text", None),
        "number": ("number", 1.5),
        "share": ("number from 0 to 1", 0.25),
        "open_share": ("number > 0, < 1", 0.25),
        "count": ("integer >= 1 | null", None),
        "switch": ("true or false", False),
        "choice": ("fast | slow", "fast"),
        "only": ("one", "one"),
        "file": ("path", "weights"),
        "files": ("path | list of paths", []),
        "pair": ("[integer, text]", [1, "a"]),
        "weights": ("list of numbers >= 0", [0.5]),
        "mixed": ("list of (integer | text)", []),
        "scales": ("mapping of names to number", {"up": 1.0}),
        "size": ("{width, height}", {"width": 1, "height": 2}),
        "derived": ("number", None),
        "called": ("integer", 3),
        "whatever": ("anything", None),
    }
    assert [option.name for option in describe_options(Everything) if option.required] == ["text"]
    assert describe_options(Everything)[4].description == "How many."


def test_everything_installed_is_described(install):
    install("toy-plugin", provider_module("toy"), version="2.5", entry_points={"toys": "toy_plugin"})
    install("toy-strategy", strategy_module("pull"))
    described = discover().describe()
    assert [(p.entry_point, p.distribution, p.version, p.status) for p in described.plugins] == [
        ("built-in", "amdm-framework", __version__, "ok"),
        ("toys", "toy-plugin", "2.5", "ok"),
        ("toy-strategy", "toy-strategy", "1.0", "ok"),
    ]
    toy = next(provider for provider in described.providers if provider.name == "toy")
    assert (toy.distribution, toy.version, toy.status, toy.reason) == ("toy-plugin", "2.5", "ok", "")
    assert toy.summary == "A toy named toy."
    assert toy.options == (
        OptionDescription("checkpoint", "text", True, None, "Where the weights are."),
        OptionDescription("scale", "number from 0 to 2", False, 1.0, "Strength."),
    )
    pull = next(strategy for strategy in described.strategies if strategy.name == "pull")
    assert (pull.formula, pull.space, pull.privileged_target, pull.source) == ("x' = x", "x0", True, "this test")
    assert [option.name for option in pull.options] == ["pull"]


def test_benchmarks_are_described(install):
    install("first-plugin", benchmark_module("captions"))
    install("second-plugin", benchmark_module("other") + "    register(benchmark('captions'))\n")
    with pytest.warns(PluginWarning):
        described = discover().describe().benchmarks
    other = next(benchmark for benchmark in described if benchmark.name == "other")
    assert (other.status, other.summary, other.objective) == ("ok", "Captions.", "bright")
    assert other.figures == {"bright": "how bright the pictures are", "none": "nothing"}
    clashing = [benchmark for benchmark in described if benchmark.name == "captions"]
    assert [(one.distribution, one.status, one.figures) for one in clashing] == [
        ("first-plugin", "broken", {}),
        ("second-plugin", "broken", {}),
    ]


def test_examples_are_described(install, tmp_path):
    install("first-plugin", example_module("pair"))
    install("second-plugin", example_module("other") + "    register(example('pair'))\n")
    with pytest.warns(PluginWarning):
        described = discover().describe().examples
    (other,) = [example for example in described if example.name == "other"]
    assert (other.status, other.summary) == ("ok", "A toy.")
    assert (other.composition, other.scene) == (str(tmp_path / "composition.yaml"), str(tmp_path / "scene.yaml"))
    clashing = [example for example in described if example.name == "pair"]
    assert [(one.distribution, one.status, one.scene) for one in clashing] == [
        ("first-plugin", "broken", ""),
        ("second-plugin", "broken", ""),
    ]


def test_the_built_ins_are_described_completely():
    described = discover({"AMDM_NO_PLUGINS": "1"}).describe()
    assert {"amdm", "slerp", "single"} <= {strategy.name for strategy in described.strategies}
    for thing in (*described.providers, *described.strategies):
        assert (thing.status, thing.version) == ("ok", __version__)
        assert thing.summary
        assert all(option.description for option in thing.options), thing.name


@pytest.mark.filterwarnings("ignore::amdm_framework.plugins.PluginWarning")
def test_what_is_broken_is_described_with_its_reason(install):
    install("broken-plugin", "import a_package_that_nobody_has")
    install("first-plugin", provider_module("toy"))
    install("rude-plugin", provider_module("stable_diffusion"))
    install("second-plugin", provider_module("toy"))
    install("bad-strategy", strategy_module("pull").replace("    register(Toy)", "    del Toy.source; register(Toy)"))
    described = discover().describe()
    plugins = {plugin.distribution: (plugin.status, plugin.reason) for plugin in described.plugins}
    assert plugins["amdm-framework"] == ("ok", "")
    assert plugins["first-plugin"] == ("ok", "")
    assert plugins["broken-plugin"][0] == "broken"
    assert "a_package_that_nobody_has" in plugins["broken-plugin"][1]
    providers = {(p.name, p.distribution): (p.status, p.reason) for p in described.providers}
    assert providers["stable_diffusion", "amdm-framework"] == ("ok", "")
    assert providers["stable_diffusion", "rude-plugin"][0] == "broken"
    for distribution in ("first-plugin", "second-plugin"):
        status, reason = providers["toy", distribution]
        assert status == "broken"
        assert "offered by first-plugin 1.0 and second-plugin 1.0" in reason
    pull = next(strategy for strategy in described.strategies if strategy.name == "pull")
    assert pull.status == "broken"
    assert "source must be a text" in pull.reason


def test_a_description_can_be_written_as_json(install):
    install("toy-plugin", provider_module("toy"))
    with pytest.warns(PluginWarning):
        install("broken-plugin", "1 / 0")
        described = discover().describe()
    assert json.loads(json.dumps(dataclasses.asdict(described)))["plugins"][1]["status"] == "broken"
