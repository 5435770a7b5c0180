"""A studio without a web server: its parts, put together as `amdm studio` does, and what a page would ask of it."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from amdm_framework.plugins import PluginRegistry
from amdm_framework.studio.containment import ReadableFiles
from amdm_framework.studio.drafts import DraftChecker
from amdm_framework.studio.drawing import JobDrawer
from amdm_framework.studio.gallery import Gallery
from amdm_framework.studio.incoming import IncomingFolder
from amdm_framework.studio.jobs import Job, JobQueue
from amdm_framework.studio.service import StudioService
from amdm_framework.studio.start import starting_points
from amdm_framework.studio.uploads import UploadFolder

COMPOSITION: dict[str, Any] = {
    "providers": [
        {"use": "interactdiffusion", "checkpoint": "zoo://interactdiffusion"},
        {"use": "migc", "checkpoint": "zoo://migc", "base": "zoo://base", "condition": {"negative": ""}},
    ],
    "aggregation": {"strategy": "composable", "steps": 2},
    "sampler": {"steps": 3, "guidance_scale": 3},
}
SCENE: dict[str, Any] = {
    "caption": "a red star and a blue circle",
    "instances": {
        "star": {"phrase": "red star", "box": [0.1, 0.3, 0.4, 0.6]},
        "circle": {"phrase": "blue circle", "box": [0.6, 0.4, 0.9, 0.7]},
    },
    "interactions": [{"subject": "star", "action": "ring", "object": "circle"}],
}
"""Two of the zoo's models, in three steps, and a scene that both understand."""


@dataclass(frozen=True)
class Studio:
    """The parts of a studio, and the folders that they work in."""

    output: Path
    incoming: IncomingFolder
    uploads: UploadFolder
    files: ReadableFiles
    drafts: DraftChecker
    jobs: JobQueue
    gallery: Gallery
    service: StudioService

    def page(self) -> Page:
        """Return a page that has just been opened."""
        page = Page(self, "")
        page.session = page.ask("open")["session"]
        return page

    def arrived(self) -> list[Path]:
        """Return the files that nobody has looked at."""
        return [Path(folder, name) for folder, _, names in os.walk(self.incoming.folder) for name in names]

    def arrive(self, content: bytes, name: str = "picture.png") -> Path:
        """Put a file where the web server puts what it received."""
        folder = self.incoming.folder / f"{len(list(self.incoming.folder.iterdir())):064x}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        return folder / name


@dataclass
class Page:
    """Asks a studio as the page in the browser does."""

    studio: Studio
    session: str

    def ask(self, method: str, /, **data: Any) -> dict[str, Any]:
        """Return an answer, after the way through JSON."""
        answer = getattr(self.studio.service, method)(json.loads(json.dumps({"session": self.session, **data})))
        content = json.loads(json.dumps(answer, allow_nan=False).encode())
        assert isinstance(content, dict)
        return content

    def check(self, composition: Any = COMPOSITION, scene: Any = SCENE) -> dict[str, Any]:
        """Check a draft."""
        return self.ask("check", composition=composition, scene=scene)

    def problems(self, composition: Any = COMPOSITION, scene: Any = SCENE) -> dict[tuple[str, str], str]:
        """Return what is wrong with a draft by part and key."""
        answer = self.check(composition, scene)
        assert "error" not in answer, answer
        return {(one["part"], one["key"]): one["message"] for one in answer["problems"]}

    def draw(self, composition: Any = COMPOSITION, scene: Any = SCENE, seeds: Any = ("1",), alone: bool = False) -> str:
        """Ask for a job and return its key."""
        answer = self.ask("draw", composition=composition, scene=scene, seeds=list(seeds), alone=alone)
        assert "job" in answer, answer
        return str(answer["job"])

    def job(self, key: str) -> dict[str, Any]:
        """Return what is known of a job."""
        return next(job for job in self.ask("jobs")["jobs"] if job["key"] == key)

    def finished(self, key: str, seconds: float = 60) -> dict[str, Any]:
        """Wait for a job."""
        end = time.monotonic() + seconds
        while (job := self.job(key))["state"] in ("waiting", "drawing"):
            assert time.monotonic() < end, job
            time.sleep(0.01)
        return job


def make_studio(
    folder: Path,
    plugins: PluginRegistry,
    draw: Callable[[Job], None] | None = None,
    models: Sequence[Path] = (),
    composition: Path | None = None,
    scene: Path | None = None,
) -> Studio:
    """Put a studio together in a folder.

    Args:
        folder: gets `output` and `incoming`.
        plugins: the installed plugins.
        draw: draws jobs [as `amdm studio` does].
        models: folders that are opened to the page.
        composition: what it is started with.
        scene: likewise.
    """
    output = folder / "output"
    (folder / "incoming").mkdir()
    incoming = IncomingFolder(folder / "incoming")
    drawer = draw or JobDrawer(plugins, "cpu", "auto", output)
    uploads = UploadFolder(output / "uploads")
    starts = starting_points(composition, scene, plugins, uploads)
    weights = [file for start in starts for file in start.files]
    files = ReadableFiles(uploads, [folder.resolve() for folder in models], weights)
    drafts = DraftChecker(plugins, files, "cpu", "auto")
    jobs, gallery = JobQueue(drawer), Gallery(output)
    service = StudioService(plugins, starts, drafts, jobs, gallery, uploads, incoming, "cpu")
    return Studio(output, incoming, uploads, files, drafts, jobs, gallery, service)


def picture_bytes(kind: str = "PNG", size: tuple[int, int] = (16, 12), colour: Any = "red", **options: Any) -> bytes:
    """Return a picture as a file of some format."""
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, kind, **options)
    return content.getvalue()
