"""How strongly reference pictures act: one number, named presets, or a weight per attention block."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from amdm_framework.errors import InputError, Problem, did_you_mean
from amdm_framework.scene import StrictModel

Weight = Annotated[float, Field(allow_inf_nan=False)]
BlockWeights = dict[str, Weight | list[Weight]]
Preset = Literal[
    "style",
    "style_layout",
    "style_transfer",
    "strong_style_transfer",
    "composition",
    "style_and_composition",
]


class BlockScales(StrictModel):
    """A weight per attention block, in the form of diffusers' `set_ip_adapter_scale`. What is not named gets 0."""

    down: Weight | BlockWeights = Field(
        default=0.0, description="One weight, or `block_i` -> one weight or a list with one per attention."
    )
    mid: Weight = Field(default=0.0, description="The weight of the middle block.")
    up: Weight | BlockWeights = Field(default=0.0, description="As `down`, for the up blocks.")


_STYLE_TRANSFER = BlockScales(down={"block_0": 1, "block_1": 1}, mid=1, up={"block_2": 1, "block_3": 1})
_COMPOSITION: BlockWeights = {"block_2": [0.25, 1.0]}

PRESETS: Mapping[str, BlockScales] = {
    "style": BlockScales(up={"block_1": 1}),
    "style_layout": BlockScales(down={"block_2": 1}, mid=1, up={"block_1": 1}),
    "style_transfer": _STYLE_TRANSFER,
    "strong_style_transfer": _STYLE_TRANSFER.model_copy(update={"up": 1.0}),
    "composition": BlockScales(down=_COMPOSITION),
    "style_and_composition": _STYLE_TRANSFER,
}
"""Block weights of the presets, for the attention layout of Stable Diffusion 1.x. `style` and `style_layout` follow
InstantStyle's example for Stable Diffusion 1.5, the others ComfyUI IPAdapter Plus; the two conventions disagree about
`up.block_1`. `style_and_composition` adds `composition` at a scale of its own."""


class Strength(StrictModel):
    """How strongly the reference pictures act, and in which blocks."""

    scale: float = Field(
        default=1.0, allow_inf_nan=False, description="Strength of the reference pictures; 0 is the plain model."
    )
    preset: Preset | None = Field(
        default=None, description="Act only in the blocks that are known to carry style or composition in SD 1.x."
    )
    composition_scale: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Strength of the composition's blocks in preset `style_and_composition` [scale].",
    )
    block_scales: BlockScales | None = Field(
        default=None, description="A weight per block, times `scale`; blocks that are not named get 0."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Strength:
        if self.preset is not None and self.block_scales is not None:
            raise ValueError("give `preset` or `block_scales`, not both")
        if self.composition_scale is not None and self.preset != "style_and_composition":
            raise ValueError("`composition_scale` belongs to `preset: style_and_composition`")
        return self

    def layer_scales(self, layers: Sequence[str]) -> tuple[float, ...]:
        """Return the scale of every cross-attention layer.

        Args:
            layers: names of the UNet's cross-attention processors, e.g.
                `up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor`, in the order of the adapter's layer
                numbers 1, 3, 5, ...

        Raises:
            InputError: a block that has no cross-attention in this model, or a list of the wrong length.
        """
        if self.preset is not None:
            weights = _block_weights(PRESETS[self.preset], layers, "preset")
        elif self.block_scales is not None:
            weights = _block_weights(self.block_scales, layers, "block_scales")
        else:
            return (self.scale,) * len(layers)
        scales = [self.scale * weight for weight in weights]
        if self.preset == "style_and_composition":
            composition = _block_weights(PRESETS["composition"], layers, "preset")
            own = self.scale if self.composition_scale is None else self.composition_scale
            scales = [scale + own * weight for scale, weight in zip(scales, composition, strict=True)]
        return tuple(scales)


def _block_weights(blocks: BlockScales, layers: Sequence[str], key: str) -> list[float]:
    attentions: dict[str, int] = {}
    places = []
    for layer in layers:
        side, block, attention = _place(layer)
        name = side if side == "mid" else f"{side}.block_{block}"
        places.append((side, name, attention))
        attentions[name] = max(attentions.get(name, 0), attention + 1)
    given = {"mid": [blocks.mid]}
    problems = []
    for side in ("down", "up"):
        weights = getattr(blocks, side)
        if not isinstance(weights, dict):
            given |= {name: [weights] for name in attentions if name.startswith(side)}
            continue
        for block, weight in weights.items():
            name = f"{side}.{block}"
            values = weight if isinstance(weight, list) else [weight]
            count = attentions.get(name, 0)
            if not count:
                known = [other for other in attentions if other != "mid"]
                problems.append(
                    Problem(
                        f"there is no cross-attention at {name} in this model, a weight there would have no effect."
                        f"{did_you_mean(name, known)} Blocks with cross-attention: {', '.join(known)}",
                        f"{key}.{name}",
                    )
                )
            elif len(values) not in (1, count):
                problems.append(
                    Problem(f"found {len(values)} weights, expected one or {count}: one per attention", f"{key}.{name}")
                )
            given[name] = values
    if problems:
        raise InputError(problems)
    result = []
    for _, name, attention in places:
        values = given.get(name, [0.0])
        result.append(values[attention if len(values) > 1 else 0])
    return result


def _place(layer: str) -> tuple[str, int, int]:
    match = re.match(r"(down|up|mid)_blocks?(?:\.(\d+))?\.attentions\.(\d+)\.", layer)
    if match is None:
        raise ValueError(f"{layer} is not the name of a cross-attention processor of a Stable Diffusion UNet")
    return match[1], int(match[2] or 0), int(match[3])
