"""A page names uploads, opened folders and what the studio was started with; nothing else, whether it is there or not."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from studios import SCENE, Page, Studio, make_studio, picture_bytes

from amdm_framework.plugins import PluginRegistry
from amdm_framework.testing.tiny_models import write_diffusers_folder
from table_strategy import Table, table_registry

REFUSAL = "leads out of the folders that this studio may read"


def composition(checkpoint: Any, **options: Any) -> dict[str, Any]:
    """Return a composition of one model."""
    return {
        "providers": [{"use": "stable_diffusion", "checkpoint": checkpoint, **options}],
        "aggregation": {"strategy": "single"},
        "sampler": {"steps": 2},
    }


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `models/tiny`, which will be opened, and `secret/tiny`, which will not."""
    folder = tmp_path_factory.mktemp("places")
    for name in ("models", "secret"):
        write_diffusers_folder(folder / name / "tiny")
    (folder / "secret" / "picture.png").write_bytes(picture_bytes())
    (folder / "models" / "link").symlink_to(folder / "secret")
    (folder / "models" / "dangling").symlink_to(folder / "secret" / "none")
    (folder / "models" / "loop").symlink_to(folder / "models" / "loop")
    (folder / "models-2").symlink_to(folder / "secret")
    return folder


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, plugins: PluginRegistry, places: Path) -> Iterator[Studio]:
    """A studio that was started with `models`."""
    made = make_studio(tmp_path_factory.mktemp("studio"), plugins, draw=lambda job: None, models=[places / "models"])
    yield made
    made.jobs.close()


@pytest.fixture
def page(studio: Studio) -> Page:
    return studio.page()


def test_weights_in_opened_folders(page: Page, places: Path) -> None:
    for name in ("tiny", "./tiny", str(places / "models" / "tiny"), str(places / "secret" / ".." / "models" / "tiny")):
        answer = page.check(composition(name), {"caption": "x"})
        assert answer["problems"] == [] and answer["cost"]["bytes"] > 0
        # The page keeps what it wrote.
        assert answer["composition"]["providers"][0]["checkpoint"] == name


@pytest.mark.parametrize("thing", ["tiny", "none", "picture.png", "tiny/unet"])
def test_paths_that_lead_out(page: Page, places: Path, thing: str) -> None:
    secret = places / "secret" / thing
    for path in (
        *(
            secret,
            f"../../{thing}",
            f"../models/../../secret/{thing}",
            f"link/{thing}",
            places / "models" / "link" / thing,
        ),
        *(
            f"{places}/models/../secret/{thing}",
            places / "models-2" / thing,
            f"{places}//secret/./{thing}",
            "/",
            "..",
            "/etc",
        ),
        *("/etc/passwd", "~root/.ssh/id_rsa", "~nobody-at-all/x", "~", "/proc/self/environ", "/dev/zero", "/dev/stdin"),
        *(
            "loop",
            "loop/x",
            "dangling",
            places / "models" / "loop",
            "x" * 5000 + "/../../../etc",
            "../" * 40 + "etc/passwd",
            f"/nowhere:://../..{secret}",
            f"/{thing}://x",
            f"../{thing}://x",
        ),
    ):
        problems = page.problems(composition(str(path)), {"caption": "x"})
        assert list(problems) == [("composition", "providers.0.checkpoint")], path
        assert problems["composition", "providers.0.checkpoint"].startswith(REFUSAL), path


def test_every_text_of_an_option_counts(page: Page, places: Path) -> None:
    secret = str(places / "secret" / "tiny")
    for options, key in [
        ({"vae": secret}, "vae"),
        ({"tokenizer": secret}, "tokenizer"),
        ({"loras": [{"checkpoint": f"{secret}/lora.safetensors"}]}, "loras.0.checkpoint"),
        ({"variant": "../../secret"}, "variant"),
    ]:
        problems = page.problems(composition("tiny", **options), {"caption": "x"})
        assert REFUSAL in problems["composition", f"providers.0.{key}"], problems


@pytest.mark.parametrize(
    "reference",
    ["file:///etc/passwd", "http://127.0.0.1/x", "https://example.com/x.ckpt", "ftp://x/y", "FILE:///etc/passwd", "://x",
     "zoo://../../../etc/passwd", "zoo:///etc/passwd", "zoo://base/../../x", "hf://../../etc/passwd", "hf:///etc/passwd",
     "hf://a/b/../../../../etc/passwd", "data://x", "zoo://base\0"],
)  # fmt: skip
def test_references_to_elsewhere_lead_to_no_file(page: Page, reference: str) -> None:
    answer = page.check(composition(reference), {"caption": "x"})
    assert answer["problems"] or answer["cost"]["members"][0]["downloads"] or answer["cost"]["bytes"] == 0, answer
    assert "root:" not in str(answer)


def test_nothing_is_fetched_while_checking(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    answer = page.check(composition("hf://owner/model"), {"caption": "x"})
    assert answer["problems"] == [] and answer["cost"]["members"][0]["downloads"] == ["hf://owner/model"]


def test_binary_texts_are_no_way_past(page: Page, places: Path) -> None:
    # pydantic takes bytes for text; whoever looks for texts does not.
    for path in (places / "secret" / "tiny", places / "secret" / "none", "/etc/passwd"):
        hidden = f"!!binary {base64.b64encode(str(path).encode()).decode()}"
        text = f"providers: [{{use: stable_diffusion, checkpoint: {hidden}}}]\nsampler: {{steps: 2}}\n"
        assert "bytes" in page.problems(text, {"caption": "x"})["composition", "providers.0.checkpoint"]
        scene = f"caption: x\nreferences: [{{role: style, image: {hidden}}}]\n"
        assert "bytes" in page.problems(scene=scene)["scene", "references.0.image"]
        typed = {"caption": "x", "references": [{"role": "style", "image": {"$yaml": hidden}}]}
        assert "bytes" in page.problems(scene=typed)["scene", "references.0.image"]


def test_pictures_of_a_scene_are_uploads(page: Page, studio: Studio, places: Path) -> None:
    def scene(image: Any) -> dict[str, Any]:
        return {**SCENE, "references": [{"role": "style", "image": image}]}

    name = page.ask("add_picture", path=str(studio.arrive(picture_bytes())), name="style.png")["image"]
    assert page.problems(scene=scene(name)) == {}
    messages = set()
    for image in (
        *(places / "secret" / "picture.png", places / "secret" / "none.png", "../../secret/picture.png", "/etc/passwd"),
        *(
            f"./{name}",
            f"../uploads/{name}",
            f"{studio.uploads.folder}/{name}",
            f"~/{name}",
            "~nobody-at-all/x",
            "",
            ".",
        ),
        *(f"{name}\0", f"{name}/", f"file://{name}", "x" * 5000, "none-0123456789ab.png"),
    ):
        problems = page.problems(scene=scene(str(image)))
        assert list(problems) == [("scene", "references.0.image")], image
        message = problems["scene", "references.0.image"]
        assert message.startswith("there is no uploaded picture ") and str(places) not in message
        messages.add(message.replace("none.png", "picture.png"))
    # Whether there is such a file makes no difference.
    assert len([message for message in messages if "'picture.png'" in message]) == 1
    for image in (3, None, ["x"], {"path": "/etc/passwd"}, True, 1.5):
        assert all(part == "scene" for part, _ in page.problems(scene=scene(image)))


def test_pictures_of_a_condition_are_uploads(page: Page, studio: Studio, places: Path) -> None:
    def with_condition(image: Any) -> dict[str, Any]:
        block = {"use": "ip_adapter", "checkpoint": "zoo://ip_adapter", "base": "zoo://base",
                 "image_encoder": "zoo://image_encoder", "condition": {"references": [image]}}  # fmt: skip
        return {"providers": [block], "aggregation": {"strategy": "single"}, "sampler": {"steps": 2}}

    name = page.ask("add_picture", path=str(studio.arrive(picture_bytes())), name="style.png")["image"]
    # The model asks the scene for one, too.
    scene = {**SCENE, "references": [{"role": "style", "image": name}]}
    assert page.problems(with_condition({"role": "style", "image": name}), scene) == {}
    found = [
        page.problems(with_condition({"role": "style", "image": str(places / "secret" / f"{thing}.png")}), scene)
        for thing in ("picture", "none")
    ]
    for problems in found:
        ((key, message),) = problems.items()
        assert key == ("composition", "providers.0.condition.references.0.image") and "no uploaded picture" in message
    assert str(places) not in str(found)


def test_what_the_studio_was_started_with(tmp_path: Path, places: Path, studio_with: Callable[..., Studio]) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(composition(str(places / "secret" / "tiny"))))
    page = studio_with(composition=tmp_path / "mine.yaml").page()
    assert page.problems(composition(str(places / "secret" / "tiny")), {"caption": "x"}) == {}
    for path in (places / "secret", places / "secret" / "picture.png", places / "models" / "tiny", "mine.yaml"):
        problems = page.problems(composition(str(path)), {"caption": "x"})
        assert problems, path


def test_the_studio_tells_no_folders_of_its_own(page: Page, studio: Studio) -> None:
    told = str(page.check(composition("none"), {"caption": "x"}))
    assert "none: no such file or folder" in told
    assert str(studio.output) not in told and str(Path.home()) not in told


def test_schemes_of_plugins_tell_no_folders(page: Page, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = places / "secret"
    monkeypatch.setattr(PluginRegistry, "checkpoint_sources", {"data": lambda name: hidden / "none" / name})
    problems = page.problems(composition("data://weights"), {"caption": "x"})
    (message,) = problems.values()
    assert "data://weights" in message and str(hidden) not in message and "secret" not in message


@pytest.fixture
def page_with_tables(tmp_path: Path, places: Path) -> Iterator[Page]:
    """The page of a studio, to which `models` is open, with a strategy that opens a file as soon as it is made."""
    (places / "models" / "table.csv").write_text("1,2")
    (places / "secret" / "table.csv").write_text("secret")
    made = make_studio(tmp_path, table_registry(), draw=lambda job: None, models=[places / "models"])
    yield made.page()
    made.jobs.close()


def test_files_of_a_strategy(page_with_tables: Page, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(Table, "opened", opened.append)
    # Relative paths are none of the folder in which the studio was started.
    monkeypatch.chdir(places / "secret")

    def with_table(table: Any, **options: Any) -> dict[str, Any]:
        aggregation = {"strategy": "table", "table": table, **options}
        return {"providers": [{"use": "toy"}], "aggregation": aggregation, "sampler": {"steps": 2}}

    for name in ("table.csv", str(places / "models" / "table.csv")):
        assert page_with_tables.problems(with_table(name), {"caption": "x"}) == {}
        assert opened.pop() == places / "models" / "table.csv" and opened == []
    secret = places / "secret" / "table.csv"
    for path in (secret, places / "secret" / "none", "../secret/table.csv", "link/table.csv", "/etc/passwd", "~/x"):
        problems = page_with_tables.problems(with_table(str(path)), {"caption": "x"})
        assert list(problems) == [("composition", "aggregation.table")], path
        assert problems["composition", "aggregation.table"].startswith(REFUSAL), path
    for options, key in [
        ({"nets": {"a": "table.csv", "b": str(secret)}}, "nets.b"),
        ({"notes": str(secret)}, "notes"),
    ]:
        problems = page_with_tables.problems(with_table("table.csv", **options), {"caption": "x"})
        assert problems["composition", f"aggregation.{key}"].startswith(REFUSAL)
    assert opened == []
    # Where no such file was opened to the page, it is one of the folder of uploads, where nothing is.
    page_with_tables.check(with_table("other.csv"), {"caption": "x"})
    assert opened.pop() == page_with_tables.studio.uploads.folder / "other.csv"
