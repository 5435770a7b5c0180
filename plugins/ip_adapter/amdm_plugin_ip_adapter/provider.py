"""The provider: Stable Diffusion with an IP-Adapter, encoding reference pictures once per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from transformers import CLIPVisionModelWithProjection

from amdm_framework.devices import device_of
from amdm_framework.errors import InputError
from amdm_framework.models.checkpoints import (
    TensorMapping,
    build_on_meta,
    read_tensors,
    resolve_reference,
)
from amdm_framework.models.components import (
    latent_space,
    load_text_encoder,
    load_unet,
    load_vae,
    open_base,
)
from amdm_framework.models.config_checks import building
from amdm_framework.models.context import LoadContext
from amdm_framework.models.digests import tensor_infos
from amdm_framework.models.inspection import locate_base, report_base
from amdm_framework.models.prompt_encoding import PromptGroup
from amdm_framework.models.references import locate_weights
from amdm_framework.models.rows import Rows
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextConditioning
from amdm_framework.models.stored_components import Component
from amdm_framework.provider import ProviderReport, ProviderSpec, RunSettings, Step, WeightFile

from .checkpoint import Adapter, AdapterKind, attach_adapter, check_adapter, cross_attention_layers
from .condition import IPAdapterCondition, condition_from_scene
from .image_encoder import (
    Fit,
    build_image_encoder,
    find_image_encoder,
    image_states,
    load_image_encoder,
    open_image_encoder,
    preprocess,
    unconditional_states,
)
from .options import IPAdapterOptions
from .reference_attention import AttendedReferences, attending_to_references, project_references
from .regions import check_size, region_masks

_PICTURES_AT_ONCE = 8


@dataclass(frozen=True)
class ReferenceGroup(PromptGroup):
    """Images of a batch that one UNet call can serve: texts of one length, equally many references, equal scales.

    References of one image share one softmax, so an image with fewer cannot be padded to one with more; and a layer has
    one scale at a time.

    Attributes:
        tokens: of reference pictures of [unconditional rows, conditional rows], or of conditional rows only.
        references: what each cross-attention attends to, for every kind of UNet call.
    """

    tokens: torch.Tensor
    references: Mapping[Rows, Sequence[Sequence[AttendedReferences]]]


class IPAdapterProvider(StableDiffusionProvider):
    """A Stable Diffusion UNet whose cross-attention layers attend to tokens of reference pictures as well.

    Args:
        adapter: what `attach_adapter` returned for the UNet.
        image_encoder: the CLIP vision model the adapter was trained with.
        fit: how pictures are made square.
        components: those of `StableDiffusionProvider`.
    """

    def __init__(
        self, adapter: Adapter, image_encoder: CLIPVisionModelWithProjection, fit: Fit, **components: Any
    ) -> None:
        super().__init__(**components)
        self.adapter = adapter
        self.image_encoder = image_encoder
        self.fit = fit
        self._unconditional_tokens: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def encode(self, conditions: Sequence[IPAdapterCondition], settings: RunSettings) -> TextConditioning:
        """Encode prompts and reference pictures.

        Raises:
            InputError: no condition, a picture that cannot be read, a block without cross-attention, a size that regions
                do not fit.
        """
        for image, condition in enumerate(conditions):
            if condition is None:
                raise InputError(f"image {image} has no condition: IP-Adapter needs a reference picture")
        references = [reference for condition in conditions for reference in condition.references]
        opened = {identity: one.open() for identity, one in {id(one): one for one in references}.items()}
        pictures = [opened[id(reference)] for reference in references]
        masks = [region_masks(one.references, settings.height, settings.width) for one in conditions]
        if any(mask is not None for mask in masks):
            levels = len(self.unet.config.block_out_channels)
            check_size(settings.height, settings.width, self.latent_space.scale, levels)
        scales = [condition.strength.layer_scales(self.adapter.layers) for condition in conditions]
        tokens = torch.split(self._tokens(pictures), [len(condition.references) for condition in conditions])
        groups: list[PromptGroup] = []
        for text in super().encode(conditions, settings).groups:
            rows = range(len(conditions)) if text.rows is None else text.rows.tolist()
            alike: dict[Any, list[int]] = {}
            for position, row in enumerate(rows):
                alike.setdefault((len(tokens[row]), masks[row] is None, scales[row]), []).append(position)
            for positions in alike.values():
                chosen = [rows[position] for position in positions]
                own_tokens = torch.stack([tokens[row] for row in chosen])
                own_masks = [mask for row in chosen if (mask := masks[row]) is not None]
                group = self._reference_group(
                    text.select(positions), own_tokens, own_masks, scales[chosen[0]], settings
                )
                groups.append(group)
        return TextConditioning(groups, settings)

    def unet_arguments(
        self, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> Mapping[str, Any]:
        assert isinstance(group, ReferenceGroup)
        # The UNet of diffusers asks for them and hands them to its attentions, which attend to `references` instead.
        return {"added_cond_kwargs": {"image_embeds": [rows.take(group.tokens, len(group.conditional))]}}

    def call_unet(
        self, latents: torch.Tensor, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> torch.Tensor:
        assert isinstance(group, ReferenceGroup)
        with attending_to_references(self.adapter.processors, group.references[rows]):
            return super().call_unet(latents, step, conditioning, group, rows)

    def modules(self) -> Mapping[str, torch.nn.Module]:
        return {
            **super().modules(),
            "image_encoder": self.image_encoder,
            "image_projection": self.adapter.projection,
        }

    def _reference_group(
        self,
        text: PromptGroup,
        tokens: torch.Tensor,
        masks: Sequence[torch.Tensor],
        scales: Sequence[float],
        settings: RunSettings,
    ) -> ReferenceGroup:
        # Of b images with (b, N, T, D) tokens and b masks (N, H, W), or none.
        images = len(tokens)
        if settings.guided:
            tokens = torch.cat([self._tokens_of_no_picture().expand_as(tokens), tokens])
            masks = [*masks, *masks]
        layers = project_references(
            self.unet,
            dict(zip(self.adapter.layers, scales, strict=True)),
            tokens,
            masks,
            (settings.height // self.latent_space.scale, settings.width // self.latent_space.scale),
        )
        references = {
            rows: [[one.take(rows, images) for one in layer] for layer in layers]
            for rows in (Rows if settings.guided else (Rows.CONDITIONAL,))
        }
        return ReferenceGroup(**vars(text), tokens=tokens, references=references)

    def _tokens(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        # One picture for many images of a batch is prepared once, and equal ones are encoded once.
        distinct = {id(picture): picture for picture in pictures}
        places = {identity: place for place, identity in enumerate(distinct)}
        pixels = preprocess(list(distinct.values()), self.image_encoder.config.image_size, self.fit)
        unique, inverse = torch.unique(pixels, dim=0, return_inverse=True)
        inverse = inverse[[places[id(picture)] for picture in pictures]]
        states = [image_states(self.image_encoder, self.adapter.kind, some) for some in unique.split(_PICTURES_AT_ONCE)]
        tokens: torch.Tensor = self.adapter.projection(torch.cat(states))
        return tokens[inverse.to(tokens.device)]

    def _tokens_of_no_picture(self) -> torch.Tensor:
        # (1, T, D), a constant of the model: with a plus adapter it takes a whole pass of the image encoder.
        place = device_of(self.image_encoder), self.image_encoder.visual_projection.weight.dtype
        if place not in self._unconditional_tokens:
            states = unconditional_states(self.image_encoder, self.adapter.kind)
            self._unconditional_tokens[place] = self.adapter.projection(states)
        return self._unconditional_tokens[place]


def load(options: IPAdapterOptions, context: LoadContext) -> IPAdapterProvider:
    """Load the base model, the image encoder and the adapter.

    Raises:
        CheckpointError: one of them is missing, damaged or does not fit the others.
        InputError: a preset or block scale that does not fit the base.
    """
    base = open_base(options.base, context, **_how(options))
    encoder_path = find_image_encoder(options.image_encoder, context)
    encoder_component = open_image_encoder(encoder_path, options.image_encoder)
    encoder = build_image_encoder(encoder_component)
    tensors = read_tensors(resolve_reference(options.checkpoint, context))
    unet_component, vae_component = base.component("unet"), base.component("vae")
    # Before anything large is loaded.
    kind = _check(options, unet_component, tensors, encoder)
    tokenizer = base.tokenizer()
    unet = load_unet(base, context)
    adapter = attach_adapter(unet, tensors, kind, context)
    context.weight_files += [WeightFile("adapter", file) for file in tensors.files]
    return IPAdapterProvider(
        adapter,
        load_image_encoder(encoder, encoder_component, context),
        options.fit,
        unet=unet,
        vae=load_vae(base, context),
        tokenizer=tokenizer,
        text_encoder=load_text_encoder(base, context),
        latent_space=latent_space(unet_component.config, vae_component),
        noise_schedule=base.noise_schedule(),
    )


def inspect(options: IPAdapterOptions, context: LoadContext) -> ProviderReport:
    """Report what the files say, without loading a network or fetching anything.

    Where the base would have to be fetched first, the report says what all Stable Diffusion 1.x models share. The
    adapter is compared with base and image encoder where all three are here.

    Raises:
        CheckpointError: a reference leads nowhere, or the files do not belong together.
        InputError: a preset or block scale that does not fit the base.
    """
    base = locate_base(options.base, context, **_how(options))
    report = report_base(base, options.base, context, tokenizer=options.tokenizer)
    encoder_path = locate_weights(options.image_encoder, context)
    adapter_path = locate_weights(options.checkpoint, context)
    wanted = {options.checkpoint: adapter_path, options.image_encoder: encoder_path}
    absent = [reference for reference, path in wanted.items() if path is None]
    stored = {}
    if encoder_path is not None:
        stored["image_encoder"] = open_image_encoder(encoder_path, options.image_encoder)
    if adapter_path is not None:
        stored["adapter"] = Component({}, read_tensors(adapter_path))
    if base is not None and not absent:
        encoder = build_image_encoder(stored["image_encoder"])
        _check(options, base.component("unet"), stored["adapter"].tensors, encoder)
    own = {name: tensor_infos(part.tensors, name, context.dtype) for name, part in stored.items()}
    return replace(report, components={**report.components, **own}, downloads=(*report.downloads, *absent))


def _check(
    options: IPAdapterOptions, unet: Component, tensors: TensorMapping, encoder: CLIPVisionModelWithProjection
) -> AdapterKind:
    # That base, adapter and image encoder belong together, and that the base has the blocks the options name.
    with building("UNet", unet.tensors.source):
        empty = build_on_meta(lambda: UNet2DConditionModel.from_config(dict(unet.config)))
    kind = check_adapter(tensors, tensors.source, empty, encoder.config)
    options.strength().layer_scales(cross_attention_layers(empty))
    return kind


def _how(options: IPAdapterOptions) -> dict[str, Any]:
    return options.model_dump(include={"variant", "tokenizer"})


SPEC = ProviderSpec(
    name="ip_adapter",
    summary="IP-Adapter: a Stable Diffusion model that draws after reference pictures as well as a prompt.",
    options=IPAdapterOptions,
    condition=IPAdapterCondition,
    condition_from_scene=condition_from_scene,
    load=load,
    inspect=inspect,
    contract="amdm_plugin_ip_adapter.contract:IPAdapterContract",
)
