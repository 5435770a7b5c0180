"""Calls that belong to devices: one after the other on one device, at the same time on several."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Result = TypeVar("Result")


def call_by_device(
    calls: Mapping[int, Callable[[], Result]], devices: Mapping[int, torch.device], threads: ThreadPoolExecutor
) -> dict[int, Result]:
    """Call some functions: those of one device in their order, those of different devices at the same time.

    Args:
        calls: by number.
        devices: of every call.
        threads: run the calls of all devices but the first; torch computes in them as it does here (in inference mode
            or not, with gradients or not, with the same settings of its compiler).

    Returns:
        What they returned.

    Raises:
        Exception: what a call raised, once no other call is under way.
    """
    groups: dict[torch.device, list[int]] = {}
    for number in calls:
        groups.setdefault(devices[number], []).append(number)
    first, *others = groups.values()
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def call_group(group: Sequence[int]) -> dict[int, Result]:
        # Both modes belong to a thread.
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return {number: calls[number]() for number in group}

    if not others:
        return {number: calls[number]() for number in first}
    # What torch's compiler is set to for a while belongs to a context, of which a thread starts with its own.
    under_way = [threads.submit(contextvars.copy_context().run, call_group, group) for group in others]
    try:
        results = call_group(first)
    finally:
        # Calls that are under way use networks and memory that whoever handles an error may want to free.
        wait(under_way)
    for future in under_way:
        results |= future.result()
    return results
