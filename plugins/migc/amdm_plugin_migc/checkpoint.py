"""From a file of MIGC weights to one block per cross-attention layer.

- the published pickle (`MIGC_SD14.ckpt`), tensors under `state_dict`, and the same keys in safetensors, e.g.
  `model.diffusion_model.output_blocks.3.1.transformer_blocks.0.attn2.migc.norm.bias`;
- converted to diffusers' names, e.g. `up_blocks.1.attentions.0.transformer_blocks.0.attn2.migc.norm.bias` or
  `up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.migc.norm.bias`.

Which layers carry a block is what the file says, and so are all sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import RenamedTensors, TensorMapping, build_on_meta, load_strict
from amdm_framework.models.context import LoadContext
from amdm_framework.models.unet_layers import layer_level

from .layer_names import ldm_layers
from .modules import HEADS, BlockSizes, MIGCBlock

Shape = tuple[int, ...]

_FAMILY = "MIGC was made for Stable Diffusion 1.x: give a base of that family"
_LDM = re.compile(r"(?:^|\.)(middle_block|(?:input|output)_blocks\.\d+)\.(?:.*\.)?migc\.(.+)$")
_LAYER = r"(?:mid_block|(?:down|up)_blocks\.\d+)\.attentions\.\d+\.transformer_blocks\.\d+\.attn2"
_DIFFUSERS = re.compile(rf"(?:^|\.)({_LAYER})\.(?:processor\.)?migc\.(.+)$")


@dataclass(frozen=True)
class StoredBlock:
    """One layer's block as a file holds it.

    Attributes:
        sizes: what it takes to build it.
        tensors: its weights under the names of its module's state dict.
        source: what messages call it.
    """

    sizes: BlockSizes
    tensors: TensorMapping
    source: str


def layer_names(names: Sequence[str], config: Mapping[str, Any], source: str) -> dict[str, dict[str, str]]:
    """Sort a file's names by the layers they belong to.

    Args:
        names: all names in the file.
        config: the diffusers config of the base's UNet.
        source: what messages call the file.

    Returns:
        {layer: {name inside the block: name in the file}}; layers are diffusers' module names, ending in `attn2`.

    Raises:
        CheckpointError: the file holds no MIGC weights, others beside them, or those of MIGC++.
    """
    known = ldm_layers(config)
    layers: dict[str, dict[str, str]] = {}
    foreign: list[str] = []
    for name in names:
        if match := _DIFFUSERS.search(name):
            layer = match[1]
        elif match := _LDM.search(name):
            layer = known.get(match[1], match[1])
        else:
            foreign.append(name)
            continue
        if layer not in known.values():
            raise CheckpointError(
                f"{source}: {name} belongs to {layer}, where the base model has no cross-attention. {_FAMILY}"
            )
        block = layers.setdefault(layer, {})
        if match[2] in block:
            raise CheckpointError(f"{source}: {block[match[2]]} and {name} are the same weight of layer {layer}")
        block[match[2]] = name
    if foreign:
        examples = ", ".join(sorted(foreign)[:3])
        kind = "holds other weights beside MIGC's" if layers else "holds no MIGC weights"
        raise CheckpointError(
            f"{source}: {kind} ({len(foreign)} names like {examples}; expected names like "
            "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.migc.norm.bias). Give the file of MIGC's "
            "adapter alone, MIGC_SD14.ckpt or a conversion of it; the base model goes under `base`"
        )
    if not layers:
        raise CheckpointError(f"{source}: the file is empty, expected MIGC's weights")
    if any("gamma" in block or "sac.conv1.weight" not in block for block in layers.values()):
        raise CheckpointError(
            f"{source}: these look like the weights of MIGC++ (a `gamma`, or no `sac.conv1`), which is another network. "
            "This provider runs MIGC: give MIGC_SD14.ckpt"
        )
    return layers


def block_sizes(shapes: Mapping[str, Shape], source: str = "checkpoint") -> BlockSizes:
    """Read the sizes of a block off the shapes of its weights.

    Args:
        shapes: names inside the block to shapes.
        source: what messages call the block.

    Raises:
        CheckpointError: a weight that tells a size is missing or has another number of dimensions.
    """

    def side(name: str, dimension: int, dimensions: int) -> int:
        shape = shapes.get(name)
        if shape is None or len(shape) != dimensions:
            found = "no such weight" if shape is None else f"shape {list(shape)}"
            raise CheckpointError(f"{source}: {name}: found {found}, expected a tensor with {dimensions} dimensions")
        return shape[dimension]

    sizes = BlockSizes(
        channels=side("norm.bias", 0, 1),
        width=side("ea.to_k.weight", 1, 2),
        box_inputs=side("pos_net.linears_position.0.weight", 1, 2),
        box_hidden=side("pos_net.linears_position.0.weight", 0, 2),
        channel_hidden=side("sac.cbam1.ChannelGate.mlp.1.weight", 0, 2),
        phases=side("sac.cbam2.ChannelGate.mlp.1.weight", 1, 2),
        phase_hidden=side("sac.cbam2.ChannelGate.mlp.1.weight", 0, 2),
        kernels=(
            side("sac.cbam1.SpatialGate.spatial.conv.weight", 3, 4),
            side("sac.cbam2.SpatialGate.spatial.conv.weight", 3, 4),
        ),
    )
    if sizes.channels % HEADS or sizes.box_inputs % 8 or sizes.phases < 3:
        raise CheckpointError(
            f"{source}: {sizes.channels} channels, a box embedding of {sizes.box_inputs} and {sizes.phases} phases: "
            "expected multiples of 8 for the former two and at least 3 phases"
        )
    return sizes


def read_blocks(tensors: TensorMapping, config: Mapping[str, Any]) -> dict[str, StoredBlock]:
    """Find every layer's block in an opened file, from names and shapes alone.

    Args:
        tensors: an opened file of MIGC weights.
        config: the diffusers config of the base's UNet.

    Returns:
        {layer: block}.

    Raises:
        CheckpointError: see `layer_names`; or a block that does not fit the base.
    """
    blocks = {}
    for layer, names in layer_names(list(tensors), config, tensors.source).items():
        source = f"{tensors.source}: {layer}"
        sizes = block_sizes({name: tuple(tensors[stored].shape) for name, stored in names.items()}, source)
        channels = config["block_out_channels"]
        expected = channels[layer_level(layer, len(channels))], config["cross_attention_dim"]
        if (sizes.channels, sizes.width) != expected:
            raise CheckpointError(
                f"{source}: made for a layer of {sizes.channels} channels and texts of width {sizes.width}, but the base "
                f"model has {expected[0]} channels there and texts of width {expected[1]}. {_FAMILY}"
            )
        blocks[layer] = StoredBlock(sizes, RenamedTensors(tensors, names), source)
    depths = {block.sizes.phases for block in blocks.values()}
    if len(depths) > 1:
        raise CheckpointError(
            f"{tensors.source}: layers mix different numbers of phases {sorted(depths)}, expected one"
        )
    return blocks


def load_block(stored: StoredBlock, context: LoadContext) -> MIGCBlock:
    """Build and load one block on the device and in the dtype of the context.

    Raises:
        CheckpointError: a missing, surplus or misshaped weight.
    """
    block = build_on_meta(lambda: MIGCBlock(stored.sizes))
    return load_strict(block, stored.tensors, context, source=stored.source)
