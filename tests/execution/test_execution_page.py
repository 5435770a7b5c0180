"""docs/execution.md: its table is that of the options, and its examples can be used."""

from __future__ import annotations

import json
import re
from pathlib import Path

from amdm_framework.composition import read_composition
from amdm_framework.descriptions import describe_options
from amdm_framework.execution import ExecutionSettings
from amdm_framework.plugins import discover
from amdm_framework.yaml_files import parse_yaml

PAGE = (Path(__file__).parents[2] / "docs" / "execution.md").read_text()


def test_the_table_is_that_of_the_options() -> None:
    rows = ["| option | takes | default | meaning |", "|---|---|---|---|"]
    for option in describe_options(ExecutionSettings):
        default = option.default if isinstance(option.default, str) else json.dumps(option.default)
        takes = option.type.replace(" | ", ", ")
        rows.append(f"| `{option.name}` | {takes} | {default} | {option.description} |")
    table = "\n".join(rows)
    assert table in PAGE, f"docs/execution.md: the table of options should be\n\n{table}"


def test_the_examples_are_compositions() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        content = parse_yaml(block, "docs/execution.md")
        assert len(read_composition(content, discover()).members) == 2
