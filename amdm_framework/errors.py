"""The errors that people meet: every one of them says what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath


class AMDMError(Exception):
    """Base of all errors caused by input, files or installed plugins rather than by a defect in the program.

    The command line prints the message without a traceback and ends with exit code 2.
    """


@dataclass(frozen=True)
class Problem:
    """One mistake in one place.

    Attributes:
        message: what was found and what was expected.
        key: dotted path of the offending key (`providers.0.step_size`), or an empty string.
        file: the file that holds the key, or an empty string.
    """

    message: str
    key: str = ""
    file: str = ""

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.file, self.key) if part)
        return f"{place}: {self.message}" if place else self.message


class InputError(AMDMError):
    """One or more mistakes in a composition, a scene or an argument, all reported together."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem(problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CheckpointError(AMDMError):
    """A checkpoint is missing, damaged, unsafe or of another architecture."""


class IncompatibleProvidersError(AMDMError):
    """The providers do not share one latent space and one diffusion process."""


class PluginError(AMDMError):
    """A provider, strategy or plugin is not installed, is broken, or clashes with another one."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known name, or an empty string."""
    # Two files are not alike for ending in `.safetensors` both.
    stem = PurePath(name).stem
    alike = [one for one in known if difflib.get_close_matches(stem, [PurePath(one).stem], cutoff=0.6)]
    matches = difflib.get_close_matches(name, alike, n=1, cutoff=0)
    return f" Did you mean '{matches[0]}'?" if matches else ""
