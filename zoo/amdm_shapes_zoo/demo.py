"""Draws the demonstration sheet: each member alone beside the aggregate, same seeds. `python -m amdm_shapes_zoo.demo`."""

from __future__ import annotations

import argparse
import os
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import discover
from amdm_framework.scene import Scene
from amdm_framework.strategies.single import Single

COMPOSITION = Path(__file__).with_name("demo.yaml")
CELL = 256
MARGIN = 12


def draw(seeds: Sequence[int], device: str) -> tuple[dict[str, list[Image.Image]], AMDMPipeline]:
    """Draw one picture per seed by every member alone and by their aggregate.

    Returns:
        Pictures by column title, and the pipeline that drew them.
    """
    pipeline = AMDMPipeline.from_composition(COMPOSITION, device=device, plugins=discover())
    assert pipeline.resolved is not None
    scenes = [Scene()] * len(seeds)
    columns: dict[str, list[Image.Image]] = {}
    for position, member in enumerate(pipeline.resolved.members):
        alone = AMDMPipeline(
            [pipeline.providers[position]], Single(Single.options()), member.guidance, pipeline.sampler, [member.name]
        )
        conditions = [[member.condition(scene) for scene in scenes]]
        columns[f"{member.name} alone"] = alone(conditions=conditions, generator=_generators(seeds)).images
    columns["both, aggregated"] = pipeline(scenes, generator=_generators(seeds)).images
    return columns, pipeline


def _generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sheet(columns: dict[str, list[Image.Image]], captions: Sequence[str], seeds: Sequence[int]) -> Image.Image:
    """Lay pictures out as a labelled table: a column per title, a row per seed."""
    font, small = ImageFont.load_default(size=20), ImageFont.load_default(size=14)
    header = 96
    width = len(columns) * (CELL + MARGIN) + MARGIN
    height = header + len(seeds) * (CELL + MARGIN) + MARGIN
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    for column, ((title, pictures), caption) in enumerate(zip(columns.items(), captions, strict=True)):
        left = MARGIN + column * (CELL + MARGIN)
        pen.text((left, MARGIN), title, fill="black", font=font)
        pen.multiline_text((left, MARGIN + 28), textwrap.fill(caption, 36), fill="#555555", font=small)
        for row, picture in enumerate(pictures):
            top = header + row * (CELL + MARGIN)
            page.paste(picture.resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
    return page


def main() -> None:
    """Draw the sheet and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder of the picture")
    parser.add_argument("--seed", type=int, action="append", help="may be given several times [1 2 3 4]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    arguments = parser.parse_args()
    seeds = arguments.seed or [1, 2, 3, 4]
    began = time.perf_counter()
    columns, pipeline = draw(seeds, arguments.device)
    assert pipeline.resolved is not None
    prompts = [member.condition(Scene()).prompt for member in pipeline.resolved.members]  # type: ignore[attr-defined]
    page = sheet(columns, [*prompts, f"strategy {pipeline.strategy.name}: one picture of both prompts"], seeds)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "demo.png"
    temporary = path.with_suffix(".png.part")
    page.save(temporary, format="PNG")
    os.replace(temporary, path)
    print(f"{len(columns) * len(seeds)} pictures in {time.perf_counter() - began:.1f} s")
    print(f"the picture is at {path.resolve()}")


if __name__ == "__main__":
    main()
