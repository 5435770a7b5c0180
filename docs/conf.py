"""The documentation's build; `make docs` runs it.

Sphinx's source folder is the repository, so that links to READMEs of plugins, to examples and to code hold both here and
where the Markdown files are read as they are:

    python -m sphinx -W --keep-going -c docs . docs/_build/html
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from amdm_framework import __version__

project = "amdm_framework"
copyright = "the AMDM framework's contributors"
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "markdown_docstrings",
    "generated_reference",
    "repository_links",
]

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "amdm_framework/templates/*/README.md",
    "benchmarks/*/README.md",
    "examples/*/README.md",
    "plugins/*/README.md",
    "zoo/README.md",
]
exclude_patterns = [".*", "**/.*", "docs/_*", "tests", "dist", "build", "demo_output"]

# Headings of these levels can be linked to as on GitHub.
myst_heading_anchors = 4
# Indented blocks are commands and formulas; fenced ones name their language.
highlight_language = "text"
# Options and messages are shown in the characters in which they are typed.
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# Defaults as they are written, not what they are in the process that builds the pages.
autodoc_preserve_defaults = True
autodoc_default_options = {"exclude-members": "model_config"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"amdm_framework {release}"
# The root document is in a folder; this leads there from the site's root.
html_extra_path = ["_site"]
html_copy_source = False
html_show_sphinx = False
