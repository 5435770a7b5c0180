"""The training command: runs, writes a loadable model, and goes on from its checkpoint."""

import json
from pathlib import Path

import pytest
import torch

from amdm_shapes_zoo.train.__main__ import main
from amdm_shapes_zoo.train.common import MovingAverage, cosine_rate, load_checkpoint


def test_two_steps_and_on(tmp_path: Path) -> None:
    checkpoints, output = tmp_path / "checkpoints", tmp_path / "weights"
    common = [
        "base",
        "--device",
        "cpu",
        "--pictures",
        "24",
        "--judged",
        "4",
        "--vae-steps",
        "2",
        "--sheet-columns",
        "0",
    ]
    common += ["--checkpoints", str(checkpoints), "--output", str(output)]
    main([*common, "--steps", "2"])
    first = load_checkpoint(checkpoints / "base.pt")
    assert first is not None and first["step"] == 2
    assert len(list((checkpoints / "sheets").glob("*.png"))) == 1

    main([*common, "--steps", "3"])
    second = load_checkpoint(checkpoints / "base.pt")
    assert second is not None and second["step"] == 3
    assert second["losses"][0] == first["losses"][0]
    assert second["seconds"] > first["seconds"]

    card = json.loads((output / "base" / "card.json").read_text())
    assert card["text_to_image"]["steps"] == 3 and card["vae"]["steps"] == 2
    assert (output / "base" / "model_index.json").exists()


def test_rate_rises_and_falls() -> None:
    rates = [cosine_rate(step, 100, 1.0, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[10] == pytest.approx(1.0) and rates[100] == pytest.approx(0.0)


def test_average_follows_the_module() -> None:
    module = torch.nn.Linear(2, 2)
    average = MovingAverage(module, 0.9)
    with torch.no_grad():
        module.weight.add_(1.0)
    before = average.values["weight"].clone()
    average.update(module)
    assert torch.all(average.values["weight"] > before)
    assert torch.all(average.values["weight"] < module.weight)
