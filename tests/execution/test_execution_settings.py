"""Options of execution: what is refused, by whom and in what words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jsonschema import Draft7Validator

from amdm_framework.composition import read_composition
from amdm_framework.errors import InputError
from amdm_framework.execution import ExecutionSettings, execution_of_networks, execution_problems
from amdm_framework.plugins import discover
from amdm_framework.schema import composition_schema
from toy_plugin import toy_registry

CPU, FIRST, SECOND = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)


def composition(**parts: Any) -> dict[str, Any]:
    return {"providers": [{"use": "toy"}, {"use": "toy"}], **parts}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"compile": "fast"}, "compile: input should be False, True, 'regional', 'full' or 'reduce-overhead', found 'fast'"),
        ({"dtype": "int8"}, "dtype: input should be 'auto', 'float32', 'float16' or 'bfloat16', found 'int8'"),
        ({"attention": "xformers"}, "attention: input should be 'auto', 'math', 'flash', 'efficient' or 'cudnn'"),
        ({"offload": True}, "offload: input should be 'none', 'model' or 'sequential', found True"),
        ({"channels_first": True}, "unknown key. Did you mean 'channels_last'?"),
        ({"compile": True, "offload": "model"}, "`compile: true` and `offload: model` cannot be used together"),
        ({"compile": "full", "release": True}, "`compile: full` and `release: true` cannot be used together"),
        ({"offload": "sequential", "release": True}, "`offload: sequential` and `release: true` cannot be used"),
        ({"providers": [{"use": "toy", "device": "gpu"}]}, "providers.0.device: found 'gpu', expected cpu, cuda, cuda:N"),
    ],
)  # fmt: skip
def test_mistakes_are_named(written: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read_composition(composition(**written), toy_registry())
    assert expected in str(caught.value)


def test_the_schema_offers_the_options() -> None:
    schema = composition_schema(discover({"AMDM_NO_PLUGINS": "1"}))
    check = Draft7Validator(schema).is_valid
    member = {"use": "stable_diffusion", "checkpoint": "x"}
    good = {"compile": "regional", "offload": "none", "dtype": "bfloat16", "vae_tiling": True, "attention": "flash"}
    assert check({"providers": [{**member, "device": "cuda:1"}], **good})
    for key, value in (("compile", "fast"), ("offload", True), ("sequential_guidance", "yes")):
        assert not check({"providers": [member], **good, key: value}), key
    for name, field in ExecutionSettings.model_fields.items():
        assert schema["properties"][name]["description"] == field.description


@pytest.mark.parametrize(
    ("options", "devices", "dtype", "expected"),
    [
        ({"compile": "reduce-overhead"}, [FIRST, FIRST], torch.float16, {}),
        ({"compile": "reduce-overhead"}, [CPU], torch.float32, {"compile": "needs CUDA graphs, which cpu has not"}),
        ({"compile": "reduce-overhead"}, [FIRST, SECOND], torch.float16, {"compile": "one device only"}),
        ({"compile": "full", "channels_last": True}, [CPU, FIRST], torch.float16, {}),
        ({"offload": "model"}, [FIRST, FIRST], torch.float16, {}),
        ({"offload": "model"}, [FIRST, SECOND], torch.float16, {"offload": "the members are on 2"}),
        ({"attention": "flash"}, [CPU], torch.float32, {}),
        ({"attention": "flash"}, [FIRST], torch.float32, {"attention": "needs dtype float16 or bfloat16"}),
        ({"attention": "efficient"}, [FIRST], torch.float32, {}),
        ({"attention": "efficient"}, [CPU], torch.float32, {"attention": "a kernel of CUDA devices, which cpu has"}),
        ({"attention": "cudnn"}, [FIRST, CPU], torch.float16, {"attention": "a kernel of CUDA devices, which cpu has"}),
        ({"attention": "flash"}, [torch.device("mps")], torch.float16, {"attention": "is not a kernel of mps"}),
        ({"attention": "math"}, [torch.device("mps")], torch.float16, {}),
    ],
)
def test_what_a_device_cannot_do_is_refused_with_a_way_out(
    options: dict[str, Any], devices: list[torch.device], dtype: torch.dtype, expected: dict[str, str]
) -> None:
    problems = execution_problems(ExecutionSettings(**options), devices, [dtype] * len(devices))
    assert {problem.key for problem in problems} == set(expected)
    for problem in problems:
        assert expected[problem.key] in problem.message


def test_the_attention_kernel_is_set_inside_and_put_back_outside() -> None:
    query = torch.randn(1, 1, 4, 8)

    def attend() -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, query, query)

    def enabled() -> tuple[bool, bool]:
        return torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()

    before = enabled()
    with execution_of_networks(ExecutionSettings(attention="math")):
        assert enabled() == (False, True)
        torch.testing.assert_close(attend(), attend())
    assert enabled() == before == (True, True)
    with (
        pytest.raises(InputError, match="attention: `cudnn` cannot do the attention of these models on this device"),
        execution_of_networks(ExecutionSettings(attention="cudnn")),
    ):
        attend()
    assert enabled() == before
    with pytest.raises(RuntimeError, match="another reason"), execution_of_networks(ExecutionSettings(compile=True)):
        raise RuntimeError("another reason")
