"""Pictures that carry damaged settings, and damaged pictures, end in success or in an error of our own."""

from __future__ import annotations

import json
import struct
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fuzzing import amdm, cases, remembering_reports
from hypothesis import given
from hypothesis import strategies as st
from mutations import damaged, damaged_bytes
from PIL import Image

from amdm_framework.errors import InputError

BOMB = zlib.compress(bytes(2**28), 9)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture(scope="module")
def drawn(home: Path) -> tuple[bytes, dict[str, Any]]:
    """A picture with its settings, and these settings."""
    scene, composition = home / "scene.yaml", home / "composition.yaml"
    amdm("run", composition, "--scene", scene, "--seed", "1", "--output", home / "drawn", "--no-progress")
    path = home / "drawn" / "scene-1.png"
    with Image.open(path) as picture:
        return path.read_bytes(), json.loads(picture.info["amdm"])


@pytest.fixture(scope="module", autouse=True)
def _up_to_the_drawing(drawn: Any) -> Any:
    # Settings may ask for a long run, as a person may; all that comes before it is what is tested here.
    def stop(*arguments: Any) -> None:
        raise InputError("far enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amdm_framework.cost.inspect_members", remembering_reports())
        patch.setattr(import_module("amdm_framework.cli.rerun"), "load", stop)
        yield


def with_settings(picture: bytes, *chunks: bytes) -> bytes:
    """Return a picture with other text chunks than its own."""
    kept, at = [picture[:8]], 8
    while at < len(picture):
        end = at + 12 + int.from_bytes(picture[at : at + 4], "big")
        if picture[at + 4 : at + 8] not in (b"iTXt", b"zTXt", b"tEXt"):
            kept.append(picture[at:end])
        at = end
    return b"".join([*kept[:2], *chunks, *kept[2:]])


def text_chunk(kind: str, content: bytes) -> bytes:
    """Return the settings as one of PNG's three kinds of text."""
    if kind == "tEXt":
        return chunk(b"tEXt", b"amdm\0" + content)
    if kind == "zTXt":
        return chunk(b"zTXt", b"amdm\0\0" + zlib.compress(content))
    flag = kind == "iTXt compressed"
    return chunk(b"iTXt", b"amdm\0" + bytes([flag, 0]) + b"\0\0" + (zlib.compress(content) if flag else content))


def read_in_every_way(**expected: Any) -> None:
    """Do everything with `damaged.png` that reads its settings."""
    amdm("inspect", "damaged.png", **expected)
    amdm("preview", "damaged.png", "--output", "drawing/boxes.png", **expected)
    Path("drawing/boxes.png").unlink(missing_ok=True)
    amdm("rerun", "damaged.png", "--output", "again", **expected)


@cases(0.07)
@given(data=st.data(), kind=st.sampled_from(["tEXt", "zTXt", "iTXt", "iTXt compressed"]))
def test_settings(drawn: tuple[bytes, dict[str, Any]], data: st.DataObject, kind: str) -> None:
    picture, record = drawn
    text = data.draw(
        st.one_of(
            damaged(record).map(lambda content: json.dumps(content, skipkeys=True)),
            damaged(record["composition"]).map(
                lambda content: json.dumps({**record, "composition": content}, skipkeys=True)
            ),
            damaged(record["scene"]).map(lambda content: json.dumps({**record, "scene": content}, skipkeys=True)),
            st.sampled_from(["[" * 100_000, "{}", "", "NaN", '{"a":' * 50_000, "9" * 100_000, '"\\ud800"']),
        )
    )
    Path("damaged.png").write_bytes(with_settings(picture, text_chunk(kind, text.encode("utf-8", "surrogatepass"))))
    read_in_every_way()


@cases(0.03)
@given(data=st.data())
def test_torn_pictures(drawn: tuple[bytes, dict[str, Any]], data: st.DataObject) -> None:
    picture, _ = drawn
    Path("damaged.png").write_bytes(data.draw(damaged_bytes(picture, data.draw(st.sampled_from([40, 400, 4000])))))
    read_in_every_way()


BOMBS = {
    "zTXt": [chunk(b"zTXt", b"amdm\0\0" + BOMB)],
    "iTXt": [chunk(b"iTXt", b"amdm\0\1\0\0\0" + BOMB)],
    "many": [chunk(b"iTXt", b"amdm\0\1\0\0\0" + zlib.compress(bytes(2**20 - 1)))] * 2000,
    "long": [chunk(b"tEXt", b"amdm\0" + b"x" * 2**24)],
    "profile": [chunk(b"iCCP", b"x\0\0" + BOMB)],
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(drawn: tuple[bytes, dict[str, Any]], name: str) -> None:
    Path("damaged.png").write_bytes(with_settings(drawn[0], *BOMBS[name]))
    read_in_every_way(codes=(2,))


def test_a_picture_that_claims_to_be_huge(drawn: tuple[bytes, dict[str, Any]]) -> None:
    header = chunk(b"IHDR", struct.pack(">II", 2**31 - 1, 2**31 - 1) + drawn[0][24:29])
    Path("damaged.png").write_bytes(drawn[0][:8] + header + drawn[0][33:])
    read_in_every_way(codes=(2,))
