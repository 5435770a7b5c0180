"""Whatever a page sends to the studio ends in an answer that says what is wrong, never in a defect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzzed_files import COMPOSITION, SCENE
from fuzzing import cases, remembering_reports
from hypothesis import given
from hypothesis import strategies as st
from mutations import VALUES, damaged, damaged_bytes, damaged_yaml
from studios import Studio, make_studio
from watching import watched

from amdm_framework.plugins import discover

METHODS = {
    "open": (),
    "check": ("composition", "scene"),
    "add_picture": ("path", "name"),
    "thumbnail": ("image",),
    "open_picture": ("path", "name"),
    "draw": ("composition", "scene", "seeds", "alone"),
    "jobs": ("known",),
    "cancel": ("job",),
    "picture": ("name",),
    "trace": ("job", "position"),
    "gallery": ("start",),
}
"""Every method of the studio with the keys that it looks at."""


@pytest.fixture(scope="module")
def studio(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A studio that draws nothing, to which the tiny models are open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amdm_framework.cost.inspect_members", remembering_reports())
        made = make_studio(tmp_path_factory.mktemp("studio"), discover({}), draw=lambda job: None, models=[home])
        (made.uploads.folder / "style-0123456789ab.png").write_bytes((home / "style.png").read_bytes())
        yield made
        made.jobs.close()


def ask(studio: Studio, method: str, data: Any) -> dict[str, Any]:
    """Ask the studio under watch and return its answer, which has to be one that JSON can hold."""
    with watched():
        answer = getattr(studio.service, method)(data)
    assert type(answer) is dict
    content = json.loads(json.dumps(answer, allow_nan=False).encode())
    assert "terminal" not in str(content.get("error", "")), content
    assert "root:" not in str(content)
    return dict(content)


def scene(image: str = "style-0123456789ab.png") -> dict[str, Any]:
    return {**SCENE, "references": [{**SCENE["references"][0], "image": image}]}


def as_sent(content: Any) -> Any:
    """Return content as it comes out of a request; what JSON has no word for cannot be sent."""
    return json.loads(json.dumps(content, skipkeys=True, default=str))


# Numbers of 4000 digits cannot be sent by a page; the web server refuses them.
SENT = [value for value in VALUES if not (isinstance(value, int) and abs(value) > 10**100)]
SENT += [
    {"$yaml": text}
    for text in ("", "[1, 2]", "x: [", "!!binary aGFsbG8=", "!!python/name:os.system", "&a [*a]", ".nan")
]
SENT += [{"$yaml": 3}, {"$yaml": None}, {"$yaml": {"$yaml": "1"}}, {"__proto__": {"a": 1}}]


@cases(0.03)
@given(composition=damaged(COMPOSITION, SENT), drawn=damaged(scene(), SENT))
def test_forms(studio: Studio, composition: Any, drawn: Any) -> None:
    session = studio.service.open({})["session"]
    data = {"session": session, "composition": as_sent(composition), "scene": as_sent(drawn)}
    answer = ask(studio, "check", data)
    assert (answer["cost"] is None) == bool(
        answer["incompatible"] or any(p["part"] == "composition" for p in answer["problems"])
    )
    assert not Path("canary").exists()


@cases(0.03)
@given(composition=damaged_yaml(COMPOSITION), drawn=damaged_yaml(scene()))
def test_typed_yaml(studio: Studio, composition: bytes, drawn: bytes) -> None:
    session = studio.service.open({})["session"]
    texts = {
        "composition": composition.decode("utf-8", "surrogateescape"),
        "scene": drawn.decode("utf-8", "surrogateescape"),
    }
    first = ask(studio, "check", {"session": session, **texts})
    if first["composition_yaml"] is not None and first["scene_yaml"] is not None:
        # The page shows the text that comes back, and sends it again.
        written = {"composition": first["composition_yaml"], "scene": first["scene_yaml"]}
        assert ask(studio, "check", {"session": session, **written}) == first
    assert not Path("canary").exists()


@cases(0.04)
@given(data=st.data())
def test_every_key_of_every_question(studio: Studio, data: st.DataObject) -> None:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(SENT),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
    method = data.draw(st.sampled_from(sorted(METHODS)))
    good = {"session": studio.service.open({})["session"], "composition": COMPOSITION, "scene": scene(), "seeds": ["1"]}
    sent = {key: good[key] for key in ("session", *METHODS[method]) if key in good}
    for key in data.draw(st.lists(st.sampled_from(["session", *METHODS[method]]), min_size=1, max_size=3)):
        if data.draw(st.booleans()):
            sent[key] = data.draw(values)
        else:
            sent.pop(key, None)
    ask(studio, method, data.draw(st.sampled_from([sent, sent, sent, data.draw(values)])))


@cases(0.02)
@given(data=st.data())
def test_uploads(studio: Studio, home: Path, data: st.DataObject) -> None:
    session = studio.service.open({})["session"]
    content = data.draw(damaged_bytes((home / "style.png").read_bytes(), 400))
    name = data.draw(st.text())
    for method in ("add_picture", "open_picture"):
        path = studio.arrive(content, "picture.png")
        answer = ask(studio, method, {"session": session, "path": str(path), "name": name})
        assert str(studio.incoming.folder) not in str(answer)
        assert studio.arrived() == []
