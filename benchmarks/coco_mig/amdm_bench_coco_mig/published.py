"""What others published on the benchmark, in percent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAPER = "Aggregation of Multi Diffusion Models, Table 1 (arXiv 2410.01262)"
BENCHMARK_PAGE = "LeyRio/MIG_Bench, the benchmark's page"


def _of_paper(success: str, overlap: str, seconds: float) -> dict[str, Any]:
    columns = ("L2", "L3", "L4", "L5", "L6", "Avg")
    return {
        "success_rate": dict(zip(columns, map(float, success.split()), strict=True)),
        "mean_iou": dict(zip(columns, map(float, overlap.split()), strict=True)),
        "seconds": seconds,
        "source": PAPER,
    }


def _of_page(success: float, overlap: float) -> dict[str, Any]:
    return {"success_rate": {"Avg": success}, "mean_iou": {"Avg": overlap}, "seconds": None, "source": BENCHMARK_PAGE}


PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "InteractDiffusion": _of_paper("31.87 26.66 23.90 23.37 23.85 24.96", "27.99 24.13 21.45 21.51 21.16 22.44", 18.76),
    "InteractDiffusion(+MIGC)": _of_paper(
        "57.18 52.91 52.65 49.62 47.39 50.81", "50.73 45.54 44.66 43.54 43.23 44.69", 19.45
    ),
    "Box-Diffusion": _of_page(16, 26),
    "GLIGEN": _of_page(30, 27),
    "InstanceDiffusion": _of_page(51, 46),
    "ReCo": _of_page(55, 49),
    "MIGC": _of_page(66, 56),
}
"""Success rate and mean IoU by method. Nothing here was measured by this program."""
