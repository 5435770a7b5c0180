"""Command line of the trainings: `python -m amdm_shapes_zoo.train all`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL

from amdm_shapes_zoo.train.base import BaseSettings, train_text_to_image
from amdm_shapes_zoo.train.common import choose_device, write_card
from amdm_shapes_zoo.train.embedded import Base, load_base
from amdm_shapes_zoo.train.export import export_base, export_interactdiffusion, export_ip_adapter, export_migc
from amdm_shapes_zoo.train.image_encoder import ImageEncoderSettings, embed_pool, train_image_encoder
from amdm_shapes_zoo.train.interactdiffusion import InteractDiffusionSettings, train_interactdiffusion
from amdm_shapes_zoo.train.ip_adapter import IPAdapterSettings, train_ip_adapter
from amdm_shapes_zoo.train.latents import encode_pool, scaling_factor
from amdm_shapes_zoo.train.loop import TrainingSettings
from amdm_shapes_zoo.train.migc import MIGCSettings, train_migc
from amdm_shapes_zoo.train.miniature_scores import score_miniature
from amdm_shapes_zoo.train.pool import Pool, load_pool
from amdm_shapes_zoo.train.scores import score_base, score_vae
from amdm_shapes_zoo.train.vae import VaeSettings, load_trained_vae, train_vae
from amdm_shapes_zoo.world import MAX_INSTANCES

DATA_SEED = 1
WEIGHTS = Path(__file__).parent.parent / "weights"

Settings = TypeVar("Settings", bound=TrainingSettings)


def run_vae(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train the autoencoder; returns the facts for the card."""
    device, pool = choose_device(arguments.device), _pool(arguments)
    steps = arguments.steps if arguments.vae_steps is None else arguments.vae_steps
    facts = train_vae(_settings(VaeSettings(), arguments, steps), pool, arguments.checkpoints, device)
    facts["scores"] = score_vae(load_trained_vae(arguments.checkpoints, device), arguments.judged)
    print(f"autoencoder: {facts['scores']}")
    return facts


def run_base(arguments: argparse.Namespace) -> None:
    """Train autoencoder and text-to-image model, and write the diffusers folder and its card."""
    vae_facts = run_vae(arguments)
    device, pool = choose_device(arguments.device), _pool(arguments)
    vae = load_trained_vae(arguments.checkpoints, device)
    latents = encode_pool(vae, pool, arguments.checkpoints / "latents.pt")
    vae.register_to_config(scaling_factor=scaling_factor(latents))
    vae_facts["scaling_factor"] = vae.config["scaling_factor"]
    deviations = latents.std(dim=(0, 2, 3)) * vae.config["scaling_factor"]
    vae_facts["latent_deviations"] = [round(float(value), 3) for value in deviations]
    settings = _settings(BaseSettings(), arguments, arguments.steps)
    model, facts = train_text_to_image(settings, pool, latents, vae, arguments.checkpoints, device, arguments.sheets)
    facts["scores"] = score_base(model, vae, each=_each_level(arguments))
    folder = arguments.output / "base"
    export_base(model, vae, folder)
    _finish(arguments, folder / "card.json", {"vae": vae_facts, "text_to_image": facts})


def run_interactdiffusion(arguments: argparse.Namespace) -> None:
    """Train the miniature InteractDiffusion, and write its diffusers folder and its card."""
    base, pool, latents = _on_base(arguments)
    settings = _settings(InteractDiffusionSettings(), arguments, arguments.steps)
    networks, facts = train_interactdiffusion(settings, base, pool, latents, arguments.checkpoints, arguments.sheets)
    folder = arguments.output / "interactdiffusion"
    export_interactdiffusion(networks, base, folder)
    facts["trained"] = "the whole UNet, its fusers and the position net; text encoder and autoencoder are the base's"
    facts["scores"] = _score(arguments, {"use": "interactdiffusion", "checkpoint": "interactdiffusion"})
    _finish(arguments, folder / "card.json", {"interactdiffusion": facts})


def run_migc(arguments: argparse.Namespace) -> None:
    """Train the miniature MIGC, and write its file and its card."""
    base, pool, latents = _on_base(arguments)
    settings = _settings(MIGCSettings(), arguments, arguments.steps)
    networks, facts = train_migc(settings, base, pool, latents, arguments.checkpoints, arguments.sheets)
    export_migc(networks, base, arguments.output / "migc.safetensors")
    facts["trained"] = "MIGC's blocks; the base model is frozen"
    facts["scores"] = _score(
        arguments,
        {"use": "migc", "checkpoint": "migc.safetensors", "base": "base", "condition": {"negative": ""}},
    )
    _finish(arguments, arguments.output / "migc.json", {"migc": facts})


def run_ip_adapter(arguments: argparse.Namespace) -> None:
    """Train the tiny image encoder and the miniature IP-Adapter, and write their files and their card."""
    base, pool, latents = _on_base(arguments)
    encoder, encoder_facts = train_image_encoder(
        _settings(ImageEncoderSettings(), arguments, arguments.steps), pool, arguments.checkpoints, base.device
    )
    networks, facts = train_ip_adapter(
        _settings(IPAdapterSettings(), arguments, arguments.steps),
        base,
        pool,
        latents,
        embed_pool(encoder, pool, base.device),
        arguments.checkpoints,
        arguments.sheets,
    )
    export_ip_adapter(
        networks, encoder, arguments.output / "ip_adapter.safetensors", arguments.output / "image_encoder"
    )
    facts["trained"] = "the adapter; base model and image encoder are frozen"
    member = {"use": "ip_adapter", "checkpoint": "ip_adapter.safetensors", "base": "base"}
    facts["scores"] = _score(arguments, {**member, "image_encoder": "image_encoder"})
    _finish(arguments, arguments.output / "ip_adapter.json", {"image_encoder": encoder_facts, "ip_adapter": facts})


def run_all(arguments: argparse.Namespace) -> None:
    """Train everything, one after the other."""
    for run in (run_base, run_interactdiffusion, run_migc, run_ip_adapter):
        run(arguments)


TRAININGS: dict[str, tuple[Callable[[argparse.Namespace], object], str]] = {
    "all": (run_all, "every model of the zoo"),
    "vae": (run_vae, "the autoencoder alone"),
    "base": (run_base, "autoencoder and text-to-image model"),
    "interact": (run_interactdiffusion, "the miniature InteractDiffusion, on the trained base model"),
    "migc": (run_migc, "the miniature MIGC, on the trained base model"),
    "ip": (run_ip_adapter, "image encoder and miniature IP-Adapter, on the trained base model"),
}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(prog="python -m amdm_shapes_zoo.train", description="Train the zoo's models.")
    subcommands = parser.add_subparsers(dest="model", required=True)
    for name, (_, description) in TRAININGS.items():
        command = subcommands.add_parser(name, help=description, description=f"Train {description}.")
        command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
        command.add_argument("--steps", type=int, help="training steps of every model that is trained")
        command.add_argument("--vae-steps", type=int, help="training steps of the autoencoder, where they differ")
        command.add_argument("--rate", type=float, help="highest learning rate")
        command.add_argument("--seed", type=int, default=0, help="seed of the training (default: 0)")
        command.add_argument("--pictures", type=int, default=48000, help="size of the training set (default: 48000)")
        command.add_argument("--judged", type=int, default=200, help="pictures judged at the end (default: 200)")
        command.add_argument("--no-sheets", dest="sheets", action="store_false", help="write no sample sheets")
        command.add_argument("--output", type=Path, default=WEIGHTS, help="folder of all trained models")
        command.add_argument(
            "--checkpoints",
            type=Path,
            default=Path("zoo_checkpoints"),
            help="folder of checkpoints and sample sheets; a training goes on from what it finds there",
        )
    return parser.parse_args(argv)


def _pool(arguments: argparse.Namespace) -> Pool:
    return load_pool(arguments.pictures, DATA_SEED, arguments.checkpoints)


def _settings(settings: Settings, arguments: argparse.Namespace, steps: int | None) -> Settings:
    changes = {"seed": arguments.seed, "steps": steps, "rate": arguments.rate}
    return replace(settings, **{name: value for name, value in changes.items() if value is not None})


def _each_level(arguments: argparse.Namespace) -> int:
    return max(1, arguments.judged // MAX_INSTANCES)


def _on_base(arguments: argparse.Namespace) -> tuple[Base, Pool, torch.Tensor]:
    # The trained base model, the pool, and the pool's scaled latents.
    base, pool = load_base(arguments.output / "base", choose_device(arguments.device)), _pool(arguments)
    vae: AutoencoderKL = base.vae
    latents = encode_pool(vae, pool, arguments.checkpoints / "latents.pt")
    return base, pool, latents * vae.config["scaling_factor"]


def _score(arguments: argparse.Namespace, member: dict[str, Any]) -> dict[str, Any]:
    return score_miniature(member, arguments.output, _each_level(arguments), choose_device(arguments.device))


def _finish(arguments: argparse.Namespace, path: Path, facts: dict[str, dict[str, Any]]) -> None:
    write_card(path, {"data_seed": DATA_SEED, "pictures": arguments.pictures, **facts})
    for name, part in facts.items():
        if "scores" in part:
            print(f"{name}: {part['scores']}")
    print(f"written: {path.parent}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one training."""
    arguments = parse(argv)
    TRAININGS[arguments.model][0](arguments)


if __name__ == "__main__":
    main()
