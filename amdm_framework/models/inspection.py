"""What a stored Stable Diffusion model says about itself, without a network being built or anything being fetched.

base = locate_base(options.base, context)                     # None where it would have to be fetched first
report = report_base(base, options.base, context)             # for a plugin's `inspect`, to which it adds its own
"""

from __future__ import annotations

from ..latents import LatentSpace, NoiseSchedule, PredictionType
from ..provider import ProviderReport
from .components import (
    COMPONENTS,
    DEFAULT_TOKENIZER,
    BaseCheckpoint,
    base_at,
    default_size,
    latent_space,
)
from .context import LoadContext
from .digests import tensor_infos
from .ldm_configs import SCHEDULER_CONFIG
from .references import locate_reference, locate_weights
from .stored_components import Component
from .tensor_files import PICKLE_SUFFIXES

_FETCHED_TOKENIZER = ("vocab.json", "tokenizer.json", "tokenizer/vocab.json", "tokenizer/tokenizer.json")


def locate_base(
    reference: str,
    context: LoadContext,
    *,
    variant: str | None = None,
    tokenizer: str | None = None,
    prediction_type: PredictionType | None = None,
) -> BaseCheckpoint | None:
    """Open a model that is on this machine; arguments as in `components.open_base`.

    Returns:
        The model, or None where it would have to be fetched.

    Raises:
        CheckpointError: the reference leads nowhere, or to something else.
    """
    path = locate_weights(reference, context, COMPONENTS, variant)
    if path is None:
        return None
    return base_at(path, reference, context, variant=variant, tokenizer=tokenizer, prediction_type=prediction_type)


def report_base(
    base: BaseCheckpoint | None,
    reference: str,
    context: LoadContext,
    *,
    tokenizer: str | None = None,
    vae: Component | None = None,
) -> ProviderReport:
    """Report what a model's files say.

    Of a model that would have to be fetched first, the report says what all Stable Diffusion 1.x models share.

    Args:
        base: what `locate_base` returned.
        reference: to the model.
        context: dtype of the run, and where references lead.
        tokenizer: as in `components.open_base`.
        vae: an autoencoder that takes the place of the model's own.

    Raises:
        CheckpointError: the files do not fit each other.
    """
    absent = absent_tokenizer(reference, context, tokenizer)
    if base is None:
        assumed = LatentSpace(channels=4, scale=8, scaling_factor=0.18215)
        schedule = NoiseSchedule.from_scheduler_config(SCHEDULER_CONFIG)
        return ProviderReport(assumed, schedule, (512, 512), downloads=(reference, *absent))
    parts = {name: base.component(name) for name in COMPONENTS}
    if vae is not None:
        parts["vae"] = vae
    space = latent_space(parts["unet"].config, parts["vae"])
    return ProviderReport(
        space,
        base.noise_schedule(),
        default_size(parts["unet"].config, space.scale),
        {name: tensor_infos(part.tensors, name, context.dtype) for name, part in parts.items()},
        absent,
    )


def absent_tokenizer(reference: str, context: LoadContext, tokenizer: str | None = None) -> tuple[str, ...]:
    """Return the reference of the tokenizer that a single file is used with and that would be fetched: none or one.

    Args:
        reference: to the model; a folder has its own tokenizer.
        context: where references lead.
        tokenizer: as in `components.open_base`.

    Raises:
        CheckpointError: a reference leads nowhere.
    """
    path = locate_reference(reference, context)
    if path is None:
        single = reference.partition("@")[0].endswith((".safetensors", *PICKLE_SUFFIXES))
    else:
        single = path.is_file() and (tokenizer is not None or not (path.parent / "tokenizer").is_dir())
    wanted = tokenizer or DEFAULT_TOKENIZER
    return (wanted,) if single and locate_reference(wanted, context, _FETCHED_TOKENIZER) is None else ()
