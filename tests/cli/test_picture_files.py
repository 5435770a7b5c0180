"""Files appear whole or not at all, and never in the place of another."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import IO

import pytest

from amdm_framework.errors import InputError
from amdm_framework.picture_files import check_folder, prepare_folder, replace_file, require_space, save_new


def write(text: bytes = b"new"):
    return lambda file: file.write(text)


def test_names_that_are_taken_get_a_number(tmp_path: Path) -> None:
    paths = [save_new(tmp_path, "a", ".png", write(str(number).encode())) for number in range(3)]
    assert [path.name for path in paths] == ["a.png", "a-2.png", "a-3.png"]
    assert [path.read_text() for path in paths] == ["0", "1", "2"]
    (tmp_path / "b.png").mkdir()
    (tmp_path / "b-2.png").symlink_to("nowhere")
    assert save_new(tmp_path, "b", ".png", write()).name == "b-3.png"
    assert all(not name.endswith(".part") for name in os.listdir(tmp_path))


def test_a_name_taken_by_another_process_meanwhile_is_kept(tmp_path: Path) -> None:
    def slow(file: IO[bytes]) -> None:
        (tmp_path / "a.png").write_text("theirs")
        file.write(b"ours")

    assert save_new(tmp_path, "a", ".png", slow).name == "a-2.png"
    assert (tmp_path / "a.png").read_text() == "theirs"


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert [save_new(tmp_path, "a", ".png", write()).name for _ in range(2)] == ["a.png", "a-2.png"]
    assert sorted(os.listdir(tmp_path)) == ["a-2.png", "a.png"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), ValueError("x")]
)
def test_whatever_interrupts_the_writing_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "kept.json").write_text("old")

    def broken(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    expected = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        save_new(tmp_path, "a", ".png", broken)
    with pytest.raises(expected):
        replace_file(tmp_path / "kept.json", broken)
    assert os.listdir(tmp_path) == ["kept.json"] and (tmp_path / "kept.json").read_text() == "old"


def test_replacing(tmp_path: Path) -> None:
    for text in (b"one", b"two"):
        replace_file(tmp_path / "a.json", write(text))
    assert (tmp_path / "a.json").read_bytes() == b"two" and os.listdir(tmp_path) == ["a.json"]


def test_folders_are_made_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    check_folder(folder)
    assert not (tmp_path / "a").exists()
    prepare_folder(folder)
    assert os.listdir(folder) == []


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = tmp_path / "file"
    for folder, place in ((file, f"{file}: is a"), (file / "below", f"{file}/below: cannot be made: {file} is a")):
        for call in (check_folder, prepare_folder):
            with pytest.raises(InputError, match=f"^{place} file, expected a folder to write to"):
                call(folder)
    with pytest.raises(InputError, match=r"^/proc/amdm/here: cannot be made \(in /proc: "):
        prepare_folder(Path("/proc/amdm/here"))
    with pytest.raises(InputError, match="^/proc: cannot write to this"):
        prepare_folder(Path("/proc"))


def test_space_is_reckoned_by_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 30 * 2**20))
    require_space(tmp_path, 4, 512, 512)
    with pytest.raises(InputError, match="no space: 104 MiB are needed on this disk, 30 MiB are left"):
        require_space(tmp_path, 100, 512, 512)
