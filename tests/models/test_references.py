"""References: paths, schemes and the Hub, with a hand-made cache and no network."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest

from amdm_framework.errors import CheckpointError
from amdm_framework.models.components import tokenizer_folder_of
from amdm_framework.models.references import (
    find_weights,
    locate_reference,
    locate_weights,
    pick_weights,
    resolve_reference,
    select_model_files,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty Hub cache, offline. Returns the snapshot folder of `owner/repo` at `main`."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache / "models--owner--repo" / "snapshots" / COMMIT


def fill(snapshot: Path, source: Path, revision: str = "main") -> None:
    shutil.copytree(source, snapshot)
    reference = snapshot.parents[1] / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(COMMIT)


def test_paths_are_relative_to_the_composition(tmp_path, context):
    (tmp_path / "models").mkdir()
    assert resolve_reference("models", context) == tmp_path / "models"
    assert resolve_reference(str(tmp_path / "models"), context) == tmp_path / "models"


def test_a_misspelt_path_gets_a_hint(tmp_path, context):
    (tmp_path / "sd15.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="Did you mean 'sd15.safetensors'"):
        resolve_reference("sd15.safetensor", context)
    with pytest.raises(CheckpointError, match="hf://owner/repo"):
        resolve_reference("owner/repo", context)


def test_schemes_of_plugins(tmp_path, context):
    context.checkpoint_sources = {"zoo": lambda name: tmp_path / name}
    (tmp_path / "base").mkdir()
    assert resolve_reference("zoo://base", context) == locate_reference("zoo://base", context) == tmp_path / "base"
    with pytest.raises(CheckpointError, match="leads to 'other', which does not exist"):
        resolve_reference("zoo://other", context)
    with pytest.raises(CheckpointError, match=r"known are hf://, zoo:// and paths.* Did you mean 'zoo'"):
        resolve_reference("zooo://base", context)


def test_a_cached_repository_is_found_offline(hub, tiny_folder, context):
    fill(hub, tiny_folder)
    assert resolve_reference("hf://owner/repo", context).resolve() == hub.resolve()
    assert locate_reference("hf://owner/repo", context).resolve() == hub.resolve()


def test_a_cached_file_at_a_revision_is_found_offline(hub, tiny_folder, context):
    fill(hub, tiny_folder, revision="v1.0")
    reference = "hf://owner/repo/unet/config.json@v1.0"
    assert resolve_reference(reference, context).read_text() == (tiny_folder / "unet/config.json").read_text()
    assert locate_reference(reference, context) is not None
    assert locate_reference("hf://owner/repo/unet/config.json", context) is None


@pytest.mark.parametrize(
    "reference, command",
    [
        ("hf://owner/repo", "hf download owner/repo"),
        ("hf://owner/repo@v2", "hf download owner/repo --revision v2"),
        ("hf://owner/repo/a/b.ckpt", "hf download owner/repo a/b.ckpt"),
        ("hf://owner/repo/b.safetensors@abc", "hf download owner/repo b.safetensors --revision abc"),
    ],
)
def test_what_is_not_there_is_named_with_the_command_that_fetches_it(hub, context, reference, command):
    assert locate_reference(reference, context) is None
    with pytest.raises(CheckpointError) as caught:
        resolve_reference(reference, context)
    assert str(caught.value).endswith(f"Fetch it with: {command}")
    assert reference in str(caught.value)


@pytest.mark.parametrize("reference", ["hf://owner", "hf://", "hf://owner/repo@", "hf:///x/y"])
def test_malformed_references_say_what_is_expected(hub, context, reference):
    for find in (resolve_reference, locate_reference):
        with pytest.raises(CheckpointError, match="expected hf://owner/repo"):
            find(reference, context)


def test_online_only_what_is_needed_is_fetched(monkeypatch, tmp_path, context):
    names = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.bin", "v1-5-pruned.ckpt",
             "unet/diffusion_pytorch_model.safetensors", "safety_checker/model.safetensors", "README.md"]  # fmt: skip
    asked = {}
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repository, revision: names)

    def download(repository, **arguments):
        asked.update(arguments, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_reference("hf://owner/repo@main", context) == tmp_path
    assert asked["repository"] == "owner/repo"
    assert asked["revision"] == "main"
    assert asked["allow_patterns"] == [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]


@pytest.mark.parametrize("folder", ["", "tokenizer/"])
def test_of_a_tokenizers_or_a_models_repository_the_tokenizer_alone_is_fetched(monkeypatch, tmp_path, context, folder):
    files = [f"{folder}vocab.json", f"{folder}merges.txt"]
    names = [*files, "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repository, revision: names)

    def download(repository, revision, allow_patterns):
        for name in allow_patterns:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = tokenizer_folder_of(tmp_path / "elsewhere" / "model.ckpt", context, "hf://owner/repo")
    assert sorted(path.name for path in found.iterdir()) == ["merges.txt", "vocab.json"]
    assert not (tmp_path / "unet").exists()


@pytest.mark.parametrize(
    "files, variant, expected",
    [
        (["model.safetensors", "pytorch_model.bin"], None, "model.safetensors"),
        (["pytorch_model.bin"], None, "pytorch_model.bin"),
        (["diffusion_pytorch_model.fp16.safetensors"], None, "diffusion_pytorch_model.fp16.safetensors"),
        (["model.safetensors", "model.fp16.safetensors"], "fp16", "model.fp16.safetensors"),
        (["model.safetensors"], "fp16", None),
        (["model.safetensors.index.json"], None, "model.safetensors.index.json"),
        (["model.safetensors.index.fp16.json"], "fp16", "model.safetensors.index.fp16.json"),
        (["config.json"], None, None),
    ],
)
def test_weights_are_picked(files, variant, expected):
    assert pick_weights(files, variant) == expected


def test_a_component_without_the_variant_has_its_plain_weights(tmp_path):
    names = ["unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
             "vae/diffusion_pytorch_model.safetensors"]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    folders = ["unet", "vae", "text_encoder"]
    mixed = ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors", None]
    assert list(find_weights(tmp_path, folders, "fp16").values()) == mixed
    assert select_model_files(names, "fp16") == names[1:]
    # Nothing has this one: rather a mistake than a wish for plain weights.
    assert list(find_weights(tmp_path, folders, "fp61").values()) == [None, None, None]
    assert select_model_files(names, "fp61") == []


def test_a_cached_repository_without_all_weights_is_not_on_this_machine(hub, tiny_folder, context):
    fill(hub, tiny_folder)
    parts = ["unet", "vae", "text_encoder"]
    found = locate_weights("hf://owner/repo", context, parts)
    assert found is not None and found.resolve() == hub.resolve()
    assert locate_weights("hf://owner/repo", context, parts, "fp16") is None
    (hub / "vae/diffusion_pytorch_model.safetensors").unlink()
    assert locate_weights("hf://owner/repo", context, parts) is None
    assert locate_weights("hf://owner/repo", context, ["unet"]) is not None
    assert locate_weights("hf://owner/repo/unet/config.json", context) == hub / "unet/config.json"
    # What is no download is opened as it is, and says itself what it lacks.
    assert locate_weights(str(hub), context, parts) == hub


def test_shards_are_selected_with_their_index():
    names = ["unet/diffusion_pytorch_model.safetensors.index.json",
             "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
             "unet/diffusion_pytorch_model-00002-of-00002.safetensors"]  # fmt: skip
    assert select_model_files(names) == names
