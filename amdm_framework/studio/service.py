"""What the page asks of the machine: every method takes plain data from the page and returns plain data to it."""

from __future__ import annotations

import functools
import io
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from PIL import Image

from ..composition import AggregationBlock, ProviderBlock, SamplerSettings
from ..devices import choose_device
from ..errors import AMDMError, InputError
from ..execution import ExecutionSettings
from ..picture_text import DISTINCT
from ..plugins import PluginRegistry
from ..scene_colours import NAMED_COLOURS
from ..trace_plot import plot_trace, trace_of_picture
from .drafts import Draft, DraftChecker
from .forms import form_of
from .gallery import Gallery, settings_of
from .incoming import IncomingFolder
from .jobs import Job, JobQueue, JobRequest
from .messages import message_of
from .previews import data_uri, uri_of
from .start import StartingPoint
from .uploads import UploadFolder

MOST_SEEDS = 16
"""Pictures of one job."""

MOST_SESSIONS = 1000
"""Pages that are remembered; the one that was silent longest is forgotten first."""

Data = Mapping[str, Any]
Answer = dict[str, Any]
Method = Callable[["StudioService", Data], Answer]


class UnknownSessionError(AMDMError):
    """The studio was started anew, or forgot a page that was silent for long."""


def answers(method: Method) -> Method:
    """Turn errors of a method into an answer that says what is wrong."""

    @functools.wraps(method)
    def answer(self: StudioService, data: Data) -> Answer:
        try:
            return method(self, _Request(data if isinstance(data, dict) else {}))
        except UnknownSessionError as error:
            return {"error": str(error), "expired": True}
        except AMDMError as error:
            return {"error": message_of(error)}
        except Exception:
            # Nobody at the page can do anything about a defect, nor should they read its details.
            logging.getLogger(__name__).exception("an answer to the page failed")
            return {"error": "the studio failed at this; its terminal shows why"}

    return answer


class StudioService:
    """Answers the page.

    A page has a session, named by a token that only it knows; jobs belong to sessions. The gallery is everybody's.

    Args:
        plugins: the installed plugins.
        starts: what pages can begin with, the first by themselves.
        drafts: checks what pages are working on.
        jobs: draws.
        gallery: of the output folder.
        uploads: reference pictures.
        incoming: where the web server puts what it received.
        device: as asked for on the command line.
    """

    def __init__(
        self,
        plugins: PluginRegistry,
        starts: list[StartingPoint],
        drafts: DraftChecker,
        jobs: JobQueue,
        gallery: Gallery,
        uploads: UploadFolder,
        incoming: IncomingFolder,
        device: str,
    ) -> None:
        self._plugins = plugins
        self._starts = starts
        self._drafts = drafts
        self._jobs = jobs
        self._gallery = gallery
        self._uploads = uploads
        self._incoming = incoming
        self._device = str(choose_device(device))
        self._sessions: dict[str, float] = {}
        self._lock = threading.Lock()

    @answers
    def open(self, data: Data) -> Answer:
        """Begin a session, or go on with one: everything that the page has to know once."""
        token = str(data.get("session", ""))
        forgotten = []
        with self._lock:
            if token not in self._sessions:
                token = secrets.token_urlsafe(24)
                while len(self._sessions) >= MOST_SESSIONS:
                    forgotten.append(min(self._sessions, key=lambda one: self._sessions[one]))
                    del self._sessions[forgotten[-1]]
            self._sessions[token] = time.monotonic()
        for session in forgotten:
            self._jobs.forget(session)
        return {
            "session": token,
            "device": self._device,
            "most_seeds": MOST_SEEDS,
            "providers": [
                {
                    "name": name,
                    "summary": offer.value.summary,
                    "options": [asdict(field) for field in form_of(offer.value.options)],
                    "condition": [asdict(field) for field in form_of(offer.value.condition)],
                }
                for name, offer in self._plugins.providers.items()
            ],
            "strategies": [
                {
                    "name": name,
                    "summary": offer.value.summary,
                    "formula": offer.value.formula,
                    "source": offer.value.source,
                    "options": [asdict(field) for field in form_of(offer.value.options)],
                }
                for name, offer in self._plugins.strategies.items()
            ],
            "default_strategy": AggregationBlock.model_fields["strategy"].default,
            "member": [asdict(field) for field in form_of(ProviderBlock, leave_out=("use", "condition"))],
            "sampler": [asdict(field) for field in form_of(SamplerSettings)],
            "execution": [asdict(field) for field in form_of(ExecutionSettings)],
            "distinct": DISTINCT,
            "named_colours": NAMED_COLOURS,
            "starts": [{"title": start.title, "composition": start.composition, "scene": start.scene}
                       for start in self._starts],
        }  # fmt: skip

    @answers
    def check(self, data: Data) -> Answer:
        """Check a composition and a scene, given as content of forms or as YAML."""
        self._session(data)
        return self._draft(data).for_page()

    @answers
    def add_picture(self, data: Data) -> Answer:
        """Take a reference picture that was uploaded."""
        self._session(data)
        with self._incoming.take(str(data["path"])) as received:
            return {"image": self._uploads.add(received, str(data.get("name", received.name)))}

    @answers
    def thumbnail(self, data: Data) -> Answer:
        """Return a small version of a reference picture."""
        self._session(data)
        path = self._uploads.find(str(data.get("image", "")))
        if path is None:
            raise InputError("there is no such picture")
        with Image.open(path, formats=("PNG",)) as picture:
            picture.thumbnail((128, 128))
            return {"uri": data_uri(picture)}

    @answers
    def open_picture(self, data: Data) -> Answer:
        """Return what made a picture, one that was uploaded or one of the gallery."""
        self._session(data)
        # An upload has a name, too: that of the file on the other machine.
        if "path" not in data:
            return settings_of(self._gallery.existing(str(data["name"])), self._drafts.files)
        with self._incoming.take(str(data["path"])) as received:
            return settings_of(received, self._drafts.files)

    @answers
    def draw(self, data: Data) -> Answer:
        """Draw a scene; the answer names the job, or is what `check` says where something is wrong."""
        session = self._session(data)
        seeds = _seeds(data["seeds"])
        draft = self._draft(data)
        if draft.problems or draft.incompatible or draft.resolved is None or draft.drawn is None:
            return {"draft": draft.for_page()}
        content = {"composition": draft.composition, "scene": draft.scene}
        request = JobRequest(draft.resolved, draft.drawn, seeds, bool(data.get("alone")), content)
        return {"job": self._jobs.submit(session, request).key}

    @answers
    def jobs(self, data: Data) -> Answer:
        """Return a page's jobs; of those that have not changed since the page was told, only the key.

        `known` maps keys to the versions that the page knows.
        """
        session = self._session(data)
        known = data.get("known")
        versions = known if isinstance(known, dict) else {}
        return {"jobs": [self._job_for_page(job, versions.get(job.key)) for job in self._jobs.of_session(session)]}

    @answers
    def cancel(self, data: Data) -> Answer:
        """Stop a job."""
        self._jobs.cancel(self._jobs.find(self._session(data), str(data.get("job"))))
        return {}

    @answers
    def picture(self, data: Data) -> Answer:
        """Return a picture of the output folder as it is on disk."""
        self._session(data)
        return {"uri": self._gallery.content(str(data.get("name", "")))}

    @answers
    def trace(self, data: Data) -> Answer:
        """Draw the trace of one picture of a job."""
        job = self._jobs.find(self._session(data), str(data.get("job")))
        position = data.get("position", 0)
        if not job.views or not isinstance(position, int) or not 0 <= position < len(job.request.seeds):
            raise InputError("there is no such picture")
        plot = io.BytesIO()
        plot_trace(trace_of_picture(job.views[0].trace, position), f"seed {job.request.seeds[position]}", plot)
        return {"uri": uri_of(plot.getvalue(), "png")}

    @answers
    def gallery(self, data: Data) -> Answer:
        """Return a part of the gallery, the newest pictures first."""
        self._session(data)
        start = data.get("start", 0)
        entries, more = self._gallery.page(start if isinstance(start, int) and start > 0 else 0)
        return {"pictures": [asdict(entry) for entry in entries], "more": more}

    def close(self) -> None:
        """Stop all jobs."""
        self._jobs.close()

    def _draft(self, data: Data) -> Draft:
        return self._drafts.check(data["composition"], data["scene"])

    def _session(self, data: Data) -> str:
        token = str(data.get("session", ""))
        with self._lock:
            if token not in self._sessions:
                raise UnknownSessionError("this page is not known any more: reload it")
            self._sessions[token] = time.monotonic()
        return token

    def _job_for_page(self, job: Job, known: Any) -> Answer:
        waiting = self._jobs.ahead(job) if job.state == "waiting" else 0
        if known == job.version and not waiting:
            return {"key": job.key}
        return {
            "key": job.key,
            "version": job.version,
            "state": job.state,
            "ahead": waiting,
            "stage": job.stage,
            "step": job.step,
            "steps": job.steps,
            "error": job.error,
            "seconds": round(job.seconds, 1),
            "seeds": [str(seed) for seed in job.request.seeds],
            "members": [member.name for member in job.request.resolved.members],
            "strategy": job.request.resolved.strategy.name,
            "content": job.request.content,
            "previews": [asdict(preview) for preview in job.previews.values()],
            "views": [
                {"name": view.name, "files": view.files, "warnings": view.warnings, "evaluations": view.evaluations}
                for view in job.views
            ],
        }


class _Request(dict[str, Any]):
    """What came from the page; a key that it lacks is a mistake of the page."""

    def __missing__(self, key: str) -> Any:
        raise InputError(f"the page sent no {key!r}")


def _seeds(written: Any) -> tuple[int, ...]:
    # As texts: a number of JavaScript holds 53 bits.
    words = written if isinstance(written, list) else []
    if not all(isinstance(word, str) and re.fullmatch(r"[0-9]{1,20}", word) and int(word) < 2**64 for word in words):
        raise InputError("a seed is a whole number from 0 on, of at most 64 bits")
    seeds = tuple(dict.fromkeys(map(int, words)))
    if len(seeds) != len(words) or not 1 <= len(seeds) <= MOST_SEEDS:
        raise InputError(f"expected 1 to {MOST_SEEDS} seeds, all different")
    return seeds
