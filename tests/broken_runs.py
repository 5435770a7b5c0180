"""The small provider with defects of its halves, its networks and its state, each with the tests that notice it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from amdm_framework.provider import NoisePrediction, Step
from broken_providers import caught_by
from small_provider import SmallCondition, SmallConditioning, SmallContract, SmallProvider

STATE: dict[str, float] = {}


@caught_by("two_loaded_models_do_not_disturb_each_other", says="beside one with other options")
class KeepsAnOptionInItsModule(SmallProvider):
    def __init__(self, networks: Mapping[str, nn.Module], strength: float) -> None:
        super().__init__(networks, strength)
        STATE["strength"] = strength

    def positive(self, condition: SmallCondition) -> torch.Tensor:
        self.strength = STATE["strength"]
        return super().positive(condition)


@caught_by(
    "the_unconditional_half_is_computed_only_when_wanted", "sequential_guidance_gives_the_same", says="has transformer"
)
class NamesItsNetworkOtherwise(SmallProvider):
    def modules(self) -> Mapping[str, nn.Module]:
        return {"transformer": self.unet, "text_encoder": self.text_encoder, "vae": self.vae}

    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        if conditioning.unconditional is None:
            return super().predict_noise(latents, step, conditioning)
        halves = torch.cat([conditioning.unconditional, conditioning.conditional])
        unconditional, conditional = self.call(torch.cat([latents, latents]), step, halves).chunk(2)
        return NoisePrediction(conditional, unconditional if step.guided else None)


@caught_by(
    "the_unconditional_half_is_computed_only_when_wanted",
    "sequential_guidance_gives_the_same",
    says="does not call `modules()['unet']`",
)
class CallsAMethodOfItsNetwork(SmallProvider):
    def call(self, latents: torch.Tensor, step: Step, context: torch.Tensor) -> torch.Tensor:
        timesteps = torch.full((len(latents),), step.timestep, device=latents.device)
        return self.unet.forward(latents.to(context.dtype), timesteps, context)


@caught_by("the_caption_acts_on_the_conditional_half_alone", says="does not change the conditional half")
class IgnoresTheCaption(SmallProvider):
    def positive(self, condition: SmallCondition) -> torch.Tensor:
        return super().positive(condition.model_copy(update={"prompt": f"{len(condition.instances)} instances"}))


@caught_by("the_negative_prompt_acts_on_the_unconditional_half_alone", says="does not change the unconditional half")
class IgnoresTheNegativePrompt(SmallProvider):
    def negative(self, condition: SmallCondition) -> torch.Tensor:
        return self.text("")


@caught_by("constants_are_computed_once", says="names what is not constant, or not there: unet.conv_in")
class ExcusesTooMuch(SmallContract):
    constant_layers = ("unet.conv_in",)


@caught_by("it_runs_on_a_gpu", says="it cannot predict or decode")
class MakesItsTimestepsOnTheCPU(SmallProvider):
    def call(self, latents: torch.Tensor, step: Step, context: torch.Tensor) -> torch.Tensor:
        return self.unet(latents.to(context.dtype), torch.full((len(latents),), step.timestep), context)
