"""What arrives is taken once, and only from its folder; what nobody takes does not fill the disk."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from amdm_framework.errors import InputError
from amdm_framework.studio.incoming import KEPT_SECONDS, MAX_INCOMING_BYTES, MAX_UPLOAD_BYTES, IncomingFolder

REFUSAL = "this is no file that was just uploaded"


@pytest.fixture
def incoming(tmp_path: Path) -> IncomingFolder:
    (tmp_path / "incoming").mkdir()
    return IncomingFolder(tmp_path / "incoming")


def arrive(incoming: IncomingFolder, content: bytes = b"content", folder: str = "digest", name: str = "file") -> Path:
    (incoming.folder / folder).mkdir(exist_ok=True)
    (incoming.folder / folder / name).write_bytes(content)
    return incoming.folder / folder / name


def test_a_file_is_taken_once(incoming: IncomingFolder) -> None:
    path = arrive(incoming)
    with incoming.take(str(path)) as received:
        assert received.read_bytes() == b"content"
    assert list(incoming.folder.iterdir()) == []
    with pytest.raises(InputError, match=REFUSAL), incoming.take(str(path)):
        pass


def test_it_is_gone_where_taking_it_fails(incoming: IncomingFolder) -> None:
    for error in (InputError("no picture"), RuntimeError("a defect"), KeyboardInterrupt()):
        path = arrive(incoming)
        with pytest.raises(type(error)), incoming.take(str(path)):
            raise error
        assert list(incoming.folder.iterdir()) == []


def test_others_beside_it_stay(incoming: IncomingFolder) -> None:
    path, other = arrive(incoming), arrive(incoming, name="other")
    with incoming.take(str(path)):
        pass
    assert other.exists() and not path.exists()


def test_only_what_is_in_the_folder(incoming: IncomingFolder, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    arrive(incoming, folder="real")
    (incoming.folder / "link").symlink_to(outside)
    (incoming.folder / "loop").symlink_to(incoming.folder / "loop")
    for path in (
        *(outside, tmp_path / "none", "/etc/passwd", "/etc/none", "secret", "", ".", "..", "/", "~root/x", "~nobody/x"),
        *(incoming.folder, incoming.folder / "real", incoming.folder / "none", incoming.folder / ".." / "secret"),
        *(incoming.folder / "link", incoming.folder / "loop", incoming.folder / "real" / "file\0", "x" * 100_000),
        *(
            f"{incoming.folder}-other/file",
            "file://" + str(incoming.folder / "real" / "file"),
            "/dev/zero",
            "/proc/self/mem",
        ),
    ):
        # The words are the same whether something is there or not.
        with pytest.raises(InputError) as error, incoming.take(str(path)):
            pass
        assert str(error.value) == REFUSAL
    assert outside.exists()


def test_large_files_are_refused_and_gone(incoming: IncomingFolder) -> None:
    path = arrive(incoming)
    os.truncate(path, MAX_UPLOAD_BYTES + 1)
    with pytest.raises(InputError, match="larger than 20 MiB"), incoming.take(str(path)):
        pass
    assert list(incoming.folder.iterdir()) == []


def test_room_for_so_much(incoming: IncomingFolder) -> None:
    assert incoming.has_room(MAX_INCOMING_BYTES) and not incoming.has_room(MAX_INCOMING_BYTES + 1)
    os.truncate(arrive(incoming, folder="a"), MAX_INCOMING_BYTES - 100)
    os.truncate(arrive(incoming, folder="b"), 60)
    assert incoming.has_room(40) and not incoming.has_room(41)


def test_what_nobody_takes_is_removed(incoming: IncomingFolder) -> None:
    old, new = arrive(incoming, folder="old"), arrive(incoming, folder="new")
    torn = incoming.folder / "tmp123"
    torn.write_bytes(b"half")
    for path in (old, torn):
        os.utime(path, (time.time() - KEPT_SECONDS - 1,) * 2)
    assert incoming.has_room(1)
    assert [path for path in incoming.folder.rglob("*") if path.is_file()] == [new]
    assert not old.parent.exists()
