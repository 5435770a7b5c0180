"""Work with parts of a network whose weights accelerate's hooks keep elsewhere between its calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def weights_in_place(module: torch.nn.Module) -> Iterator[None]:
    """Bring a network's weights to where they compute, as a call of it does, for calls of its parts.

    Where whole networks are offloaded, only a call of the network itself would fetch its weights. Where its layers are
    offloaded one by one, each fetches its own, and what happens here is about the network's direct parameters.
    """
    hook = getattr(module, "_hf_hook", None)
    if hook is None:
        yield
        return
    hook.pre_forward(module)
    try:
        yield
    finally:
        hook.post_forward(module, None)
