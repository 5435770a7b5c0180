"""The loop all trainings share: steps, learning rate, averaged weights, and going on from the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from amdm_shapes_zoo.train.common import (
    MovingAverage,
    cosine_rate,
    describe_device,
    load_checkpoint,
    save_checkpoint,
    set_rate,
)

WARMUP = 100
SAVE_EVERY = 250
SHEET_EVERY = 500
REPORT_EVERY = 50

Losses = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""What is minimised, and by name what is reported of it."""


@dataclass(frozen=True)
class TrainingSettings:
    """What every training is told."""

    steps: int
    batch: int
    rate: float
    """Highest learning rate."""
    decay: float = 0.999
    """Of the averaged weights."""
    weight_decay: float = 1e-3
    seed: int = 0


def train(
    name: str,
    module: nn.Module,
    settings: TrainingSettings,
    losses_of: Callable[[np.random.Generator, torch.Generator], Losses],
    write_sheet: Callable[[Path], object] | None,
    checkpoints: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Train to the end, going on from the last checkpoint, and leave the averaged weights in the module.

    Args:
        name: of the training: of its checkpoint, its bar and its sheets.
        module: what is trained: all of its parameters.
        settings: how.
        losses_of: computes the losses of one step from random generators that depend on the step alone, so that a
            resumed training sees the same data.
        write_sheet: draws a sample sheet; called with averaged weights in the module. None for no sheets.
        checkpoints: folder of the checkpoint and the sheets.
        device: of the module.

    Returns:
        Facts for the card.
    """
    optimizer = torch.optim.AdamW(module.parameters(), betas=(0.9, 0.98), weight_decay=settings.weight_decay)
    average = MovingAverage(module, settings.decay)
    path = checkpoints / f"{name}.pt"
    state = load_checkpoint(path)
    step, seconds, losses = 0, 0.0, []
    if state is not None:
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        step, seconds, losses = state["step"], state["seconds"], state["losses"]
    recent: list[float] = []
    began = time.monotonic()
    with tqdm(total=settings.steps, initial=step, desc=name, mininterval=5) as bar:
        while step < settings.steps:
            rng = np.random.default_rng([settings.seed, step])
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            set_rate(optimizer, cosine_rate(step, settings.steps, settings.rate, WARMUP))
            loss, reported = losses_of(rng, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            average.update(module)
            step += 1
            bar.update()
            recent.append(float(loss.detach()))
            last = step == settings.steps
            if step % REPORT_EVERY == 0 or last:
                parts = {part: round(float(value.detach()), 5) for part, value in reported.items()}
                losses.append([step, round(float(np.mean(recent)), 5), *parts.values()])
                bar.set_postfix(loss=losses[-1][1], **parts)
                recent.clear()
            if step % SAVE_EVERY == 0 or last:
                save_checkpoint(
                    path,
                    {
                        "model": module.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "average": average.state_dict(),
                        "step": step,
                        "seconds": seconds + time.monotonic() - began,
                        "losses": losses,
                    },
                )
            if write_sheet is not None and (step % SHEET_EVERY == 0 or last):
                with averaged(module, average):
                    write_sheet(checkpoints / "sheets" / f"{name}_{step:05d}.png")
    module.load_state_dict(average.values)
    module.eval().requires_grad_(False)
    return {
        **asdict(settings),
        "losses": losses,
        "seconds": round(seconds + time.monotonic() - began, 1),
        "device": describe_device(device),
    }


@contextmanager
def averaged(module: nn.Module, average: MovingAverage) -> Iterator[None]:
    """Put averaged weights into a module inside the `with` block, without gradients."""
    own = {name: value.detach().clone() for name, value in module.state_dict().items()}
    module.load_state_dict(average.values)
    try:
        with torch.no_grad():
            yield
    finally:
        module.load_state_dict(own)
