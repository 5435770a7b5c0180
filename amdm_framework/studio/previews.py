"""Pictures of a run that is under way: what every member, and their aggregate, expect the finished picture to be."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from ..provider import EpsilonProvider
from ..sampling.loop import StepReport
from ..sampling.transition import Transition
from ..strategies.base import ProviderState

LONGEST_SIDE = 320
"""Of a preview, in pixels; larger pictures are scaled down."""

SHARE = 0.25
"""Of the time of a run that previews may take, beyond those of aggregated steps."""


@dataclass(frozen=True)
class Preview:
    """One picture.

    Attributes:
        name: the member's name; an empty string for the aggregate.
        step: the step after which it was made, from 1.
        image: as a data URI.
    """

    name: str
    step: int
    image: str


class Previewer:
    """Makes previews of the first picture of a batch: of all aggregated steps, and of others while there is time.

    A member's is the x0 that it predicts at the step's start. The aggregate has no prediction of its own, so its preview
    is read from the latents after the step, which with eta above 0 hold the noise that the step has added: it looks
    grainier than what the models expect, the more the earlier the step.

    Decoding takes as long as a step or longer where the autoencoder is large and the network small, hence the limit.

    Args:
        names: of the members, target first.
        target: decodes.
    """

    def __init__(self, names: Sequence[str], target: EpsilonProvider) -> None:
        self._names = names
        self._target = target
        self._began = time.perf_counter()
        self._spent = 0.0

    def previews_of(self, report: StepReport) -> list[Preview]:
        """Return the previews of a step, none where it is passed over."""
        evaluated = [k for k, state in enumerate(report.states) if state.noise_prediction is not None]
        now = time.perf_counter()
        last = report.step.index == report.step.count - 1
        if last or not evaluated or (evaluated == [0] and self._spent > SHARE * (now - self._began)):
            # The last step's is the picture itself.
            return []
        number = report.step.index + 1
        previews = []
        first = report.states[evaluated[0]]
        if report.latents[0] is not None:
            expected = _expected_of_aggregate(report.latents[0][:1], _epsilon(first), report.transition)
            previews.append(Preview("", number, self._decoded(expected)))
        if len(evaluated) > 1 or evaluated != [0]:
            for k in evaluated:
                state = report.states[k]
                expected = report.transition.original_sample(state.latents[:1], _epsilon(state))
                previews.append(Preview(self._names[k], number, self._decoded(expected)))
        self._spent += time.perf_counter() - now
        return previews

    def _decoded(self, latents: torch.Tensor) -> str:
        pixels = self._target.decode(latents)
        (picture,) = VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy(pixels))
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        return data_uri(picture)


def data_uri(picture: Image.Image) -> str:
    """Return a picture as an address that holds it: small ones as PNG, others as JPEG."""
    kind = "png" if max(picture.size) <= 128 else "jpeg"
    content = io.BytesIO()
    picture.convert("RGB").save(content, format=kind, quality=85)
    return uri_of(content.getvalue(), kind)


def uri_of(content: bytes, kind: str) -> str:
    """Return the file of a picture as an address that holds it; `kind` is `png` or `jpeg`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _epsilon(state: ProviderState) -> torch.Tensor:
    # Of the first picture of the batch; with guidance, where the strategy was given the two halves.
    conditional = state.epsilon[:1]
    if state.unconditional is None:
        return conditional
    unconditional = state.unconditional[:1]
    return unconditional + state.guidance_scale * (conditional - unconditional)


def _expected_of_aggregate(latents: torch.Tensor, epsilon: torch.Tensor, transition: Transition) -> torch.Tensor:
    # x0 as explained by the aggregated x_{t-1} and the noise that the step predicted; x_{t-1} itself at the end.
    a = transition.alpha_cumprod_previous
    return (latents - math.sqrt(1 - a) * epsilon) / math.sqrt(a)
