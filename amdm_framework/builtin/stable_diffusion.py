"""The built-in provider `stable_diffusion`: text to image with any Stable Diffusion 1.x or 2.x model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from ..latents import PredictionType
from ..models.checkpoints import locate_reference, resolve_reference
from ..models.components import (
    latent_space,
    load_text_encoder,
    load_unet,
    load_vae,
    load_vae_component,
    open_base,
    open_vae,
)
from ..models.context import LoadContext
from ..models.inspection import locate_base, report_base
from ..models.lora import changed_weights, merge_loras
from ..models.stable_diffusion import StableDiffusionProvider, TextCondition
from ..provider import CheckpointReference, ProviderReport, ProviderSpec, WeightFile
from ..scene import Scene, StrictModel


class Lora(StrictModel):
    """A LoRA file and how much of it."""

    checkpoint: CheckpointReference = Field(description="Reference to a LoRA file.")
    scale: float = Field(default=1.0, allow_inf_nan=False, description="Strength; 0 is none.")


class StableDiffusionOptions(StrictModel):
    """Options of the `stable_diffusion` provider."""

    checkpoint: CheckpointReference = Field(
        description="Reference to the model: a diffusers folder, a single .safetensors or .ckpt file, hf://owner/repo.",
    )
    vae: CheckpointReference | None = Field(
        default=None, description="Reference to another autoencoder than the model's own."
    )
    loras: tuple[Lora, ...] = Field(default=(), description="LoRA files merged into this member only.")
    variant: str | None = Field(default=None, description="Variant of the weight files in a folder, e.g. fp16.")
    tokenizer: CheckpointReference | None = Field(
        default=None, description="Single file only: reference to a folder with its tokenizer (default: that of CLIP)."
    )
    prediction_type: PredictionType | None = Field(
        default=None, description="Single file only: what the UNet predicts, where it is not the usual."
    )


def condition_from_scene(scene: Scene, options: StableDiffusionOptions) -> TextCondition:
    """Take the caption and what the picture should not show."""
    return TextCondition(prompt=scene.caption, negative=scene.negative)


def load(options: StableDiffusionOptions, context: LoadContext) -> StableDiffusionProvider:
    """Load the model on the context's device and in its dtype.

    Raises:
        CheckpointError: a reference leads nowhere, or to something else than such a model.
    """
    base = open_base(options.checkpoint, context, **_how(options))
    tokenizer = base.tokenizer()
    loras = [(resolve_reference(lora.checkpoint, context), lora.scale) for lora in options.loras]
    unet_config = base.component("unet").config
    vae_component = open_vae(options.vae, context) if options.vae else base.component("vae")
    space = latent_space(unet_config, vae_component)
    schedule = base.noise_schedule()
    unet = load_unet(base, context)
    text_encoder = load_text_encoder(base, context)
    if loras:
        merge_loras(unet, text_encoder, loras)
        context.weights.share(unet)
        context.weights.share(text_encoder)
        context.weight_files += [WeightFile("lora", path) for path, _ in loras]
    vae = load_vae_component(vae_component, context) if options.vae else load_vae(base, context)
    return StableDiffusionProvider(unet, vae, tokenizer, text_encoder, space, schedule)


def inspect(options: StableDiffusionOptions, context: LoadContext) -> ProviderReport:
    """Report what the model's files say, without building a network or fetching anything.

    Of a model that would have to be fetched first, the report says what all Stable Diffusion 1.x models share.

    Raises:
        CheckpointError: a reference leads nowhere, or to something else than such a model.
    """
    wanted = [*filter(None, [options.vae]), *(lora.checkpoint for lora in options.loras)]
    located = {reference: locate_reference(reference, context) for reference in wanted}
    vae = open_vae(options.vae, context) if options.vae and located[options.vae] is not None else None
    base = locate_base(options.checkpoint, context, **_how(options))
    report = report_base(base, options.checkpoint, context, tokenizer=options.tokenizer, vae=vae)
    downloads = (*report.downloads, *(reference for reference, path in located.items() if path is None))
    if base is None:
        return replace(report, downloads=downloads)
    components = dict(report.components)
    for lora in options.loras:
        if (file := located[lora.checkpoint]) is not None:
            changed = changed_weights(file)
            merged = f"{file} {lora.scale}"
            for name, weights in changed.items():
                components[name] = [
                    replace(info, identity=f"{info.identity} {merged}") if weight in weights else info
                    for weight, info in zip(base.component(name).tensors, components[name], strict=True)
                ]
    return replace(report, components=components, downloads=downloads)


def _how(options: StableDiffusionOptions) -> dict[str, Any]:
    return options.model_dump(include={"variant", "tokenizer", "prediction_type"})


SPEC = ProviderSpec(
    name="stable_diffusion",
    summary="Text to image with any Stable Diffusion 1.x or 2.x model.",
    options=StableDiffusionOptions,
    condition=TextCondition,
    condition_from_scene=condition_from_scene,
    load=load,
    inspect=inspect,
    contract="amdm_framework.builtin.contract:StableDiffusionContract",
)
