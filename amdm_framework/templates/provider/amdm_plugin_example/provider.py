"""The provider: what is computed once per run, and what every call of the UNet gets of it.

Change: what `encode` computes, what `unet_arguments` hands over, which networks `modules` and `load` name, and what
`inspect` reports. The framework does the rest: prompts, guidance, batches, attention, decoding, moving, offloading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from amdm_framework.devices import device_of
from amdm_framework.models.checkpoints import (
    build_on_meta,
    load_strict,
    locate_reference,
    read_tensors,
    resolve_reference,
)
from amdm_framework.models.components import latent_space, load_text_encoder, load_unet, load_vae, open_base
from amdm_framework.models.context import LoadContext
from amdm_framework.models.digests import tensor_infos
from amdm_framework.models.inspection import locate_base, report_base
from amdm_framework.models.prompt_encoding import PromptGroup
from amdm_framework.models.rows import Rows
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextConditioning
from amdm_framework.provider import ProviderReport, ProviderSpec, RunSettings, Step, WeightFile

from .condition import ExampleCondition, condition_from_scene
from .network import LayoutNetwork, paint_layout
from .options import ExampleOptions


@dataclass(frozen=True)
class LayoutGroup(PromptGroup):
    """Images that one UNet call serves, because their prompts have one length, and their residuals.

    Attributes:
        residuals: for every kind of UNet call, one tensor per level of the UNet.
    """

    residuals: Mapping[Rows, Sequence[torch.Tensor]]


class ExampleProvider(StableDiffusionProvider):
    """A Stable Diffusion UNet to whose way down residuals of a layout are added.

    Args:
        layout_network: see `network.py`.
        share: of the steps in which boxes act.
        components: those of `StableDiffusionProvider`.
    """

    def __init__(self, layout_network: LayoutNetwork, share: float, **components: Any) -> None:
        super().__init__(**components)
        self.layout_network = layout_network
        self.share = share

    def encode(self, conditions: Sequence[Any], settings: RunSettings) -> TextConditioning:
        # None is an empty condition.
        given = [ExampleCondition() if condition is None else condition for condition in conditions]
        encoded = super().encode(given, settings)
        scales = torch.tensor([condition.scale for condition in given])[:, None, None, None]
        residuals = [level * scales.to(level) for level in self.layout_network(self._layouts(given, settings))]
        groups = [
            LayoutGroup(**vars(group), residuals=_by_rows([group.take(level) for level in residuals], settings.guided))
            for group in encoded.groups
        ]
        return replace(encoded, groups=groups)

    def unet_arguments(
        self, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> Mapping[str, Any]:
        assert isinstance(group, LayoutGroup)
        # As diffusers counts for residuals of adapters, rounded down: a share of 0.6 is the first 2 of 4 steps.
        if step.index >= int(self.share * step.count):
            return {}
        # A list of its own for every call: the UNet takes them out of it.
        return {"down_intrablock_additional_residuals": list(group.residuals[rows])}

    def modules(self) -> Mapping[str, torch.nn.Module]:
        return {**super().modules(), "layout_network": self.layout_network}

    def _layouts(self, conditions: Sequence[ExampleCondition], settings: RunSettings) -> torch.Tensor:
        # (B, D, h, w) in the device and dtype of the network; all phrases of the batch in one call of the text encoder.
        height, width = (side // self.latent_space.scale for side in (settings.height, settings.width))
        phrases = [instance.phrase for condition in conditions for instance in condition.instances]
        nothing = torch.zeros(0, self.text_encoder.config.hidden_size)
        features = self.prompt_encoder.pooled(phrases) if phrases else nothing
        own = torch.split(features, [len(condition.instances) for condition in conditions])
        layouts = [paint_layout(one.instances, part, height, width) for one, part in zip(conditions, own, strict=True)]
        return torch.stack(layouts).to(device_of(self.layout_network), self.layout_network.enter.weight.dtype)


def _by_rows(conditional: Sequence[torch.Tensor], guided: bool) -> Mapping[Rows, Sequence[torch.Tensor]]:
    # A guided call evaluates [all unconditional rows, all conditional rows]; the former know of no boxes.
    if not guided:
        return {Rows.CONDITIONAL: conditional}
    both = [torch.cat([torch.zeros_like(level), level]) for level in conditional]
    return {rows: [rows.take(level, len(level) // 2) for level in both] for rows in Rows}


def load(options: ExampleOptions, context: LoadContext) -> ExampleProvider:
    """Load the base model and the layout network.

    Raises:
        CheckpointError: one of them is missing, damaged, or does not fit the other.
    """
    base = open_base(options.base, context)
    unet_component, vae_component = base.component("unet"), base.component("vae")
    sizes = unet_component.config["cross_attention_dim"], unet_component.config["block_out_channels"]
    tensors = read_tensors(resolve_reference(options.checkpoint, context))
    # The small file first: one that does not fit is refused, weight by weight, before anything large is loaded.
    layout_network = load_strict(build_on_meta(lambda: LayoutNetwork(*sizes)), tensors, context)
    context.weight_files += [WeightFile("layout_network", file) for file in tensors.files]
    return ExampleProvider(
        layout_network,
        options.share,
        unet=load_unet(base, context),
        vae=load_vae(base, context),
        tokenizer=base.tokenizer(),
        text_encoder=load_text_encoder(base, context),
        latent_space=latent_space(unet_component.config, vae_component),
        noise_schedule=base.noise_schedule(),
    )


def inspect(options: ExampleOptions, context: LoadContext) -> ProviderReport:
    """Report what base and weights say about themselves, for `amdm check`: nothing is built, nothing is fetched."""
    base = locate_base(options.base, context)
    report = report_base(base, options.base, context)
    path = locate_reference(options.checkpoint, context)
    if path is None:
        return replace(report, downloads=(*report.downloads, options.checkpoint))
    own = {"layout_network": tensor_infos(read_tensors(path), "layout_network", context.dtype)}
    return replace(report, components={**report.components, **own})


SPEC = ProviderSpec(
    name="example",
    summary="Example: a Stable Diffusion model that is shown where the scene's instances stand.",
    options=ExampleOptions,
    condition=ExampleCondition,
    condition_from_scene=condition_from_scene,
    load=load,
    inspect=inspect,
    contract="amdm_plugin_example.contract:ExampleContract",
)
