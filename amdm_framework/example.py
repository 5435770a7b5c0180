"""An example: a composition and a scene that work with what a plugin ships, for tools that need something to begin with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import PluginError


@dataclass(frozen=True)
class Example:
    """What a plugin hands to `register_examples`.

    Attributes:
        name: a lower-case word, unique among the installed examples.
        summary: one line, which says what can be seen in it.
        composition: a YAML file. Everything it names has to come with the plugin or with what the plugin depends on, so
            that the example can be drawn as it is.
        scene: a YAML file, which may name files beside it.

    Raises:
        PluginError: with every field that is not as described here. What is in the files is not looked at.
    """

    name: str
    summary: str
    composition: Path
    scene: Path

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            problems.append(f"name must be a lower-case word like 'my_example', found {self.name!r}")
        if not isinstance(self.summary, str) or not self.summary:
            problems.append(f"summary must be a text, found {self.summary!r}")
        for attribute in ("composition", "scene"):
            path = getattr(self, attribute)
            if not isinstance(path, Path) or path.suffix not in (".yaml", ".yml"):
                problems.append(f"{attribute} must be the Path of a YAML file, found {path!r}")
            elif not path.is_file():
                problems.append(f"{attribute} must be a file that exists, found {str(path)!r}")
        if problems:
            raise PluginError(f"example {self.name}: {'; '.join(problems)}")
