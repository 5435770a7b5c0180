"""The provider of the Stable Diffusion family: text to image as it is, and the base class of adapters to it.

A plugin derives from `StableDiffusionProvider`, hands it a UNet that carries its adapter, and overrides

- `encode`, to compute its own tokens, masks or embeddings once: `super().encode(...)` encodes the prompts. What belongs to
  single images goes into groups of the plugin's own, a subclass of `PromptGroup`, split once among `groups` with
  `group.take`; what the whole run shares goes into `extra` of the returned conditioning;
- `unet_arguments`, to hand what it computed to every UNet call (`cross_attention_kwargs`, `added_cond_kwargs`);
- `call_unet`, where a UNet call needs more than arguments (states set around it);
- `prompts`, where its condition is not a `TextCondition`;
- `modules`, where it owns further networks.

Components come from `components.py`; prompts are encoded by `prompt_encoding.py`, and `attention.py` projects them once
per run for every cross-attention of the UNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from pydantic import Field
from transformers import CLIPTextModel

from ..errors import InputError
from ..latents import LatentSpace, NoiseSchedule
from ..provider import EpsilonProvider, NoisePrediction, RunSettings, Step
from ..scene import StrictModel
from .attention import attending_to, by_rows, install_attention, project_text
from .autoencoder import decode_latents
from .components import default_size
from .prompt_encoding import PromptEncoder, PromptGroup
from .rows import Rows


class TextCondition(StrictModel):
    """What a text-to-image model is asked for."""

    prompt: str = Field(default="", description="What to draw.")
    negative: str = Field(default="", description="What not to draw.")


@dataclass
class TextConditioning:
    """A batch of encoded conditions.

    Attributes:
        groups: the images by length of their encoded prompts; one group unless prompts exceed the text model's context.
            A derived provider keeps what belongs to single images in a subclass of `PromptGroup`.
        settings: of the run.
        extra: what a derived provider computed for all images together.
    """

    groups: Sequence[PromptGroup]
    settings: RunSettings
    extra: Any = None


class StableDiffusionProvider(EpsilonProvider):
    """Predicts noise with a UNet that attends to a text.

    Args:
        unet: (B, C, H, W) latents, timestep and text states to a prediction of the same shape. Its attention layers
            are changed to `InferenceAttention`, except those whose processors somebody else has set.
        vae: the autoencoder.
        tokenizer: of the text encoder.
        text_encoder: its last hidden state is what the UNet attends to.
        latent_space: of the autoencoder.
        noise_schedule: the UNet was trained on.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        tokenizer: Any,
        text_encoder: CLIPTextModel,
        latent_space: LatentSpace,
        noise_schedule: NoiseSchedule,
    ) -> None:
        self.unet = unet
        self.cross_attentions = install_attention(unet)
        self.vae = vae
        self.text_encoder = text_encoder
        self.prompt_encoder = PromptEncoder(tokenizer, text_encoder)
        self.latent_space = latent_space
        self.noise_schedule = noise_schedule
        self.default_size = default_size(unet.config, latent_space.scale)

    def prompts(self, condition: Any) -> tuple[str, str]:
        """Return prompt and negative prompt of a condition; None is an empty one."""
        given: TextCondition = TextCondition() if condition is None else condition
        return given.prompt, given.negative

    def encode(self, conditions: Sequence[Any], settings: RunSettings) -> TextConditioning:
        scale = self.latent_space.scale
        if settings.height % scale or settings.width % scale:
            raise InputError(
                f"the picture is {settings.width} x {settings.height} pixels; width and height of this model must be "
                f"multiples of {scale}"
            )
        prompts, negatives = zip(*map(self.prompts, conditions), strict=True)
        groups = self.prompt_encoder.encode_groups(prompts, negatives if settings.guided else None)
        return TextConditioning([self._project(group) for group in groups], settings)

    def unet_arguments(
        self, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> Mapping[str, Any]:
        """Return further keyword arguments of one UNet call.

        Args:
            step: the position in the grid.
            conditioning: what `encode` returned.
            group: the images of this call; `group.take` picks their rows of a (B, ...) tensor.
            rows: which rows of [all unconditional rows, all conditional rows] the call evaluates.
        """
        return {}

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: TextConditioning) -> NoisePrediction:
        # Attention would let many rows share the keys and values of one, without an error.
        encoded = sum(len(group.conditional) for group in conditioning.groups)
        if len(latents) != encoded:
            raise InputError(f"found latents of {len(latents)} images, but {encoded} conditions were encoded")
        if len(conditioning.groups) == 1:
            return self.predict_group(latents, step, conditioning, conditioning.groups[0])
        conditional = torch.empty_like(latents)
        unconditional = torch.empty_like(latents) if step.guided else None
        for group in conditioning.groups:
            prediction = self.predict_group(group.take(latents), step, conditioning, group)
            conditional[group.rows] = prediction.conditional.to(latents.dtype)
            if unconditional is not None and prediction.unconditional is not None:
                unconditional[group.rows] = prediction.unconditional.to(latents.dtype)
        return NoisePrediction(conditional, unconditional)

    def predict_group(
        self, latents: torch.Tensor, step: Step, conditioning: TextConditioning, group: PromptGroup
    ) -> NoisePrediction:
        """Predict for the images of one group: with one UNet call, or with one per half in sequential guidance.

        Args:
            latents: (b, C, H, W) of the group's images.
            step: the position in the grid.
            conditioning: what `encode` returned.
            group: the images.
        """
        if not step.guided:
            return NoisePrediction(self.call_unet(latents, step, conditioning, group, Rows.CONDITIONAL))
        if group.both is None:
            raise ValueError("guidance is asked for, but the conditions were encoded without it")
        if conditioning.settings.sequential_guidance:
            unconditional = self.call_unet(latents, step, conditioning, group, Rows.UNCONDITIONAL)
            conditional = self.call_unet(latents, step, conditioning, group, Rows.CONDITIONAL)
        else:
            unconditional, conditional = self.call_unet(latents, step, conditioning, group, Rows.BOTH).chunk(2)
        return NoisePrediction(conditional, unconditional)

    def call_unet(
        self, latents: torch.Tensor, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> torch.Tensor:
        """Evaluate the UNet once.

        Args:
            latents: (b, C, H, W) of the group's images.
            step: the position in the grid.
            conditioning: what `encode` returned.
            group: the images.
            rows: which rows of [all unconditional rows, all conditional rows] are evaluated.

        Returns:
            (2 b, C, H, W) for both halves, (b, C, H, W) for one.
        """
        sample = latents.to(self.unet.conv_in.weight.dtype)
        if rows is Rows.BOTH:
            sample = torch.cat([sample, sample])
        # Filled on the device: a timestep copied from the host would make the host wait at every step.
        timesteps = torch.full((len(sample),), step.timestep, dtype=torch.int64, device=sample.device)
        arguments = self.unet_arguments(step, conditioning, group, rows)
        with attending_to(self.cross_attentions, group.texts[rows]):
            output: torch.Tensor = self.unet(sample, timesteps, group.states(rows), return_dict=False, **arguments)[0]
        return output

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return decode_latents(self.vae, latents)

    def modules(self) -> Mapping[str, torch.nn.Module]:
        return {"unet": self.unet, "vae": self.vae, "text_encoder": self.text_encoder}

    def _project(self, group: PromptGroup) -> PromptGroup:
        states = group.conditional if group.both is None else group.both
        layers = project_text(self.unet, self.cross_attentions, states)
        return replace(group, texts=by_rows(layers, len(group.conditional), group.both is not None))
