"""Damage: valid content goes in, content that is nearly valid comes out."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import strategies as st

Path = tuple[Any, ...]

DEEP: Any = 0
for _ in range(200):
    DEEP = [DEEP]

SCALARS: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 64, 1001, 2**31, -(2**63), 2**64, 10**25, 10**4000),
    *(0.5, -0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf),
    *("", " ", "x", "0", "null", "x" * 3000, "\x00", "a\x00b", "\x1b[31m", "\ud800", "\u202e\u0301\ufeff", "\n", "😀"),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "/",
        ".",
        "~",
        "~nobody-at-all/x",
        "hf://",
        "hf://a/b",
        "hf://../..@x",
        "zoo://",
    ),
    *("sd", "style.png", "scene.yaml", "girl", "amdm", "single", "slerp", "stable_diffusion", "migc", "a: b", "{x}%s"),
]
"""Values that are wrong nearly everywhere, and some that are right in another place."""

VALUES: list[Any] = [
    *SCALARS,
    [],
    {},
    [None],
    {"": None},
    {"a": 1},
    [0.1, 0.2, 0.3, 0.4],
    [1, "x"],
    {1: 2},
    DEEP,
    [0] * 2000,
]


def paths_of(content: Any, at: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in nested dictionaries and lists, that of the whole first."""
    yield at
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from paths_of(value, (*at, key))


def value_at(content: Any, path: Path) -> Any:
    """Return the value at a path."""
    for key in path:
        content = content[key]
    return content


@st.composite
def damaged(draw: st.DrawFn, valid: Any, values: list[Any] | None = None) -> Any:
    """Return nested content with one to three values replaced, dropped, doubled, renamed, moved or wrapped."""
    content = copy.deepcopy(valid)
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        paths = list(paths_of(content))
        path = draw(st.sampled_from(paths))
        if not path:
            continue
        *parents, key = path
        place = value_at(content, tuple(parents))
        operation = draw(st.sampled_from(["replace", "replace", "drop", "double", "rename", "move", "wrap", "scale"]))
        if operation == "replace":
            place[key] = copy.deepcopy(draw(st.sampled_from(values or VALUES)))
        elif operation == "drop":
            del place[key]
        elif operation == "move":
            place[key] = copy.deepcopy(value_at(content, draw(st.sampled_from(paths))))
        elif operation == "wrap":
            place[key] = draw(st.sampled_from([[place[key]], {"a": place[key]}]))
        elif operation == "scale" and isinstance(place[key], int | float):
            place[key] *= draw(st.sampled_from([-1, 0.5, 2, 10, 1000]))
        elif isinstance(place, list):
            place.insert(key, copy.deepcopy(place[key]))
        else:
            name = draw(st.sampled_from([f"{key}s", f"{key} ", "", "name", "\x00", "\ud800", 1, None, True]))
            place[name] = copy.deepcopy(place[key]) if operation == "double" else place.pop(key)
    return content


_TEN = ", ".join(["*{0}"] * 10)
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{new}: &{new} [{_TEN.format(old)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

LINES: list[str] = [
    *("x: !!python/object/apply:os.system ['touch canary']", "!!python/name:os.system", "x: !!python/object:os.x {}"),
    *("&a [*a]", "x: &a {b: *a}", "x: *nowhere", _BOMB, "<<: {a: 1}", "<<: [1]", "<<: &m {b: *m}", "? [a, b]\n: c"),
    *("x: 2020-13-45", "x: 1:99:99.9", "x: !!int abc", "x: !!float abc", "x: !!binary '*'", "x: !!timestamp x"),
    *(
        "x: !!set {a, b}",
        "x: !!omap [a: 1]",
        "x: !!pairs 5",
        "x: !!bool x",
        "x: =",
        "%YAML 9.9\n---",
        "---\n---",
        "...",
    ),
    *(
        "\tx: 1",
        "x: 'a",
        'x: "\\ud800"',
        'x: "\\x00"',
        'x: "\\UFFFFFFFF"',
        "x: \x07",
        "\ufeff",
        "{" * 5000,
        "- " * 3000,
    ),
    *(
        "x: " + "9" * 5000,
        "x: 0x" + "f" * 5000,
        "0o8: 0b2",
        "x: |\n\n  a\n b",
        "x: .nan",
        "? " * 500,
        "null: ~",
        "x" * 70000,
    ),
]
"""Pieces of YAML that are wrong, or right and surprising."""


@st.composite
def damaged_yaml(draw: st.DrawFn, valid: dict[str, Any]) -> bytes:
    """Return a YAML file whose content, text or bytes are damaged."""
    kind = draw(st.sampled_from(["content", "content", "content", "line", "scalar", "bytes"]))
    if kind == "content":
        return yaml.safe_dump(draw(damaged(valid)), sort_keys=False).encode()
    text = yaml.safe_dump(valid, sort_keys=False)
    lines = text.splitlines()
    where = draw(st.integers(0, len(lines) - 1))
    line = draw(st.sampled_from(LINES))
    if kind == "line":
        lines.insert(where, line)
    elif kind == "scalar":
        head, separator, _ = lines[where].partition(": ")
        lines[where] = head + (separator or ": ") + line.removeprefix("x: ")
    else:
        return draw(damaged_bytes(text.encode()))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@st.composite
def damaged_bytes(draw: st.DrawFn, valid: bytes, until: int | None = None) -> bytes:
    """Return a file that is torn, or in which bytes changed, among the first `until` [all] of them."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, max(0, min(len(content), until or len(content)) - 1)))
        operation = draw(st.sampled_from(["flip", "flip", "byte", "cut", "insert", "double", "zeros"]))
        if not content:
            break
        if operation == "flip":
            content[where] ^= 1 << draw(st.integers(0, 7))
        elif operation == "byte":
            content[where] = draw(st.sampled_from([0, 10, 34, 44, 58, 91, 93, 123, 125, 127, 128, 255]))
        elif operation == "cut":
            del content[where:]
        elif operation == "insert":
            content[where:where] = draw(st.binary(min_size=1, max_size=12))
        elif operation == "double":
            content[where:where] = content[where : where + draw(st.integers(1, 40))]
        else:
            length = draw(st.integers(1, 16))
            content[where : where + length] = bytes(length)
    return bytes(content)
