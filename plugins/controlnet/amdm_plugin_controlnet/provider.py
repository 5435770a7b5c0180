"""The provider: Stable Diffusion with a ControlNet, looking at the control picture once per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import ControlNetModel
from diffusers.image_processor import VaeImageProcessor

from amdm_framework.devices import device_of
from amdm_framework.errors import InputError
from amdm_framework.models.attention import KeysAndValues, attending_to, by_rows, install_attention, project_text
from amdm_framework.models.components import latent_space, load_text_encoder, load_unet, load_vae, open_base
from amdm_framework.models.context import LoadContext
from amdm_framework.models.digests import tensor_infos
from amdm_framework.models.inspection import locate_base, report_base
from amdm_framework.models.prompt_encoding import PromptGroup
from amdm_framework.models.rows import Rows
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextConditioning
from amdm_framework.provider import ProviderReport, ProviderSpec, RunSettings, Step

from .checkpoint import check_controlnet, find_controlnet, load_controlnet, locate_controlnet, open_controlnet
from .condition import ControlNetCondition, condition_from_scene
from .options import ControlNetOptions


@dataclass(frozen=True)
class ControlledGroup(PromptGroup):
    """Images of a batch that one UNet call can serve: texts of one length, controlled at the same steps.

    Images that are controlled at no step form a `PromptGroup`.

    Attributes:
        steps: indices of the sampling steps at which the control picture acts.
        hints: (rows, C, H, W) control pictures as the ControlNet sees them, of [unconditional rows, conditional rows],
            or of conditional rows only.
        scales: (rows, 1, 1, 1) strengths, likewise.
        control_texts: keys and values of the texts for every cross-attention of the ControlNet, for every kind of call.
        residuals: what the ControlNet adds to the UNet in the call that is under way, as arguments of the UNet.
    """

    steps: frozenset[int]
    hints: torch.Tensor
    scales: torch.Tensor
    control_texts: Mapping[Rows, Sequence[KeysAndValues]]
    residuals: Mapping[str, Any] = field(default_factory=dict)


class ControlNetProvider(StableDiffusionProvider):
    """A Stable Diffusion UNet to whose skip connections a ControlNet adds what it makes of a control picture.

    Args:
        controlnet: is changed in place: its embedding of the control picture is taken out, and its attention layers
            become `InferenceAttention`.
        guess_mode: control the conditional half only, and weaken the outer layers.
        components: those of `StableDiffusionProvider`.
    """

    def __init__(self, controlnet: ControlNetModel, guess_mode: bool = False, **components: Any) -> None:
        super().__init__(**components)
        self.controlnet = controlnet
        self.control_attentions = install_attention(controlnet)
        # It depends on neither latents nor timestep: computed in `encode`, and handed in where the picture would be.
        self.control_embedding = controlnet.controlnet_cond_embedding
        controlnet.controlnet_cond_embedding = torch.nn.Identity().eval()
        # Channels are put in order in `encode` too; the network would do it to the embedding.
        self.reversed_channels = controlnet.config.controlnet_conditioning_channel_order == "bgr"
        controlnet.register_to_config(controlnet_conditioning_channel_order="rgb")
        # A network that pools its outputs was trained for this mode, and diffusers runs it in no other.
        self.guess_mode = guess_mode or controlnet.config.global_pool_conditions
        self.processor = VaeImageProcessor(self.latent_space.scale, do_normalize=False)

    def encode(self, conditions: Sequence[ControlNetCondition], settings: RunSettings) -> TextConditioning:
        """Encode prompts and control pictures.

        Raises:
            InputError: no condition, a picture that cannot be read, or a size that the autoencoder cannot give.
        """
        for image, condition in enumerate(conditions):
            if condition is None:
                raise InputError(f"image {image} has no condition: ControlNet needs a control picture")
        encoded = super().encode(conditions, settings)
        steps = [condition.active_steps(settings.num_inference_steps) for condition in conditions]
        controlled = [condition for condition, own in zip(conditions, steps, strict=True) if own]
        hints = self._hints(controlled, settings)
        groups: list[PromptGroup] = []
        for text in encoded.groups:
            rows = range(len(conditions)) if text.rows is None else text.rows.tolist()
            alike: dict[frozenset[int], list[int]] = {}
            for position, row in enumerate(rows):
                alike.setdefault(steps[row], []).append(position)
            for own_steps, positions in alike.items():
                group = text.select(positions)
                if own_steps:
                    chosen = [conditions[rows[position]] for position in positions]
                    own_hints = torch.stack([hints[id(condition.control)] for condition in chosen])
                    strengths = [condition.conditioning_scale for condition in chosen]
                    group = self._control(group, own_steps, own_hints, strengths, settings.guided)
                groups.append(group)
        return TextConditioning(groups, settings)

    def call_unet(
        self, latents: torch.Tensor, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> torch.Tensor:
        if isinstance(group, ControlledGroup) and step.index in group.steps:
            group = replace(group, residuals=self._residuals(latents, step, group, rows))
        return super().call_unet(latents, step, conditioning, group, rows)

    def unet_arguments(
        self, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> Mapping[str, Any]:
        return group.residuals if isinstance(group, ControlledGroup) else {}

    def modules(self) -> Mapping[str, torch.nn.Module]:
        return {**super().modules(), "controlnet": self.controlnet, "control_embedding": self.control_embedding}

    def _hints(self, conditions: Sequence[ControlNetCondition], settings: RunSettings) -> dict[int, torch.Tensor]:
        # (C, h, w) by the identity of a reference: one picture for many images of a batch is looked at once.
        device, dtype = device_of(self.control_embedding), self.control_embedding.conv_in.weight.dtype
        hints = {}
        for reference in {id(condition.control): condition.control for condition in conditions}.values():
            pixels = self.processor.preprocess(reference.open(), settings.height, settings.width).to(device, dtype)
            if self.reversed_channels:
                pixels = pixels.flip(1)
            hints[id(reference)] = self.control_embedding(pixels)[0]
        return hints

    def _control(
        self, text: PromptGroup, steps: frozenset[int], hints: torch.Tensor, strengths: Sequence[float], guided: bool
    ) -> ControlledGroup:
        scales = torch.tensor(strengths, device=hints.device, dtype=hints.dtype).view(-1, 1, 1, 1)
        both = guided and not self.guess_mode
        if both:
            hints, scales = torch.cat([hints, hints]), torch.cat([scales, scales])
        states = text.both if both else text.conditional
        layers = project_text(self.controlnet, self.control_attentions, states)
        control_texts = by_rows(layers, len(text.conditional), both)
        return ControlledGroup(**vars(text), steps=steps, hints=hints, scales=scales, control_texts=control_texts)

    def _residuals(self, latents: torch.Tensor, step: Step, group: ControlledGroup, rows: Rows) -> Mapping[str, Any]:
        # Of the rows that the UNet is about to evaluate; in guess mode the unconditional ones are left alone.
        if self.guess_mode and rows is Rows.UNCONDITIONAL:
            return {}
        asked = Rows.CONDITIONAL if self.guess_mode else rows
        images = len(group.conditional)
        sample = latents.to(self.controlnet.conv_in.weight.dtype)
        if asked is Rows.BOTH:
            sample = torch.cat([sample, sample])
        timesteps = torch.full((len(sample),), step.timestep, dtype=torch.int64, device=sample.device)
        with attending_to(self.control_attentions, group.control_texts[asked]):
            down, middle = self.controlnet(
                sample,
                timesteps,
                group.states(asked),
                asked.take(group.hints, images),
                guess_mode=self.guess_mode,
                return_dict=False,
            )
        # Not by the network, which knows one scale for all rows.
        scales = asked.take(group.scales, images)
        residuals = [residual * scales for residual in (*down, middle)]
        if asked is not rows:
            residuals = [torch.cat([torch.zeros_like(residual), residual]) for residual in residuals]
        return {
            "down_block_additional_residuals": tuple(residuals[:-1]),
            "mid_block_additional_residual": residuals[-1],
        }


def load(options: ControlNetOptions, context: LoadContext) -> ControlNetProvider:
    """Load the base model and the ControlNet.

    Raises:
        CheckpointError: one of them is missing, damaged or does not fit the other.
    """
    base = open_base(options.base, context, **_how(options))
    unet_component, vae_component = base.component("unet"), base.component("vae")
    space = latent_space(unet_component.config, vae_component)
    component = open_controlnet(find_controlnet(options.checkpoint, context), options.checkpoint)
    # Before anything large is loaded.
    check_controlnet(component, unet_component.config, space.scale)
    tokenizer = base.tokenizer()
    return ControlNetProvider(
        load_controlnet(component, context),
        options.guess_mode,
        unet=load_unet(base, context),
        vae=load_vae(base, context),
        tokenizer=tokenizer,
        text_encoder=load_text_encoder(base, context),
        latent_space=space,
        noise_schedule=base.noise_schedule(),
    )


def inspect(options: ControlNetOptions, context: LoadContext) -> ProviderReport:
    """Report what the files say, without loading a network or fetching anything.

    Where the base would have to be fetched first, the report says what all Stable Diffusion 1.x models share. The
    ControlNet is compared with the base where both are here.

    Raises:
        CheckpointError: a reference leads nowhere, or the files do not belong together.
    """
    base = locate_base(options.base, context, **_how(options))
    report = report_base(base, options.base, context, tokenizer=options.tokenizer)
    path = locate_controlnet(options.checkpoint, context)
    if path is None:
        return replace(report, downloads=(*report.downloads, options.checkpoint))
    component = open_controlnet(path, options.checkpoint)
    if base is not None:
        check_controlnet(component, base.component("unet").config, report.latent_space.scale)
    own = tensor_infos(component.tensors, "controlnet", context.dtype)
    return replace(report, components={**report.components, "controlnet": own})


def _how(options: ControlNetOptions) -> dict[str, Any]:
    return options.model_dump(include={"variant", "tokenizer"})


SPEC = ProviderSpec(
    name="controlnet",
    summary="ControlNet: a Stable Diffusion model that obeys a control picture (edges, depth, pose) beside the prompt.",
    options=ControlNetOptions,
    condition=ControlNetCondition,
    condition_from_scene=condition_from_scene,
    load=load,
    inspect=inspect,
    contract="amdm_plugin_controlnet.contract:ControlNetContract",
)
