"""How networks are run: compiled or not, in what precision, where their weights wait. The picture stays what it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch.nn.attention import SDPBackend, sdpa_kernel

from .errors import InputError, Problem
from .scene import StrictModel

Compile = Literal[False, True, "regional", "full", "reduce-overhead"]
Attention = Literal["auto", "math", "flash", "efficient", "cudnn"]
Offload = Literal["none", "model", "sequential"]

_KERNELS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}

_GRAPHS = 64


class ExecutionSettings(StrictModel):
    """Options that change speed and memory, but not what is computed: at most the last bits of a picture."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="What networks compute in; auto is float16 on a GPU and float32 elsewhere."
    )
    compile: Compile = Field(
        default=False,
        description="Compile each member's UNet at its first evaluation: `regional` its transformer blocks one by one, "
        "`full` the whole, `reduce-overhead` the whole as CUDA graphs; true is `regional`.",
    )
    channels_last: bool = Field(default=False, description="Keep the weights of convolutions with channels last.")
    attention: Attention = Field(
        default="auto", description="Kernel of the UNets' attention; auto lets torch choose by device and shape."
    )
    offload: Offload = Field(
        default="none",
        description="Keep weights in main memory and bring to the device one network at a time (`model`), or the "
        "weights of one layer at a time (`sequential`: least memory, slowest).",
    )
    release: bool = Field(default=False, description="Drop a member's networks after its last evaluation.")
    sequential_guidance: bool = Field(
        default=False,
        description="Evaluate the unconditional and the conditional half one after the other: less memory, more time.",
    )
    vae_tiling: bool = Field(
        default=False,
        description="Decode every picture larger than one tile of the autoencoder (512 pixels for Stable Diffusion) in "
        "overlapping tiles. Pictures above 1024x1024 pixels always are, and the pictures of a batch are always decoded "
        "one by one.",
    )

    @model_validator(mode="after")
    def _work_together(self) -> ExecutionSettings:
        if self.compile and self.offload != "none":
            raise ValueError(
                f"`compile: {_written(self.compile)}` and `offload: {self.offload}` cannot be used together: compiled "
                "code expects weights to stay where they are"
            )
        if self.compile and self.release:
            raise ValueError(
                f"`compile: {_written(self.compile)}` and `release: true` cannot be used together: a network that was "
                "dropped would have to be compiled again in every run"
            )
        if self.offload != "none" and self.release:
            raise ValueError(
                f"`offload: {self.offload}` and `release: true` cannot be used together: the one keeps weights in main "
                "memory, the other drops them"
            )
        return self

    @property
    def compile_mode(self) -> Literal["", "regional", "full", "reduce-overhead"]:
        """What `compile` means: an empty string for not at all."""
        if isinstance(self.compile, bool):
            return "regional" if self.compile else ""
        return self.compile


def execution_problems(
    execution: ExecutionSettings, devices: Sequence[torch.device], dtypes: Sequence[torch.dtype]
) -> list[Problem]:
    """Find options that these devices cannot do.

    Args:
        execution: the options.
        devices: of every member.
        dtypes: of every member.
    """
    reasons: dict[str, str] = {}
    kinds = sorted({device.type for device in devices})
    several = len(set(devices)) > 1
    if execution.compile_mode == "reduce-overhead":
        if kinds != ["cuda"]:
            reasons["compile"] = f"`reduce-overhead` needs CUDA graphs, which {kinds[0]} has not; use `regional`"
        elif several:
            reasons["compile"] = "`reduce-overhead` works with one device only; use `regional`"
    if execution.offload != "none" and several:
        reasons["offload"] = f"`{execution.offload}` works with one device only, the members are on {len(set(devices))}"
    for device, dtype in zip(devices, dtypes, strict=True):
        reason = _attention_reason(execution.attention, device.type, dtype)
        if reason:
            reasons.setdefault("attention", f"`{execution.attention}` {reason}; use `auto`")
    return [Problem(reason, key) for key, reason in reasons.items()]


@contextmanager
def execution_of_networks(execution: ExecutionSettings) -> Iterator[None]:
    """Run networks with the attention kernel that was asked for, and explain what they cannot do.

    The kernel is a setting of the whole process for as long as this lasts.

    Raises:
        InputError: there is no such kernel for a network's attention on this device, or it cannot be compiled.
    """
    try:
        with ExitStack() as settings:
            if execution.attention != "auto":
                settings.enter_context(sdpa_kernel(_KERNELS[execution.attention]))
            if execution.compile:
                import torch._dynamo  # takes a second

                # One graph for every shape and kind of a UNet's blocks, and again for every size of pictures and
                # batches; beyond the limit, 8 as torch sets it, a block would run uncompiled.
                settings.enter_context(torch._dynamo.config.patch(recompile_limit=_GRAPHS))
            yield
    except RuntimeError as error:
        if execution.attention != "auto" and _says_no_kernel(error):
            message = f"`{execution.attention}` cannot do the attention of these models on this device; use `auto`"
            raise InputError([Problem(message, "attention")]) from error
        if execution.compile and _says_no_compiler(error):
            message = f"torch cannot compile on this machine ({str(error).splitlines()[0]}); leave `compile` out"
            raise InputError([Problem(message, "compile")]) from error
        raise


def _attention_reason(attention: Attention, kind: str, dtype: torch.dtype) -> str:
    if attention in ("auto", "math"):
        return ""
    if kind == "cpu":
        return "" if attention == "flash" else "is a kernel of CUDA devices, which cpu has not"
    if kind != "cuda":
        return f"is not a kernel of {kind}"
    if attention != "efficient" and dtype == torch.float32:
        return "needs dtype float16 or bfloat16 on a CUDA device, found float32"
    return ""


def _says_no_kernel(error: RuntimeError) -> bool:
    return "No viable backend" in str(error) or "No available kernel" in str(error)


def _says_no_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import InductorError

    return isinstance(error, (BackendCompilerFailed, InductorError))


def _written(value: Compile) -> str:
    return str(value).lower()
