"""Trains the miniature IP-Adapter on the frozen base model: the style of the background from another picture."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from amdm_framework.models.checkpoints import read_tensors
from amdm_framework.models.context import LoadContext
from amdm_plugin_ip_adapter.checkpoint import attach_adapter, cross_attention_layers
from amdm_shapes_zoo.architecture import TEXT_WIDTH
from amdm_shapes_zoo.captions import full_description
from amdm_shapes_zoo.sampling import decode_latents
from amdm_shapes_zoo.train.common import write_sheet
from amdm_shapes_zoo.train.embedded import Base
from amdm_shapes_zoo.train.image_encoder import styles_of
from amdm_shapes_zoo.train.loop import Losses, TrainingSettings, train
from amdm_shapes_zoo.train.noise import noise_loss
from amdm_shapes_zoo.train.pool import Pool
from amdm_shapes_zoo.train.sheets import interleave, sample_guided
from amdm_shapes_zoo.world import HELD_OUT_SEED, Layouts, sample_layouts

_TOKENS = 4
_EMPTY = 0.1


@dataclass(frozen=True)
class IPAdapterSettings(TrainingSettings):
    """Settings of the miniature IP-Adapter's training."""

    steps: int = 1500
    batch: int = 32
    rate: float = 2e-3


class IPAdapterNetworks(nn.Module):
    """What is trained, attached to the base model's UNet, which is not."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        layers = cross_attention_layers(base.unet)
        tensors = {
            "image_proj.proj.weight": torch.randn(_TOKENS * TEXT_WIDTH, TEXT_WIDTH) * TEXT_WIDTH**-0.5,
            "image_proj.proj.bias": torch.zeros(_TOKENS * TEXT_WIDTH),
            "image_proj.norm.weight": torch.ones(TEXT_WIDTH),
            "image_proj.norm.bias": torch.zeros(TEXT_WIDTH),
        }
        for position, name in enumerate(layers):
            attention = base.unet.get_submodule(name.removesuffix(".processor"))
            # Each layer starts from what it does with words.
            tensors[f"ip_adapter.{2 * position + 1}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
            tensors[f"ip_adapter.{2 * position + 1}.to_v_ip.weight"] = attention.to_v.weight.detach().clone()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "adapter.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
            adapter = attach_adapter(base.unet, read_tensors(path), "base", LoadContext(base.device, torch.float32))
        self.projection = adapter.projection
        self.processors = nn.ModuleList(adapter.processors)
        self.train().requires_grad_(True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights under the names of an adapter file."""
        projection = self.projection
        named = {"proj": projection.image_embeds, "norm": projection.norm}
        result = {
            f"image_proj.{name}.{kind}": getattr(module, kind)
            for name, module in named.items()
            for kind in ("weight", "bias")
        }
        for position, processor in enumerate(self.processors):
            result[f"ip_adapter.{2 * position + 1}.to_k_ip.weight"] = processor.to_k_ip[0].weight
            result[f"ip_adapter.{2 * position + 1}.to_v_ip.weight"] = processor.to_v_ip[0].weight
        return {name: tensor.detach() for name, tensor in result.items()}


def predict(
    base: Base, noisy: torch.Tensor, timesteps: torch.Tensor, states: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """Predicted noise with (B, tokens, width) of one reference picture each."""
    prediction: torch.Tensor = base.unet(
        noisy, timesteps, states, added_cond_kwargs={"image_embeds": [tokens.unsqueeze(1)]}
    ).sample
    return prediction


def caption_without_style(layouts: Layouts, index: int) -> str:
    """The caption, positions included, without the background."""
    return full_description(layouts, index).without(background=True).text()


def train_ip_adapter(
    settings: IPAdapterSettings,
    base: Base,
    pool: Pool,
    latents: torch.Tensor,
    embeddings: torch.Tensor,
    checkpoints: Path,
    sheets: bool,
) -> tuple[IPAdapterNetworks, dict[str, Any]]:
    """Train to the end, going on from the last checkpoint; returns the averaged networks and card facts.

    Args:
        settings: what to do.
        base: the model; the adapter is attached to its UNet.
        pool: pictures.
        latents: (N, channels, height, width) scaled latents of the pool.
        embeddings: (N, width) image embeddings of the pool.
        checkpoints: folder of the checkpoint and the sheets.
        sheets: whether to write sample sheets.
    """
    torch.manual_seed(settings.seed)
    networks = IPAdapterNetworks(base)
    styles = styles_of(pool.layouts)
    alike = [np.flatnonzero(styles == style) for style in range(styles.max() + 1)]

    def losses_of(rng: np.random.Generator, generator: torch.Generator) -> Losses:
        indices = rng.integers(len(latents), size=settings.batch)
        # Another picture of the same style, so that style is all that a reference can tell.
        references = torch.tensor([int(rng.choice(alike[styles[index]])) for index in indices])
        captions = [
            "" if rng.random() < _EMPTY else caption_without_style(pool.layouts, int(index)) for index in indices
        ]
        shown = torch.from_numpy(rng.random((settings.batch, 1)) >= _EMPTY).to(base.device)
        tokens = networks.projection(embeddings[references.to(base.device)] * shown)
        states = base.states(captions)
        chosen = latents[torch.from_numpy(indices)].to(base.device)

        def predicted(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return predict(base, noisy, timesteps, states, tokens)

        return noise_loss(predicted, base.scheduler, chosen, generator), {}

    def sheet(path: Path) -> None:
        write_ip_adapter_sheet(networks, base, pool, embeddings, path)

    facts = train("ip_adapter", networks, settings, losses_of, sheet if sheets else None, checkpoints, base.device)
    return networks, facts


def write_ip_adapter_sheet(
    networks: IPAdapterNetworks,
    base: Base,
    pool: Pool,
    embeddings: torch.Tensor,
    path: Path,
    rows: int = 2,
    columns: int = 12,
) -> None:
    """Write reference pictures, each row above what the model draws after them for the captions of other scenes."""
    count = rows * columns
    captions = [caption_without_style(sample_layouts(count, HELD_OUT_SEED - 1), index) for index in range(count)]
    states = torch.cat([base.states([""]).expand(count, -1, -1), base.states(captions)])
    references = embeddings[:count].to(base.device)
    tokens = networks.projection(torch.cat([torch.zeros_like(references), references]))

    def predicted(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return predict(base, noisy, timestep, states, tokens)

    drawn = decode_latents(base.vae, sample_guided(predicted, base, count))
    write_sheet(path, interleave(pool.pictures(np.arange(count)), drawn, columns), columns)
