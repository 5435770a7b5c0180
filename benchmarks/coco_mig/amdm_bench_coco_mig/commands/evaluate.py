"""`amdm bench coco-mig evaluate`: judge pictures, as a table like the paper's."""

from __future__ import annotations

from pathlib import Path

import click

from amdm_framework.cli.request import device_option
from amdm_framework.cli.results import json_option
from amdm_framework.errors import AMDMError, InputError
from amdm_framework.plugins import PluginRegistry

# The published weights that the evaluation code reads, as their authors converted them: Swin-T OGC and ViT-H.
DEFAULT_DETECTOR = "hf://IDEA-Research/grounding-dino-tiny"
DEFAULT_SEGMENTER = "hf://facebook/sam-vit-huge"


@click.command(short_help="Judge the pictures.")
@click.argument("benchmark", type=click.Path(path_type=Path))
@click.argument("pictures", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--detector",
    metavar="REFERENCE",
    default=DEFAULT_DETECTOR,
    show_default=True,
    help="Grounding DINO in the layout of transformers: a folder or hf://OWNER/REPO.",
)
@click.option(
    "--segmenter",
    metavar="REFERENCE",
    default=DEFAULT_SEGMENTER,
    show_default=True,
    help="Segment Anything in the layout of transformers: a folder or hf://OWNER/REPO.",
)
@click.option(
    "--partial",
    is_flag=True,
    help="Score what is there, where pictures are missing; the result says that it is a part.",
)
@device_option
@json_option
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file, too, as JSON."
)
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@click.pass_obj
def evaluate(
    plugins: PluginRegistry,
    benchmark: Path,
    pictures: tuple[Path, ...],
    detector: str,
    segmenter: str,
    partial: bool,
    device: str,
    as_json: bool,
    output: Path | None,
    no_progress: bool,
) -> None:
    """Judge the pictures in each folder PICTURES by the file BENCHMARK, and set them beside the published figures.

    Instance success rate: the share of instances that are in their place and have their colour. mIoU: the mean overlap
    of place and detection, 0 where the colour is wrong. Per level and over all instances, with 95 % intervals.
    """
    import json

    import torch

    from amdm_bench_coco_mig.benchmark_file import read_benchmark
    from amdm_bench_coco_mig.evaluation import examine_folder, judge_folder
    from amdm_bench_coco_mig.grounding_dino import load_detector
    from amdm_bench_coco_mig.report import make_report
    from amdm_bench_coco_mig.segment_anything import load_segmenter
    from amdm_bench_coco_mig.table import table
    from amdm_framework.devices import choose_device, is_out_of_memory
    from amdm_framework.models.context import LoadContext
    from amdm_framework.picture_files import check_folder, replace_file

    entries = read_benchmark(benchmark)
    if output is not None:
        check_folder(output.parent)
    problems, folders = [], []
    for folder in pictures:
        try:
            folders.append(examine_folder(folder, entries, partial))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    context = LoadContext(choose_device(device), torch.float32, Path(), plugins.checkpoint_sources)
    try:
        finder, masker = load_detector(detector, context), load_segmenter(segmenter, context)
        rows = [(folder, judge_folder(folder, entries, finder, masker, not no_progress)) for folder in folders]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise AMDMError("the device has too little memory to judge pictures: --device cpu takes longer") from error
    report = make_report(rows, entries, str(benchmark), {"detector": detector, "segmenter": segmenter})
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        replace_file(output, lambda file: file.write(text.encode()))
    click.echo(text if as_json else table(report), nl=not as_json)
