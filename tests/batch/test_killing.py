"""A batch that is killed at any moment, again and again, ends as one that never was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_killed_at_random_moments_every_picture_is_drawn_once_and_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    program = [sys.executable, str(Path(__file__).with_name("killing.py")), str(tmp_path), "20260101"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"]["timed"] >= 20 and found["kills"]["counted"] >= 30 and found["pictures"] == 7
