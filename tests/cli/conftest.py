"""Tiny models, compositions and scenes in a folder of one's own, and `amdm` run inside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from amdm_framework.cli import main
from amdm_framework.testing.tiny_models import write_diffusers_folder, write_single_file
from command_line import invoke

COMPOSITION = """
providers:
  - use: stable_diffusion
    checkpoint: models/base
    name: base
  - use: stable_diffusion
    checkpoint: models/other
    name: other
    condition: {prompt: blue}
aggregation: {strategy: slerp, steps: 2}
sampler: {steps: 3}
"""

SCENE = """
caption: a red circle
negative: blur
"""


@pytest.fixture(scope="session")
def written_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base` and `other` (equal but for the UNet) in diffusers layout, and `base.safetensors` with its tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    write_diffusers_folder(folder / "base")
    write_diffusers_folder(folder / "other", seed=1, text_seed=0, vae_seed=0)
    write_single_file(folder / "base.safetensors", folder / "base")
    shutil.copytree(folder / "base" / "tokenizer", folder / "tokenizer")
    return folder


@pytest.fixture
def home(
    tmp_path: Path, written_models: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder of a user with models, `composition.yaml` and `scene.yaml`."""
    (tmp_path / "models").symlink_to(written_models)
    (tmp_path / "composition.yaml").write_text(COMPOSITION)
    (tmp_path / "scene.yaml").write_text(SCENE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("AMDM_NO_PLUGINS", "1")
    return tmp_path


@pytest.fixture(scope="session")
def drawn(written_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of `composition.yaml` and `scene.yaml` with seed 1."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "models").symlink_to(written_models)
    (folder / "composition.yaml").write_text(COMPOSITION)
    (folder / "scene.yaml").write_text(SCENE)
    arguments = [
        "run",
        f"{folder}/composition.yaml",
        "--scene",
        f"{folder}/scene.yaml",
        "--seed",
        "1",
        "--output",
        str(folder),
    ]
    result = CliRunner(env={"AMDM_NO_PLUGINS": "1"}).invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return folder / "scene-1.png"


@pytest.fixture
def amdm() -> Callable[..., Result]:
    """Run `amdm` with some arguments; whatever is not one of its own exit codes fails the test."""

    return invoke
