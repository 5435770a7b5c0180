"""Damaged compositions, scenes and overrides end in success or in an error of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzed_files import COMPOSITION, SCENE
from fuzzing import amdm, cases, remembering_reports
from hypothesis import given
from hypothesis import strategies as st
from mutations import LINES, SCALARS, damaged_yaml, paths_of


@pytest.fixture(scope="module", autouse=True)
def _files_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("amdm_framework.cost.inspect_members", remembering_reports())
        yield


@cases(0.1)
@given(damaged_yaml(COMPOSITION))
def test_compositions(content: bytes) -> None:
    Path("damaged.yaml").write_bytes(content)
    amdm("run", "damaged.yaml", "--scene", "scene.yaml", "--seed", "1", "--dry-run")
    assert not Path("canary").exists()


@cases(0.08)
@given(damaged_yaml(SCENE))
def test_scenes(content: bytes) -> None:
    Path("damaged.yaml").write_bytes(content)
    amdm("check", "composition.yaml", "--scene", "damaged.yaml", "--json")
    assert not Path("canary").exists()


KEYS = [".".join(map(str, path)) for path in paths_of(COMPOSITION) if path]


@cases(0.08)
@given(
    st.lists(
        st.builds(
            "{}={}".format,
            st.sampled_from(
                [*KEYS, "providers.-1.use", "providers.9", "a..b", ".", "release.x", "providers.x", "x" * 300]
            ),
            st.sampled_from([*map(str, SCALARS[:40]), *LINES, "[1, 2]", "{a: b}", "[0, 1, 2, 3]"]),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_overrides(overrides: list[str]) -> None:
    flags = [part for override in overrides for part in ("--set", override)]
    amdm("check", "composition.yaml", "--scene", "scene.yaml", *flags)
