"""Three sources of jobs: one picture per scene, bad ones told apart from bad files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from amdm_framework.batch.jobs import Job, read_jobs, seed_of
from amdm_framework.errors import InputError

CIRCLE = {"phrase": "red circle", "box": [0.1, 0.1, 0.5, 0.5]}


def lines(path: Path, *scenes: Any) -> list[Job]:
    path.write_text("".join(f"{scene if isinstance(scene, str) else json.dumps(scene)}\n" for scene in scenes))
    return read_jobs(path)


def test_a_line_is_a_scene_with_a_name_and_a_seed_where_wanted(tmp_path: Path) -> None:
    jobs = lines(
        tmp_path / "scenes.jsonl",
        {"caption": "one", "name": "first", "seed": 2**64 - 1},
        "",
        {"caption": "two", "instances": {"circle": CIRCLE}},
    )
    assert [(one.name, one.file, one.error) for one in jobs] == [
        ("first", "first.png", ""),
        ("000003", "000003.png", ""),
    ]
    assert jobs[0].scene == {"caption": "one"} and jobs[0].seed == 2**64 - 1
    assert jobs[1].scene["instances"] == {"circle": CIRCLE}
    assert jobs[0].base_dir == str(tmp_path)


def test_the_lines_of_the_documentation(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "batch.md").read_text()
    documented = [line for line in page.splitlines() if line.startswith("{") and '"instances"' in line]
    Image.new("RGB", (8, 8)).save(tmp_path / "shapes_style.png")
    jobs = lines(tmp_path / "scenes.jsonl", *documented)
    assert [(one.name, one.error) for one in jobs] == [("first", ""), ("000002", "")] and jobs[0].seed == 7


def test_a_seed_that_is_not_given_follows_from_the_name_by_the_documented_rule(tmp_path: Path) -> None:
    (one,) = lines(tmp_path / "scenes.jsonl", {"caption": "x", "name": "pear"})
    digest = hashlib.sha256(b"0:pear").hexdigest()
    assert one.seed == int(digest[:8], 16) == seed_of("pear", 0)
    (other,) = read_jobs(tmp_path / "scenes.jsonl", base_seed=7)
    assert other.seed == int(hashlib.sha256(b"7:pear").hexdigest()[:8], 16) != one.seed
    assert other.scene_hash == one.scene_hash


def test_the_hash_is_the_scenes_alone_and_knows_the_order_of_instances(tmp_path: Path) -> None:
    square = {"phrase": "blue square", "box": [0.5, 0.5, 1, 1]}
    jobs = lines(
        tmp_path / "scenes.jsonl",
        {"instances": {"a": CIRCLE, "b": square}},
        {"instances": {"a": CIRCLE, "b": square}, "name": "named", "seed": 1},
        {"instances": {"b": square, "a": CIRCLE}},
    )
    assert jobs[0].scene_hash == jobs[1].scene_hash != jobs[2].scene_hash


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"caption": ', "line 2: not valid JSON"),
        ("[1]", "line 2: expected a JSON object, found list"),
        ('{"caption": "a", "caption": "b"}', "key 'caption' stands there twice"),
        ("[" * 100_000, "line 2: not valid JSON"),
        ('{"seed": ' + "9" * 5000 + "}", "line 2: not valid JSON"),
        ({"captoin": "x"}, "line 2: captoin: unknown key. Did you mean 'caption'?"),
        ({"caption": 5}, "line 2: caption: input should be a valid string, found 5"),
        ({"instances": {"a": {"phrase": "x", "box": [1, 2, 3, 4]}}}, "line 2: instances.a.box: box"),
        ({"references": [{"role": "style", "image": "none.png"}]}, "no such picture: "),
        ({"caption": "x", "seed": -1}, "line 2: seed: expected a whole number from 0 to"),
        ({"caption": "x", "seed": True}, "line 2: seed: expected a whole number from 0 to"),
        ({"caption": "x", "name": "../x"}, "line 2: name: expected at most 200 bytes of letters"),
        ({"caption": "x", "name": "x."}, "line 2: name: expected"),
        ({"caption": "x", "name": "é" * 101}, "line 2: name: expected"),
        ({"caption": "x", "name": 3}, "line 2: name: expected text, found 3"),
        ('{"caption": "\\ud800"}', "line 2: a text of the scene holds half of a surrogate pair"),
    ],
)
def test_a_bad_line_is_a_job_with_a_reason(tmp_path: Path, line: Any, reason: str) -> None:
    good, bad = lines(tmp_path / "scenes.jsonl", {"caption": "fine"}, line)
    assert good.error == ""
    assert reason in bad.error and "\n" not in bad.error
    assert bad.name == "000002" and bad.scene == {}


def test_names_that_become_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two scenes are named 'pear'"):
        lines(tmp_path / "scenes.jsonl", {"name": "pear"}, {"name": "pear"})
    with pytest.raises(InputError, match="'Pear' and 'pear', which some file systems take for one"):
        lines(tmp_path / "scenes.jsonl", {"name": "Pear"}, {"name": "pear"})
    with pytest.raises(InputError, match="two scenes are named '000001'"):
        lines(tmp_path / "scenes.jsonl", {"caption": "x"}, {"name": "000001"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "no such file"),
        ("none.json", None, "no such file"),
        ("none.txt", None, "no such file or folder: expected a folder of scene YAML files, a .jsonl file"),
        ("scene.yaml", b"caption: x", "is none of these: expected a folder"),
        ("empty.jsonl", b"\n\n", "holds no scenes"),
        ("binary.jsonl", b"{}\n\xff\xfe\x00", "line 2 cannot be read as text"),
        ("long.jsonl", b"x" * (2**20 + 1), "line 1 is longer than 1048576 bytes"),
        ("empty.json", b"{}", "holds no scenes"),
        ("list.json", b"[]", "expected a JSON object, found list"),
        ("other.json", b'{"caption": "x"}', "expected a COCO-MIG file"),
        ("twice.json", b'{"0": 1, "0": 1}', "key '0' stands there twice"),
        ("binary.json", b"\xff", "cannot be read as text"),
        ("long.json", b" " * (64 * 2**20 + 1), "is larger than 67108864 bytes, expected another file"),
    ],
)
def test_a_source_that_is_none_is_refused_as_a_whole(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_jobs(tmp_path / name)
    assert message in str(caught.value) and name in str(caught.value)


def test_a_folder_of_scene_files(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("caption: two\n")
    (tmp_path / "a.yaml").write_text("caption: one\n")
    (tmp_path / "c.yaml").write_text("caption: [\n")
    (tmp_path / "readme.txt").write_text("no scene")
    jobs = read_jobs(tmp_path)
    assert [(one.name, one.scene) for one in jobs] == [("a", {"caption": "one"}), ("b", {"caption": "two"}), ("c", {})]
    assert "c.yaml: line 2: not valid YAML" in jobs[2].error
    assert jobs[0].seed == seed_of("a", 0)
    (tmp_path / "a.yml").write_text("caption: again\n")
    with pytest.raises(InputError, match="two scenes are named 'a'"):
        read_jobs(tmp_path)


def test_a_yaml_scene_of_more_than_json_knows(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("caption: !!binary aGVsbG8=\n")
    assert "the scene holds what JSON cannot: Object of type bytes" in read_jobs(tmp_path)[0].error


def test_a_coco_mig_benchmark(tmp_path: Path) -> None:
    segment = [
        {"label": "a red chair", "bbox": [0.0, 0.1, 0.5, 0.9]},
        {"label": "a blue dining table", "bbox": [0.5, 0.1, 1.0, 0.9]},
        {"label": "a red chair", "bbox": [0.2, 0.2, 0.6, 0.6]},
    ]
    entry = {
        "caption": "a photo of a red chair and a blue dining table and a red chair ",
        "segment": segment,
        "image_id": "1153",
    }
    pink = {**entry, "segment": [{**segment[0], "label": "a pink chair"}]}
    reversed_box = {**entry, "segment": [{**segment[0], "bbox": [0.5, 0.1, 0.1, 0.9]}]}
    path = tmp_path / "coco-mig.json"
    path.write_text(json.dumps({"0": entry, "1": pink, "2": reversed_box, "3": {"caption": "x"}}))
    jobs = read_jobs(path)
    assert [one.name for one in jobs] == ["001153_0", "1", "2", "3"]
    assert jobs[0].scene == {
        "caption": entry["caption"],
        "instances": {
            "red chair": {"phrase": "a red chair", "box": [0.0, 0.1, 0.5, 0.9]},
            "blue dining table": {"phrase": "a blue dining table", "box": [0.5, 0.1, 1.0, 0.9]},
            "red chair 2": {"phrase": "a red chair", "box": [0.2, 0.2, 0.6, 0.6]},
        },
    }
    assert jobs[0].error == ""
    assert "1.segment.0.label: expected 'a COLOR OBJECT' with one of the colors black, blue, brown" in jobs[1].error
    assert "none" not in jobs[1].error
    assert "2.segment.0.bbox: box [0.5, 0.1, 0.1, 0.9] is reversed or empty" in jobs[2].error
    assert "3.segment: is missing; 3.image_id: is missing" in jobs[3].error
