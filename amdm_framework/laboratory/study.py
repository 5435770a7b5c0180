"""A search by Optuna: in memory, or in a file in which an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import AMDMError, InputError, Problem
from ..picture_files import interrupted_afterwards
from .search_space import Dimension, Point, Range

Suggest = Callable[[Dimension], str]
Objective = Callable[[Point], float]
Propose = Callable[[Suggest], Point]

_REASON = "reason"

DIGEST = "sha256 "
"""What values of an identity begin with that say no more than whether something is the same."""


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        settings: the values, as written; empty for the composition as it was given.
        score: what it reached, None where it could not be scored.
        is_start: whether it is the composition as it was given.
        reason: why it could not be scored, else empty.
    """

    settings: Point
    score: float | None
    is_start: bool
    reason: str = ""


class Study:
    """Trials of one search, the first of them the composition as it is.

    What a trial proposes depends on the seed and the trials finished before it alone, so that a study that was
    interrupted and went on finds what an uninterrupted one finds.

    Args:
        file: SQLite database; it is made where it is not there. None keeps the trials in memory.
        identity: what the search is about; a file goes on only with the same.
        space: what is searched.
        start: the composition's own values, as far as they lie in the space.
        seed: of the sampler.

    Raises:
        InputError: Optuna is not installed, or the file holds something else than this search.
    """

    def __init__(
        self,
        file: Path | None,
        identity: Mapping[str, str],
        space: Sequence[Dimension],
        start: Mapping[str, float | str],
        seed: int,
    ) -> None:
        self._optuna = require_optuna()
        self._space = {dimension.key: dimension for dimension in space}
        self._start = dict(start)
        self._seed = seed
        self._file = file
        digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()
        self._name = f"amdm-{digest[:16]}"
        with self._explained():
            if file is None:
                self._study = self._create(self._optuna.storages.InMemoryStorage(), identity)
            else:
                if not file.exists() or file.stat().st_size == 0:
                    self._write_file(file, identity)
                self._study = self._open(file, identity)
            self._forget_unfinished()

    def trials(self) -> list[Trial]:
        """Return the finished trials in the order in which they were begun."""
        states = self._optuna.trial.TrialState
        with self._explained():
            finished = self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
        return [
            Trial(
                self._settings(trial),
                trial.value if trial.state == states.COMPLETE else None,
                _is_start(trial),
                trial.user_attrs.get(_REASON, ""),
            )
            for trial in finished
        ]

    def best(self) -> Trial:
        """Return the trial of the highest score, the first of them."""
        return max((trial for trial in self.trials() if trial.score is not None), key=lambda trial: trial.score or 0.0)

    def run(self, total: int, propose: Propose, objective: Objective, on_trial: Callable[[Trial], object]) -> None:
        """Try settings until `total` trials are finished, those of earlier runs included.

        Args:
            total: number of trials, the start and settings that cannot be scored included.
            propose: (suggest) -> the settings of a trial; asks `suggest` for the value of every dimension it needs.
            objective: the score of some settings; of none that of the composition as it is. Raises `AMDMError` where
                they cannot be scored: they are not valid, their models do not fit, or not into memory.
            on_trial: called with every trial when it is finished.

        Raises:
            AMDMError: the composition as it is cannot be scored.
            InputError: the file cannot be written.
        """
        while len(finished := self.trials()) < total:
            on_trial(self._try_once(finished, propose, objective))

    def importance(self) -> dict[str, float]:
        """Return how much each key decides whether a trial is among the best tenth, as shares of 1 (PED-ANOVA).

        Empty where fewer than 20 trials tell nothing about it.
        """
        scored = [trial for trial in self.trials() if trial.score is not None]
        if len(scored) < 20 or len({trial.score for trial in scored}) < 2:
            return {}
        importance = self._optuna.importance
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = importance.get_param_importances(
                self._study, evaluator=importance.PedAnovaImportanceEvaluator(), params=None
            )
        return {key: float(share) for key, share in shares.items()}

    def _try_once(self, finished: Sequence[Trial], propose: Propose, objective: Objective) -> Trial:
        states = self._optuna.trial.TrialState
        # A sampler of its own for every trial: it knows nothing but the seed and the trials before.
        seed = int(np.random.SeedSequence([self._seed, len(finished)]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=False)
        with self._explained():
            asked = self._study.ask()
        is_start = _is_start(asked)
        score: float | None = None
        reason = ""
        try:
            suggest = partial(self._suggest, asked)
            if is_start:
                for key in self._start:
                    suggest(self._space[key])
                settings: Point = {}
            else:
                settings = propose(suggest)
            known = next((trial for trial in finished if trial.settings == settings and not trial.is_start), None)
            if known is not None:
                score, reason = known.score, known.reason
            else:
                try:
                    score = objective(settings)
                except AMDMError as error:
                    if is_start:
                        raise
                    # It counts, or else the same settings would be proposed again and again.
                    reason = " ".join(str(error).split())
        except BaseException:
            # Neither this nor a process that was killed counts as a trial.
            with self._explained():
                self._study.tell(asked, state=states.FAIL)
            raise
        with interrupted_afterwards(), self._explained():
            if reason:
                asked.set_user_attr(_REASON, reason)
            self._study.tell(asked, score, state=states.PRUNED if score is None else None)
        return Trial(settings, score, is_start, reason)

    def _suggest(self, trial: Any, dimension: Dimension) -> str:
        with self._explained():
            if isinstance(dimension, Range):
                suggest = trial.suggest_int if dimension.whole else trial.suggest_float
                return dimension.text(suggest(dimension.key, dimension.low, dimension.high, log=dimension.log))
            return dimension.text(trial.suggest_categorical(dimension.key, dimension.values))

    def _settings(self, trial: Any) -> Point:
        if _is_start(trial):
            return {}
        return {key: self._space[key].text(value) for key, value in trial.params.items()}

    def _forget_unfinished(self) -> None:
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self._study.tell(trial.number, state=states.FAIL)
        begun = self._study.get_trials(deepcopy=False, states=(states.WAITING, states.COMPLETE))
        if not any(map(_is_start, begun)):
            self._study.enqueue_trial(self._start, user_attrs={"start": True})

    def _create(self, storage: Any, identity: Mapping[str, str]) -> Any:
        study = self._optuna.create_study(storage=storage, study_name=self._name, direction="maximize")
        study.set_user_attr("amdm", dict(identity))
        return study

    def _write_file(self, file: Path, identity: Mapping[str, str]) -> None:
        # Under another name until it is whole, so that whoever is killed meanwhile leaves no half of a study.
        unfinished = file.with_name(f".{uuid.uuid4().hex}.part")
        try:
            # Dozens of small commits, each of which would wait for the disk; once at the end is enough.
            storage = self._storage(unfinished, "PRAGMA synchronous = OFF")
            self._create(storage, identity)
            storage.engine.dispose()
            with unfinished.open("rb") as written:
                os.fsync(written.fileno())
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)

    def _open(self, file: Path, identity: Mapping[str, str]) -> Any:
        _require_study(file)
        try:
            storage = self._storage(file)
        except RuntimeError as error:
            message = "was written by another version of Optuna, which this one does not read: take another file"
            raise InputError([Problem(message, "--study", str(file))]) from error
        for summary in self._optuna.get_all_study_summaries(storage):
            known = summary.user_attrs.get("amdm")
            if known is None:
                raise InputError([Problem("this study is not one of `amdm tune`: take another file", file=str(file))])
            if summary.study_name != self._name:
                differences = [
                    _difference(key, known.get(key, "none"), identity.get(key, "none"))
                    for key in dict.fromkeys([*known, *identity])
                    if known.get(key) != identity.get(key)
                ]
                message = f"this study searched something else: {'; '.join(differences)}. Take another file for it"
                raise InputError([Problem(message, "--study", str(file))])
        return self._optuna.load_study(study_name=self._name, storage=storage)

    def _storage(self, file: Path, statement: str = "") -> Any:
        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(file)
            connection.execute(statement)
            return connection

        # Not by its name in an address, where some characters would mean something else.
        return self._optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, self._optuna.exceptions.StorageInternalError, sqlite3.Error, OSError) as error:
            cause = error.__cause__ if isinstance(error, self._optuna.exceptions.StorageInternalError) else None
            reason = " ".join(str(getattr(cause or error, "orig", None) or cause or error).split())
            raise InputError([Problem(f"cannot keep the study here: {reason}", "--study", str(self._file))]) from error


def require_optuna() -> ModuleType:
    """Import Optuna.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError(
            "the search is done by Optuna, which is not installed: pip install 'amdm-framework[tune]'"
        ) from error
    # What it has to say is said by whoever runs the search.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    module: ModuleType = optuna
    return module


def _difference(key: str, before: str, now: str) -> str:
    if DIGEST in (before[: len(DIGEST)], now[: len(DIGEST)]):
        return f"{key} changed"
    return f"{key} was {before}, now {now}"


def _is_start(trial: Any) -> bool:
    return bool(trial.user_attrs.get("start", False))


def _require_study(file: Path) -> None:
    """Refuse a file that is no database of studies, before anything is written to it."""
    try:
        connection = sqlite3.connect(file)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        message = f"is not a study, which is an SQLite database: {error}"
        raise InputError([Problem(message, "--study", str(file))]) from error
    if not {"studies", "trials"} <= tables:
        raise InputError([Problem("is a database of something else than studies", "--study", str(file))])
