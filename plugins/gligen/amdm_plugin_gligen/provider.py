"""GLIGEN as a provider: grounding is computed once per run, and mixed in during the first steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from amdm_framework.devices import device_of
from amdm_framework.models.attention import KeysAndValues, attending_to, by_rows
from amdm_framework.models.components import latent_space, load_text_encoder, load_unet, load_vae, open_base
from amdm_framework.models.context import LoadContext
from amdm_framework.models.inspection import locate_base, report_base
from amdm_framework.models.prompt_encoding import PromptGroup
from amdm_framework.models.rows import Rows
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextConditioning
from amdm_framework.provider import ProviderReport, ProviderSpec, RunSettings, Step
from amdm_framework.scene import Instance

from .checkpoint import check_gligen
from .condition import SLOTS, GLIGENCondition, condition_from_scene
from .grounding import fusers_of, project_tokens, take_position_net
from .options import GLIGENOptions


@dataclass(frozen=True)
class GroundedGroup(PromptGroup):
    """Images that one UNet call serves, with what its fusers attend to.

    Attributes:
        grounding: keys and values of grounding tokens, one entry per fuser, for every kind of UNet call.
    """

    grounding: Mapping[Rows, Sequence[KeysAndValues]]


class GLIGENProvider(StableDiffusionProvider):
    """Predicts noise with a UNet that attends to a text, and in the first steps to phrases in boxes.

    Args:
        scheduled_sampling_beta: share of the steps in which it does.
        parts: what `StableDiffusionProvider` takes; the UNet is gated.
    """

    def __init__(self, scheduled_sampling_beta: float, **parts: Any) -> None:
        super().__init__(**parts)
        self.scheduled_sampling_beta = scheduled_sampling_beta
        self.position_net = take_position_net(self.unet)
        self.fuser_attentions = [fuser.attn for fuser in fusers_of(self.unet)]

    def encode(self, conditions: Sequence[GLIGENCondition | None], settings: RunSettings) -> TextConditioning:
        """Encode prompts and phrases, make grounding tokens, and project them for every fuser."""
        tokens = self._tokens([() if condition is None else condition.instances for condition in conditions])
        conditioning = super().encode(conditions, settings)
        groups = []
        for group in conditioning.groups:
            rows = group.take(tokens[1:])
            if settings.guided:
                rows = torch.cat([tokens[:1].expand_as(rows), rows])
            grounding = by_rows(project_tokens(self.unet, rows), len(group.conditional), settings.guided)
            groups.append(GroundedGroup(**vars(group), grounding=grounding))
        return replace(conditioning, groups=groups)

    def unet_arguments(
        self, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> Mapping[str, Any]:
        if not self._grounded(step):
            return {}
        # No tokens: keys and values of those that there are wait in the fusers' attentions.
        return {"cross_attention_kwargs": {"gligen": {"objs": None}}}

    def call_unet(
        self, latents: torch.Tensor, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> torch.Tensor:
        assert isinstance(group, GroundedGroup)
        grounding = attending_to(self.fuser_attentions, group.grounding[rows])
        with grounding if self._grounded(step) else nullcontext():
            return super().call_unet(latents, step, conditioning, group, rows)

    def modules(self) -> Mapping[str, torch.nn.Module]:
        return {**super().modules(), "position_net": self.position_net}

    def _grounded(self, step: Step) -> bool:
        # Truncated, as diffusers' pipeline does: 0.3 of 15 steps are 4.
        return step.index < int(self.scheduled_sampling_beta * step.count)

    def _tokens(self, instances: Sequence[Sequence[Instance]]) -> torch.Tensor:
        """Return grounding tokens (1 + B, slots, token width): null tokens, then those of B images."""
        phrases = list(dict.fromkeys(instance.phrase for image in instances for instance in image))
        pooled = dict(zip(phrases, self.prompt_encoder.pooled(phrases), strict=True)) if phrases else {}
        shape = (1 + len(instances), SLOTS)
        device = device_of(self.position_net)
        boxes, used = torch.zeros(*shape, 4), torch.zeros(shape, dtype=torch.bool)
        features = torch.zeros(*shape, self.position_net.positive_len, device=device)
        for row, image in enumerate(instances, start=1):
            used[row, : len(image)] = True
            for slot, instance in enumerate(image):
                boxes[row, slot] = torch.tensor(instance.box)
                features[row, slot] = pooled[instance.phrase]
        tokens: torch.Tensor = self.position_net(boxes.to(device), used.to(device), features)
        return tokens


def load(options: GLIGENOptions, context: LoadContext) -> GLIGENProvider:
    """Load GLIGEN on the context's device and in its dtype.

    Raises:
        CheckpointError: a reference leads nowhere, or to something else than GLIGEN of phrases and boxes.
    """
    model = open_base(options.checkpoint, context, variant=options.variant)
    check_gligen(model)
    return GLIGENProvider(
        options.scheduled_sampling_beta,
        tokenizer=model.tokenizer(),
        latent_space=latent_space(model.component("unet").config, model.component("vae")),
        noise_schedule=model.noise_schedule(),
        unet=load_unet(model, context),
        vae=load_vae(model, context),
        text_encoder=load_text_encoder(model, context),
    )


def inspect(options: GLIGENOptions, context: LoadContext) -> ProviderReport:
    """Report what the files say, without building a network or fetching anything.

    Raises:
        CheckpointError: as for `load`.
    """
    model = locate_base(options.checkpoint, context, variant=options.variant)
    if model is not None:
        check_gligen(model)
    return report_base(model, options.checkpoint, context)


SPEC = ProviderSpec(
    name="gligen",
    summary="What stands where, in phrases and boxes: GLIGEN on Stable Diffusion 1.x.",
    options=GLIGENOptions,
    condition=GLIGENCondition,
    condition_from_scene=condition_from_scene,
    load=load,
    inspect=inspect,
    contract="amdm_plugin_gligen.contract:GLIGENContract",
)
