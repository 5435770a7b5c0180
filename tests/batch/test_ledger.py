"""The ledger is appended to, survives a torn last line, and belongs to one process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from amdm_framework.batch import ledger as ledger_module
from amdm_framework.batch.ledger import LEDGER_NAME, Entry, Header, Ledger
from amdm_framework.errors import InputError

from .conftest import job


def written(folder: Path, header: Header) -> Path:
    with Ledger(folder) as ledger:
        ledger.begin(header)
        ledger.record(Entry.of(job("one", seed=1)))
        ledger.record(Entry.of(job("two", seed=2), "it cannot be drawn"))
    return folder / LEDGER_NAME


def test_the_lines_are_those_of_the_documentation(tmp_path: Path, header: Header) -> None:
    first, *lines = map(json.loads, written(tmp_path, header).read_text().splitlines())
    assert first == {
        "format": 1,
        "composition": "0" * 64,
        "device": "cpu",
        "dtype": "float32",
        "batch_size": 3,
        "versions": {"torch": "2"},
    }
    done = {"name": "one", "scene": job("one").scene_hash, "seed": 1, "state": "done", "file": "one.png"}
    failed = {
        "name": "two",
        "scene": job("two").scene_hash,
        "seed": 2,
        "state": "failed",
        "error": "it cannot be drawn",
    }
    assert lines == [done, failed]


def test_what_was_written_is_read_and_the_last_line_of_a_name_counts(tmp_path: Path, header: Header) -> None:
    path = written(tmp_path, header)
    other = header.model_copy(update={"batch_size": 5})
    with Ledger(tmp_path) as ledger:
        assert ledger.header == header and {name: entry.state for name, entry in ledger.entries.items()} == {
            "one": "done",
            "two": "failed",
        }
        ledger.begin(other)
        ledger.record(Entry.of(job("two", seed=2)))
    assert len(path.read_text().splitlines()) == 5
    with Ledger(tmp_path) as ledger:
        assert ledger.header == other and ledger.entries["two"].state == "done"


def test_a_last_line_torn_anywhere_is_cut_off(tmp_path: Path, header: Header) -> None:
    path = written(tmp_path, header)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with Ledger(tmp_path) as ledger:
            assert list(ledger.entries) == ["one"]
            ledger.record(Entry.of(job("two", seed=2), "it cannot be drawn"))
        assert path.read_bytes() == whole
    # Nothing but its end is missing: what an editor may leave.
    path.write_bytes(whole[:-1])
    with Ledger(tmp_path) as ledger:
        assert list(ledger.entries) == ["one", "two"]
    assert path.read_bytes() == whole


def test_a_torn_header_is_no_header(tmp_path: Path, header: Header) -> None:
    path = written(tmp_path, header)
    line = path.read_bytes().splitlines()[0]
    for cut in range(len(line)):
        path.write_bytes(line[:cut])
        with Ledger(tmp_path) as ledger:
            assert ledger.header is None and not ledger.entries
        assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{}", "line 2 is damaged: name: is missing"),
        (b'{"name": "one", ', "line 2 is damaged: not valid JSON"),
        (b"\0\0\0\0", "line 2 is damaged: not valid JSON"),
        (b"\xff", "line 2 is damaged: "),
        (b'{"name": 1}', "line 2 is damaged: name: input should be a valid string, found 1"),
        (
            b'{"name": "../x", "scene": "S", "seed": 1, "state": "done", "file": "../x.png"}',
            "name: string should match",
        ),
        (
            b'{"name": "x", "scene": "S", "seed": 1, "state": "done", "file": "y.png"}',
            "has the file x.png and no error",
        ),
        (b'{"name": "x", "scene": "S", "seed": -1, "state": "failed", "error": "e"}', "seed: input should be greater"),
        (b'{"name": "x", "scene": "S", "seed": 1, "state": "drawn"}', "state: input should be 'done' or 'failed'"),
        (b'{"format": 2}', "line 2 is damaged: format: input should be 1, found 2"),
        (b'"' + b"x" * 2**20 + b'"', "line 2 is damaged"),
    ],
    ids=range(11),
)
def test_other_damage_is_refused_with_its_line_and_left_as_it_is(
    tmp_path: Path, header: Header, line: bytes, message: str
) -> None:
    path = written(tmp_path, header)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = line.replace(b'"S"', f'"{"0" * 64}"'.encode()) + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(InputError) as caught:
        Ledger(tmp_path)
    assert message in str(caught.value) and str(path) in str(caught.value) and len(str(caught.value)) < 1000
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("content", [b"my own notes", b"my own notes\n", b'{"some": "json"}'])
def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEDGER_NAME).write_bytes(content)
    with pytest.raises(InputError, match="line 1 is damaged"):
        Ledger(tmp_path)
    assert (tmp_path / LEDGER_NAME).read_bytes() == content


def test_one_process_at_a_time(tmp_path: Path, header: Header) -> None:
    with Ledger(tmp_path), pytest.raises(InputError, match="another `amdm batch` is writing to this folder"):
        Ledger(tmp_path)
    Ledger(tmp_path).close()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, header: Header, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, header)
    before = path.read_bytes()
    write = os.write
    with Ledger(tmp_path) as ledger:
        monkeypatch.setattr(ledger_module.os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            ledger.record(Entry.of(job("three")))
        assert "three" not in ledger.entries
    assert path.read_bytes() == before
