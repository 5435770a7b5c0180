"""The page about providers speaks of what there is."""

from __future__ import annotations

import re
from pathlib import Path

from amdm_framework.plugin_template import PluginName, write_plugin
from amdm_framework.testing import ProviderContract

PAGE = (Path(__file__).parents[2] / "docs/write_a_provider.md").read_text()


def test_every_contract_test_that_it_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 8 and [name for name in named if not hasattr(ProviderContract, name)] == []


def test_it_lists_the_files_of_the_package(tmp_path):
    folder = write_plugin(PluginName("provider", "my_model"), tmp_path)
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    listed = set(re.findall(r"^\| `([\w/.-]+)` \|", PAGE, re.MULTILINE))
    assert written - listed == {".gitignore", "README.md"}
