"""New plugin packages: the templates that come with the framework, copied under a name of one's own.

The templates are packages that work as they are, called `example`. Copying them replaces that word, everywhere.
"""

from __future__ import annotations

import keyword
import re
import tempfile
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import InputError, Problem
from .picture_files import prepare_folder

Kind = Literal["provider", "strategy"]

TEMPLATES = Path(__file__).parent / "templates"
PREFIXES: Mapping[Kind, str] = {"provider": "amdm-plugin-", "strategy": "amdm-strategy-"}
"""What names of distributions begin with."""

TEMPLATE_NAME = "example"

# What tools leave behind beside the files of a template.
_LEFT_BY_TOOLS = re.compile(r"__pycache__|\.(pytest|ruff|mypy)_cache|build|dist|.*\.egg-info")

# Without quotes, readers of YAML take these for something else than a word.
_NO_WORDS_IN_YAML = frozenset({"on", "off", "yes", "no", "y", "n", "true", "false", "null"})


@dataclass(frozen=True)
class PluginName:
    """How a new plugin is called in all the places that have rules for names.

    Attributes:
        kind: what the package adds.
        word: behind `use:` or `strategy:` in a composition, e.g. `my_model`.
    """

    kind: Kind
    word: str

    @property
    def distribution(self) -> str:
        """What is installed, e.g. `amdm-plugin-my-model`."""
        return PREFIXES[self.kind] + self.word.replace("_", "-")

    @property
    def module(self) -> str:
        """What is imported, e.g. `amdm_plugin_my_model`."""
        return self.distribution.replace("-", "_")

    @property
    def title(self) -> str:
        """What classes begin with, e.g. `MyModel`."""
        return "".join(part.capitalize() for part in self.word.split("_"))

    def renamed(self, text: str) -> str:
        """Return a text of the template with this name in place of the template's."""
        template = PluginName(self.kind, TEMPLATE_NAME)
        new = {
            template.distribution: self.distribution,
            template.title: self.title,
            template.word: self.word,
        }
        # In one pass: the new name may hold the old one.
        return re.sub("|".join(map(re.escape, new)), lambda found: new[found.group()], text)


def plugin_name(name: str, kind: Kind, taken: Mapping[str, str]) -> PluginName:
    """Check the name of a new plugin.

    Args:
        name: as a person gave it, e.g. `my-model` or `my_model`.
        kind: what the package adds.
        taken: what is installed, providers and strategies alike: names to what they come from.

    Raises:
        InputError: it is no lower-case word, a word that means something already, or taken; with a proposal.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        # Without accents; what begins with a digit would lose its meaning with it (3d).
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        nearest = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
        nearest = nearest if nearest[:1].isalpha() else ""
        raise InputError(
            f"a plugin's name is made of lower-case letters and digits, joined by single dashes, and begins with a "
            f"letter; found {name!r}.{_proposal(nearest)}"
        )
    word = name.replace("-", "_")
    for prefix in PREFIXES.values():
        if name.replace("_", "-").startswith(prefix):
            raise InputError(f"{prefix} is put before the name for you.{_proposal(name[len(prefix) :])}")
    if keyword.iskeyword(word) or keyword.issoftkeyword(word):
        raise InputError(f"{name!r} is a word of the language Python.{_proposal(f'{name}-model')}")
    if word in _NO_WORDS_IN_YAML:
        raise InputError(f"YAML does not take {name!r} for a word.{_proposal(f'{name}-model')}")
    if word == TEMPLATE_NAME:
        raise InputError(f"{name!r} is what the template is called: give the name of your model or strategy")
    if word in taken:
        raise InputError(f"{name!r} is installed already, from {taken[word]}.{_proposal(f'my-{name}')}")
    return PluginName(kind, word)


def write_plugin(name: PluginName, output: Path) -> Path:
    """Write a new package and return its folder. It is there as a whole or not at all.

    Args:
        name: of the plugin.
        output: the folder in which the package gets one of its own; it is made where it is not there.

    Raises:
        InputError: the package's folder exists, or cannot be written.
    """
    folder = output / name.distribution
    if folder.exists() or folder.is_symlink():
        raise InputError([Problem("exists already: choose another name or --output, or remove it", file=str(folder))])
    prepare_folder(output)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name.distribution}.", dir=output) as temporary:
            package = Path(temporary) / name.distribution
            _copy(TEMPLATES / name.kind, package, name)
            package.rename(folder)
    except OSError as error:
        raise InputError([Problem(f"cannot be written: {error.strerror or error}", file=str(folder))]) from error
    return folder


def _copy(template: Path, package: Path, name: PluginName) -> None:
    for source in sorted(template.rglob("*")):
        inside = source.relative_to(template)
        if source.is_file() and not any(map(_LEFT_BY_TOOLS.fullmatch, inside.parts)):
            target = package / name.renamed(str(inside))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(name.renamed(source.read_text(encoding="utf-8")), encoding="utf-8")


def _proposal(name: str) -> str:
    return f" Did you mean '{name}'?" if name else ""
