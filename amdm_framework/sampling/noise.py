"""Where a run's randomness comes from: every image and every member has generators of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor

from ..errors import InputError
from ..provider import Step


def derive_seed(seed: int, name: str) -> int:
    """Return a seed for something that shall be independent of, but determined by, another seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest(), "big") >> 1


class RunNoise:
    """The initial noise and the step noise of a run.

    The target draws from the caller's generators, in the order diffusers' pipelines draw: x_T, then the steps. Every
    other member draws from generators derived from their seeds. So the target's picture does not depend on who
    else takes part, and image i of a batch with one generator per image equals the single run with that generator.

    Args:
        generators: None for fresh seeds, one generator for the whole batch, or one per image.
        shape: (B, C, H, W) of the latents.
        device: where noise is needed.
        dtype: dtype of the latents, at least float32.
        shared_steps: whether all members get the same noise at a stochastic step.
    """

    def __init__(
        self,
        generators: torch.Generator | Sequence[torch.Generator] | None,
        shape: tuple[int, int, int, int],
        device: torch.device,
        dtype: torch.dtype,
        shared_steps: bool = False,
    ) -> None:
        batch = shape[0]
        if generators is None:
            # 32 bits: a seed that a person can copy from a file name.
            generators = [torch.Generator().manual_seed(torch.Generator().seed() % 2**32) for _ in range(batch)]
        if isinstance(generators, torch.Generator):
            own = [generators]
            first = generators.initial_seed()
            self.seeds = (first, *(derive_seed(first, f"image {image}") for image in range(1, batch)))
        else:
            own = list(generators)
            if len(own) != batch:
                raise InputError(f"found {len(own)} generators for a batch of {batch}: give one, or one per image")
            self.seeds = tuple(generator.initial_seed() for generator in own)
        self._generators = {0: own}
        self._shape = shape
        self._device = device
        self._dtype = dtype
        self._shared_steps = shared_steps
        self._step_draw: tuple[int, torch.Tensor] | None = None

    def initial(self, provider: int) -> torch.Tensor:
        """Draw x_T (B, C, H, W) from a member's generators."""
        return self._draw(provider)

    def __call__(self, provider: int, step: Step) -> torch.Tensor:
        """Draw the (B, C, H, W) noise of a member's stochastic step."""
        if not self._shared_steps:
            return self._draw(provider)
        if self._step_draw is None or self._step_draw[0] != step.index:
            self._step_draw = (step.index, self._draw(0))
        return self._step_draw[1]

    def _draw(self, provider: int) -> torch.Tensor:
        if provider not in self._generators:
            self._generators[provider] = [
                torch.Generator(generator.device).manual_seed(
                    derive_seed(generator.initial_seed(), f"member {provider}")
                )
                for generator in self._generators[0]
            ]
        generators = self._generators[provider]
        drawn: torch.Tensor = randn_tensor(
            self._shape,
            generator=generators if len(generators) > 1 else generators[0],
            device=self._device,
            dtype=self._dtype,
        )
        return drawn
