"""Ranges and choices as people write them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from amdm_framework.errors import InputError
from amdm_framework.laboratory.search_space import Choice, Range, parse_space


@pytest.mark.parametrize(
    ("text", "dimension", "written"),
    [
        ("a.b=1..6", Range("a.b", 1, 6, whole=True), "1..6"),
        ("a=-2..6", Range("a", -2, 6, whole=True), "-2..6"),
        ("a=0..1.0", Range("a", 0, 1.0), "0.0..1.0"),
        ("a=0.1..10 log", Range("a", 0.1, 10, log=True), "0.1..10.0 log"),
        ("a=1..100 log", Range("a", 1, 100, whole=True, log=True), "1..100 log"),
        ("a=1e-5..1e-3", Range("a", 1e-5, 1e-3), "1e-05..0.001"),
        ("a=amdm,slerp", Choice("a", ("amdm", "slerp")), "amdm,slerp"),
        ("a=[0.3],[0.5, 1]", Choice("a", ("[0.3]", "[0.5, 1]")), "[0.3],[0.5, 1]"),
        ("a=true, null", Choice("a", ("true", "null")), "true,null"),
        ("a=../x,../y", Choice("a", ("../x", "../y")), "../x,../y"),
    ],
)
def test_what_can_be_written(text, dimension, written):
    assert parse_space([text]) == [dimension]
    assert str(dimension) == written
    # What is printed can be given again.
    assert parse_space([f"{dimension.key}={written}"]) == [dimension]


def test_values_are_written_with_four_digits_and_stay_inside():
    share = Range("a", 0.33333, 0.99999)
    assert [share.text(value) for value in (0.5, 0.123456, 0.876543, 0.99996)] == [
        "0.5",
        "0.33333",
        "0.8765",
        "0.99999",
    ]
    # YAML takes a number in this form only with a point in it.
    assert Range("a", 0.0, 1.0).text(1e-5) == "1.0e-05"
    assert Range("a", 1, 6, whole=True).text(3.0) == "3"
    drawn = [float(share.draw(random.Random(seed))) for seed in range(200)]
    assert min(drawn) >= 0.33333 and max(drawn) <= 0.99999 and len(set(drawn)) > 150


def test_the_compositions_own_value_is_found_where_it_lies_in_the_space():
    content = {"aggregation": {"steps": 3, "weights": [0.5, 2], "strategy": "amdm", "on": True}}
    values = {
        "aggregation.steps=1..6": 3,
        "aggregation.steps=4..6": None,
        "aggregation.steps=1.0..6.0": 3,
        "aggregation.weights.0=0.0..1.0": 0.5,
        "aggregation.weights.0=0..1": None,
        "aggregation.weights.1=0.0..1.0": None,
        "aggregation.weights.2=0.0..1.0": None,
        "aggregation.on=0..1": None,
        "aggregation.on=true,false": "true",
        "aggregation.strategy=amdm,slerp": "amdm",
        "aggregation.strategy=slerp,linear": None,
        "aggregation.weights=[0.5, 2],[1, 1]": "[0.5, 2]",
        "sampler.eta=0.0..1.0": None,
    }
    assert {text: parse_space([text])[0].value_of(content) for text in values} == values


def test_a_file_and_the_command_line_together(tmp_path: Path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "aggregation.weights.1: 0.0..1.0\naggregation.weights.0: 0.1..1 log\n"
        "aggregation.strategy: [amdm, slerp]\naggregation.weights.2: [0.5, 1, null]\n"
    )
    space = parse_space(["aggregation.steps=1..6"], file)
    # Positions of a list in their order, all else as it was given.
    assert [(one.key, str(one)) for one in space] == [
        ("aggregation.steps", "1..6"),
        ("aggregation.weights.0", "0.1..1.0 log"),
        ("aggregation.weights.1", "0.0..1.0"),
        ("aggregation.weights.2", "0.5,1,null"),
        ("aggregation.strategy", "amdm,slerp"),
    ]


def test_all_mistakes_are_named_at_once(tmp_path: Path):
    file = tmp_path / "space.yaml"
    file.write_text("a.b: 2..1\nk: 5\n")
    mistakes = {
        "a": "--vary: expected KEY=RANGE, found 'a'",
        "b=1": "--vary: b: found '1', expected LOW..HIGH, LOW..HIGH log, or at least two choices A,B,...",
        "c=2..1": "--vary: c: found 2..1, expected a range from a smaller number to a larger",
        "d=0..1 log": "--vary: d: found 0..1 log, but a logarithmic range begins above 0",
        "e=x,x": "--vary: e: a value is given twice in 'x,x'",
        "f=1..x": "--vary: f: found '1..x', expected LOW..HIGH",
        "g=nan..3": "--vary: g: found nan..3, expected a range",
        "h=[1,2": "--vary: h: the value '[1,2' is not valid YAML",
        "i=x,": "--vary: i: found 'x,', expected LOW..HIGH",
        "k=1..2": f"--search {file}: k is given twice: give each value one range",
        "a.b.0=1..2": f"--search {file}: a.b holds what a.b.0 holds, too",
    }
    with pytest.raises(InputError) as raised:
        parse_space(list(mistakes), file)
    text = str(raised.value)
    assert [mistake for mistake in mistakes.values() if mistake not in text] == []
    assert f"--search {file}: a.b: found 2..1" in text and f"--search {file}: k: found '5'" in text
    assert len(raised.value.problems) == len(mistakes) + 2
