"""What happened at every step of a run: who was evaluated, for how long, and how far the samples lay apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class TraceRow:
    """One provider at one step.

    Attributes:
        index: position in the sampling grid.
        timestep: the training timestep.
        provider: the provider's position, 0 is the target.
        name: the provider's name.
        evaluated: what was evaluated (`guided`, `conditional`, `both halves`), or an empty string.
        seconds: time its network took.
        metrics: figures of the strategy, each with one value per image; `distance_to_mean` in latent units,
            `norm_ratio` = |x'| / sqrt(n), `cosine` with the target's sample, or with its noise prediction where those
            are mixed, `displacement` of the target's next latents from those that it would have taken alone and the
            `pull` of each secondary in it, both as root mean squares.
    """

    index: int
    timestep: int
    provider: int
    name: str
    evaluated: str
    seconds: float
    metrics: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """All rows of a run, in the order of the steps.

    Attributes:
        rows: one per provider and step where something is known of it.
        names: the providers' names, target first.
    """

    rows: list[TraceRow]
    names: tuple[str, ...] = ()

    @property
    def evaluations(self) -> dict[str, int]:
        """Number of network evaluations of every provider."""
        counts = dict.fromkeys(self.names, 0)
        for row in self.rows:
            counts[row.name] = counts.get(row.name, 0) + bool(row.evaluated)
        return counts

    @property
    def total_evaluations(self) -> int:
        """Number of network evaluations of the run; a guided one counts once, T + (N-1)s for the paper's rule."""
        return sum(self.evaluations.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as plain data for JSON."""
        return {"evaluations": self.evaluations, "rows": [asdict(row) for row in self.rows]}
