"""From a reference to a network of transformers: nothing stored is executed, and every weight must be there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amdm_framework.batch.plain_json import read_object
from amdm_framework.errors import CheckpointError, InputError
from amdm_framework.models.context import LoadContext
from amdm_framework.models.references import missing_file, pick_weights, resolve_reference

_MAX_CONFIG_BYTES = 2**20


def find_pretrained(reference: str, context: LoadContext, model_type: str) -> Path:
    """Return the folder of a network in the layout of transformers, fetched from the Hub where it has to be.

    Args:
        reference: a local folder, `hf://owner/repo`, or what a plugin registered.
        context: where references lead.
        model_type: what its config must say.

    Raises:
        CheckpointError: there is none, it is of another kind, or its weights are not in safetensors.
    """
    folder = resolve_reference(reference, context, select=select_files)
    if not folder.is_dir():
        raise CheckpointError(f"{reference}: is a file, expected a folder with config.json and model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise missing_file(reference, name, cause=f"looked in {folder}")
    try:
        found = read_object(folder / "config.json", _MAX_CONFIG_BYTES).get("model_type")
    except InputError as error:
        raise CheckpointError(str(error)) from error
    if found != model_type:
        raise CheckpointError(f"{reference}: expected a model of type {model_type!r}, its config.json says {found!r}")
    weights = pick_weights([path.name for path in folder.iterdir()])
    if weights is None or ".safetensors" not in weights:
        raise missing_file(reference, "model.safetensors", cause=f"found {weights or 'no weights'} in {folder}")
    return folder


def load_pretrained(model_class: Any, folder: Path, context: LoadContext) -> Any:
    """Load a network in float32, in which the published scores were computed.

    Args:
        model_class: of transformers.
        folder: what `find_pretrained` returned.
        context: where the network shall live.

    Raises:
        CheckpointError: the files are damaged, or do not hold every weight.
    """
    import torch
    from transformers.utils import logging

    # The bars of its own are gone too fast to be read.
    logging.disable_progress_bar()
    try:
        model, info = model_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the library underneath raises nothing more special
        raise CheckpointError(f"{folder}: cannot be loaded ({' '.join(str(error).split()):.300})") from error
    # Integers are positions, which the network computes itself; some releases stored them and some did not.
    state = model.state_dict()
    missing = [name for name in info["missing_keys"] if name not in state or state[name].is_floating_point()]
    absent = sorted(map(str, [*missing, *info["mismatched_keys"]]))
    if absent:
        raise CheckpointError(f"{folder}: {len(absent)} weights are missing or of another shape, such as {absent[0]}")
    return model.eval().requires_grad_(False).to(context.device)


def load_processor(processor_class: Any, folder: Path) -> Any:
    """Load a tokenizer, or what prepares pictures.

    Raises:
        CheckpointError: its files are damaged or missing.
    """
    try:
        return processor_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        raise CheckpointError(
            f"{folder}: {processor_class.__name__} cannot be loaded ({' '.join(str(error).split()):.300})"
        ) from error


def select_files(names: Sequence[str]) -> list[str]:
    """Choose what is read of a repository or folder in the layout of transformers: configs, tokenizer, weights.

    Args:
        names: all files, those in subfolders with their paths.
    """
    top = [name for name in names if "/" not in name]
    weights = pick_weights(top)
    chosen = [name for name in top if name.endswith((".json", ".txt")) and ".index." not in name]
    if weights is not None:
        chosen.append(weights)
        if ".index." in weights:
            chosen += [name for name in top if name.startswith("model-") and name.endswith(".safetensors")]
    return chosen
