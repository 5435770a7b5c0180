"""The page on what is trusted states the studio's limits as they are."""

from __future__ import annotations

from pathlib import Path

from amdm_framework.studio.drafts import MAX_SIDE
from amdm_framework.studio.guard import MAX_REQUEST_BYTES
from amdm_framework.studio.incoming import KEPT_SECONDS, MAX_INCOMING_BYTES, MAX_UPLOAD_BYTES
from amdm_framework.studio.jobs import MOST_KEPT, MOST_KEPT_IN_ALL, MOST_WAITING, MOST_WAITING_IN_ALL
from amdm_framework.studio.limits import DEEPEST, MOST_ENTRIES, MOST_MEMBERS, MOST_STEPS
from amdm_framework.studio.service import MOST_SEEDS, MOST_SESSIONS
from amdm_framework.studio.uploads import FORMATS, MAX_PIXELS
from amdm_framework.yaml_files import MAX_FILE_BYTES, MAX_VALUES


def test_limits() -> None:
    rows = [
        line.strip("| ").split(" | ")
        for line in _page().split("## The studio")[1].splitlines()
        if line.startswith("| ")
    ]
    told = {row[0]: row[1] for row in rows if len(row) == 2}
    mebibyte = 2**20
    expected = {
        "a request; an upload": f"{MAX_REQUEST_BYTES // mebibyte} MiB; {MAX_UPLOAD_BYTES // mebibyte} MiB",
        "uploads that nobody has looked at": f"{MAX_INCOMING_BYTES // mebibyte} MiB in all, {KEPT_SECONDS // 60} minutes each",
        "an uploaded picture": f"{FORMATS[0]}, {FORMATS[1]} or {FORMATS[2]} of 2²⁵ pixels",
        "a composition, a scene": f"{MAX_FILE_BYTES // 1024} KiB, {MAX_VALUES:,} values, {DEEPEST} levels".replace(
            f"{MAX_VALUES:,}", "65 536"
        ),
        "members; steps; sides of a picture": f"{MOST_MEMBERS}; {MOST_STEPS}; {MAX_SIDE} pixels",
        "instances, interactions, references of a scene": f"{MOST_ENTRIES} each",
        "pictures of a job": f"{MOST_SEEDS}",
        "waiting jobs": f"{MOST_WAITING} of a page, {MOST_WAITING_IN_ALL} in all",
        "finished jobs that are remembered": f"{MOST_KEPT} of a page, {MOST_KEPT_IN_ALL} in all",
    }
    assert MAX_PIXELS == 2**25
    assert {key: told.get(key) for key in expected} == expected
    assert told["pages that are remembered"].startswith(f"{MOST_SESSIONS};")


def _page() -> str:
    return (Path(__file__).parents[2] / "docs" / "security.md").read_text()
