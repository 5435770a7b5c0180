"""InteractDiffusion as a provider: grounding is computed once per run, and mixed in at every step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from amdm_framework.errors import InputError
from amdm_framework.models.attention import KeysAndValues, by_rows
from amdm_framework.models.components import (
    COMPONENTS,
    default_size,
    latent_space,
    load_text_encoder,
    load_vae,
    open_base,
)
from amdm_framework.models.context import LoadContext
from amdm_framework.models.digests import tensor_infos
from amdm_framework.models.inspection import absent_tokenizer, locate_base, report_base
from amdm_framework.models.prompt_encoding import PromptGroup
from amdm_framework.models.references import locate_reference, resolve_reference, select_model_files
from amdm_framework.models.rows import Rows
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextConditioning
from amdm_framework.provider import ProviderReport, ProviderSpec, RunSettings, Step

from .checkpoint import checkpoint_at, load_networks
from .condition import GroundedInteraction, InteractDiffusionCondition, condition_from_scene
from .fuser import fusers_of, grounded, project_grounding
from .grounding_tokens import GroundingTokenizer
from .options import InteractDiffusionOptions
from .strength_schedule import StrengthSchedule


@dataclass(frozen=True)
class GroundedGroup(PromptGroup):
    """Images that one UNet call serves, with what its fusers attend to.

    Attributes:
        tokens: grounding tokens of (b, ...) images; with guidance of (2 b, ...): null grounding, then theirs.
        grounding: keys and values of these tokens, one entry per fuser, for every kind of UNet call.
        gates: factors of the fusers' residuals.
    """

    tokens: torch.Tensor
    grounding: Mapping[Rows, Sequence[KeysAndValues]]
    gates: torch.Tensor


class InteractDiffusionProvider(StableDiffusionProvider):
    """Predicts noise with a UNet that attends to a text and to who does what to whom.

    Args:
        grounding_tokenizer: turns interactions into tokens; the UNet carries fusers that attend to them.
        strength_schedule: strength of the grounding over the run.
        too_many_interactions: what becomes of interactions beyond the tokenizer's slots.
        parts: what `StableDiffusionProvider` takes.
    """

    def __init__(
        self,
        grounding_tokenizer: GroundingTokenizer,
        strength_schedule: StrengthSchedule = StrengthSchedule(),  # noqa: B008 - frozen
        too_many_interactions: Literal["refuse", "truncate"] = "refuse",
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.fusers = fusers_of(self.unet)
        self.grounding_tokenizer = grounding_tokenizer
        self.strength_schedule = strength_schedule
        self.too_many_interactions = too_many_interactions

    def encode(self, conditions: Sequence[InteractDiffusionCondition], settings: RunSettings) -> TextConditioning:
        """Encode prompts and phrases, make grounding tokens, and project them for every fuser.

        Raises:
            InputError: a condition has more interactions than there are slots, or there is none.
        """
        interactions = [self._within_slots(condition, image) for image, condition in enumerate(conditions)]
        tokens = self._tokens(interactions)
        null_tokens = self.grounding_tokenizer.null_tokens() if settings.guided else None
        conditioning = super().encode(conditions, settings)
        groups = []
        for group in conditioning.groups:
            own_tokens = group.take(tokens)
            images = len(own_tokens)
            if null_tokens is not None:
                own_tokens = torch.cat([null_tokens.expand_as(own_tokens), own_tokens])
            projected = project_grounding(self.unet, own_tokens)
            grounding = by_rows(projected.keys_and_values, images, settings.guided)
            groups.append(
                GroundedGroup(
                    **vars(group),
                    tokens=own_tokens,
                    grounding=grounding,
                    gates=projected.gates,
                )
            )
        return replace(conditioning, groups=groups)

    def unet_arguments(
        self, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> Mapping[str, Any]:
        assert isinstance(group, GroundedGroup)
        if self.strength_schedule.at(step.index, step.count) == 0:
            return {}
        tokens = rows.take(group.tokens, len(group.conditional))
        return {"cross_attention_kwargs": {"gligen": {"objs": tokens}}}

    def call_unet(
        self, latents: torch.Tensor, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> torch.Tensor:
        assert isinstance(group, GroundedGroup)
        strength = self.strength_schedule.at(step.index, step.count)
        with grounded(self.fusers, group.grounding[rows], group.gates, strength):
            return super().call_unet(latents, step, conditioning, group, rows)

    def modules(self) -> Mapping[str, torch.nn.Module]:
        return {**super().modules(), "grounding_tokenizer": self.grounding_tokenizer}

    def _within_slots(self, condition: InteractDiffusionCondition | None, image: int) -> Sequence[GroundedInteraction]:
        if condition is None:
            raise InputError(f"image {image} has no condition: InteractDiffusion needs at least one interaction")
        slots = self.grounding_tokenizer.slots
        found = len(condition.interactions)
        if found > slots:
            if self.too_many_interactions == "refuse":
                raise InputError(
                    f"image {image} of the batch has {found} interactions, this model takes at most {slots}; leave some "
                    f"out, or set `too_many_interactions: truncate` to keep the first {slots}"
                )
            warnings.warn(f"image {image}: kept the first {slots} of {found} interactions", stacklevel=3)
        return condition.interactions[:slots]

    def _tokens(self, interactions: Sequence[Sequence[GroundedInteraction]]) -> torch.Tensor:
        """Return the (B, 3 slots, token width) grounding tokens of B images."""
        rows = [one for image in interactions for one in image]
        phrases = [text for one in rows for text in (one.subject, one.object, one.action)]
        unique = {phrase: index for index, phrase in enumerate(dict.fromkeys(phrases))}
        pooled = self.prompt_encoder.pooled(list(unique))
        places = torch.tensor([unique[phrase] for phrase in phrases], device=pooled.device)
        subjects, objects, actions = pooled[places].view(len(rows), 3, -1).unbind(1)
        counts = torch.tensor([len(image) for image in interactions], device=pooled.device)
        slots = torch.arange(self.grounding_tokenizer.slots, device=pooled.device)
        used = slots < counts.unsqueeze(1)

        def in_slots(values: torch.Tensor) -> torch.Tensor:
            # Every image is padded to all slots: attention sees the empty ones too, as it did in training.
            padded = values.new_zeros(*used.shape, values.shape[-1])
            padded[used] = values
            return padded

        def boxes(corners: list[tuple[float, float, float, float]]) -> torch.Tensor:
            # Float32 whatever the network computes in, see `fourier_features`.
            return in_slots(torch.tensor(corners, dtype=torch.float32, device=pooled.device))

        tokens: torch.Tensor = self.grounding_tokenizer(
            subject_boxes=boxes([one.subject_box for one in rows]),
            object_boxes=boxes([one.object_box for one in rows]),
            masks=used,
            subject_positive_embeddings=in_slots(subjects),
            object_positive_embeddings=in_slots(objects),
            action_positive_embeddings=in_slots(actions),
        )
        return tokens


def load(options: InteractDiffusionOptions, context: LoadContext) -> InteractDiffusionProvider:
    """Load InteractDiffusion as the options say.

    Raises:
        CheckpointError: weights are missing, damaged, unsafe or of another architecture.
    """

    def select(names: Sequence[str]) -> list[str]:
        return select_model_files(names, options.variant)

    path = resolve_reference(options.checkpoint, context, select)
    base = None
    if options.base is not None and path.is_file():
        base = open_base(options.base, context, variant=options.variant, tokenizer=options.tokenizer)
    checkpoint = checkpoint_at(
        path, options.checkpoint, context, base=base, variant=options.variant, tokenizer=options.tokenizer
    )
    space = latent_space(checkpoint.component("unet").config, checkpoint.component("vae"))
    unet, grounding_tokenizer = load_networks(checkpoint, context)
    return InteractDiffusionProvider(
        grounding_tokenizer,
        options.strength_schedule(),
        options.too_many_interactions,
        unet=unet,
        vae=load_vae(checkpoint, context),
        tokenizer=checkpoint.tokenizer(),
        text_encoder=load_text_encoder(checkpoint, context),
        latent_space=space,
        noise_schedule=checkpoint.noise_schedule(),
    )


def inspect(options: InteractDiffusionOptions, context: LoadContext) -> ProviderReport:
    """Report what the files say, without building a network or fetching anything.

    Raises:
        CheckpointError: a reference leads nowhere, or to files that are not InteractDiffusion or do not fit each other.
    """
    how = {"variant": options.variant, "tokenizer": options.tokenizer}
    path = locate_reference(options.checkpoint, context)
    if (path is None and options.base is None) or (path is not None and path.is_dir()):
        model = locate_base(options.checkpoint, context, **how)
        report = report_base(model, options.checkpoint, context, tokenizer=options.tokenizer)
        if path is not None and model is not None:
            checkpoint_at(path, options.checkpoint, context, variant=options.variant)
        return report
    base = None
    if options.base is not None:
        base = locate_base(options.base, context, **how)
        if path is None or base is None:
            report = report_base(base, options.base, context, tokenizer=options.tokenizer)
            return report if path else replace(report, downloads=(*report.downloads, options.checkpoint))
    assert path is not None
    checkpoint = checkpoint_at(path, options.checkpoint, context, base=base, tokenizer=options.tokenizer)
    stored = {name: checkpoint.component(name).tensors for name in COMPONENTS}
    stored["grounding_tokenizer"] = checkpoint.grounding_tokenizer
    config = checkpoint.component("unet").config
    space = latent_space(config, checkpoint.component("vae"))
    lender = options.checkpoint if options.base is None or options.tokenizer is not None else options.base
    return ProviderReport(
        latent_space=space,
        noise_schedule=checkpoint.noise_schedule(),
        default_size=default_size(config, space.scale),
        components={name: tensor_infos(tensors, name, context.dtype) for name, tensors in stored.items()},
        downloads=absent_tokenizer(lender, context, options.tokenizer),
    )


SPEC = ProviderSpec(
    name="interactdiffusion",
    summary="Who does what to whom, in boxes: InteractDiffusion on Stable Diffusion 1.x.",
    options=InteractDiffusionOptions,
    condition=InteractDiffusionCondition,
    condition_from_scene=condition_from_scene,
    load=load,
    inspect=inspect,
    contract="amdm_plugin_interactdiffusion.contract:InteractDiffusionContract",
)
