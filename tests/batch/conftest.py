"""A toy that refuses some prompts, a drawer of it, and `amdm` that knows no other model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from amdm_framework.batch.drawing import Drawer
from amdm_framework.batch.jobs import Job, make_job
from amdm_framework.batch.ledger import Header
from amdm_framework.errors import InputError
from amdm_framework.provider import NoisePrediction, RunSettings, Step
from command_line import invoke
from toy_plugin import TOY, ToyCondition, ToyOptions, ToyPromptProvider, toy_registry

COMPOSITION: dict[str, Any] = {
    "providers": [{"use": "toy"}],
    "aggregation": {"strategy": "single"},
    "sampler": {"steps": 2},
}


class MoodyProvider(ToyPromptProvider):
    """Refuses batches with the word `refuse` or `crash`, gives no finite numbers for `nan`, fits four into memory."""

    batches: list[int]

    def __init__(self, options: ToyOptions) -> None:
        super().__init__(options)
        self.batches = BATCHES

    def encode(self, conditions: Sequence[ToyCondition], settings: RunSettings) -> list[torch.Tensor]:
        prompts = [condition.prompt for condition in conditions]
        self.batches.append(len(prompts))
        if any("refuse" in prompt for prompt in prompts):
            raise InputError("this model draws no such thing")
        if any("crash" in prompt for prompt in prompts):
            raise IndexError("index 3 is out of range")
        if len(prompts) > 4 or any("huge" in prompt for prompt in prompts):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        self.nan = torch.tensor(["nan" in prompt for prompt in prompts])
        return super().encode(conditions, settings)

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: list[torch.Tensor]) -> NoisePrediction:
        predicted = super().predict_noise(latents, step, conditioning)
        conditional = predicted.conditional.clone()
        conditional[self.nan] = torch.nan
        return NoisePrediction(conditional, predicted.unconditional)


BATCHES: list[int] = []
"""Sizes of the batches that `MoodyProvider` was asked for since the test began."""

REGISTRY = toy_registry(TOY.model_copy(update={"load": lambda options, context: MoodyProvider(options)}))


def job(caption: str, name: str | None = None, seed: int | None = None) -> Job:
    """Return the job of a scene that has a caption alone, by default of that name."""
    return make_job(name or caption.replace(" ", "-"), {"caption": caption}, Path(), seed)


@pytest.fixture(autouse=True)
def batches() -> list[int]:
    """Sizes of the batches that were tried so far."""
    BATCHES.clear()
    return BATCHES


@pytest.fixture
def make_drawer() -> Callable[[], Drawer]:
    """Load the moody toy."""
    return partial(Drawer, COMPOSITION, ".", "cpu", "float32", True, REGISTRY)


@pytest.fixture
def header() -> Header:
    """The header of a batch in groups of three."""
    return Header(composition="0" * 64, device="cpu", dtype="float32", batch_size=3, versions={"torch": "2"})


@pytest.fixture
def amdm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run `amdm` with the moody toy as the only model, in a folder with its `composition.yaml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("amdm_framework.cli.group.discover", lambda: REGISTRY)
    Path("composition.yaml").write_text(
        "providers: [{use: toy}]\naggregation: {strategy: single}\nsampler: {steps: 2}\n"
    )

    return invoke
