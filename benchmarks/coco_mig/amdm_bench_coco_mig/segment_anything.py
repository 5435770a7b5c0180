"""Segment Anything (SAM, arXiv 2304.02643) as the segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amdm_bench_coco_mig.pretrained import find_pretrained, load_pretrained, load_processor
from amdm_framework.models.context import LoadContext


class SegmentAnything:
    """A loaded segmenter.

    Args:
        model: of transformers.
        processor: its pictures and boxes.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor

    def segment(self, picture: NDArray[np.uint8], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return of the three masks of each box the one that the network scores highest; see `interfaces.Segmenter`."""
        import torch

        inputs = self._processor(images=Image.fromarray(picture), input_boxes=[boxes.tolist()], return_tensors="pt")
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        device = self._model.device
        with torch.inference_mode():
            outputs = self._model(
                pixel_values=inputs["pixel_values"].to(device),
                input_boxes=inputs["input_boxes"].float().to(device),
                multimask_output=True,
            )
        (masks,) = self._processor.post_process_masks(outputs.pred_masks.cpu(), *sizes)
        best = outputs.iou_scores[0].argmax(dim=1).cpu()
        chosen: NDArray[np.bool_] = masks[torch.arange(len(boxes)), best].numpy()
        return chosen


def find_segmenter(reference: str, context: LoadContext) -> Path:
    """Return the folder of Segment Anything, fetched from the Hub where it has to be. No network is built.

    Args:
        reference: to a folder in the layout of transformers.
        context: where references lead.

    Raises:
        CheckpointError: it is not there, or is another model.
    """
    return find_pretrained(reference, context, "sam")


def load_segmenter(reference: str, context: LoadContext) -> SegmentAnything:
    """Load Segment Anything.

    Args:
        reference: to a folder in the layout of transformers.
        context: where references lead, and where the network shall live.

    Raises:
        CheckpointError: it is not there, is another model, or is damaged.
    """
    from transformers import SamImageProcessorPil, SamModel, SamProcessor

    folder = find_segmenter(reference, context)
    processor = SamProcessor(load_processor(SamImageProcessorPil, folder))
    return SegmentAnything(load_pretrained(SamModel, folder, context), processor)
