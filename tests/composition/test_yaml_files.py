"""YAML as people write it: every mistake is named with its place, and what YAML itself misreads is caught."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from amdm_framework.errors import InputError
from amdm_framework.yaml_files import MAX_FILE_BYTES, apply_overrides, parse_yaml, problems_of, read_yaml, to_yaml


def problems(call, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_missing_file_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "shapes.yaml").write_text("a: 1")
    message = problems(read_yaml, tmp_path / "shape.yaml")
    assert "shape.yaml: no such file" in message and "Did you mean 'shapes.yaml'?" in message


def test_files_are_not_alike_for_their_ending(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text("a: 1")
    assert problems(read_yaml, tmp_path / "nosuch.yaml").endswith("nosuch.yaml: no such file")
    assert problems(read_yaml, tmp_path / "serach.yaml").endswith("Did you mean 'search.yaml'?")


def test_a_syntax_error_names_its_line() -> None:
    assert problems(parse_yaml, "providers:\n  - use: toy\n   bad: [1\n", "c.yaml").startswith("c.yaml: line 3: ")


def test_a_tab_is_named_with_its_line() -> None:
    assert "line 2" in problems(parse_yaml, "sampler:\n\tsteps: 3\n", "c.yaml")


@pytest.mark.parametrize("text", ["steps: 3\nsteps: 4\n", "sampler:\n  eta: 0\n  eta: 1\n", "- {a: 1, a: 2}\n"])
def test_a_doubled_key_is_refused(text: str) -> None:
    assert "stands here twice" in problems(parse_yaml, text, "c.yaml")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "the file is empty"),
        ("# caption: x\n", "the file is empty"),
        ("- 1", "list"),
        ("just words", "str"),
        ("? [a]\n: 1", "a key must be a word"),
    ],
)
def test_anything_but_a_mapping_is_refused(text: str, found: str) -> None:
    assert found in problems(parse_yaml, text, "c.yaml")


def test_tags_that_would_build_objects_are_refused() -> None:
    assert "not valid YAML" in problems(parse_yaml, "a: !!python/object/apply:os.system ['true']", "c.yaml")


def test_a_picture_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    for name, size in (("c.png", 8), ("huge.jpg", 1024)):
        Image.effect_noise((size, size), 100).save(tmp_path / name)
    png = problems(read_yaml, tmp_path / "c.png")
    assert png.endswith("c.png: this is a picture, expected a YAML file; `amdm rerun` draws a picture again")
    # Above the size of a file at which it is not looked at any more.
    assert (tmp_path / "huge.jpg").stat().st_size > MAX_FILE_BYTES
    assert problems(read_yaml, tmp_path / "huge.jpg").endswith("huge.jpg: this is a picture, expected a YAML file")
    (tmp_path / "weights.yaml").write_bytes(b"\xff\xfe")
    assert "cannot be read as text" in problems(read_yaml, tmp_path / "weights.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"a" * (4 * 2**20 + 1))
    assert "far too large" in problems(read_yaml, tmp_path / "huge.yaml")
    assert problems(read_yaml, tmp_path).endswith("this is a folder, expected a YAML file")


def test_overrides_reach_mappings_lists_and_new_keys() -> None:
    content = {"providers": [{"use": "toy"}], "aggregation": {"strategy": "amdm"}}
    apply_overrides(
        content,
        ["aggregation.steps=5", "providers.0.step_size=1e1", "sampler.eta=0.5", "aggregation.weights=[0.3]", "release=true",
         "providers.0.notes=a=b"],
    )  # fmt: skip
    assert content == {
        "providers": [{"use": "toy", "step_size": "1e1", "notes": "a=b"}],
        "aggregation": {"strategy": "amdm", "steps": 5, "weights": [0.3]},
        "sampler": {"eta": 0.5},
        "release": True,
    }


def test_a_member_is_reached_by_its_name() -> None:
    content = {"providers": [{"use": "toy"}, {"use": "toy", "name": "style"}, {"use": "layout", "name": "1"}]}
    apply_overrides(content, ["providers.style.scale=2", "providers.toy.scale=1", "providers.1.device=cpu"])
    assert content["providers"][:2] == [
        {"use": "toy", "scale": 1},
        {"use": "toy", "name": "style", "scale": 2, "device": "cpu"},
    ]
    two = {"providers": [{"use": "toy"}, {"use": "toy"}]}
    assert "--set: providers.toy.scale: several members are called 'toy', give a position: providers.0 (toy), " in (
        problems(apply_overrides, two, ["providers.toy.scale=1"])
    )
    other = {"boxes": [{"name": "a"}]}
    assert "boxes.a.x: 'a' is no position in a list of 1" in problems(apply_overrides, other, ["boxes.a.x=1"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps", "expected KEY=VALUE"),
        ("=5", "expected KEY=VALUE"),
        ("providers.3.use=toy", "'3' is no position in a list of 1: providers.0 (toy)"),
        ("providers.first.use=toy", "'first' is no position in a list of 1, nor a member's name: providers.0 (toy)"),
        ("providers.-1.use=toy", "'-1' is no position"),
        ("release.x.y=1", "is not a key of a mapping"),
        ("release.x=1", "there is nothing below release"),
        ("a=[1", "--set: a: not valid YAML: a bracket is not closed"),
        ("a={b: 1", "--set: a: not valid YAML: a bracket is not closed"),
        ("a='b", "--set: a: not valid YAML: a quotation mark is not closed"),
        ("a={b: 1, b: 2}", "stands here twice"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(override: str, expected: str) -> None:
    assert expected in problems(apply_overrides, {"providers": [{"use": "toy"}], "release": True}, [override])


def test_yaml_that_was_written_reads_back() -> None:
    content = {"caption": 'ein Mädchen: "no"', "providers": [{"use": "toy", "name": "no"}], "eta": 1e-4}
    assert parse_yaml(to_yaml(content), "") == content


@pytest.mark.parametrize(
    "text",
    [
        "x: !!bool x",
        "x: !!timestamp x",
        "x: !!int abc",
        "? !!timestamp 2020-13-45",
        "x: 2020-13-45",
        "x: " + "9" * 5000,
        "x: 0x" + "f" * 5000,
        "x: 18446744073709551616",
        "x: &a [*a]",
        "x: &a {b: *a}",
        "a: &a [x, x]\n"
        + "\n".join(f"k{n}: &{b} [*{a}, *{a}]" for n, (a, b) in enumerate(pairwise("abcdefghijklmnopqr"))),
    ],
)
def test_values_that_yaml_cannot_make_or_that_are_endless(text: str) -> None:
    assert "not valid YAML" in problems(parse_yaml, text, "f")
    content = {"a": 1}
    assert "not valid YAML" in problems(apply_overrides, content, [f"a={text}"])
    assert content == {"a": 1}


def test_aliases_and_the_largest_seed_are_fine() -> None:
    assert parse_yaml("a: &a [1, 18446744073709551615]\nb: *a", "f")["b"] == [1, 2**64 - 1]


def test_a_device_without_a_size_is_not_read_for_ever() -> None:
    assert "far too large" in problems(read_yaml, Path("/dev/zero"))


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**63 - 1)
            | st.floats(allow_nan=False)
            | st.text(max_size=60),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4)
            ),
            max_leaves=20,
        ),
        min_size=1,
    )
)
def test_written_data_reads_back_equal(content: dict[str, Any]) -> None:
    assert parse_yaml(to_yaml(content), "") == content


def test_what_is_short_takes_one_line_and_every_mapping_of_a_list_its_own() -> None:
    instance = {"phrase": "a red circle", "box": [0.1, 0.2, 0.3, 0.4]}
    interaction = {"subject": "circle", "action": "and", "object": "circle"}
    long = {"caption": "word " * 30, "sizes": [1, 2]}
    content = {
        "instances": {"circle": instance, "square": instance},
        "interactions": [interaction, interaction],
        "long": long,
    }

    assert to_yaml(content) == (
        "instances:\n"
        "  circle: {phrase: a red circle, box: [0.1, 0.2, 0.3, 0.4]}\n"
        "  square: {phrase: a red circle, box: [0.1, 0.2, 0.3, 0.4]}\n"
        "interactions:\n"
        "- {subject: circle, action: and, object: circle}\n"
        "- {subject: circle, action: and, object: circle}\n"
        "long:\n"
        f"  caption: '{'word ' * 30}'\n"
        "  sizes: [1, 2]\n"
    )


def test_what_is_of_another_kind_is_told_in_words_of_yaml() -> None:
    class Model(BaseModel):
        weights: tuple[float, ...] = ()
        names: list[str] = []
        boxes: dict[str, int] = {}
        word: str = Field("x", min_length=1)

    content = {"weights": 0.5, "names": "a", "boxes": 3, "word": ""}
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(content)
    assert [str(problem) for problem in problems_of(caught.value, Model)] == [
        "weights: expected a list, such as [1, 2], found 0.5",
        "names: expected a list, such as [1, 2], found 'a'",
        "boxes: expected keys and values, found 3",
        "word: is empty, expected text",
    ]
