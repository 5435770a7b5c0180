"""`run_contract`: what it keeps from the terminal, and what it takes from outside."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pytest

from amdm_framework.testing.contract_run import run_contract

CASTS = """
from diffusers import T2IAdapter
from torch import float16

class TestContract:
    def test_casts(self):
        T2IAdapter(channels=[32], num_res_blocks=1).to(dtype=float16)
"""


def test_the_advice_about_casting_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: heard.append(record.getMessage()))
    logger = logging.getLogger("diffusers.models.modeling_utils")
    logger.addHandler(handler)
    try:
        results = run_contract(CASTS, lambda result: None)
        logger.warning("heard again afterwards")
    finally:
        logger.removeHandler(handler)
    assert [result.outcome for result in results] == ["passed"]
    assert heard == ["heard again afterwards"]


PASSES = """
class TestContract:
    def test_passes(self):
        pass
"""


def test_settings_of_pytest_from_outside_have_no_part_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
    # Beside the folder in which the module is written.
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_classes = Nothing\n")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert [result.outcome for result in run_contract(PASSES, lambda result: None)] == ["passed"]
