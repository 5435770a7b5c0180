"""How many cases there are, and how one of them goes through the command line.

`AMDM_FUZZ_CASES` says how many cases there are in all, `make test-fuzz` sets it to 10 000. They are the same in every
run of one version of the tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, settings
from watching import watched

from amdm_framework import cost
from amdm_framework.cli import main
from amdm_framework.composition import ResolvedComposition
from amdm_framework.models.context import LoadContext
from amdm_framework.provider import ProviderReport

CASES = int(os.environ.get("AMDM_FUZZ_CASES", "300"))


def cases(share: float) -> Callable[[Any], Any]:
    """Run a test on a share (of 1) of all cases.

    What a case may take is for `watched` to say; examples that fail are not kept, they become tests.
    """
    return settings(
        max_examples=max(1, round(share * CASES)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        # A case takes up to seconds and is small as it is: it is not made smaller first.
        phases=(Phase.explicit, Phase.generate),
    )


def amdm(*arguments: str | Path, codes: tuple[int, ...] = (0, 2)) -> Result:
    """Run `amdm` under watch and return its result: success, or an error of our own.

    Whatever else it raises is raised here.
    """
    with watched():
        result = CliRunner().invoke(main, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in codes, (result.exit_code, result.output)
    if result.exit_code == 2:
        assert result.stderr.strip() and "Traceback" not in result.stderr
    return result


def remembering_reports() -> Callable[[ResolvedComposition, Sequence[LoadContext]], list[ProviderReport | None]]:
    """Return an `inspect_members` that looks once at each member's files, for tests in which files do not change."""
    inspect_members = cost.inspect_members
    remembered: dict[str, ProviderReport | None] = {}

    def inspect(resolved: ResolvedComposition, contexts: Sequence[LoadContext]) -> list[ProviderReport | None]:
        reports = []
        for member, context in zip(resolved.members, contexts, strict=True):
            key = f"{member.spec.name} {member.options!r}"
            if key not in remembered:
                [remembered[key]] = inspect_members(replace(resolved, members=[member]), [context])
            reports.append(remembered[key])
        return reports

    return inspect
