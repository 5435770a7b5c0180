"""Drafts: what a page is working on, as forms or as YAML, is read, checked and priced as the command line does."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from studios import COMPOSITION, SCENE, Page, Studio

from amdm_framework.plugins import PluginRegistry
from amdm_framework.studio.drafts import DraftChecker
from amdm_framework.studio.limits import MOST_ENTRIES, MOST_MEMBERS, MOST_STEPS
from amdm_framework.testing.tiny_models import TINY_UNET, write_diffusers_folder
from command_line import invoke


@pytest.fixture
def page(studio: Studio) -> Page:
    return studio.page()


def changed(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return content with the value at a dotted path replaced, or added."""
    result = copy.deepcopy(content)
    place: Any = result
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    return result


def test_what_can_be_drawn(page: Page) -> None:
    answer = page.check()
    assert answer["problems"] == [] and answer["incompatible"] == ""
    assert (answer["composition"], answer["scene"]) == (COMPOSITION, SCENE)
    # Three steps of the target, two of the other.
    assert answer["cost"]["evaluations"] == 5
    assert yaml.safe_load(answer["composition_yaml"]) == COMPOSITION and yaml.safe_load(answer["scene_yaml"]) == SCENE


def test_forms_and_yaml_are_equal(page: Page) -> None:
    first = page.check()
    assert page.check(first["composition_yaml"], first["scene_yaml"]) == first
    assert page.check(json.dumps(COMPOSITION), json.dumps(SCENE)) == first


def test_the_cost_is_that_of_amdm_check(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for dtype in ("float32", "bfloat16", "float32"):
        composition = {**COMPOSITION, "dtype": dtype}
        Path("composition.yaml").write_text(yaml.safe_dump(composition))
        Path("scene.yaml").write_text(yaml.safe_dump(SCENE))
        told = json.loads(
            invoke("check", "composition.yaml", "--scene", "scene.yaml", "--json", "--device", "cpu").stdout
        )
        assert told.pop("compatible") is True
        assert page.check(composition)["cost"] == told


@pytest.mark.parametrize(
    ("path", "value", "key", "message"),
    [
        ("providers.0.use", "migcc", "providers.0.use", "Did you mean 'migc'"),
        ("providers.1.checkpoint", "zoo://none", "providers.1", "no such model"),
        ("providers.1.nothing", 1, "providers.1.nothing", "unknown key"),
        ("providers.1.guidance_scale", "x", "providers.1.guidance_scale", "expected a number"),
        ("providers.1.condition", {"negative": 3}, "providers.1.condition.negative", "valid string"),
        ("providers.1.condition", {"nothing": 3}, "providers.1.condition.nothing", "unknown key"),
        ("providers.0.device", "cuda:99", "providers.0.device", "cuda"),
        ("aggregation.strategy", "none", "aggregation.strategy", "there is no strategy"),
        ("aggregation.steps", 99, "aggregation.steps", "99"),
        ("sampler.steps", 0, "sampler.steps", "greater than or equal to 1"),
        ("sampler.eta", 3, "sampler.eta", "less than or equal to 1"),
        ("sampler.height", 65, "sampler.height", "multiple of 8"),
        ("sampler.width", 4104, "sampler.width", "4096 at most in the studio"),
        ("nothing", 1, "nothing", "unknown key"),
        ("providers", [], "providers", "at least one"),
        ("providers", 3, "providers", "expected a list"),
    ],
)
def test_problems_of_a_composition(page: Page, path: str, value: Any, key: str, message: str) -> None:
    problems = page.problems(changed(COMPOSITION, path, value))
    assert message in problems["composition", key], problems
    assert {part for part, _ in problems} == {"composition"}


@pytest.mark.parametrize(
    ("path", "value", "key", "message"),
    [
        ("instances.star.box", [0.5, 0.5, 0.1, 0.9], "instances.star.box", "reversed"),
        ("instances.star.phrase", "", "instances.star.phrase", "is empty, expected text"),
        ("interactions.0.subject", "moon", "interactions.0.subject", "no instance named 'moon'"),
        ("caption", 3, "caption", "valid string"),
        ("__proto__", {"polluted": True}, "__proto__", "unknown key"),
        ("constructor", {"prototype": {}}, "constructor", "unknown key"),
        (
            "references",
            [{"role": "style", "image": "none.png"}],
            "references.0.image",
            "no uploaded picture 'none.png'",
        ),
    ],
)
def test_problems_of_a_scene(page: Page, path: str, value: Any, key: str, message: str) -> None:
    problems = page.problems(scene=changed(SCENE, path, value))
    assert message in problems["scene", key], problems
    assert {part for part, _ in problems} == {"scene"}


def test_both_parts_are_told_at_once(page: Page) -> None:
    assert set(page.problems({"providers": [{"use": "x"}]}, {"captoin": "x"})) == {
        ("composition", "providers.0.use"),
        ("scene", "captoin"),
    }


@pytest.mark.parametrize("names", [(None, None), ("a", "a-b"), ("a-b", "a"), ("a b", "a")])
def test_what_a_member_misses_is_told_at_the_member(page: Page, names: tuple[str | None, str | None]) -> None:
    # One name begins like the other.
    blocks = [{"use": "stable_diffusion", "checkpoint": "zoo://base", "name": name} for name in names]
    for position in (0, 1):
        composition = {"providers": copy.deepcopy(blocks), "sampler": {"steps": 2}, "aggregation": {"steps": 1}}
        composition["providers"][position]["condition"] = {"prompt": 3}
        assert list(page.problems(composition)) == [("composition", f"providers.{position}.condition.prompt")]


def test_what_a_scene_lacks_is_told_at_the_member(page: Page) -> None:
    blocks = [*COMPOSITION["providers"], {"use": "ip_adapter", "checkpoint": "zoo://ip_adapter", "base": "zoo://base",
                                          "image_encoder": "zoo://image_encoder"}]  # fmt: skip
    problems = page.problems({**COMPOSITION, "providers": blocks})
    assert list(problems) == [("composition", "providers.2")] and "picture" in problems["composition", "providers.2"]


def test_models_that_do_not_fit(plugins: PluginRegistry, studio_with: Any, tmp_path: Path) -> None:
    # Four latent channels beside the zoo's eight.
    write_diffusers_folder(tmp_path / "models" / "tiny")
    page = studio_with(models=[tmp_path / "models"]).page()
    blocks = [
        {"use": "stable_diffusion", "checkpoint": "zoo://base"},
        {"use": "stable_diffusion", "checkpoint": "tiny"},
    ]
    answer = page.check({"providers": blocks}, {"caption": "x"})
    assert answer["cost"] is None and answer["problems"] == []
    assert "channels" in answer["incompatible"]
    told = page.ask("draw", composition={"providers": blocks}, scene={"caption": "x"}, seeds=["1"])
    assert told["draft"]["incompatible"] == answer["incompatible"]


def test_typed_values(page: Page) -> None:
    for typed, value in [("[1.0, 0.5]", [1.0, 0.5]), ("- 1\n- 2", [1, 2]), (" {a: 1}", {"a": 1}), ("null", None), ("", None),
                         ("'x'", "x"), ("a: 1\nb: [2]", {"a": 1, "b": [2]}), ("|\n  one\n  two", "one\ntwo")]:  # fmt: skip
        answer = page.check(changed(COMPOSITION, "providers.1.ca_scale", {"$yaml": typed}))
        assert answer["composition"]["providers"][1]["ca_scale"] == value


def test_typed_values_that_are_wrong(page: Page) -> None:
    typed = changed(COMPOSITION, "providers.1.ca_scale", {"$yaml": "[1,\n2"})
    problems = page.problems(typed)
    assert list(problems) == [("composition", "providers.1.ca_scale")]
    assert "not closed" in problems["composition", "providers.1.ca_scale"]
    # What is typed stays below its key.
    for escape in ("1\nname: other", "1\n}\nname: other", "1\n---\nname: other"):
        answer = page.check(changed(COMPOSITION, "providers.1.ca_scale", {"$yaml": escape}))
        assert answer["problems"] and "other" not in str(
            (answer["composition"] or {}).get("providers", [{}, {}])[1].get("name")
        )
    # In YAML, the mark is a key like any other.
    answer = page.check(yaml.safe_dump(changed(COMPOSITION, "providers.1.ca_scale", {"$yaml": "1"})))
    assert answer["composition"]["providers"][1]["ca_scale"] == {"$yaml": "1"} and answer["problems"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        "x: [",
        "a: 1\na: 2",
        "x: !!python/object/apply:os.system [id]",
        "x: !!python/name:os.system",
        "&a [*a]",
        "\0",
    ],
)
def test_yaml_that_cannot_be_read(page: Page, text: str) -> None:
    answer = page.check(text, SCENE)
    assert answer["composition"] is None and answer["composition_yaml"] is None and answer["cost"] is None
    assert [(one["part"], one["key"]) for one in answer["problems"]] == [("composition", "")]
    assert answer["scene"] == SCENE


@pytest.mark.parametrize(
    "value",
    ["2020-01-01", "!!binary aGFsbG8=", ".nan", ".inf", "!!set {a, b}", "!!pairs [a: 1]", "{1: a}", "{2020-01-01: a}", "{yes: a}",
     '"\\ud800"', "1" * 25, "[[[" * 20 + "]]]" * 20],
)  # fmt: skip
def test_values_that_json_has_no_word_for(page: Page, value: str) -> None:
    answer = page.check(COMPOSITION, f"caption: x\nextra: {value}")
    assert answer["scene"] is None and [one["part"] for one in answer["problems"]] == ["scene"]
    if len(value) < 25:
        assert answer["problems"][0]["key"].startswith("extra")


@pytest.mark.parametrize("content", [None, 3, [], [{}], True, "text", {"providers": None}, {"providers": {}}, {}])
def test_what_is_no_draft(page: Page, content: Any) -> None:
    answer = page.check(content, content)
    assert {one["part"] for one in answer["problems"]} >= {"composition"} and answer["cost"] is None


def test_amounts(page: Page) -> None:
    blocks = [{"use": "stable_diffusion", "checkpoint": "zoo://base"}] * (MOST_MEMBERS + 1)
    assert f"{MOST_MEMBERS} at most" in page.problems({"providers": blocks})["composition", "providers"]
    for steps in (MOST_STEPS + 1, 10**18, str(10**9), 1e9):
        problems = page.problems(changed(COMPOSITION, "sampler.steps", steps))
        assert f"{MOST_STEPS} at most" in problems["composition", "sampler.steps"]
    many = {f"a{number}": {"phrase": "x", "box": [0, 0, 1, 1]} for number in range(MOST_ENTRIES + 1)}
    acts = [{"subject": "star", "action": "x", "object": "star"}] * (MOST_ENTRIES + 1)
    problems = page.problems(scene={**SCENE, "instances": many, "interactions": acts})
    assert set(problems) == {("scene", "instances"), ("scene", "interactions")}
    alone = {"providers": blocks[:1], "aggregation": {"strategy": "single"}}
    assert not page.problems(alone, {"caption": "x", "instances": dict(list(many.items())[:MOST_ENTRIES])})


def test_sizes(page: Page) -> None:
    for written in ({"caption": "x" * 2**18}, "caption: " + "x" * 2**18):
        assert "262144 at most" in page.problems(scene=written)["scene", ""]
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "65536 values" in page.problems(scene="\n".join(lines))["scene", ""]
    # Each of these is small enough by itself.
    bomb = {"$yaml": "\n".join(f"- {line}" for line in [f"&a [{', '.join(['x'] * 200)}]", *["*a"] * 200])}
    assert "values at most" in str(page.problems(scene={"caption": "x", "extra": [bomb] * 50}))


def test_a_draft_is_a_copy(studio: Studio) -> None:
    content = copy.deepcopy(COMPOSITION)
    draft = studio.drafts.check(content, SCENE)
    assert draft.composition == content and draft.composition is not content
    assert draft.resolved is not None and draft.drawn is not None
    assert replace(draft, cost=None).for_page()["cost"] is None


def test_other_dtypes_and_devices_are_those_of_the_command_line(plugins: PluginRegistry, studio: Studio) -> None:
    half = DraftChecker(plugins, studio.files, "cpu", "bfloat16").check(COMPOSITION, SCENE).cost
    full = studio.drafts.check(COMPOSITION, SCENE).cost
    assert half is not None and full is not None
    assert half.dtype == "bfloat16" and full.dtype == "float32" and 2 * half.bytes == full.bytes


def test_a_download_is_told_until_it_is_there(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    block = {"use": "stable_diffusion", "checkpoint": "hf://owner/tiny"}
    composition = {"providers": [block], "aggregation": {"strategy": "single"}, "sampler": {"steps": 2}}
    for _ in range(2):
        (member,) = page.check(composition, {"caption": "x"})["cost"]["members"]
        assert member["downloads"] == ["hf://owner/tiny"]
    repository = tmp_path / "hub" / "models--owner--tiny"
    write_diffusers_folder(repository / "snapshots" / "0" / "")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0")
    (member,) = page.check(composition, {"caption": "x"})["cost"]["members"]
    assert member["downloads"] == [] and member["components"]


def test_local_models_are_looked_at_again_when_they_change(studio_with: Any, tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "models" / "tiny")
    write_diffusers_folder(tmp_path / "models" / "other", seed=1, text_seed=0, vae_seed=0)
    page = studio_with(models=[tmp_path / "models"]).page()
    blocks = [{"use": "stable_diffusion", "checkpoint": name, "name": name} for name in ("other", "tiny")]
    composition = {"providers": blocks, "aggregation": {"strategy": "linear"}, "sampler": {"steps": 4}}
    assert page.check(composition, {"caption": "x"})["incompatible"] == ""
    config = folder / "scheduler" / "scheduler_config.json"
    good = config.read_text()
    # Of the same length, and soon after: that it is another file is told by its time of change.
    config.write_text(json.dumps({**json.loads(good), "beta_end": 0.5}).ljust(len(good)))
    assert "alphas_cumprod" in page.check(composition, {"caption": "x"})["incompatible"]
    config.write_text(good)
    assert page.check(composition, {"caption": "x"})["incompatible"] == ""
    before = page.check(composition, {"caption": "x"})["cost"]["bytes"]
    shutil.rmtree(folder)
    assert "no such file or folder" in str(page.problems(composition, {"caption": "x"}))
    write_diffusers_folder(folder, unet_config={**TINY_UNET, "block_out_channels": (64, 64)})
    assert page.check(composition, {"caption": "x"})["cost"]["bytes"] > before


@pytest.mark.parametrize("name", ["0", "12"])
def test_names_whose_place_a_page_cannot_keep(page: Page, name: str) -> None:
    instances = {**SCENE["instances"], name: SCENE["instances"]["star"]}
    answer = page.check(COMPOSITION, {**SCENE, "instances": instances})
    (problem,) = answer["problems"]
    assert (problem["part"], problem["key"]) == ("scene", f"instances.{name}")
    assert "cannot keep its place" in problem["message"]


@pytest.mark.parametrize("name", ["01", "2 stars", "-1", "1.5"])
def test_names_that_only_begin_like_numbers(page: Page, name: str) -> None:
    instances = {**SCENE["instances"], name: SCENE["instances"]["star"]}
    assert page.check(COMPOSITION, {**SCENE, "instances": instances})["problems"] == []
