"""Names of devices and dtypes."""

from __future__ import annotations

import pytest
import torch

from amdm_framework.devices import choose_device, choose_dtype, is_out_of_memory
from amdm_framework.errors import InputError


@pytest.mark.parametrize(("gpus", "mps", "kind"), [(1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")])
def test_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch, gpus: int, mps: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == kind


def test_a_device_has_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert choose_device("auto") == choose_device("cuda") == choose_device("cuda:1") != choose_device("cuda:0")


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("cuda:0") == torch.device("cuda", 0) and choose_device("cpu") == torch.device("cpu")
    for name, message in (
        ("cuda:1", "this machine has 1 CUDA device"),
        ("mps", "this machine has none"),
        ("gpu", "none of auto, cpu, cuda, cuda:N, mps"),
        ("meta", "none of auto, cpu, cuda, cuda:N, mps"),
        ("cuda:x", "none of auto, cpu, cuda, cuda:N, mps"),
        ("", "none of auto, cpu, cuda, cuda:N, mps"),
    ):
        with pytest.raises(InputError, match=message):
            choose_device(name)


def test_dtypes() -> None:
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    with pytest.raises(InputError, match="dtype 'int8' is none of auto, float32, float16, bfloat16"):
        choose_dtype("int8", torch.device("cpu"))


def test_a_cpu_without_memory_is_recognised_and_nothing_else() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**50)
    assert is_out_of_memory(failure.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
