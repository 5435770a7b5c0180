"""What the studio draws is what `amdm run` draws of the same composition, scene and seed; and it can be drawn again."""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from studios import COMPOSITION, SCENE, Page, Studio, make_studio, picture_bytes

from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import PluginRegistry
from amdm_framework.record import read_record
from amdm_framework.studio.jobs import Job
from amdm_framework.testing.tiny_models import write_diffusers_folder
from command_line import invoke


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_diffusers_folder(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, plugins: PluginRegistry, models: Path) -> Iterator[Studio]:
    """A studio whose models stay loaded over the tests."""
    made = make_studio(tmp_path_factory.mktemp("studio"), plugins, models=[models])
    yield made
    made.jobs.close()


@pytest.fixture
def page(studio: Studio) -> Page:
    return studio.page()


def by_command_line(folder: Path, composition: Any, scene: Any, *seeds: str) -> list[np.ndarray]:
    """Return the pictures of `amdm run`."""
    (folder / "composition.yaml").write_text(yaml.safe_dump(composition, sort_keys=False))
    (folder / "scene.yaml").write_text(yaml.safe_dump(scene, sort_keys=False))
    options = [word for seed in seeds for word in ("--seed", seed)]
    files = invoke(
        "run", folder / "composition.yaml", "--scene", folder / "scene.yaml", *options, "--output", folder / "drawn",
        "--device", "cpu", "--no-progress",
    ).stdout.split()  # fmt: skip
    return [pixels(Path(file)) for file in files]


def test_the_pictures_of_amdm_run(page: Page, studio: Studio, tmp_path: Path) -> None:
    job = page.finished(page.draw(seeds=["3", "18446744073709551615"], alone=True))
    assert (job["state"], job["error"]) == ("done", "")
    names = [member["use"] for member in COMPOSITION["providers"]]
    assert [view["name"] for view in job["views"]] == ["", *names]
    expected = by_command_line(tmp_path, COMPOSITION, SCENE, "3", "18446744073709551615")
    for file, picture in zip(job["views"][0]["files"], expected, strict=True):
        np.testing.assert_array_equal(pixels(studio.output / file), picture)
    for position, view in enumerate(job["views"][1:]):
        alone = {
            **COMPOSITION,
            "providers": [COMPOSITION["providers"][position]],
            "aggregation": {"strategy": "single"},
        }
        expected = by_command_line(tmp_path, alone, SCENE, "3", "18446744073709551615")
        for file, picture in zip(view["files"], expected, strict=True):
            assert file.startswith("alone/")
            np.testing.assert_array_equal(pixels(studio.output / file), picture)
    assert job["views"][0]["evaluations"] == {"interactdiffusion": 3, "migc": 2}
    assert job["step"] == job["steps"] == 9 and job["seconds"] > 0
    assert job["content"] == {"composition": COMPOSITION, "scene": SCENE} and job["previews"] == []


def test_pictures_can_be_drawn_again(page: Page, studio: Studio, models: Path, tmp_path: Path) -> None:
    name = page.ask("add_picture", path=str(studio.arrive(picture_bytes(size=(64, 64)))), name="style.png")["image"]
    composition = {
        "providers": [
            {"use": "stable_diffusion", "checkpoint": "tiny"},
            {"use": "stable_diffusion", "checkpoint": str(models / "tiny"), "name": "other", "condition": {"prompt": "blue"}},
        ],
        "aggregation": {"strategy": "linear", "steps": 1},
        "sampler": {"steps": 2, "eta": 0.5},
    }  # fmt: skip
    scene = {"caption": "red", "references": [{"role": "style", "image": name}]}
    job = page.finished(page.draw(composition, scene, seeds=["5"]))
    assert job["state"] == "done", job
    picture = studio.output / job["views"][0]["files"][0]
    record = read_record(picture)
    # Names only; folders are nobody's business.
    assert [block["checkpoint"] for block in record.composition["providers"]] == ["tiny", "tiny"]  # type: ignore[union-attr,index,call-overload]
    assert str(models) not in record.model_dump_json() and str(studio.output) not in record.model_dump_json()
    # Uploads are found where they lie, by those of single members, too.
    single = page.finished(page.draw(composition, scene, seeds=["5"], alone=True))["views"][1]["files"][0]
    for one in (picture, studio.output / single):
        again = invoke("rerun", one, "--models", models, "--output", tmp_path, "--device", "cpu").stdout.strip()
        np.testing.assert_array_equal(pixels(Path(again)), pixels(one))
    # The page gets it back, too.
    opened = page.ask("open_picture", name=picture.name)
    assert opened["seed"] == "5" and page.problems(opened["composition"], opened["scene"]) == {}


def test_names_of_files(page: Page, studio: Studio, tmp_path: Path) -> None:
    quick = {"providers": [{"use": "stable_diffusion", "checkpoint": "tiny", "name": "../../évil"}], "sampler": {"steps": 1},
             "aggregation": {"strategy": "single"}}  # fmt: skip
    seen = set()
    for caption, stem in [
        ("../../../etc/passwd", "etc-passwd"), ("Ünïcode / Größe", "unicode-groe"), ("", "picture"), ("\0\n\r", "picture"),
        ("x" * 300, "x" * 48), ("CON", "con"), ("😀", "picture"), ("-rf ~", "rf"), (".hidden", "hidden"), ("$(id)`id`", "id-id"),
    ]:  # fmt: skip
        job = page.finished(page.draw(quick, {"caption": caption}, seeds=["7"]))
        assert job["state"] == "done", job
        (file,) = job["views"][0]["files"]
        assert file.startswith(f"{stem}-7") and "/" not in file and (studio.output / file).is_file()
        # Nothing is ever overwritten.
        assert file not in seen
        seen.add(file)
    both = {**quick, "providers": [*quick["providers"], {"use": "stable_diffusion", "checkpoint": "tiny"}]}  # type: ignore[misc]
    both["aggregation"] = {"strategy": "linear", "steps": 1}
    job = page.finished(page.draw(both, {"caption": "a"}, seeds=["7"], alone=True))
    assert [view["files"] for view in job["views"]] == [
        ["a-7.png"], ["alone/a-evil-7.png"], ["alone/a-stable-diffusion-7.png"],
    ]  # fmt: skip
    assert not list(studio.output.parent.glob("*.png"))


def test_a_job_is_told_while_it_is_drawn(page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    update = Job.update

    def watched(self: Job, **changes: Any) -> None:
        update(self, **changes)
        seen.append(page.job(self.key))

    monkeypatch.setattr(Job, "update", watched)
    page.finished(page.draw(alone=True))
    steps = [job["step"] for job in seen]
    assert steps == sorted(steps) and set(steps) == set(range(10)) and {job["steps"] for job in seen} == {0, 9} - {0}
    stages = list(dict.fromkeys(job["stage"] for job in seen))
    assert stages[:3] == ["loading the models", "drawing", "saving"]
    assert "drawing with migc alone" in stages
    first = next(job for job in seen if job["step"] == 1)
    assert [one["name"] for one in first["previews"]] == ["", "interactdiffusion", "migc"]
    assert all(one["image"].startswith("data:image/png;base64,") for one in first["previews"])


def test_cancelled_while_it_is_drawn(page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(studio.output.rglob("*.png"))
    started = threading.Event()
    update = Job.update

    def watched(self: Job, **changes: Any) -> None:
        update(self, **changes)
        if self.step == 1:
            started.set()

    monkeypatch.setattr(Job, "update", watched)
    slow = copy.deepcopy(COMPOSITION)
    slow["sampler"]["steps"] = 200
    key = page.draw(slow)
    assert started.wait(30)
    assert page.ask("cancel", job=key) == {}
    job = page.finished(key)
    assert job["state"] == "cancelled" and 0 < job["step"] < 200 and job["views"] == []
    assert sorted(studio.output.rglob("*.png")) == before
    # The next one is not concerned.
    assert page.finished(page.draw())["state"] == "done"


def test_cancelled_after_the_pictures_were_written(page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    add_view = Job.add_view

    def cancelling(self: Job, view: Any) -> None:
        page.ask("cancel", job=self.key)
        add_view(self, view)

    monkeypatch.setattr(Job, "add_view", cancelling)
    job = page.finished(page.draw(alone=True))
    assert job["state"] == "cancelled"
    assert [view["name"] for view in job["views"]] == [""] and (studio.output / job["views"][0]["files"][0]).exists()


def test_a_full_disk_is_told_before_anything_is_drawn(
    page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(studio.output)._replace(free=1000)
    calls: list[Any] = []
    draw = AMDMPipeline.__call__
    monkeypatch.setattr(AMDMPipeline, "__call__", lambda *args, **named: (calls.append(1), draw(*args, **named))[1])
    with monkeypatch.context() as patch:
        patch.setattr("amdm_framework.picture_files.shutil.disk_usage", lambda folder: full)
        job = page.finished(page.draw())
    assert job["state"] == "failed" and job["error"].startswith("no space") and str(studio.output) not in job["error"]
    assert not calls and job["views"] == []
    assert page.finished(page.draw())["state"] == "done"


def test_a_member_that_cannot_draw_alone(page: Page, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from amdm_framework.errors import InputError, Problem

    draw = AMDMPipeline.__call__

    def failing(self: AMDMPipeline, *arguments: Any, **named: Any) -> Any:
        if list(self.names) == ["interactdiffusion"]:
            raise InputError([Problem("it does not draw alone", file=str(studio.output))])
        return draw(self, *arguments, **named)

    monkeypatch.setattr(AMDMPipeline, "__call__", failing)
    job = page.finished(page.draw(alone=True))
    assert job["state"] == "done" and [view["name"] for view in job["views"]] == ["", "migc"]
    assert job["error"] == "interactdiffusion alone: it does not draw alone\n" and job["step"] == job["steps"]


def test_weights_that_are_gone_since_the_draft_was_checked(page: Page, studio: Studio, models: Path) -> None:
    write_diffusers_folder(models / "short-lived")
    composition = {"providers": [{"use": "stable_diffusion", "checkpoint": "short-lived"}], "sampler": {"steps": 1},
                   "aggregation": {"strategy": "single"}}  # fmt: skip
    # It waits behind another one, until they are gone.
    before = page.draw({**COMPOSITION, "sampler": {"steps": 500}})
    key = page.draw(composition, {"caption": "x"})
    for file in (models / "short-lived" / "unet").glob("*.safetensors"):
        file.unlink()
    assert page.job(key)["state"] == "waiting"
    page.ask("cancel", job=before)
    job = page.finished(key)
    assert job["state"] == "failed" and "short-lived" in job["error"] and "Traceback" not in job["error"]


def test_traces(page: Page) -> None:
    key = page.draw(seeds=["1", "2"])
    page.finished(key)
    for position in (0, 1):
        assert page.ask("trace", job=key, position=position)["uri"].startswith("data:image/png;base64,")
    for position in (2, -1, "0", None, 1.0, [0]):
        assert page.ask("trace", job=key, position=position) == {"error": "there is no such picture"}
    assert "error" in page.ask("trace", job="other")
