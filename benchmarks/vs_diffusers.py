"""One model alone, without aggregation, against diffusers' own pipeline of it: same weights, steps, grid and guidance.

    python benchmarks/vs_diffusers.py            the shapes zoo's size, and Stable Diffusion 1.5 of random weights
    python benchmarks/vs_diffusers.py --json     one JSON object
    python benchmarks/vs_diffusers.py --quick    the shapes zoo's size alone

Whole calls are timed, from prompts to latents; figures are our time over diffusers'.

- `stable_diffusion`: `StableDiffusionPipeline` with `DDIMScheduler`.
- `ip_adapter`: the same after `load_ip_adapter`, with one reference picture. The image encoder runs in both.
- `gated`: `StableDiffusionGLIGENPipeline` against the InteractDiffusion provider. Both have the same UNet with the same
  gated self-attentions, and attend to 30 grounding tokens at every step: GLIGEN's for 30 boxes, InteractDiffusion's
  for 10 interactions (subject, action and object of each). What turns boxes into tokens differs, and so do the latents.

The latents of the first two are compared with diffusers', so that the times are those of the same computation.
"""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    StableDiffusionGLIGENPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from full_size_files import IMAGE_ENCODER
from measuring import arguments, ratio, report, side_by_side
from PIL import Image
from random_models import FULL, PROMPT, TINY, Size, random_providers
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from amdm_framework.composition import SamplerSettings
from amdm_framework.models.checkpoints import build_on_meta
from amdm_framework.models.context import LoadContext
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextCondition
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.strategies.single import Single
from amdm_plugin_interactdiffusion.condition import InteractDiffusionCondition
from amdm_plugin_interactdiffusion.fuser import install_fusers
from amdm_plugin_interactdiffusion.grounding_tokens import GroundingTokenizer
from amdm_plugin_interactdiffusion.provider import InteractDiffusionProvider
from amdm_plugin_ip_adapter.checkpoint import attach_adapter
from amdm_plugin_ip_adapter.condition import IPAdapterCondition, ReferencePicture
from amdm_plugin_ip_adapter.provider import IPAdapterProvider
from amdm_shapes_zoo import architecture

sys.path.append(str(Path(__file__).parents[1] / "plugins" / "ip_adapter" / "tests"))

from amdm_plugin_ip_adapter.tiny_model import adapter_tensors

TARGET = 1.00
BATCHES = (1, 4)
GUIDANCE_SCALE = 7.5
LARGEST_DIFFERENCE = {torch.float32: 1e-4, torch.float16: 5e-2}
"""Of final latents, relative to the largest of them: beyond it, it was not the same computation."""

TINY_STEPS, TINY_REPEATS = 20, 15
PICTURE_ON_CPU = replace(FULL, description="Stable Diffusion 1.5, 192x192 pixels", picture=192)
STEPS_ON_CPU, STEPS_ON_GPU = 3, 50
REPEATS_ON_CPU = {1: 3, 4: 1}
REPEATS_ON_GPU = {1: 5, 4: 5}
GLIGEN_TOKENS = 30
PHRASES = ("a red circle", "a blue square")
BOXES = ((0.1, 0.1, 0.5, 0.6), (0.4, 0.3, 0.9, 0.9))


@dataclass(frozen=True)
class Parts:
    """What all models of a size are made of.

    Attributes:
        unet_config: of a UNet over four latent channels, all that GLIGEN's pipeline knows.
        ours: arguments of our providers, but for the UNet.
        theirs: arguments of diffusers' pipelines, but for the UNet.
        device: of the networks.
        dtype: of the networks.
    """

    unet_config: Mapping[str, Any]
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class Case:
    """One model in both forms.

    Attributes:
        provider: ours.
        pipeline: diffusers'.
        condition: of every image of ours.
        further: arguments of diffusers' pipeline beside the prompt, for a batch size.
        equal: whether both compute the same latents.
    """

    provider: StableDiffusionProvider
    pipeline: DiffusionPipeline
    condition: Any
    further: Mapping[str, Any]
    equal: bool


def main() -> None:
    """Measure every case in turns with diffusers, and print."""
    options = arguments(__doc__).parse_args()
    device = torch.device(options.device)
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    figures: dict[str, float] = {}
    details: dict[str, Any] = {}
    repeats = dict.fromkeys(BATCHES, 1 if options.quick else TINY_REPEATS)
    model = f"`tiny`: {TINY.description}, {TINY_STEPS} steps, {TINY_REPEATS} repeats"
    measure("tiny", TINY, TINY_STEPS, repeats, device, dtype, figures, details)
    if not options.quick:
        on_gpu = device.type == "cuda"
        size, steps = (FULL, STEPS_ON_GPU) if on_gpu else (PICTURE_ON_CPU, STEPS_ON_CPU)
        repeats = REPEATS_ON_GPU if on_gpu else REPEATS_ON_CPU
        measure("full", size, steps, repeats, device, dtype, figures, details)
        counts = " and ".join(f"{count} at batch {batch}" for batch, count in repeats.items())
        model += f"; `full`: {size.description}, {steps} steps, repeats: {counts}"
    report(options, figures, dict.fromkeys(figures, TARGET), {"model": model, "seconds": details})


def measure(
    prefix: str,
    size: Size,
    steps: int,
    repeats: Mapping[int, int],
    device: torch.device,
    dtype: torch.dtype,
    figures: dict[str, float],
    details: dict[str, Any],
) -> None:
    """Time every kind of model at one size."""
    parts = shared_parts(size, device, dtype)
    for kind, build in CASES.items():
        case = build(parts)
        case.pipeline.set_progress_bar_config(disable=True)
        sampler = SamplerSettings(steps=steps, height=size.picture, width=size.picture)
        ours = AMDMPipeline([case.provider], Single(Single.options()), sampler=sampler)
        ours.set_progress_bar_config(disable=True)
        for batch, times in repeats.items():
            runs = both(ours, case, batch, size.picture, steps)
            if case.equal:
                compare(f"{prefix}.{kind}", runs)
            else:
                for run in runs.values():
                    run()
            seconds = side_by_side(runs, times, device, warm_up=0)
            figures[f"{prefix}.{kind}.batch_{batch}"] = ratio(seconds, "ours", "diffusers")
            details[f"{prefix}.{kind}.batch_{batch}"] = seconds
        del case, ours, runs
        gc.collect()


def both(ours: AMDMPipeline, case: Case, batch: int, picture: int, steps: int) -> dict[str, Callable[[], torch.Tensor]]:
    """Return a whole run of either side, from the same initial latents."""
    side = picture // case.provider.latent_space.scale
    shape = (batch, case.provider.latent_space.channels, side, side)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(ours.device)

    def run_ours() -> torch.Tensor:
        return ours(conditions=[[case.condition] * batch], latents=latents, output_type="latent").latents

    def run_theirs() -> torch.Tensor:
        images: torch.Tensor = case.pipeline(
            [PROMPT] * batch,
            negative_prompt=[""] * batch,
            latents=latents.to(ours.dtype),
            num_inference_steps=steps,
            guidance_scale=GUIDANCE_SCALE,
            height=picture,
            width=picture,
            output_type="latent",
            **case.further,
        ).images
        return images

    return {"ours": run_ours, "diffusers": run_theirs}


def compare(name: str, runs: Mapping[str, Callable[[], torch.Tensor]]) -> None:
    """Check that both sides draw the same.

    Raises:
        RuntimeError: they do not.
    """
    ours, theirs = (runs[side]() for side in ("ours", "diffusers"))
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    if not difference <= LARGEST_DIFFERENCE[theirs.dtype]:
        raise RuntimeError(f"{name}: latents differ from diffusers' by {difference:.1e} of the largest")


def stable_diffusion(parts: Parts) -> Case:
    """The plain model."""
    unet = random_unet(parts)
    return Case(
        provider=StableDiffusionProvider(unet=twin(unet), **parts.ours),
        pipeline=StableDiffusionPipeline(unet=unet, **parts.theirs, image_encoder=None),
        condition=TextCondition(prompt=PROMPT),
        further={},
        equal=True,
    )


def ip_adapter(parts: Parts) -> Case:
    """The model with a base adapter, and one reference picture for the whole batch."""
    unet = random_unet(parts)
    with torch.device(parts.device):
        if parts.unet_config["cross_attention_dim"] == architecture.TEXT_WIDTH:
            encoder = frozen(architecture.build_image_encoder(), parts.dtype)
        else:
            encoder = frozen(CLIPVisionModelWithProjection(CLIPVisionConfig(**IMAGE_ENCODER)), parts.dtype)
    tensors = adapter_tensors(unet, "base", encoder.config.to_dict())
    own_unet = twin(unet)
    adapter = attach_adapter(own_unet, dict(tensors), "base", LoadContext(parts.device, parts.dtype))
    side = encoder.config.image_size
    extractor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    arguments_of_theirs = {**parts.theirs, "feature_extractor": extractor, "image_encoder": encoder}
    pipeline = StableDiffusionPipeline(unet=unet, **arguments_of_theirs)
    nested: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        nested[part][rest] = tensor.to(parts.device, parts.dtype)
    pipeline.load_ip_adapter(nested, subfolder="", weight_name="", image_encoder_folder=None)
    picture = Image.effect_noise((256, 256), 60).convert("RGB")
    return Case(
        provider=IPAdapterProvider(adapter, encoder, "crop", unet=own_unet, **parts.ours),
        pipeline=pipeline,
        condition=IPAdapterCondition(prompt=PROMPT, references=(ReferencePicture(image=picture),)),
        further={"ip_adapter_image": picture},
        equal=True,
    )


def gated(parts: Parts) -> Case:
    """The model with gated self-attentions that attend to 30 grounding tokens."""
    unet = random_unet(parts, attention_type="gated")
    width = unet.config.cross_attention_dim
    weights = {name: value for name, value in unet.state_dict().items() if not name.startswith("position_net.")}
    own_unet = build_on_meta(lambda: UNet2DConditionModel(**parts.unet_config))
    install_fusers(own_unet, width)
    own_unet.load_state_dict(weights, assign=True)
    with torch.device(parts.device):
        tokenizer = GroundingTokenizer(phrase_width=width, token_width=width, slots=GLIGEN_TOKENS // 3)
    interaction = {"subject": PHRASES[0], "action": "beside", "object": PHRASES[1]}
    boxes = {"subject_box": BOXES[0], "object_box": BOXES[1]}
    return Case(
        provider=InteractDiffusionProvider(
            frozen(tokenizer, parts.dtype), unet=frozen(own_unet, parts.dtype), **parts.ours
        ),
        pipeline=StableDiffusionGLIGENPipeline(unet=unet, **parts.theirs),
        condition=InteractDiffusionCondition.model_validate({"prompt": PROMPT, "interactions": [interaction | boxes]}),
        further={
            "gligen_phrases": list(PHRASES),
            "gligen_boxes": [list(box) for box in BOXES],
            "gligen_scheduled_sampling_beta": 1.0,
        },
        equal=False,
    )


CASES: Mapping[str, Callable[[Parts], Case]] = {
    "stable_diffusion": stable_diffusion,
    "ip_adapter": ip_adapter,
    "gated": gated,
}


def shared_parts(size: Size, device: torch.device, dtype: torch.dtype) -> Parts:
    """Make the parts of a size."""
    (made,) = random_providers(size, 1, device, dtype)
    common = {"vae": made.vae, "tokenizer": made.prompt_encoder.tokenizer, "text_encoder": made.text_encoder}
    space = replace(made.latent_space, channels=4)
    return Parts(
        unet_config={**made.unet.config, "in_channels": 4, "out_channels": 4},
        ours={**common, "latent_space": space, "noise_schedule": made.noise_schedule},
        theirs={
            **common,
            "scheduler": DDIMScheduler.from_config(architecture.build_scheduler().config),
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        },
        device=device,
        dtype=dtype,
    )


def random_unet(parts: Parts, **others: Any) -> UNet2DConditionModel:
    """Return a UNet of random weights, as diffusers' pipeline uses it."""
    torch.manual_seed(0)
    with torch.device(parts.device):
        return frozen(UNet2DConditionModel(**{**parts.unet_config, **others}), parts.dtype)


def twin(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Return another network with the same weights, not copies of them."""
    other = build_on_meta(lambda: UNet2DConditionModel(**unet.config))
    other.load_state_dict(unet.state_dict(), assign=True)
    return frozen(other, unet.dtype)


def frozen(module: torch.nn.Module, dtype: torch.dtype) -> Any:
    """Return a network ready for inference; past diffusers' own `to`, which warns of casts."""
    return torch.nn.Module.to(module, dtype).eval().requires_grad_(False)


if __name__ == "__main__":
    main()
