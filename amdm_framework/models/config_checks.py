"""Configs of networks are data from anywhere: what is read of them is checked, and so is what libraries make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import AMDMError, CheckpointError
from ..yaml_files import problems_of

Count = Annotated[int, Field(ge=1, le=2**16, strict=True)]
"""Type of a number of channels, layers or tokens in a config."""

Side = Annotated[int, Field(ge=1, le=2**11, strict=True)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _UNetConfig(_Config):
    in_channels: Count
    out_channels: Count
    block_out_channels: Annotated[list[Count], Field(min_length=1, max_length=8)]
    cross_attention_dim: Count
    sample_size: Side | tuple[Side, Side] | None = None


class _AutoencoderConfig(_Config):
    latent_channels: Count
    block_out_channels: Annotated[list[Count], Field(min_length=1, max_length=8)]
    scaling_factor: float = Field(default=0.18215, gt=0, allow_inf_nan=False)


class _TextEncoderConfig(_Config):
    hidden_size: Count
    max_position_embeddings: Count = 77


_CONFIGS: Mapping[str, type[_Config]] = {
    "unet": _UNetConfig,
    "vae": _AutoencoderConfig,
    "text_encoder": _TextEncoderConfig,
}


def check_config(name: str, config: Mapping[str, Any], source: str) -> None:
    """Check the values of a config that are read here; the libraries that build the network check the rest.

    Args:
        name: `unet`, `vae` or `text_encoder`.
        config: its config.
        source: what messages call the weights beside it.

    Raises:
        CheckpointError: with all that is wrong.
    """
    try:
        # JSON has no tuples, and a config that was read off a file's shapes has no lists.
        _CONFIGS[name].model_validate({key: list(v) if isinstance(v, tuple) else v for key, v in config.items()})
    except ValidationError as error:
        raise CheckpointError(
            "\n".join(str(problem) for problem in problems_of(error, _CONFIGS[name], f"{source}: the config beside it"))
        ) from error


def check_depth(config: Mapping[str, Any], tensors: Mapping[str, Any], source: str) -> None:
    """Refuse a config of more layers than there are weights, which would take for ever to build.

    Raises:
        CheckpointError: naming the value.
    """
    for key, value in config.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        for number in numbers if "layers" in str(key) else ():
            if isinstance(number, int) and number > len(tensors):
                raise CheckpointError(
                    f"{source}: the config beside it says {key}: {number}, for {len(tensors)} weights"
                )


@contextmanager
def building(what: str, source: str) -> Iterator[None]:
    """Turn whatever a library raises while it builds a network from a config into an error for people.

    Raises:
        CheckpointError: the config does not describe such a network.
    """
    try:
        yield
    except AMDMError:
        raise
    except Exception as error:  # configs are checked late and unevenly there
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = (lines[-1] if lines else type(error).__name__)[:300]
        raise CheckpointError(f"{source}: the config beside it does not describe a {what} ({cause})") from error
