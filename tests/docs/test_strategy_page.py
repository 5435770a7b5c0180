"""The page on strategies shows the example package as it is, and the figures that were measured."""

from __future__ import annotations

import csv
import re

from code_blocks import ROOT, blocks_of

PAGE = (ROOT / "docs" / "write_a_strategy.md").read_text()
EXAMPLE = ROOT / "examples" / "region-strategy"


def test_the_pieces_together_are_the_examples_module() -> None:
    module = (EXAMPLE / "amdm_strategy_regions" / "strategy.py").read_text()
    pieces = [block.text.rstrip() for block in blocks_of(PAGE) if block.language == "python"]
    shown = [piece for piece in pieces if piece.startswith(("import math", "class Regions"))]
    shown += [piece for piece in pieces if piece.startswith("def soft_masks")]
    assert len(shown) == 3
    code = module.partition("from __future__ import annotations\n")[2]
    assert re.sub(r"\s+", " ", "\n".join(shown)).strip() == re.sub(r"\s+", " ", code).strip()


def test_the_tables_hold_the_measured_figures() -> None:
    columns = [f"shapes_{figure}" for figure in ("isr", "miou", "shape", "action", "style")]
    for name in ("shapes", "shapes_style"):
        with (EXAMPLE / "figures" / f"{name}.csv").open() as file:
            rows = {row["aggregation"]: row for row in csv.DictReader(file)}
        for rule, row in rows.items():
            figures = " | ".join(f"{float(row[column]):.1f}" for column in columns)
            assert f"| `{rule}` | {figures} |" in PAGE, f"{name}: {rule} {figures}"
