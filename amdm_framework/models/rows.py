"""Which rows of a guided batch one UNet call evaluates."""

from __future__ import annotations

from enum import Enum

import torch


class Rows(Enum):
    """Rows of a batch that is laid out as [all unconditional rows, all conditional rows].

    A call with guidance takes `BOTH`, one without takes `CONDITIONAL`. Sequential guidance takes `UNCONDITIONAL` and
    then `CONDITIONAL`.
    """

    BOTH = "both"
    UNCONDITIONAL = "unconditional"
    CONDITIONAL = "conditional"

    def take(self, tensor: torch.Tensor, images: int) -> torch.Tensor:
        """Return these rows as a view.

        Args:
            tensor: (2 * images, ...), or (images, ...) where there are conditional rows only.
            images: number of images.
        """
        if self is Rows.BOTH:
            return tensor
        return tensor[:images] if self is Rows.UNCONDITIONAL else tensor[-images:]
