"""docs/concepts.md: its table of figures is part of the one in docs/does_it_work.md."""

from __future__ import annotations

import re

from code_blocks import ROOT


def rows(page: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


def test_the_figures_are_those_that_were_measured() -> None:
    shown = [row for row in rows((ROOT / "docs/concepts.md").read_text()) if re.match(r"\d+$", row[-1])]
    measured = (ROOT / "docs/does_it_work.md").read_text().split("InteractDiffusion(+MIGC), ")[1]
    table = {row[0]: row for row in rows(measured.split("InteractDiffusion(+IP-Adapter)")[0]) if len(row) == 7}
    assert len(shown) == 9
    for rule, isr, action, evaluations in shown:
        _, known_isr, _, _, known_action, _, known_evaluations = table[rule]
        assert [isr, action, evaluations] == [known_isr, known_action, known_evaluations], rule
