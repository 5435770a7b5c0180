"""What pages begin with: the composition that the studio was started with, then the examples of installed plugins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from studios import COMPOSITION, SCENE, Studio, picture_bytes

from amdm_framework.errors import InputError
from amdm_framework.example import Example
from amdm_framework.offers import FRAMEWORK, Offer
from amdm_framework.plugins import PluginRegistry, discover
from amdm_framework.studio.start import starting_points
from amdm_framework.studio.uploads import UploadFolder
from amdm_framework.testing.tiny_models import write_diffusers_folder
from table_strategy import table_registry


@pytest.fixture
def uploads(tmp_path: Path) -> UploadFolder:
    return UploadFolder(tmp_path / "output" / "uploads")


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_examples_of_plugins(plugins: PluginRegistry, uploads: UploadFolder) -> None:
    starts = starting_points(None, None, plugins, uploads)
    assert [start.title for start in starts] == [offer.value.summary for offer in plugins.examples.values()]
    example = next(iter(plugins.examples.values())).value
    assert starts[0].composition == yaml.safe_load(example.composition.read_text())
    # Its pictures are uploads now, and nothing else of it changed.
    written = yaml.safe_load(example.scene.read_text())
    (reference,) = starts[0].scene["references"]
    kept = uploads.find(reference["image"])
    assert kept is not None
    with Image.open(kept) as ours, Image.open(example.scene.parent / written["references"][0]["image"]) as theirs:
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs.convert("RGB")))
    assert starts[0].scene == {**written, "references": [{**written["references"][0], "image": reference["image"]}]}


def test_a_composition_of_ones_own_comes_first(plugins: PluginRegistry, uploads: UploadFolder, tmp_path: Path) -> None:
    composition, scene = write(tmp_path / "mine.yaml", COMPOSITION), write(tmp_path / "scene.yaml", SCENE)
    (first, *others) = starting_points(composition, scene, plugins, uploads)
    assert (first.title, first.composition, first.scene, first.files) == ("mine.yaml", COMPOSITION, SCENE, ())
    assert len(others) == len(plugins.examples)
    assert starting_points(composition, None, plugins, uploads)[0].scene == {"caption": ""}


def test_local_weights_and_pictures(
    studio_with: Callable[..., Studio], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    write_diffusers_folder(home / "models" / "tiny")
    (home / "Style 1.png").write_bytes(picture_bytes())
    (home / "scene.yaml").parent.mkdir(exist_ok=True)
    block = {"use": "stable_diffusion", "checkpoint": "models/tiny", "name": "mine"}
    composition = write(home / "mine.yaml", {"providers": [block], "aggregation": {"strategy": "single"}})
    scene = write(home / "scene.yaml", {"caption": "x", "references": [{"role": "style", "image": "Style 1.png"}]})
    monkeypatch.chdir(home)
    made = studio_with(composition=Path("mine.yaml"), scene=Path("scene.yaml"))
    page = made.page()
    start = page.ask("open")["starts"][0]
    assert start["composition"]["providers"] == [{**block, "checkpoint": str(home / "models" / "tiny")}]
    assert start["scene"]["references"][0]["image"].startswith("style-1-")
    assert page.problems(start["composition"], start["scene"]) == {}
    # The files as they lie there are still not the page's.
    assert page.problems({"providers": [{**block, "checkpoint": str(home / "models")}]}, {"caption": "x"})
    assert page.problems(
        start["composition"], {"caption": "x", "references": [{"role": "style", "image": "Style 1.png"}]}
    )
    assert composition.exists() and scene.exists()


@pytest.mark.parametrize(
    ("kind", "size"), [("BMP", (40, 30)), ("TIFF", (40, 30)), ("GIF", (40, 30)), ("PNG", (8200, 4100))]
)
def test_pictures_of_ones_own_may_be_all_that_a_run_takes(
    plugins: PluginRegistry, uploads: UploadFolder, tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    (tmp_path / "style").write_bytes(picture_bytes(kind, size, "red"))
    # Over the network it is refused.
    with pytest.raises(InputError):
        uploads.add(tmp_path / "style", "style")
    references = [{"role": "style", "image": "style"}]
    scene = write(tmp_path / "scene.yaml", {"caption": "x", "references": references})
    block = {"use": "ip_adapter", "checkpoint": "zoo://ip_adapter", "base": "zoo://base", "image_encoder":
             "zoo://image_encoder", "condition": {"references": references}}  # fmt: skip
    content = {"providers": [block], "aggregation": {"strategy": "single"}}
    (start, *_) = starting_points(write(tmp_path / "mine.yaml", content), scene, plugins, uploads)
    (name,) = {
        start.scene["references"][0]["image"],
        start.composition["providers"][0]["condition"]["references"][0]["image"],
    }
    kept = uploads.find(name)
    assert kept is not None
    with Image.open(kept) as picture:
        assert picture.size == size and picture.getpixel((3, 3)) == (255, 0, 0)


def test_words_that_are_the_name_of_something_stay_words(
    plugins: PluginRegistry, uploads: UploadFolder, tmp_path: Path
) -> None:
    (tmp_path / "fp16").mkdir()
    block = {"use": "stable_diffusion", "checkpoint": "hf://owner/model", "variant": "fp16"}
    content = {"providers": [block], "aggregation": {"strategy": "single"}}
    (start, *_) = starting_points(write(tmp_path / "mine.yaml", content), None, plugins, uploads)
    assert start.composition == content and start.files == ()


def test_files_of_a_strategy(uploads: UploadFolder, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("1")
    content = {"providers": [{"use": "toy"}], "aggregation": {"strategy": "table", "table": "table.csv"}}
    (start, *_) = starting_points(write(tmp_path / "mine.yaml", content), None, table_registry(), uploads)
    assert start.composition["aggregation"]["table"] == str(tmp_path / "table.csv")
    assert start.files == (tmp_path / "table.csv",)


@pytest.mark.parametrize(
    ("composition", "scene", "message"),
    [
        ({"providers": [{"use": "nothing"}]}, SCENE, "providers.0.use"),
        (COMPOSITION, {"caption": 3}, "caption"),
        (COMPOSITION, {"caption": "x", "references": [{"role": "style", "image": "none.png"}]}, "no such picture"),
        (COMPOSITION, {"caption": "x", "references": [{"role": "style", "image": "mine.yaml"}]}, "mine.yaml is not a picture"),
        ([], SCENE, "expected keys and values"),
        (SCENE, COMPOSITION, "swapped"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_ones_own_is_told(
    plugins: PluginRegistry, uploads: UploadFolder, tmp_path: Path, composition: Any, scene: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        starting_points(
            write(tmp_path / "mine.yaml", composition), write(tmp_path / "scene.yaml", scene), plugins, uploads
        )


def test_broken_examples_are_left_out(uploads: UploadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = discover({})
    good = Example("good", "Good.", write(tmp_path / "a.yaml", COMPOSITION), write(tmp_path / "b.yaml", SCENE))
    torn = Example("torn", "Torn.", write(tmp_path / "c.yaml", {"providers": 3}), write(tmp_path / "d.yaml", SCENE))
    gone = Example("gone", "Gone.", write(tmp_path / "e.yaml", COMPOSITION), write(tmp_path / "f.yaml", SCENE))
    (tmp_path / "f.yaml").unlink()
    offers = {one.name: Offer(one.name, one, FRAMEWORK) for one in (torn, good, gone)}
    monkeypatch.setattr(PluginRegistry, "examples", offers)
    with pytest.warns(UserWarning, match="is left out") as warned:
        starts = starting_points(None, None, plugins, uploads)
    assert [start.title for start in starts] == ["Good."]
    assert [word for word in ("torn", "gone") if any(f"example {word} of" in str(one.message) for one in warned)] == [
        "torn",
        "gone",
    ]


def test_without_any_example(uploads: UploadFolder, tmp_path: Path) -> None:
    plugins = discover({"AMDM_NO_PLUGINS": "1"})
    (start,) = starting_points(None, None, plugins, uploads)
    assert start.composition == {"providers": [{"use": "stable_diffusion"}]} and start.scene == {"caption": ""}
    shutil.rmtree(tmp_path / "output")
