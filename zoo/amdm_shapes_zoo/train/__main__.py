"""Command line of the trainings: `python -m amdm_shapes_zoo.train base`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL

from amdm_shapes_zoo.train.base import BaseSettings, train_text_to_image
from amdm_shapes_zoo.train.common import choose_device, write_card
from amdm_shapes_zoo.train.export import export_base
from amdm_shapes_zoo.train.latents import encode_pool, scaling_factor
from amdm_shapes_zoo.train.pool import Pool, load_pool
from amdm_shapes_zoo.train.scores import score_base, score_vae
from amdm_shapes_zoo.train.vae import VaeSettings, load_trained_vae, train_vae

DATA_SEED = 1
WEIGHTS = Path(__file__).parent.parent / "weights"


def run_vae(arguments: argparse.Namespace, steps: int | None) -> tuple[AutoencoderKL, Pool, dict[str, Any]]:
    """Trains the autoencoder, or finds it trained; returns it, the pool and the facts for the card."""
    device = choose_device(arguments.device)
    pool = load_pool(arguments.pictures, DATA_SEED, arguments.checkpoints)
    settings = VaeSettings(seed=arguments.seed)
    if steps is not None:
        settings = replace(settings, steps=steps)
    facts = train_vae(settings, pool, arguments.checkpoints, device)
    vae = load_trained_vae(arguments.checkpoints, device)
    facts["scores"] = score_vae(vae, arguments.judged)
    print(f"autoencoder: {facts['scores']}")
    return vae, pool, facts


def run_base(arguments: argparse.Namespace) -> None:
    """Trains autoencoder and text-to-image model and writes the diffusers folder and its card."""
    vae, pool, vae_facts = run_vae(arguments, arguments.vae_steps)
    device = next(vae.parameters()).device
    latents = encode_pool(vae, pool, arguments.checkpoints / "latents.pt")
    vae.register_to_config(scaling_factor=scaling_factor(latents))
    vae_facts["scaling_factor"] = vae.config["scaling_factor"]
    deviations = latents.std(dim=(0, 2, 3)) * vae.config["scaling_factor"]
    vae_facts["latent_deviations"] = [round(float(value), 3) for value in deviations]
    settings = BaseSettings(seed=arguments.seed, sheet_columns=arguments.sheet_columns)
    if arguments.steps is not None:
        settings = replace(settings, steps=arguments.steps)
    if arguments.rate is not None:
        settings = replace(settings, rate=arguments.rate)
    model, facts = train_text_to_image(settings, pool, latents, vae, arguments.checkpoints, device)
    facts["scores"] = score_base(model, vae, each=max(1, arguments.judged // 4))
    folder = arguments.output / "base"
    export_base(model, vae, folder)
    card = {"data_seed": DATA_SEED, "pictures": len(pool.classes), "vae": vae_facts, "text_to_image": facts}
    write_card(folder / "card.json", card)
    print(f"text to image: {facts['scores']}\nwritten: {folder}")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(prog="python -m amdm_shapes_zoo.train", description="Train the zoo's models.")
    subcommands = parser.add_subparsers(dest="model", required=True)
    descriptions = {"vae": "the autoencoder alone", "base": "autoencoder and text-to-image model"}
    for name, description in descriptions.items():
        command = subcommands.add_parser(name, help=description)
        command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
        command.add_argument("--steps", type=int, help=f"training steps of {description.split(' and ')[-1]}")
        command.add_argument("--seed", type=int, default=0, help="seed of the training (default: 0)")
        command.add_argument("--pictures", type=int, default=48000, help="size of the training set (default: 48000)")
        command.add_argument("--judged", type=int, default=200, help="pictures judged at the end (default: 200)")
        command.add_argument(
            "--checkpoints",
            type=Path,
            default=Path("zoo_checkpoints"),
            help="folder of checkpoints and sample sheets; a training goes on from what it finds there",
        )
        if name == "base":
            command.add_argument("--rate", type=float, help="highest learning rate of the text-to-image model")
            command.add_argument("--vae-steps", type=int, help="training steps of the autoencoder")
            command.add_argument(
                "--sheet-columns",
                type=int,
                default=6,
                help="pictures of each prompt on sample sheets, 0 for no sheets (default: 6)",
            )
            command.add_argument("--output", type=Path, default=WEIGHTS, help="where base/ is written")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one training."""
    arguments = parse(argv)
    trainings: dict[str, Callable[[argparse.Namespace], object]] = {
        "vae": lambda given: run_vae(given, given.steps),
        "base": run_base,
    }
    trainings[arguments.model](arguments)


if __name__ == "__main__":
    main()
