"""The two judging networks: what they are read from, and loading both."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from amdm_bench_coco_mig.grounding_dino import BOX_THRESHOLD, TEXT_THRESHOLD, find_detector, load_detector
from amdm_bench_coco_mig.interfaces import Detector, Segmenter
from amdm_bench_coco_mig.judging import COLOR_FRACTION, DOUBLE_OVERLAP, POSITION_OVERLAP
from amdm_bench_coco_mig.pretrained import select_files
from amdm_bench_coco_mig.segment_anything import find_segmenter, load_segmenter
from amdm_framework.errors import AMDMError, InputError, Problem
from amdm_framework.models.context import LoadContext
from amdm_framework.models.digests import file_sha256

_LIBRARIES = ("amdm-bench-coco-mig", "numpy", "opencv-python-headless", "pillow", "torch", "transformers")
"""What reads and scales pictures, computes detections and masks, and tells colours."""


@dataclass(frozen=True)
class Judges:
    """Who judges.

    Attributes:
        detector: reference to Grounding DINO.
        segmenter: reference to Segment Anything.
        context: where references lead, and where the networks shall live.
    """

    detector: str
    segmenter: str
    context: LoadContext

    def find(self) -> tuple[Path, Path]:
        """Return the folders of both, fetched from the Hub where they have to be. No network is built.

        Raises:
            InputError: with what is wrong with either.
        """
        folders, problems = [], []
        for find, reference, option in (
            (find_detector, self.detector, "--detector"),
            (find_segmenter, self.segmenter, "--segmenter"),
        ):
            try:
                folders.append(find(reference, self.context))
            except AMDMError as error:
                problems.append(Problem(str(error), option))
        if problems:
            raise InputError(problems)
        detector, segmenter = folders
        return detector, segmenter

    def load(self) -> tuple[Detector, Segmenter]:
        """Load both.

        Raises:
            CheckpointError: one is not there, is another model, or is damaged.
        """
        return load_detector(self.detector, self.context), load_segmenter(self.segmenter, self.context)

    def digest(self) -> str:
        """Return the sha256 of all that a score depends on beside the picture and its entry.

        Raises:
            InputError: as `find`.
        """
        files = [
            [name, file_sha256(folder / name)]
            for folder in self.find()
            for name in sorted(select_files([path.name for path in folder.iterdir()]))
        ]
        thresholds = [BOX_THRESHOLD, TEXT_THRESHOLD, DOUBLE_OVERLAP, POSITION_OVERLAP, COLOR_FRACTION]
        versions = [version(name) for name in _LIBRARIES]
        content = [files, thresholds, versions, self.context.device.type]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()
