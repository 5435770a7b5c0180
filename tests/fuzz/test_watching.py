"""The watch itself: it notices a case that hangs, one that sleeps, and one that takes too much memory."""

from __future__ import annotations

import time

import numpy as np
import pytest
from watching import TookTooLong, TookTooMuch, watched


def test_what_takes_little_passes() -> None:
    with watched():
        sum(range(1000))


def test_a_loop_without_end_is_stopped() -> None:
    with pytest.raises(TookTooLong), watched(seconds=0.2):
        while True:
            pass


def test_even_where_errors_are_swallowed() -> None:
    with pytest.raises(TookTooLong), watched(seconds=0.2):
        while True:
            try:
                "".join(map(str, range(100)))
            except Exception:
                continue


def test_sleeping_is_noticed() -> None:
    with pytest.raises(TookTooLong), watched(seconds=0.02):
        time.sleep(10)


def test_a_slow_call_into_native_code_is_noticed_when_it_ends() -> None:
    values = np.random.default_rng(0).random(8_000_000)
    with pytest.raises(TookTooLong), watched(seconds=0.005):
        np.sort(values)


def test_growing_memory_is_stopped() -> None:
    kept = []
    with pytest.raises(TookTooMuch), watched(memory_bytes=2**26):
        while True:
            kept.append(bytearray(2**20))
    assert len(kept) < 2**10


def test_memory_that_was_given_back_counts() -> None:
    with pytest.raises(TookTooMuch), watched(memory_bytes=2**26):
        np.ones(2**24).sum()


def test_a_request_for_more_than_any_machine_has_fails() -> None:
    with pytest.raises(MemoryError), watched():
        bytearray(2**36)
