"""Draws the demonstration sheet: scenes, each model alone, and their aggregate. `python -m amdm_shapes_zoo.demo`."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import discover
from amdm_framework.scene import Scene
from amdm_framework.strategies.single import Single
from amdm_shapes_zoo.demo_sheet import Column, sheet
from amdm_shapes_zoo.judge import judge
from amdm_shapes_zoo.renderer import render
from amdm_shapes_zoo.scenes import scene_of
from amdm_shapes_zoo.world import HELD_OUT_SEED, NO_ACTION, Layouts, sample_layouts

COMPOSITION = Path(__file__).with_name("three_models.yaml")
_CANDIDATES = 200


def demo_scenes(count: int, seed: int) -> tuple[list[Scene], Layouts]:
    """Scenes of three instances with an interaction, each with a reference picture for the style of its background.

    Args:
        count: how many.
        seed: of the pictures they are taken from, beyond those of all trainings.

    Returns:
        The scenes, and what their pictures should show.
    """
    layouts = sample_layouts(_CANDIDATES, HELD_OUT_SEED + 2 * seed)
    layouts = layouts[np.flatnonzero((layouts.counts() == 3) & (layouts.action != NO_ACTION))[:count]]
    references = sample_layouts(count, HELD_OUT_SEED + 2 * seed + 1)
    pictures = [Image.fromarray(picture) for picture in render(references)]
    scenes = [scene_of(layouts, index, picture) for index, picture in enumerate(pictures)]
    return scenes, layouts.replace(palette=references.palette, texture=references.texture)


def draw(scenes: list[Scene], seed: int, device: str) -> dict[str, list[Image.Image]]:
    """Draw every scene by every member alone and by their aggregate, with the same seeds; pictures by column title."""
    pipeline = AMDMPipeline.from_composition(COMPOSITION, device=device, plugins=discover())
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.resolved is not None

    def seeds() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed + index) for index in range(len(scenes))]

    columns: dict[str, list[Image.Image]] = {}
    for position, member in enumerate(pipeline.resolved.members):
        alone = AMDMPipeline(
            [pipeline.providers[position]], Single(Single.options()), member.guidance, pipeline.sampler, [member.name]
        )
        alone.set_progress_bar_config(disable=True)
        conditions = [[member.condition(scene) for scene in scenes]]
        columns[f"{member.name} alone"] = alone(conditions=conditions, generator=seeds()).images
    columns[f"all three, {pipeline.strategy.name}"] = pipeline(scenes, generator=seeds()).images
    return columns


def scores_of(pictures: list[Image.Image], wanted: Layouts) -> dict[str, float]:
    """Shares of right colours, shapes, interactions and backgrounds."""
    means = judge(np.stack([np.asarray(picture) for picture in pictures]), wanted).means()
    return {name: means[name] for name in ("colour", "shape", "action", "style")}


def main() -> None:
    """Draw the sheet, print the scores, and say where the picture is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder of the picture")
    parser.add_argument("--scenes", type=int, default=4, help="number of scenes, 1 to 8 [4]")
    parser.add_argument("--seed", type=int, default=4, help="seed of scenes and noise [4]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    arguments = parser.parse_args()
    if not 1 <= arguments.scenes <= 8 or arguments.seed < 0:
        parser.error("--scenes takes 1 to 8, --seed 0 or more")
    began = time.perf_counter()
    scenes, wanted = demo_scenes(arguments.scenes, arguments.seed)
    columns = draw(scenes, arguments.seed, arguments.device)
    scored = {title: scores_of(pictures, wanted) for title, pictures in columns.items()}
    page = sheet(scenes, [Column(title, pictures, scored[title]) for title, pictures in columns.items()])
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "demo.png"
    temporary = path.with_suffix(".png.part")
    page.save(temporary, format="PNG")
    os.replace(temporary, path)
    width = max(map(len, scored))
    print(f"{'right, of all that was asked for':{width}}  colour  shape  action  style")
    for title, scores in scored.items():
        print(f"{title:{width}}  " + "  ".join(f"{100 * value:5.0f} %" for value in scores.values()))
    count = len(columns) * len(scenes)
    print(f"{count} pictures in {time.perf_counter() - began:.1f} s\nthe picture is at {path.resolve()}")


if __name__ == "__main__":
    main()
