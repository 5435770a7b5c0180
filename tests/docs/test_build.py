"""The documentation builds without a warning, and its reference shows the code as it is."""

from __future__ import annotations

import ast
import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate

import click
import pytest
from click.testing import CliRunner

from amdm_framework import hookspecs
from amdm_framework.cli import main
from amdm_framework.composition import AggregationBlock, Composition, ProviderBlock, SamplerSettings
from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.plugins import discover
from amdm_framework.provider import ProviderSpec
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.scene import Instance, Interaction, Reference, Scene
from code_blocks import ROOT, blocks_of

PLUGINS = discover()
SECRET = "a-value-of-the-environment"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages, as `make docs` builds them."""
    output = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs"]
    command += ["-d", str(output / "doctrees"), ".", str(output / "html")]
    environment = {**os.environ, "SOME_SECRET": SECRET}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return output / "html"


def words_of(page: Path) -> str:
    """What a page shows, without its markup and its line breaks."""
    article = re.search(r"<article.*</article>", page.read_text(), re.DOTALL)
    assert article is not None
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", article[0])).split())


def test_the_way_from_the_sites_root_leads_to_the_first_page(site: Path) -> None:
    (target,) = re.findall(r"url=(\S+)\"", (site / "index.html").read_text())
    assert "amdm_framework" in words_of(site / target)


def test_make_docs_runs_the_same_command() -> None:
    assert "-m sphinx -W --keep-going -c docs . docs/_build/html" in (ROOT / "Makefile").read_text()


def test_no_page_tells_of_the_machine_that_built_it(site: Path) -> None:
    told = {SECRET, str(ROOT), sys.prefix, str(Path.home() / ".cache"), str(site)}
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not [value for value in told if value in text], page


def commands() -> Iterator[list[str]]:
    """The words of every command, those of plugins included."""
    waiting: list[tuple[list[str], click.Command]] = [([], main.with_commands_of(PLUGINS))]
    while waiting:
        words, command = waiting.pop()
        yield words
        if isinstance(command, click.Group):
            waiting += [([*words, name], inner) for name, inner in command.commands.items()]


def test_the_help_of_every_command_is_shown_as_it_is(site: Path) -> None:
    shown = words_of(site / "docs/reference/cli.html")
    seen = 0
    for words in commands():
        printed = CliRunner().invoke(main, [*words, "--help"], prog_name="amdm", terminal_width=100).output
        assert " ".join(printed.split()) in shown, f"amdm {' '.join(words)} --help"
        seen += 1
    assert seen > 7


@pytest.mark.parametrize("name", [name for name in vars(hookspecs) if name.startswith("register_")])
def test_every_hook_is_shown_with_its_signature(site: Path, name: str) -> None:
    hook = vars(hookspecs)[name]
    shown = words_of(site / "docs/reference/hooks.html")
    (parameter, annotation), *_ = hook.__annotations__.items()
    assert f"{name}({parameter}: {annotation})" in shown
    documentation = [" ".join(line.split()) for line in hook.__doc__.replace("`", "").split("\n\n")]
    assert documentation[0] in shown


@pytest.mark.parametrize("name", PLUGINS.providers)
def test_every_provider_is_shown_with_its_options_and_its_condition(site: Path, name: str) -> None:
    shown = words_of(site / "docs/reference/providers.html")
    spec = PLUGINS.provider(name)
    assert spec.summary in shown
    for model in (spec.options, spec.condition):
        for key, field in model.model_fields.items():
            assert f"{key} " in shown
            assert (field.description or "").replace("`", "") in shown


@pytest.mark.parametrize("name", PLUGINS.strategies)
def test_every_strategy_is_shown_with_its_formula_and_its_source(site: Path, name: str) -> None:
    shown = words_of(site / "docs/reference/strategies.html")
    strategy = PLUGINS.strategy(name)
    for fact in (strategy.summary, strategy.formula, strategy.space, strategy.source):
        assert " ".join(fact.replace("`", "").split()) in shown.replace("`", "")


@pytest.mark.parametrize("name", PLUGINS.benchmarks)
def test_every_benchmark_is_shown_with_its_figures(site: Path, name: str) -> None:
    shown = words_of(site / "docs/reference/benchmarks.html")
    for figure, meaning in PLUGINS.benchmark(name).figures.items():
        assert f"{figure} {meaning.replace('`', '')}" in shown


def test_the_cost_of_a_strategy_is_that_of_the_paper(site: Path) -> None:
    shown = words_of(site / "docs/reference/strategies.html")
    # T + (N-1) s for two, three and four members; `steps` not given, 3, 10 and 50.
    assert "2 53 53 60 100 3 56 56 70 150 4 59 59 80 200" in shown


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("composition", Composition),
        ("composition", ProviderBlock),
        ("composition", AggregationBlock),
        ("composition", SamplerSettings),
        ("scene", Scene),
        ("scene", Instance),
        ("scene", Interaction),
        ("scene", Reference),
    ],
)
def test_every_key_of_compositions_and_scenes_is_shown(site: Path, page: str, model: type) -> None:
    shown = words_of(site / f"docs/reference/{page}.html")
    for key, field in model.model_fields.items():  # type: ignore[attr-defined]
        assert f" {key} " in shown
        assert field.description.replace("`", "") in shown


def imports_of_plugins() -> Iterator[tuple[str, str]]:
    """What templates, guides and our own plugins import of the framework, and where."""
    folders = ("amdm_framework/templates", "plugins/*/amdm_*", "examples/*/amdm_*")
    code = {
        str(file): file.read_text() for folder in folders for one in ROOT.glob(folder) for file in one.rglob("*.py")
    }
    for page in ("write_a_provider.md", "write_a_strategy.md"):
        blocks = blocks_of((ROOT / "docs" / page).read_text())
        code[page] = "\n".join(block.text for block in blocks if block.language == "python" and not block.file)
    for where, text in code.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("amdm_framework"):
                yield from ((f"{node.module}.{name.name}", where) for name in node.names)


def test_whatever_a_plugin_imports_is_on_the_pages_on_python(site: Path) -> None:
    pages = [(site / f"docs/reference/{page}.html").read_text() for page in ("python", "hooks")]
    shown = {name for page in pages for name in re.findall(r'id="(amdm_framework[\w.]+)"', page)}
    # Shown under one name, and imported by another where a module hands on what its neighbours define.
    known = {id(locate(name)) for name in shown}
    missing = {name: where for name, where in imports_of_plugins() if id(locate(name)) not in known}
    assert not missing


def test_the_fields_of_models_are_shown(site: Path) -> None:
    shown = words_of(site / "docs/reference/python.html")
    for model in (Instance, Reference, Scene, ProviderSpec, TextCondition, Guidance):
        for key, field in model.model_fields.items():
            assert f" {key} " in shown
            assert " ".join((field.description or "").replace("`", "").split()) in shown
