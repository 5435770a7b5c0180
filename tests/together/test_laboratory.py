"""`amdm sweep` and `amdm ablate` with the three models of the zoo."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from amdm_framework.loading import MemberLoader
from amdm_framework.provider import EpsilonProvider
from command_line import invoke
from pictures_in_grids import places_of

EXAMPLES = Path(__file__).parents[2] / "examples"
SCENE = ("--scene", EXAMPLES / "shapes_scene.yaml")
SHORT = ("sampler.steps=3", "aggregation.secondary_steps=1", "aggregation.instance_steps=1")


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The members that were loaded, in an empty folder that is the current one."""
    names: list[str] = []
    load = MemberLoader.load

    def counting(self: MemberLoader, position: int) -> EpsilonProvider:
        names.append(self.resolved.members[position].name)
        return load(self, position)

    monkeypatch.setattr(MemberLoader, "load", counting)
    monkeypatch.chdir(tmp_path)
    return names


def overrides(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def test_cells_of_a_sweep_are_the_pictures_of_runs_and_members_are_loaded_once(loaded: list[str]) -> None:
    seeds = ("--seed", "1", "--seed", "2")
    invoke("sweep", EXAMPLES / "shapes.yaml", *SCENE, *seeds, *overrides(*SHORT, "providers.2.scale=0.3,1.0"))
    # The adapter's own option varies, so that it is loaded for each value; the others serve both variants.
    assert loaded == ["interactdiffusion", "migc", "ip_adapter", "ip_adapter"]
    own = overrides(*SHORT, "providers.2.scale=0.3")
    paths = invoke("run", EXAMPLES / "shapes.yaml", *SCENE, *seeds, *own, "--output", "own").stdout.split()
    with Image.open("shapes_scene-sweep.png") as page:
        places = []
        for path in paths:
            with Image.open(path) as picture:
                places += places_of(picture, page, 3)
    (first_left, first_top), (second_left, second_top) = places
    assert first_left == second_left and first_top < second_top
    with Path("shapes_scene-sweep.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["providers.2.scale"], line["seed"]) for line in lines] == [
        ("0.3", "1"), ("0.3", "2"), ("1.0", "1"), ("1.0", "2")
    ]  # fmt: skip
    # Target, secondary and background in each of two steps, then the target alone.
    assert {line["evaluations"] for line in lines} == {"7"}


def test_an_ablation_scored_by_the_zoos_benchmark(loaded: list[str]) -> None:
    invoke("ablate", EXAMPLES / "shapes.yaml", "--benchmark", "shapes", "--cases", "2", *overrides(*SHORT))
    assert loaded == ["interactdiffusion", "migc", "ip_adapter"]
    with Path("shapes-ablate.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 7 and all(0 <= float(line["shapes_isr"]) <= 100 for line in lines)
    with Image.open("shapes-ablate.png") as page:
        assert page.width > 7 * 192
