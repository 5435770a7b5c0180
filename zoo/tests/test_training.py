"""The training command: runs, writes files that the plugins load, and goes on from its checkpoints."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amdm_framework.errors import CheckpointError
from amdm_framework.pipeline import AMDMPipeline
from amdm_plugin_ip_adapter.image_encoder import preprocess
from amdm_shapes_zoo.plugin import WEIGHTS, find_weights
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.scenes import scene_of
from amdm_shapes_zoo.train.__main__ import main
from amdm_shapes_zoo.train.common import MovingAverage, cosine_rate, load_checkpoint
from amdm_shapes_zoo.train.image_encoder import normalised_pixels
from amdm_shapes_zoo.world import sample_layouts


def arguments(model: str, folder: Path, steps: int, *more: str) -> list[str]:
    folders = ["--checkpoints", str(folder / "checkpoints"), "--output", str(folder / "weights")]
    return [model, "--device", "cpu", "--pictures", "24", "--judged", "4", "--steps", str(steps), *folders, *more]


def test_two_steps_and_on(tmp_path: Path) -> None:
    checkpoints, output = tmp_path / "checkpoints", tmp_path / "weights"
    main(arguments("base", tmp_path, 2, "--vae-steps", "2", "--no-sheets"))
    first = load_checkpoint(checkpoints / "base.pt")
    assert first is not None and first["step"] == 2
    assert len(list((checkpoints / "sheets").glob("*.png"))) == 1

    main(arguments("base", tmp_path, 3, "--vae-steps", "2", "--no-sheets"))
    second = load_checkpoint(checkpoints / "base.pt")
    assert second is not None and second["step"] == 3
    assert second["losses"][0] == first["losses"][0]
    assert second["seconds"] > first["seconds"]

    card = json.loads((output / "base" / "card.json").read_text())
    assert card["text_to_image"]["steps"] == 3 and card["vae"]["steps"] == 2
    assert (output / "base" / "model_index.json").exists()


MEMBERS = {
    "interact": {"use": "interactdiffusion", "checkpoint": "interactdiffusion"},
    "migc": {"use": "migc", "checkpoint": "migc.safetensors", "base": "base", "condition": {"negative": ""}},
    "ip": {
        "use": "ip_adapter",
        "checkpoint": "ip_adapter.safetensors",
        "base": "base",
        "image_encoder": "image_encoder",
    },
}
CARDS = {"interact": "interactdiffusion/card.json", "migc": "migc.json", "ip": "ip_adapter.json"}


@pytest.mark.parametrize("model", MEMBERS)
def test_miniature_is_written_as_its_plugin_reads_it(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(WEIGHTS / "base", tmp_path / "weights" / "base")
    main(arguments(model, tmp_path, 1, "--no-sheets"))
    card = json.loads((tmp_path / "weights" / CARDS[model]).read_text())
    facts = list(card.values())[-1]
    assert facts["steps"] == 1 and facts["seconds"] > 0 and facts["device"].startswith("CPU")
    assert 0 <= facts["scores"]["all"]["colour"] <= 1
    trained = load_checkpoint(next((tmp_path / "checkpoints").glob(f"{list(card)[-1]}.pt")))
    assert trained is not None
    monkeypatch.chdir(tmp_path / "weights")
    pipeline = AMDMPipeline.from_composition({"providers": [MEMBERS[model]]}, device="cpu", dtype="float32")
    layouts = sample_layouts(1, 5)
    picture = Image.fromarray(render(layouts)[0])
    image = pipeline(scene_of(layouts, 0, picture), num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 64, 64, 3) and np.isfinite(image).all()


def test_a_miniature_needs_its_base(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no base model in .*train it first"):
        main(arguments("migc", tmp_path, 1))


def test_pixels_are_those_of_the_image_processor() -> None:
    pictures = render(sample_layouts(3, 0))
    expected = preprocess([Image.fromarray(picture) for picture in pictures], 64, "crop")
    torch.testing.assert_close(normalised_pixels(pictures), expected, rtol=0, atol=1e-6)


def test_embedded_models_have_names() -> None:
    assert find_weights("base").is_dir() and find_weights("migc").is_file()
    with pytest.raises(CheckpointError, match="Did you mean 'migc'"):
        find_weights("mig")


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
