"""`amdm tune` on the shapes zoo: two of its models, and the judge as the score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import discover
from command_line import invoke

COMPOSITION = """
providers:
  - use: interactdiffusion
    checkpoint: zoo://interactdiffusion
  - use: migc
    checkpoint: zoo://migc
    base: zoo://base
    condition: {negative: ""}
aggregation: {strategy: amdm, steps: 1}
sampler: {steps: 2, guidance_scale: 3}
"""


def test_the_best_composition_scores_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.yaml").write_text(COMPOSITION)
    arguments = ["--benchmark", "shapes", "--trials", "2", "--cases", "4", "--device", "cpu", "--json"]
    found = json.loads(invoke("tune", "two.yaml", *arguments).stdout)
    assert found["space"] == {
        "aggregation.steps": "0..2",
        "aggregation.weights.0": "0.0..1.0",
        "sampler.guidance_scale": "1.0..6.0",
    }
    benchmark = discover().benchmark("shapes")
    searched, held_out = found["comparisons"]
    assert set(searched["start"]) == set(benchmark.figures) and searched["best"]["score"] == found["score"]
    assert found["score"] >= searched["start"]["score"]
    cases = benchmark.draw_cases(held_out["cases"], held_out["seed"])
    pipeline = AMDMPipeline.from_composition(found["file"], "cpu")
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(case.seed) for case in cases]
    pictures = pipeline([case.scene for case in cases], generator=generators).images
    assert benchmark.measure(np.stack([np.asarray(picture) for picture in pictures]), cases) == held_out["best"]
