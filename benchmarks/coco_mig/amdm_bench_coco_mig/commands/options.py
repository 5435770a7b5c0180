"""Options that several of the commands have: what is drawn beside the benchmark's entries, and who judges."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

NEGATIVE_PROMPT = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, worst quality, "
    "low quality"
)
"""What the paper's published code gives to all models."""

# The published weights that the evaluation code reads, as their authors converted them: Swin-T OGC and ViT-H.
DEFAULT_DETECTOR = "hf://IDEA-Research/grounding-dino-tiny"
DEFAULT_SEGMENTER = "hf://facebook/sam-vit-huge"

_SCENE_OPTIONS = (
    click.option(
        "--negative",
        default=NEGATIVE_PROMPT,
        show_default="that of the paper's code",
        help="Negative prompt of all pictures; a composition's own goes before it.",
    ),
    click.option(
        "--style",
        type=click.Path(path_type=Path),
        metavar="PICTURE",
        help="Reference picture of all pictures, of role `style`, for compositions with a model that draws after one.",
    ),
)
_JUDGE_OPTIONS = (
    click.option(
        "--detector",
        metavar="REFERENCE",
        default=DEFAULT_DETECTOR,
        show_default=True,
        help="Grounding DINO in the layout of transformers: a folder or hf://OWNER/REPO.",
    ),
    click.option(
        "--segmenter",
        metavar="REFERENCE",
        default=DEFAULT_SEGMENTER,
        show_default=True,
        help="Segment Anything in the layout of transformers: a folder or hf://OWNER/REPO.",
    ),
    click.option(
        "--partial",
        is_flag=True,
        help="Score what is there, where pictures are missing; the result says that it is a part.",
    ),
)


def scene_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what all pictures are told beside their entry."""
    for option in reversed(_SCENE_OPTIONS):
        command = option(command)
    return command


def judge_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add who judges, and whether a part of the pictures is enough."""
    for option in reversed(_JUDGE_OPTIONS):
        command = option(command)
    return command
