"""Reads the recorded outputs of the original implementation (float32, CPU, random weights)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from amdm_plugin_migc.condition import MIGCCondition
from amdm_plugin_migc.layout import InstanceRows, LayerLayout

GOLDEN = Path(__file__).parent / "golden"
CPU = torch.device("cpu")


def read_case(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the description and the tensors of a case."""
    return json.loads((GOLDEN / name / "case.json").read_text()), load_file(GOLDEN / name / "io.safetensors")


def runs(name: str) -> dict[str, dict[str, Any]]:
    """Return the runs of a case by tag."""
    return {run["tag"]: run for run in json.loads((GOLDEN / name / "case.json").read_text())["runs"]}


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: dict[str, Any]) -> None:
    """Apply a case's own rule: |found - expected| <= atol + rtol * max|expected|."""
    assert found.shape == expected.shape
    limit = tolerance["atol"] + tolerance.get("rtol", 0.0) * expected.abs().max()
    assert (found.float() - expected.float()).abs().max() <= limit


def box_coordinates(boxes: Any) -> torch.Tensor:
    """Return (n, 4) float32 in the order of the position net."""
    return torch.tensor([[left, right, top, bottom] for left, top, right, bottom in boxes])


def condition_of(run: dict[str, Any]) -> MIGCCondition:
    """Return a condition with a run's boxes and scales; its phrases mean nothing."""
    instances = [{"phrase": "x", "box": box} for box in run["boxes"]]
    scales = {name: tuple(run[name]) for name in ("ca_scale", "ea_scale", "sac_scale") if name in run}
    return MIGCCondition(instances=instances, **scales)


def layouts_of(
    run: dict[str, Any], guidance: torch.Tensor, supplement: torch.Tensor
) -> tuple[InstanceRows, LayerLayout]:
    """Return rows and layout of a single image from its recorded masks (1, n, H, W) and (1, 1, H, W)."""
    rows = InstanceRows.of([len(run["boxes"])], CPU)
    masks = [(guidance[0].float(), supplement[0].float())]
    return rows, LayerLayout.of([condition_of(run)], masks, tuple(run["layer_hw"]), True, CPU, torch.float32)
