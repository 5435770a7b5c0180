"""Writes docs/performance.md from `performance.template.md` and the objects in `results`.

    python benchmarks/write_page.py

`{{ NAME }}` in the template becomes what `results/NAME_*.json` hold, one object of `benchmarks/NAME.py --json` each:
the machine, the command and a table. `{{ summary }}` becomes a list of how many targets are met.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent
TEMPLATE = BENCHMARKS / "performance.template.md"
RESULTS = BENCHMARKS / "results"
PAGE = BENCHMARKS.parent / "docs" / "performance.md"
PLACEHOLDER = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)
NOT_ON_A_GPU = "Not run on a GPU."


def page(template: str, results: Path) -> str:
    """Return the page's text.

    Args:
        template: text with placeholders.
        results: folder of the objects.

    Raises:
        ValueError: an object was made with `--quick`.
    """
    names = [name for name in PLACEHOLDER.findall(template) if name != "summary"]
    found = {name: _read(results, name) for name in names}

    def filled(match: re.Match[str]) -> str:
        name = match.group(1)
        return _summary(found) if name == "summary" else _section(found[name])

    return PLACEHOLDER.sub(filled, template)


def _read(results: Path, name: str) -> dict[str, dict[str, Any]]:
    # By file name, those without a GPU first.
    objects = {path.name: json.loads(path.read_text()) for path in sorted(results.glob(f"{name}_*.json"))}
    for file, content in objects.items():
        if content["quick"]:
            raise ValueError(f"{results / file} was made with --quick, which shows that a benchmark works and no more")
    return dict(sorted(objects.items(), key=lambda entry: _on_gpu(entry[1])))


def _on_gpu(content: Mapping[str, Any]) -> bool:
    return content["machine"]["accelerator"] is not None


def _summary(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    lines = ["| benchmark | machine | targets met | missed |", "|---|---|---|---|"]
    for name, objects in found.items():
        for content in objects.values():
            targets = content["targets"]
            missed = [figure for figure in targets if not _is_met(content, figure)]
            verdict = f"{len(targets) - len(missed)} of {len(targets)}" if targets else "none set"
            accelerator = content["machine"]["accelerator"] or "CPU"
            lines.append(f"| {name} | {accelerator} | {verdict} | {', '.join(f'`{one}`' for one in missed)} |")
    return "\n".join(lines)


def _section(objects: Mapping[str, Mapping[str, Any]]) -> str:
    parts = []
    for file, content in objects.items():
        parts += [_machine(content["machine"]), f"    {content['command']} > benchmarks/results/{file}"]
        if "model" in content:
            parts.append(f"{content['model'][0].upper()}{content['model'][1:]}.")
        parts.append(_table(content))
    if not any(map(_on_gpu, objects.values())):
        parts.append(NOT_ON_A_GPU)
    return "\n\n".join(parts)


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "diffusers", "transformers"))
    cores = f"{machine['cores']} cores of {machine['processor']}, {machine['torch_threads']} threads of torch"
    where = f"{machine['accelerator']}, {cores}" if machine["accelerator"] else f"{cores}, no GPU"
    return f"Measured on {where}; {versions}; with"


def _table(content: Mapping[str, Any]) -> str:
    lines = ["| figure | value | target | |", "|---|---|---|---|"]
    for name, value in content["figures"].items():
        target, verdict = "", ""
        if name in content["targets"]:
            target = f"≤ {content['targets'][name]:g}"
            verdict = "met" if _is_met(content, name) else "missed"
        lines.append(f"| `{name}` | {_number(value)} | {target} | {verdict} |")
    return "\n".join(lines)


def _is_met(content: Mapping[str, Any], figure: str) -> bool:
    return bool(content["figures"][figure] <= content["targets"][figure])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(TEMPLATE.read_text(), RESULTS))
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
