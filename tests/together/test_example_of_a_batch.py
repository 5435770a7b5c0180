"""examples/shapes_scenes.jsonl: what docs/batch.md shows, and every installed model can draw it."""

from __future__ import annotations

from pathlib import Path

from amdm_framework.batch.jobs import read_jobs
from amdm_framework.composition import read_composition
from amdm_framework.plugins import discover
from amdm_framework.scene import read_scene

ROOT = Path(__file__).parents[2]


def test_every_scene_has_what_all_three_models_need() -> None:
    jobs = read_jobs(ROOT / "examples" / "shapes_scenes.jsonl")
    assert [job.name for job in jobs] == ["first", "000002"]
    resolved = read_composition(ROOT / "examples" / "shapes.yaml", discover())
    conditions = resolved.conditions([read_scene(job.scene, Path(job.base_dir)) for job in jobs])
    assert [len(one) for one in conditions] == [2, 2, 2]


def test_the_page_shows_it() -> None:
    page = (ROOT / "docs" / "batch.md").read_text()
    assert (ROOT / "examples" / "shapes_scenes.jsonl").read_text() in page
    assert "--scenes examples/shapes_scenes.jsonl" in page
