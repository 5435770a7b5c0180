"""Which models under which rules make the rows of the table, as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

TARGET = "interactdiffusion"

METHODS = {"interactdiffusion": "InteractDiffusion", "migc": "MIGC", "ip_adapter": "IP-Adapter"}
"""How the paper writes each member."""

Window = int | tuple[int, int]
"""Length of a window that begins with the first step, or its first step and the step after its last."""


@dataclass(frozen=True)
class Aggregate:
    """Models that are aggregated, target first, with the numbers the paper gives for them."""

    label: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    shares: tuple[float, ...]
    """The weights as coefficients, for rules whose shares sum to 1."""
    step_sizes: tuple[float, ...]
    """In units of sqrt(n): the paper's lengths over 128."""
    modes: tuple[str, ...]
    """For the relay by instances: where each secondary has its skill."""


AGGREGATES = {
    "migc": Aggregate(
        label="InteractDiffusion(+MIGC)",
        members=(TARGET, "migc"),
        weights=(0.5,),
        shares=(0.5, 0.866),
        step_sizes=(45 / 128, 55 / 128),
        modes=("instances",),
    ),
    "ip_adapter": Aggregate(
        label="InteractDiffusion(+IP-Adapter)",
        members=(TARGET, "ip_adapter"),
        weights=(0.45,),
        shares=(0.45, 0.893),
        step_sizes=(45 / 128, 55 / 128),
        modes=("background",),
    ),
    "both": Aggregate(
        label="InteractDiffusion(+MIGC+IP-Adapter)",
        members=(TARGET, "migc", "ip_adapter"),
        weights=(0.47, 0.5),
        shares=(0.235, 0.441, 0.764),
        step_sizes=(45 / 128, 40 / 128, 35 / 128),
        modes=("instances", "background"),
    ),
}

Options = Callable[[Aggregate, Window], dict[str, Any]]


def _in_window(_aggregate: Aggregate, window: Window) -> dict[str, Any]:
    return {"steps": window} if isinstance(window, int) else {"window": list(window)}


def _with_weights(aggregate: Aggregate, window: Window) -> dict[str, Any]:
    return {**_in_window(aggregate, window), "weights": list(aggregate.weights)}


def _with_shares(aggregate: Aggregate, window: Window) -> dict[str, Any]:
    return {**_in_window(aggregate, window), "shares": list(aggregate.shares)}


def _with_manifold_steps(aggregate: Aggregate, window: Window) -> dict[str, Any]:
    step_sizes = [round(size, 4) for size in aggregate.step_sizes]
    return {**_with_weights(aggregate, window), "step_sizes": step_sizes, "step_size_unit": "rms"}


def _by_instances(aggregate: Aggregate, window: Window) -> dict[str, Any]:
    if not isinstance(window, int):
        return _in_window(aggregate, window)
    # As many steps with two networks as the other rules have, after as many with the secondaries alone.
    return {"secondary_steps": window, "instance_steps": window, "modes": list(aggregate.modes)}


def _by_instances_only(aggregate: Aggregate, window: Window) -> dict[str, Any]:
    if not isinstance(window, int):
        return _in_window(aggregate, window)
    inside = {"secondary_steps": window, "instance_steps": max(window - 1, 0), "target_outside": True}
    return {**inside, "modes": list(aggregate.modes)}


@dataclass(frozen=True)
class Rule:
    """One way to aggregate: a strategy with its options and the noise it is run with."""

    strategy: str
    options: Options
    eta: float = 0.0
    initial_noise: str = "shared"
    default: bool = False
    """Whether its rows are measured where no rules are named."""


RULES = {
    "amdm": Rule("amdm", _with_manifold_steps, default=True),
    "amdm_stochastic": Rule("amdm", _with_manifold_steps, eta=1.0, default=True),
    "amdm_independent": Rule("amdm", _with_manifold_steps, initial_noise="independent"),
    "amdm_authors": Rule("amdm_authors", _with_manifold_steps, initial_noise="independent", default=True),
    "slerp": Rule("slerp", _with_weights, default=True),
    "slerp_stochastic": Rule("slerp", _with_weights, eta=1.0),
    "linear": Rule("linear", _with_shares),
    "epsilon_average": Rule("epsilon_average", _with_shares),
    "epsilon_average_stochastic": Rule("epsilon_average", _with_shares, eta=1.0),
    "composable": Rule("composable", _in_window),
    "alternate": Rule("alternate", _in_window),
    "relay": Rule("relay", _in_window),
    "relay_stochastic": Rule("relay", _in_window, eta=1.0),
    "superdiff_and": Rule("superdiff_and", _in_window, eta=1.0),
    "instance_relay": Rule("instance_relay", _by_instances, default=True),
    "instance_relay_outside": Rule("instance_relay", _by_instances_only),
    "instance_relay_stochastic": Rule("instance_relay", _by_instances, eta=1.0),
}
"""Rules by the names that `--strategies` takes."""


@dataclass(frozen=True)
class Row:
    """One row of the table: a composition of some of the models."""

    label: str
    members: tuple[str, ...]
    rule: str
    """A key of `RULES`, `alone` or `alone_stochastic`."""
    window: Window | None
    aggregation: dict[str, Any]
    sampler: dict[str, Any]


def rows_alone(aggregates: Sequence[str], rules: Sequence[str]) -> list[Row]:
    """Every model that takes part, alone; the target with every kind of sampling that the rules use, too."""
    members = dict.fromkeys(member for key in aggregates for member in AGGREGATES[key].members)
    rows = [_alone(member, 0.0) for member in members]
    etas = sorted({RULES[key].eta for key in rules} - {0.0})
    return rows[:1] + [_alone(TARGET, eta) for eta in etas] + rows[1:]


def _alone(member: str, eta: float) -> Row:
    sampler = {"eta": eta, "initial_noise": "shared"}
    rule = "alone_stochastic" if eta else "alone"
    return Row(METHODS[member], (member,), rule, None, {"strategy": "single"}, sampler)


def rows_aggregated(aggregates: Sequence[str], rules: Sequence[str], windows: Sequence[Window]) -> list[Row]:
    """Every aggregate under every rule over every window."""
    rows = []
    for key in aggregates:
        aggregate = AGGREGATES[key]
        for name in rules:
            rule = RULES[name]
            sampler = {"eta": rule.eta, "initial_noise": rule.initial_noise}
            for window in windows:
                aggregation = {"strategy": rule.strategy, **rule.options(aggregate, window)}
                rows.append(Row(aggregate.label, aggregate.members, name, window, aggregation, sampler))
    return rows


def windows_at_all_positions(lengths: Sequence[int], steps: int) -> list[Window]:
    """Every window of the given lengths in a run of `steps` steps."""
    return [(start, start + length) for length in lengths for start in range(steps - length + 1)]
