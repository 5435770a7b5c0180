"""The pages of `docs/models`: options are those of the installed plugins, and what they show can be used."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from amdm_framework.composition import read_composition
from amdm_framework.descriptions import OptionDescription, describe_options
from amdm_framework.plugins import discover
from amdm_framework.scene import read_scene
from amdm_framework.yaml_files import parse_yaml

PAGES = Path(__file__).parents[2] / "docs" / "models"
MODELS = ("controlnet", "gligen", "interactdiffusion", "ip_adapter", "migc")


def options_table(options: Sequence[OptionDescription]) -> str:
    """Return a model's options as the Markdown table that belongs on its page, those that must be given first."""
    rows = ["| option | takes | default | meaning |", "|---|---|---|---|"]
    for option in sorted(options, key=lambda option: not option.required):
        takes = ", ".join(word for word in option.type.split(" | ") if word != "null")
        default = option.default if isinstance(option.default, str) else json.dumps(option.default)
        if option.default is None:
            default = "required" if option.required else "none"
        rows.append(f"| `{option.name}` | {takes} | {default} | {option.description} |")
    return "\n".join(rows)


def test_every_page_is_tested() -> None:
    assert sorted(page.stem for page in PAGES.glob("*.md")) == sorted(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_the_table_of_options_is_the_plugins(model: str) -> None:
    table = options_table(describe_options(discover().provider(model).options))
    page = (PAGES / f"{model}.md").read_text()
    assert table in page, f"docs/models/{model}.md: the table of options should be\n\n{table}"


@pytest.mark.parametrize("model", MODELS)
def test_composition_and_scene_fit_each_other(model: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (PAGES / f"{model}.md").read_text(), re.DOTALL)
    composition, scene = (parse_yaml(block, model) for block in blocks)
    for name in ("edges.png", "oil.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (member,) = read_composition(composition, discover()).members
    assert member.spec.name == model
    member.condition(read_scene(scene, tmp_path))


@pytest.mark.parametrize("model", MODELS)
def test_links_lead_somewhere(model: str) -> None:
    links = re.findall(r"\]\((?!https:)([^)#]+)\)", (PAGES / f"{model}.md").read_text())
    assert f"../../plugins/{model}/README.md" in links
    assert [link for link in links if not (PAGES / link).exists()] == []
