"""Grounding DINO (arXiv 2303.05499) as the detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amdm_bench_coco_mig.interfaces import Detections
from amdm_bench_coco_mig.pretrained import find_pretrained, load_pretrained, load_processor
from amdm_framework.models.context import LoadContext
from amdm_framework.models.references import missing_file

BOX_THRESHOLD = 0.25
TEXT_THRESHOLD = 0.25


class GroundingDino:
    """A loaded detector.

    Args:
        model: of transformers.
        processor: its pictures and texts.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor

    def detect(self, picture: NDArray[np.uint8], name: str) -> Detections:
        """Return all places that score above the threshold for a name; see `interfaces.Detector`."""
        import torch

        # A full stop ends a class in the texts that the network was trained on.
        inputs = self._processor(images=Image.fromarray(picture), text=f"{name.lower().strip()}.", return_tensors="pt")
        inputs = inputs.to(self._model.device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        (found,) = self._processor.post_process_grounded_object_detection(
            outputs,
            inputs["input_ids"],
            threshold=BOX_THRESHOLD,
            # Decides about the words that are said of a box, and not about the box: with one class all boxes are of it.
            text_threshold=TEXT_THRESHOLD,
            target_sizes=[picture.shape[:2]],
        )
        return Detections(found["boxes"].cpu().double().numpy(), found["scores"].cpu().double().numpy())


def find_detector(reference: str, context: LoadContext) -> Path:
    """Return the folder of Grounding DINO, fetched from the Hub where it has to be. No network is built.

    Args:
        reference: to a folder in the layout of transformers.
        context: where references lead.

    Raises:
        CheckpointError: it is not there, or is another model.
    """
    folder = find_pretrained(reference, context, "grounding-dino")
    # Without these files the library would make up an empty vocabulary.
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise missing_file(reference, "tokenizer.json", cause=f"looked in {folder}")
    return folder


def load_detector(reference: str, context: LoadContext) -> GroundingDino:
    """Load Grounding DINO.

    Args:
        reference: to a folder in the layout of transformers.
        context: where references lead, and where the network shall live.

    Raises:
        CheckpointError: it is not there, is another model, or is damaged.
    """
    from transformers import (
        AutoTokenizer,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
    )

    folder = find_detector(reference, context)
    processor = GroundingDinoProcessor(
        load_processor(GroundingDinoImageProcessorPil, folder), load_processor(AutoTokenizer, folder)
    )
    return GroundingDino(load_pretrained(GroundingDinoForObjectDetection, folder, context), processor)
