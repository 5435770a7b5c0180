"""What all trainings share: device choice, moving averages, checkpoints, learning rate, sheets and cards."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` takes CUDA where it is available and the CPU otherwise."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """A person's name for the device, for cards."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} thread(s)"


class MovingAverage:
    """Exponential moving average of a module's parameters and buffers, with a warm-up of its decay."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes the module's present values into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        self.updates = state["updates"]
        self.values = state["values"]


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Learning rate: linear warm-up to `peak`, then half a cosine down to zero at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every parameter group the learning rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values; an interrupted write leaves the previous checkpoint whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`, or None where nothing was saved yet."""
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


def to_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """(N, size, size, 3) in 0..255 to (N, 3, size, size) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor: torch.Tensor) -> NDArray[np.uint8]:
    """(N, 3, size, size) in [-1, 1] to (N, size, size, 3) in 0..255."""
    scaled = ((tensor.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255)
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def write_sheet(path: Path, pictures: NDArray[np.uint8], columns: int, enlarge: int = 2) -> None:
    """Writes pictures (N, size, size, 3) in rows of `columns`, enlarged without smoothing, as a PNG."""
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures.shape[1] + 2, pictures.shape[2] + 2
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * height + 1, index % columns * width + 1
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(sheet)
    image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST).save(path)


def write_card(path: Path, facts: dict[str, Any]) -> None:
    """Writes the facts of a training as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
