"""`amdm bench coco-mig evaluate`: judge pictures, as a table like the paper's."""

from __future__ import annotations

from pathlib import Path

import click

from amdm_bench_coco_mig.commands.options import judge_options
from amdm_bench_coco_mig.commands.results import give_report
from amdm_framework.cli.request import device_option
from amdm_framework.cli.results import json_option
from amdm_framework.errors import InputError
from amdm_framework.plugins import PluginRegistry


@click.command(short_help="Judge the pictures.")
@click.argument("benchmark", type=click.Path(path_type=Path))
@click.argument("pictures", type=click.Path(path_type=Path), nargs=-1, required=True)
@judge_options
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
    import torch

    from amdm_bench_coco_mig.benchmark_file import read_benchmark
    from amdm_bench_coco_mig.evaluation import examine_folder, judge_folders
    from amdm_bench_coco_mig.judges import Judges
    from amdm_bench_coco_mig.report import make_report
    from amdm_framework.devices import choose_device
    from amdm_framework.models.context import LoadContext
    from amdm_framework.picture_files import check_folder, prepare_folder

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
    judges = Judges(detector, segmenter, context)
    judges.find()
    if output is not None:
        # Made before hours of judging: some folders look as if they could be made, and cannot.
        prepare_folder(output.parent)
    rows = judge_folders(folders, entries, judges, not no_progress)
    report = make_report(rows, entries, str(benchmark), {"detector": detector, "segmenter": segmenter})
    give_report(report, output, as_json)
