"""From a checkpoint reference in a composition to a file or folder on this machine.

| reference | means |
|---|---|
| `models/base`, `/data/sd15.safetensors` | a path, relative to the composition's folder |
| `hf://owner/repo` | a repository of the Hugging Face Hub, as far as it is needed |
| `hf://owner/repo/sub/file.safetensors@revision` | one file of it, at a branch, tag or commit |
| `zoo://name` | whatever a plugin registered for the scheme `zoo` |
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from ..errors import CheckpointError, did_you_mean
from .context import LoadContext

_WEIGHT_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_HUB = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+?))?/?(?:@(?P<revision>.+))?")
# Failures of network, cache and hub, and names that cannot be any; the library turns other causes into these.
_HUB_ERRORS = (OSError, HfHubHTTPError, HTTPError, ValueError)


def resolve_reference(
    reference: str, context: LoadContext, select: Callable[[Sequence[str]], Sequence[str]] | None = None
) -> Path:
    """Return the local file or folder behind a reference, fetching it from the Hub where it has to be.

    Args:
        reference: see the table above.
        context: gives the folder of relative paths and the registered schemes.
        select: for a whole repository of the Hub: of its file names, those that are needed. By default the files of a
            model in diffusers layout, safetensors rather than pickles.

    Raises:
        CheckpointError: nothing is there; for the Hub with the command that fetches it.
    """
    scheme, separator, name = reference.partition("://")
    if not separator:
        return _resolve_path(reference, context)
    if scheme != "hf":
        return _resolve_scheme(scheme, name, reference, context)
    repository, file, revision = _parse_hub(reference)
    try:
        if file:
            return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
        return Path(_fetch_repository(repository, revision, select or select_model_files))
    except _HUB_ERRORS as error:
        raise missing_file(reference, file, cause=str(error).strip().partition("\n")[0]) from error


def path_of(reference: str, base_dir: Path) -> Path:
    """Return where a reference leads as a path: `~` is a home folder, and all else is relative to a folder.

    Where there is no such home folder, it is a path at which nothing lies.
    """
    try:
        return base_dir / Path(reference).expanduser()
    except RuntimeError:
        return Path("/", reference)


def locate_reference(
    reference: str, context: LoadContext, names: Sequence[str] = ("model_index.json", "config.json")
) -> Path | None:
    """Return the local file or folder behind a reference without fetching anything; None where it would be fetched.

    Args:
        reference: see the table above.
        context: gives the folder of relative paths and the registered schemes.
        names: for a whole repository of the Hub: files of which one shows that it has been fetched.

    Raises:
        CheckpointError: the reference cannot lead anywhere.
    """
    if not reference.startswith("hf://"):
        return resolve_reference(reference, context)
    repository, file, revision = _parse_hub(reference)
    for name in [file] if file else names:
        try:
            cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision)
        except ValueError as error:
            raise CheckpointError(f"{reference}: {error}") from error
        if isinstance(cached, str):
            return Path(cached) if file else Path(cached).parent
    return None


def locate_weights(
    reference: str, context: LoadContext, folders: Sequence[str] = ("",), variant: str | None = None
) -> Path | None:
    """Return what `locate_reference` does; None also for a folder in the Hub's cache that lacks weights.

    Such a folder holds configs only, or what an interrupted download left.

    Args:
        reference: see the table above.
        context: gives the folder of relative paths and the registered schemes.
        folders: those of the components that must have weights, within the folder that the reference leads to.
        variant: e.g. `fp16`.

    Raises:
        CheckpointError: the reference cannot lead anywhere.
    """
    path = locate_reference(reference, context)
    if path is None or path.is_file() or not reference.startswith("hf://"):
        return path
    return path if all(find_weights(path, folders, variant).values()) else None


def find_weights(path: Path, folders: Sequence[str], variant: str | None = None) -> dict[str, str | None]:
    """Return the file of weights of each component of a model on this machine, as `pick_component_weights` does.

    Args:
        path: the model's folder.
        folders: those of the components; one that does not exist has no weights.
        variant: e.g. `fp16`.
    """
    files = {}
    for folder in folders:
        place = path / folder
        files[folder] = [file.name for file in place.iterdir()] if place.is_dir() else []
    return pick_component_weights(files, variant)


def select_model_files(names: Sequence[str], variant: str | None = None) -> list[str]:
    """Choose what a model in diffusers layout needs of a repository: configs, tokenizer, one set of weights per folder.

    Args:
        names: all files of the repository.
        variant: e.g. `fp16`.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, base = name.rpartition("/")
        if "/" not in folder and folder not in ("safety_checker", "feature_extractor"):
            folders.setdefault(folder, []).append(base)
    picked = pick_component_weights({folder: files for folder, files in folders.items() if folder}, variant)
    chosen = []
    for folder, files in folders.items():
        wanted = [file for file in files if file.endswith((".json", ".txt", ".model")) and ".index." not in file]
        if weights := picked.get(folder):
            wanted.append(weights)
            if ".index." in weights:
                stem, extension = weights.split(".")[:2]
                wanted += [file for file in files if file.startswith(f"{stem}") and file.endswith(f".{extension}")]
        chosen += [f"{folder}/{file}" if folder else file for file in wanted]
    return chosen


def pick_component_weights(folders: Mapping[str, Sequence[str]], variant: str | None = None) -> dict[str, str | None]:
    """Return what `pick_weights` does for the folder of each component.

    A component without the variant is read from its plain weights where another component has the variant, as in
    diffusers.

    Args:
        folders: the files in the folder of each component.
        variant: e.g. `fp16`.
    """
    picked = {name: pick_weights(files, variant) for name, files in folders.items()}
    if any(picked.values()):
        picked = {name: weights or pick_weights(folders[name]) for name, weights in picked.items()}
    return picked


def pick_weights(files: Sequence[str], variant: str | None = None) -> str | None:
    """Return the file of weights (or the index of its shards) among the files of a component's folder.

    Safetensors before pickles. Without a variant the plain file is taken, or the only variant there is.
    """
    for wanted in (variant,) if variant else (None, "fp16", "bf16"):
        for extension in ("safetensors", "bin"):
            for stem in _WEIGHT_STEMS:
                middle = f".{wanted}" if wanted else ""
                for name in (f"{stem}{middle}.{extension}", f"{stem}.{extension}.index{middle}.json"):
                    if name in files:
                        return name
    return None


def missing_file(reference: str, file: str | None = None, cause: str = "") -> CheckpointError:
    """Return the error for a file that is not there, with the command that fetches it where it is on the Hub."""
    because = f" ({cause})" if cause else ""
    if not reference.startswith("hf://"):
        place = Path(reference) / file if file else Path(reference)
        return CheckpointError(f"{place}: no such file{because}")
    repository, named, revision = _parse_hub(reference)
    wanted = file or named
    command = f"hf download {repository}"
    command += f" {wanted}" if wanted else ""
    command += f" --revision {revision}" if revision else ""
    what = f"{wanted} of {reference}" if wanted and wanted != named else reference
    return CheckpointError(f"{what} is not on this machine and could not be fetched{because}. Fetch it with: {command}")


def _resolve_path(reference: str, context: LoadContext) -> Path:
    path = path_of(reference, context.base_dir)
    # Not the path's own questions, which raise where a name is too long.
    if os.path.exists(path):
        return path
    hint = ""
    if os.path.isdir(path.parent):
        hint = did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", reference):
        hint = f" For a repository of the Hugging Face Hub write 'hf://{reference}'."
    raise CheckpointError(f"{path}: no such file or folder.{hint}")


def _resolve_scheme(scheme: str, name: str, reference: str, context: LoadContext) -> Path:
    if scheme not in context.checkpoint_sources:
        known = sorted([*context.checkpoint_sources, "hf"])
        listed = ", ".join(f"{other}://" for other in known)
        raise CheckpointError(
            f"{reference}: unknown kind of reference '{scheme}://', known are {listed} and paths."
            f"{did_you_mean(scheme, known)}"
        )
    path = context.checkpoint_sources[scheme](name)
    if not path.exists():
        # Without the path, which would tell the studio's page of folders that are not open to it.
        raise CheckpointError(f"{reference}: leads to {path.name!r}, which does not exist")
    return path


def _parse_hub(reference: str) -> tuple[str, str | None, str | None]:
    match = _HUB.fullmatch(reference)
    if match is None:
        raise CheckpointError(f"{reference}: expected hf://owner/repo, hf://owner/repo/file or either with @revision")
    return match["repository"], match["file"], match["revision"]


def _fetch_repository(repository: str, revision: str | None, select: Callable[[Sequence[str]], Sequence[str]]) -> str:
    try:
        names = huggingface_hub.HfApi().list_repo_files(repository, revision=revision)
    except _HUB_ERRORS as reason:
        # Offline, or the Hub does not answer: what an earlier run left in the cache may do.
        try:
            cached = huggingface_hub.snapshot_download(
                repository, revision=revision, local_files_only=True, allow_patterns=["model_index.json"]
            )
        except _HUB_ERRORS:
            raise reason from None
        return str(cached)
    fetched = huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=list(select(names)))
    return str(fetched)
