"""The ranges that pyproject.toml states and the versions that the tests run with belong together."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[2]
PROJECTS = [REPOSITORY / "pyproject.toml", *sorted(REPOSITORY.glob("plugins/*/pyproject.toml"))]
PROJECTS += [*REPOSITORY.glob("zoo/pyproject.toml"), *sorted(REPOSITORY.glob("benchmarks/*/pyproject.toml"))]
PROJECTS += sorted(REPOSITORY.glob("examples/*/pyproject.toml"))
OURS = {tomllib.loads(file.read_text())["project"]["name"] for file in PROJECTS}


def constraints() -> dict[str, Version]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins}


def requirements(file: Path) -> list[Requirement]:
    project = tomllib.loads(file.read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return [need for need in map(Requirement, lines) if need.name not in OURS]


@pytest.mark.parametrize("file", PROJECTS, ids=lambda file: file.parent.name)
def test_every_dependency_has_a_tested_version_within_its_range(file):
    pins = constraints()
    for need in requirements(file):
        assert canonicalize_name(need.name) in pins, f"{need.name} has no line in constraints.txt"
        pinned = pins[canonicalize_name(need.name)]
        assert need.specifier.contains(pinned), f"constraints.txt has {need.name} {pinned}, expected {need.specifier}"


def test_the_pin_of_torch_takes_cpu_and_cuda_builds():
    (line,) = re.findall(r"^torch==.*$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    pin = Requirement(line).specifier
    assert all(pin.contains(f"2.13.0{build}") for build in ("", "+cpu", "+cu130"))


def test_every_dependency_of_the_framework_says_why_it_is_there():
    text = (REPOSITORY / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    extras = re.search(r"^\[project.optional-dependencies\]\n(.*?)^\[", text, re.MULTILINE | re.DOTALL)
    assert block is not None and extras is not None
    assert all(re.search(r'",\s+# \w', line) for line in block[1].splitlines())
    named = [line for line in extras[1].splitlines() if '"' in line]
    assert len(named) > 5 and all(re.search(r"# \w", line) for line in named)


def test_everything_that_the_framework_imports_is_named():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    # pydantic's other half, of which every version of it takes exactly one.
    named = {canonicalize_name(Requirement(line).name) for group in groups for line in group} | {"pydantic-core"}
    imported: dict[str, str] = {}
    for file in (REPOSITORY / "amdm_framework").rglob("*.py"):
        if "templates" in file.parts:
            # Packages of their own.
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module]
            imported |= {module.partition(".")[0]: file.name for module in modules}
    offered = packages_distributions()
    missing = {
        module: file
        for module, file in imported.items()
        if module not in sys.stdlib_module_names
        and module != "amdm_framework"
        and not named & {canonicalize_name(name) for name in offered.get(module, [module])}
    }
    assert {"fastapi", "torch", "uvicorn"} < imported.keys() and missing == {}
