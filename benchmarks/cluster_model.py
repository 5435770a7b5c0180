"""Works out from measured figures how long a million pictures take, and writes it into docs/cluster.md.

    python benchmarks/cluster_model.py

The pictures per second of a worker are `images_per_second.N3_batch4` of `throughput` (three models, one target), those that
a driver takes in `driver.ray_pictures_per_second` of `cluster`. Where there are results of a GPU they are taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results"
PAGE = BENCHMARKS.parent / "docs" / "cluster.md"
BEGINNING, END = "<!-- worked out -->", "<!-- end -->"
PICTURES = 1_000_000
BATCH = "N3_batch4"


def main() -> None:
    """Write."""
    PAGE.write_text(page(PAGE.read_text(), RESULTS))


def page(text: str, results: Path) -> str:
    """Return the page with the worked example between its two marks.

    Args:
        text: the page.
        results: folder of the objects that the benchmarks printed.
    """
    before, rest = text.split(BEGINNING)
    return f"{before}{BEGINNING}\n{worked_example(results)}\n{END}{rest.split(END)[1]}"


def worked_example(results: Path) -> str:
    """Return the example as Markdown."""
    drawing, driving = _preferred(results, "throughput"), _preferred(results, "cluster")
    rate = drawing["figures"][f"images_per_second.{BATCH}"]
    ceiling = driving["figures"]["driver.ray_pictures_per_second"]
    loading = driving["figures"]["drawing.seconds_to_first_group"]
    device = drawing["machine"]["accelerator"] or f"{drawing['machine']['cores']} CPU cores"
    most = max(1, math.ceil(ceiling / rate))
    counts = sorted({count for count in (1, 8, 64, 512, most) if count <= most})
    lines = [
        f"A worker on {device} draws r = {rate:.3g} pictures per second ({drawing['model']}, {BATCH}). The driver, on "
        f"{driving['machine']['cores']} cores and with files of 450 kB, takes in d = {ceiling:.3g} per second. Loading is "
        f"taken as L = {loading:.0f} s, that of the small model of the benchmark.",
        "",
        "| workers | pictures per second | time for 10⁶ pictures |",
        "|---|---|---|",
    ]
    for count in counts:
        total = min(count * rate, ceiling)
        lines.append(f"| {count} | {total:.3g} | {_in_units(loading + PICTURES / total)} |")
    lines += ["", f"From {most} workers on the driver is the limit."]
    return "\n".join(lines)


def _preferred(results: Path, name: str) -> Mapping[str, Any]:
    objects = [json.loads(path.read_text()) for path in sorted(results.glob(f"{name}_*.json"))]
    # Those of a GPU last.
    objects.sort(key=lambda content: content["machine"]["accelerator"] is not None)
    if not objects:
        raise SystemExit(f"{results} holds no {name}_*.json: run python benchmarks/{name}.py --json first")
    content: Mapping[str, Any] = objects[-1]
    return content


def _in_units(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


if __name__ == "__main__":
    main()
