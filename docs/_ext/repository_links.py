"""Links to folders of the repository: to the README in them where that is a page, and to nothing where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode


class FolderLinks(SphinxPostTransform):
    """Resolves what MyST, which looks for files and pages only, would warn of."""

    # Just before MyST's own.
    default_priority = 8

    def run(self, **arguments: Any) -> None:
        for reference in self.document.findall(pending_xref):
            if reference.get("reftype") != "myst" or reference.get("refdomain") is not None:
                continue
            _, path = self.env.relfn2path(reference["reftarget"], reference["refdoc"])
            if not Path(path).is_dir():
                continue
            page = self.env.path2doc(str(Path(path, "README.md")))
            content = reference[0]
            if page in self.env.all_docs:
                content = make_refnode(self.app.builder, reference["refdoc"], page, None, content)
            reference.replace_self(content)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_post_transform(FolderLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
