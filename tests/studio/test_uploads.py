"""Reference pictures: what is taken, what is kept of it, and under which name."""

from __future__ import annotations

import io
import pickle
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from studios import picture_bytes

from amdm_framework.errors import InputError
from amdm_framework.studio.uploads import MAX_PIXELS, STORED_NAME, UploadFolder

# Every pixel is another colour, so that no two orientations look alike.
GRID = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3) * 7
ORIENTATIONS: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}
"""What a viewer has to do to a picture with each value of EXIF's orientation."""


@pytest.fixture
def uploads(tmp_path: Path) -> UploadFolder:
    return UploadFolder(tmp_path / "output" / "uploads")


@pytest.fixture
def add(uploads: UploadFolder, tmp_path: Path) -> Callable[..., np.ndarray]:
    """Add a file and return the pixels that are kept."""

    def add(content: bytes, name: str = "picture.png") -> np.ndarray:
        (tmp_path / "file").write_bytes(content)
        stored = uploads.find(uploads.add(tmp_path / "file", name))
        assert stored is not None
        with Image.open(stored) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            return np.asarray(picture)

    return add


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """Return a PNG with one chunk more, after its header."""
    return png[:33] + chunk(kind, data) + png[33:]


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 100}), ("WEBP", {"lossless": True})])
def test_formats_that_are_taken(add: Any, kind: str, options: dict[str, Any]) -> None:
    pixels = add(picture_bytes(kind, colour=(250, 120, 3), **options), f"picture.{kind.lower()}")
    assert pixels.shape == (12, 16, 3)
    assert np.abs(pixels.astype(int) - [250, 120, 3]).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "EPS", "TGA", "PCX", "PDF"])
def test_other_formats_are_refused(add: Any, kind: str, uploads: UploadFolder) -> None:
    with pytest.raises(InputError, match=r"picture\.png is no picture of the formats PNG, JPEG, WEBP"):
        add(picture_bytes(kind))
    assert list(uploads.folder.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        b"8BPS\0\1" + bytes(100),
        b"push graphic-context\nfill 'url(https://example.com/x\"|id\")'\n",
        pickle.dumps({"a": 1}),
        b"PK\x03\x04" + bytes(100),
        b"#!/bin/sh\nid\n",
    ],
)
def test_no_pictures(add: Any, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        add(content)
    assert str(tmp_path) not in str(error.value) and "0x" not in str(error.value)


def test_only_the_picture_of_a_polyglot_is_kept(add: Any, uploads: UploadFolder) -> None:
    secret = b"<script>alert(1)</script>PK\x03\x04"
    add(with_chunk(picture_bytes(), b"tEXt", b"Comment\0" + secret) + secret)
    (stored,) = uploads.folder.iterdir()
    assert secret not in stored.read_bytes() and stored.read_bytes().endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_pictures_are_kept_upright(add: Any, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = add(saved(Image.fromarray(GRID), kind, exif=exif, **options))
    np.testing.assert_array_equal(pixels, ORIENTATIONS[orientation](GRID))


def test_nothing_but_pixels_is_kept(add: Any, uploads: UploadFolder) -> None:
    exif = Image.Exif()
    exif[0x010F] = "my camera"
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    info = PngImagePlugin.PngInfo()
    info.add_text("amdm", "{}")
    add(saved(Image.fromarray(GRID), exif=exif, pnginfo=info, icc_profile=b"profile", dpi=(300, 300)))
    (stored,) = uploads.folder.iterdir()
    with Image.open(stored) as picture:
        assert picture.info == {} and dict(picture.getexif()) == {}


def test_modes(add: Any) -> None:
    grey = GRID[..., 0]
    np.testing.assert_array_equal(add(saved(Image.fromarray(grey))), np.repeat(grey[..., None], 3, axis=2))
    # As a scene reads it: what is transparent keeps its colour.
    rgba = np.dstack([GRID, np.zeros_like(grey)])
    np.testing.assert_array_equal(add(saved(Image.fromarray(rgba))), GRID)
    palette = Image.fromarray(GRID).quantize(256)
    np.testing.assert_array_equal(add(saved(palette)), np.asarray(palette.convert("RGB")))
    assert add(saved(Image.new("CMYK", (4, 3), (0, 255, 255, 0)), "JPEG")).shape == (3, 4, 3)
    assert add(saved(Image.new("1", (4, 3), 1))).min() == 255


def test_more_than_8_bits_are_refused_by_the_name_of_the_file(add: Any) -> None:
    depth = Image.fromarray(np.full((3, 4), 40_000, np.uint16))
    with pytest.raises(InputError, match=r"depth\.png has more than 8 bits per value"):
        add(saved(depth), "depth.png")


def test_the_first_picture_of_an_animation(add: Any) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    pixels = add(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    np.testing.assert_array_equal(pixels, np.asarray(frames[0]))


def test_too_many_pixels_are_not_decoded(add: Any) -> None:
    with pytest.raises(InputError, match=f"8192x4097 pixels, expected {MAX_PIXELS} at most"):
        add(_claiming(8192, 4097))
    for side in (2**15, 2**31 - 1):
        with pytest.raises(InputError, match=r"picture\.png"):
            add(_claiming(side, side))


def _claiming(width: int, height: int) -> bytes:
    png = picture_bytes()
    return png[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + png[24:29]) + png[33:]


BOMB = zlib.compress(bytes(2**28), 9)


@pytest.mark.parametrize(
    "content",
    [
        with_chunk(picture_bytes(), b"zTXt", b"a\0\0" + BOMB),
        with_chunk(picture_bytes(), b"iTXt", b"a\0\1\0\0\0" + BOMB),
        with_chunk(picture_bytes(), b"iCCP", b"a\0\0" + BOMB),
        picture_bytes()[:33]
        + chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**20 - 1))) * 200
        + picture_bytes()[33:],
        with_chunk(picture_bytes(), b"tEXt", b"a\0" + b"x" * 2**23),
    ],
    ids=["zTXt", "iTXt", "iCCP", "many", "long"],
)
def test_bombs_of_text(add: Any, content: bytes) -> None:
    try:
        assert add(content).shape == (12, 16, 3)
    except InputError as error:
        assert "picture.png" in str(error)


@pytest.mark.filterwarnings("ignore:(Truncated|Corrupt):UserWarning")
def test_damaged_pictures_end_in_our_own_error(add: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera"
    files = [saved(Image.fromarray(GRID), kind, exif=exif) for kind in ("PNG", "JPEG", "WEBP")]
    generator = random.Random(0)
    refused = 0
    for number in range(300):
        content = bytearray(files[number % 3])
        for _ in range(generator.randint(1, 6)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        if number % 5 == 0:
            del content[generator.randrange(len(content)) :]
        try:
            add(bytes(content))
        except InputError as error:
            refused += 1
            assert str(tmp_path) not in str(error)
    assert 50 < refused < 300


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("Oil Painting.JPG", "oil-painting"), ("../../etc/passwd", "passwd"), ("..\\..\\boot.ini", "boot"), ("", "picture"),
        (".png", "png"), ("....png", "picture"), ("a\0b.png", "a-b"), ("ümläut.png", "ml-ut"), ("x" * 300 + ".png", "x" * 40),
        ("~root/.ssh/id", "id"), ("con.png", "con"), ("-rf.png", "rf"), ("a/b/c.webp", "c"), ("\u202egnp.exe", "gnp"),
        ("😀.png", "picture"), ("$(id).png", "id"), ("__proto__.png", "proto"), ("a\r\nb", "a-b"), ("/" * 9, "picture"),
        ("x" * 39 + "-y.png", "x" * 39),
    ],
)  # fmt: skip
def test_names(uploads: UploadFolder, tmp_path: Path, name: str, stem: str) -> None:
    (tmp_path / "file").write_bytes(picture_bytes())
    stored = uploads.add(tmp_path / "file", name)
    assert stored.rpartition("-")[0] == stem
    assert STORED_NAME.fullmatch(stored)
    assert [path.name for path in uploads.folder.iterdir()] == [stored]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "output"]


def test_equal_pictures_are_kept_once(uploads: UploadFolder, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture_bytes())
    (tmp_path / "b.webp").write_bytes(picture_bytes("WEBP", lossless=True))
    (tmp_path / "c.png").write_bytes(picture_bytes(colour="blue"))
    names = [uploads.add(tmp_path / file, "style.png") for file in ("a.png", "b.webp", "c.png")]
    assert names[0] == names[1] != names[2]
    assert sorted(path.name for path in uploads.folder.iterdir()) == sorted(set(names))


@pytest.mark.parametrize("name", ["style.png", "x" * 60 + ".png", "a-0123456789ab.png"])
def test_a_picture_that_comes_back_keeps_its_name(uploads: UploadFolder, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(picture_bytes())
    stored = uploads.add(tmp_path / "file", name)
    assert uploads.add(uploads.folder / stored, stored) == stored


def test_size_tells_pictures_of_equal_bytes_apart(uploads: UploadFolder, tmp_path: Path) -> None:
    names = set()
    for size in ((2, 8), (8, 2), (4, 4)):
        (tmp_path / "file").write_bytes(picture_bytes(size=size))
        names.add(uploads.add(tmp_path / "file", "x"))
    assert len(names) == 3


def test_only_kept_pictures_are_found(uploads: UploadFolder, tmp_path: Path) -> None:
    (tmp_path / "outside-0123456789ab.png").write_bytes(picture_bytes())
    (uploads.folder / "link-0123456789ab.png").symlink_to(tmp_path / "outside-0123456789ab.png")
    (uploads.folder / "folder-0123456789ab.png").mkdir()
    (uploads.folder / "other.png").write_bytes(picture_bytes())
    for name in (
        *("link-0123456789ab.png", "folder-0123456789ab.png", "other.png", "", ".", "..", "none-0123456789ab.png"),
        *("../outside-0123456789ab.png", "../../outside-0123456789ab.png", str(tmp_path / "outside-0123456789ab.png")),
        *("link-0123456789ab.png\0", "link-0123456789ab.png\n", "x" * 5000),
    ):
        assert uploads.find(name) is None


def test_a_full_disk(uploads: UploadFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(picture_bytes())
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("amdm_framework.picture_files.shutil.disk_usage", lambda folder: full)
    with pytest.raises(InputError, match="no space"):
        uploads.add(tmp_path / "file", "x")
    assert list(uploads.folder.iterdir()) == []
