"""The running of pages itself: what is run, what is left alone, and that what does not work as shown is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from amdm_framework.errors import InputError
from code_blocks import blocks_of, run_page

GOOD = """
```yaml
# scene.yaml
caption: a star
```

```python
caption = open("scene.yaml").read()
```

```python
assert "a star" in caption
```

```console
$ amdm strategies single --json > single.json
$ amdm check composition.yaml --scene scene.yaml \\
    --set sampler.steps=7
compatible: one latent space and one noise schedule
…  7 …
```

```yaml
# composition.yaml
providers: [{use: stable_diffusion, checkpoint: "zoo://base"}]
```

<!-- not run: for the test -->

    amdm there-is-no-such-command

```bash
exit 1
```
"""


def run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "page.md").write_text(page)
    (folder / "home").mkdir()
    run_page(folder / "page.md", folder / "home", monkeypatch)


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ("--set sampler.steps=7", "--set sampler.step=7", AssertionError),
        ("…  7 …", "…  8 …", AssertionError),
        ('"a star" in', '"a square" in', AssertionError),
        ("caption: a star", "captoin: a star", AssertionError),
        ("caption: a star", "caption: [a star]", InputError),
        ('"zoo://base"', '"zoo://base", strength: 1', AssertionError),
        ("<!-- not run: for the test -->", "<!-- not run: -->", AssertionError),
        ("caption = open", "caption = (open", SyntaxError),
    ],
)
def test_what_does_not_work_as_shown_is_noticed(
    before: str, after: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert before in GOOD
    with pytest.raises(error):
        run(GOOD.replace(before, after), tmp_path, monkeypatch)


def test_what_works_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(GOOD, tmp_path, monkeypatch)
    assert "single" in (tmp_path / "home" / "single.json").read_text()


def test_the_blocks_of_a_page_are_found_with_their_files_and_languages() -> None:
    blocks = list(blocks_of(GOOD))
    assert [block.language for block in blocks] == ["yaml", "python", "python", "console", "yaml", "indented", "bash"]
    assert [block.file for block in blocks if block.file] == ["scene.yaml", "composition.yaml"]
    assert [block.not_run for block in blocks] == [False] * 5 + [True, False]
    assert blocks[0].line == 2
