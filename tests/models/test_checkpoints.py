"""Strict loading: what fits is loaded without a second copy, what does not is listed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import build_on_meta, load_strict, read_tensors
from amdm_framework.models.context import LoadContext

sys.path.append(str(Path(__file__).parent))

from peak_of_loading import INPUTS, LAYERS, OUTPUTS


def build() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    module.register_buffer("positions", torch.arange(3), persistent=False)
    return module


def test_a_module_built_on_meta_has_no_weights_and_real_buffers():
    module = build_on_meta(build)
    assert all(parameter.is_meta for parameter in module.parameters())
    assert torch.equal(module.positions, torch.arange(3))
    assert not module.training


def test_loading_casts_floats_only_and_keeps_values(context):
    state = build().state_dict()
    context.dtype = torch.bfloat16
    module = load_strict(build_on_meta(build), state, context)
    assert module[0].weight.dtype == torch.bfloat16
    assert module[1].num_batches_tracked.dtype == torch.int64
    assert torch.equal(module[0].weight, state["0.weight"].bfloat16())
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_every_mistake_is_listed_with_found_and_expected(context):
    state = build().state_dict()
    state["0.weight"] = torch.zeros(2, 4)
    del state["0.bias"]
    state["extra.weight"] = torch.zeros(7)
    with pytest.raises(CheckpointError) as caught:
        load_strict(build_on_meta(build), state, context, source="model.safetensors")
    message = str(caught.value)
    assert message.startswith("model.safetensors: these weights do not fit Sequential")
    assert "0.weight: found [2, 4], expected [2, 3]" in message
    assert "0.bias [2]" in message
    assert "extra.weight [7]" in message


def test_long_lists_are_cut(context):
    module = build_on_meta(lambda: torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(20))))
    with pytest.raises(CheckpointError, match=r"(?s)40 missing.*and 30 more") as caught:
        load_strict(module, {}, context)
    assert len(str(caught.value).splitlines()) == 13


def test_ignored_names_are_patterns(context):
    state = build().state_dict() | {"text.position_ids": torch.zeros(1)}
    load_strict(build_on_meta(build), state, context, ignore=("*.position_ids",))
    with pytest.raises(CheckpointError, match="text.position_ids"):
        load_strict(build_on_meta(build), state, context)


def test_equal_weights_of_two_files_are_one_parameter(tmp_path, context):
    for name in ("a", "b"):
        torch.manual_seed(0)
        save_file(build().state_dict(), tmp_path / f"{name}.safetensors")
    first, second = (
        load_strict(build_on_meta(build), read_tensors(tmp_path / f"{name}.safetensors"), context) for name in "ab"
    )
    assert first[0].weight is second[0].weight


def test_loaded_weights_do_not_depend_on_the_file_any_more(tmp_path, context):
    path = tmp_path / "a.safetensors"
    save_file(build().state_dict(), path)
    module = load_strict(build_on_meta(build), read_tensors(path), context)
    before = module[0].weight.clone()
    with path.open("r+b") as file:
        file.seek(-200, 2)
        file.write(bytes(200))
    assert torch.equal(module[0].weight, before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("suffix, dtype", [("safetensors", "float32"), ("ckpt", "float16")])
def test_loading_never_holds_two_copies(tmp_path, suffix, dtype):
    # Loaded twice: the second copy is found to be the first one and must not be held beside it.
    generator = torch.Generator().manual_seed(0)
    state = {f"{index}.weight": torch.randn(OUTPUTS, INPUTS, generator=generator) for index in range(LAYERS)}
    path = tmp_path / f"large.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    script = Path(__file__).with_name("peak_of_loading.py")
    done = subprocess.run([sys.executable, script, path, dtype], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["weights"] == LAYERS * INPUTS * OUTPUTS * getattr(torch, dtype).itemsize
    # Beside the weights there is what the allocator and the first unpickling keep.
    assert 0.95 * found["weights"] < found["loaded"] < found["weights"] + 24 * 2**20
    assert found["peak"] <= 1.15 * found["loaded"]


def test_context_holds_one_store():
    assert LoadContext(torch.device("cpu"), torch.float32).weights is not None
