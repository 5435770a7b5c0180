"""Warnings that belong to a run, collected where they are issued."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_warnings(sentences: list[str], about: str) -> Iterator[None]:
    """Collect what is warned about meanwhile, each sentence once, in place of issuing it; other kinds pass.

    Args:
        sentences: gets them, the `UserWarning`s.
        about: whom they are about.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        sentence = f"{about}: {one.message}"
        if not issubclass(one.category, UserWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        elif sentence not in sentences:
            sentences.append(sentence)
