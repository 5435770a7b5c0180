"""The provider: Stable Diffusion 1.x with MIGC, encoding texts, boxes and phase orders once per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from amdm_framework.devices import device_of
from amdm_framework.errors import InputError
from amdm_framework.models.checkpoints import locate_reference, read_tensors, resolve_reference
from amdm_framework.models.components import latent_space, load_text_encoder, load_unet, load_vae, open_base
from amdm_framework.models.context import LoadContext
from amdm_framework.models.digests import tensor_infos
from amdm_framework.models.inspection import locate_base, report_base
from amdm_framework.models.offload import weights_in_place
from amdm_framework.models.prompt_encoding import PromptGroup
from amdm_framework.models.rows import Rows
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextConditioning
from amdm_framework.provider import ProviderReport, ProviderSpec, RunSettings, Step, WeightFile

from .attention import FusionSchedule, InstanceAttention, InstanceRun
from .checkpoint import load_block, read_blocks
from .condition import MIGCCondition, condition_from_scene, repeat_phrase
from .options import MIGCOptions
from .phase_order import PhaseOrders, draw_phase_orders


@dataclass(frozen=True)
class InstanceGroup(PromptGroup):
    """Images of a batch that one UNet call can serve.

    Attributes:
        run: what the UNet's cross-attentions need in this run.
    """

    run: InstanceRun


class MIGCProvider(StableDiffusionProvider):
    """A Stable Diffusion UNet that shades every instance on its own, inside its box.

    Images without instances are drawn as by the base model. Sizes need not be square nor multiples of 64.

    Args:
        attention: what was installed in the UNet.
        aug_phase_with_and: whether phrases are repeated, see the option.
        phase_orders: source of the permutations, for runs that must repeat recorded ones.
        components: those of `StableDiffusionProvider`.
    """

    def __init__(
        self,
        attention: InstanceAttention,
        aug_phase_with_and: bool = False,
        phase_orders: PhaseOrders = draw_phase_orders,
        **components: Any,
    ) -> None:
        super().__init__(**components)
        self.attention = attention
        self.aug_phase_with_and = aug_phase_with_and
        self.phase_orders = phase_orders

    def encode(self, conditions: Sequence[MIGCCondition | None], settings: RunSettings) -> TextConditioning:
        """Encode prompts and phrases, and everything else that depends on neither latents nor timestep.

        Raises:
            InputError: more instances than the weights have room for, or a size the autoencoder cannot give.
        """
        given = [MIGCCondition() if condition is None else condition for condition in conditions]
        room = self.attention.depth - 2
        for image, condition in enumerate(given):
            if len(condition.instances) > room:
                raise InputError(
                    f"image {image} has {len(condition.instances)} instances, but these weights of MIGC take at most {room}"
                )
        device, dtype = device_of(self.unet), self.unet.conv_in.weight.dtype
        states, pooled = ([part.to(device, dtype) for part in parts] for parts in self._encode_phrases(given))
        count = self.attention.phase_order_count(settings.num_inference_steps)
        groups = []
        for text in super().encode(given, settings).groups:
            images = range(len(given)) if text.rows is None else text.rows.tolist()
            with weights_in_place(self.unet):
                run = self.attention.prepare(
                    [given[image] for image in images],
                    torch.cat([states[image] for image in images]),
                    torch.cat([pooled[image] for image in images]),
                    [self.phase_orders(settings.seeds[image], count, room) for image in images],
                    settings.height,
                    settings.width,
                    (settings.height // self.latent_space.scale, settings.width // self.latent_space.scale),
                )
            groups.append(InstanceGroup(**vars(text), run=run))
        return TextConditioning(groups, settings)

    def call_unet(
        self, latents: torch.Tensor, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> torch.Tensor:
        assert isinstance(group, InstanceGroup)
        with self.attention.during(group.run, step.index, rows):
            return super().call_unet(latents, step, conditioning, group, rows)

    def _encode_phrases(
        self, conditions: Sequence[MIGCCondition]
    ) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        # For every image the states (n, 77, D) and the pooled features (n, D) of its phrases.
        counts = [len(condition.instances) for condition in conditions]
        phrases = [one.phrase for condition in conditions for one in condition.instances]
        if self.aug_phase_with_and:
            repeated = zip(phrases, (count for count in counts for _ in range(count)), strict=True)
            phrases = [repeat_phrase(phrase, count) for phrase, count in repeated]
        if not phrases:
            width = self.text_encoder.config.hidden_size
            return [torch.empty(0, 1, width)] * len(counts), [torch.empty(0, width)] * len(counts)
        states, pooled = self.prompt_encoder.encode_phrases(phrases)
        return states.split(counts), pooled.split(counts)


def load(options: MIGCOptions, context: LoadContext) -> MIGCProvider:
    """Load the base model and MIGC's blocks.

    Raises:
        CheckpointError: one of them is missing, damaged, or does not fit the other.
    """
    base = open_base(options.base, context, variant=options.variant, tokenizer=options.tokenizer)
    unet_component, vae_component = base.component("unet"), base.component("vae")
    tensors = read_tensors(resolve_reference(options.checkpoint, context))
    # The small file first: one that does not fit is refused before anything large is loaded.
    stored = read_blocks(tensors, unet_component.config)
    blocks = {layer: load_block(block, context) for layer, block in stored.items()}
    unet = load_unet(base, context)
    context.weight_files += [WeightFile("adapter", file) for file in tensors.files]
    return MIGCProvider(
        InstanceAttention(unet, blocks, FusionSchedule(options.migc_steps, options.naive_fuser_steps)),
        options.aug_phase_with_and,
        unet=unet,
        vae=load_vae(base, context),
        tokenizer=base.tokenizer(),
        text_encoder=load_text_encoder(base, context),
        latent_space=latent_space(unet_component.config, vae_component),
        noise_schedule=base.noise_schedule(),
    )


def inspect(options: MIGCOptions, context: LoadContext) -> ProviderReport:
    """Report what base and weights say about themselves, without building a network or fetching anything.

    Raises:
        CheckpointError: a reference leads nowhere, or to files that do not fit each other.
    """
    base = locate_base(options.base, context, variant=options.variant, tokenizer=options.tokenizer)
    report = report_base(base, options.base, context, tokenizer=options.tokenizer)
    path = locate_reference(options.checkpoint, context)
    if path is None:
        return replace(report, downloads=(*report.downloads, options.checkpoint))
    tensors = read_tensors(path)
    if base is not None:
        read_blocks(tensors, base.component("unet").config)
    adapter = tensor_infos(tensors, "adapter", context.dtype)
    return replace(report, components={**report.components, "adapter": adapter})


SPEC = ProviderSpec(
    name="migc",
    summary="MIGC: Stable Diffusion 1.x that draws every instance of a scene inside its box.",
    options=MIGCOptions,
    condition=MIGCCondition,
    condition_from_scene=condition_from_scene,
    load=load,
    inspect=inspect,
    contract="amdm_plugin_migc.contract:MIGCContract",
)
