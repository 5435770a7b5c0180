"""What surrounds a strategy's arithmetic: figures, warnings, files, the device."""

from __future__ import annotations

import builtins
import io
import os
import socket
from functools import partial
from typing import Any

import pytest

from ..strategies.base import Advance
from .strategy_checks import StrategyChecks
from .strategy_runs import SEEDS, NeverWaiting, draw, watch_advance


class SurroundingsChecks(StrategyChecks):
    """Tests of what a step reports, and of what it may not touch."""

    def test_metrics_have_one_entry_per_provider(self) -> None:
        """Each with one finite value per image, or None."""
        for count in self.provider_counts:
            strategy = self.make()
            with watch_advance(strategy, after=partial(_check_metrics, count=count)):
                draw(strategy, count, self.etas(count)[0])

    def test_reviews_in_sentences(self) -> None:
        """`review` returns a list of warnings, which may be empty."""
        for count in self.provider_counts:
            strategy = self.make()
            found = strategy.review(draw(strategy, count, self.etas(count)[0]).trace)
            assert isinstance(found, list), f"review returns {type(found).__name__}, expected a list"
            assert all(isinstance(sentence, str) and sentence for sentence in found)

    def test_uses_neither_network_nor_files(self) -> None:
        """A step is arithmetic."""
        count = max(self.provider_counts)
        eta = self.etas(count)[0]
        # What torch imports when it is first used is in memory after this.
        self.draw(count, eta)
        attempts: list[str] = []

        def refuse(*arguments: Any, **_: Any) -> Any:
            attempts.append(str(arguments[:1]))
            raise OSError("a strategy may use neither network nor files")

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in ((socket, "socket"), (builtins, "open"), (io, "open"), (os, "open")):
                patch.setattr(owner, name, refuse)
            try:
                self.draw(count, eta)
            except OSError as error:
                attempts.append(str(error))
        assert not attempts, f"network or files were used: {attempts}"

    def test_never_waits_for_the_device(self) -> None:
        """Reading a value (`.item()`, `if tensor:`, `.tolist()`, `.cpu()`) stops Python until a GPU is done with all."""
        for count in self.provider_counts:
            for eta in self.etas(count):
                strategy = self.make()
                waiting = NeverWaiting()
                with watch_advance(strategy, inside=waiting):
                    draw(strategy, count, eta)
                assert not waiting.found, f"{', '.join(sorted(waiting.found))} wait for the device"


def _check_metrics(advance: Advance, count: int) -> None:
    for name, columns in advance.metrics.items():
        assert len(columns) == count, f"metric {name} has {len(columns)} entries for {count} providers"
        for column in columns:
            if column is not None:
                assert column.shape == (len(SEEDS),), f"metric {name} has shape {list(column.shape)}"
                assert column.isfinite().all(), f"metric {name} is not finite"
