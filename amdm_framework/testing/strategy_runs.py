"""Runs of a strategy on predictions in closed form, with all that can be known of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch.utils._python_dispatch import TorchDispatchMode

from ..provider import Step
from ..regions import instance_masks
from ..sampling.guidance import Guidance
from ..sampling.loop import StepReport
from ..sampling.trace import Trace
from ..sampling.transition import Transition
from ..scene import Instance, Scene
from ..strategies.base import Advance, AggregationStrategy, Evaluation, ProviderState
from .closed_form import ToyProvider, initial_latents, run_toys, seeded_noise, toy_providers

STEPS = 8
SEEDS = (5, 6, 7)

# By seed: two boxes that overlap and cut through cells, none, one along an edge of the picture.
_BOXES: dict[int, list[tuple[float, float, float, float]]] = {
    0: [(0.0, 0.05, 0.55, 0.6), (0.3, 0.3, 0.9, 0.95)],
    1: [],
    2: [(0.5, 0.0, 1.0, 0.5)],
}


@dataclass(frozen=True)
class Drawn:
    """A finished run.

    Attributes:
        latents: (B, C, H, W) of the target.
        trace: of the run.
        plan: what the strategy said it evaluates, by step.
        reports: what a callback sees, by step.
        calls: by provider, the steps at which it was evaluated.
        noise: (provider, step) of every draw of noise.
    """

    latents: torch.Tensor
    trace: Trace
    plan: list[Mapping[int, Evaluation]]
    reports: list[StepReport]
    calls: list[list[Step]]
    noise: list[tuple[int, int]]


def draw(
    strategy: AggregationStrategy,
    count: int,
    eta: float,
    *,
    seeds: Sequence[int] = SEEDS,
    steps: int = STEPS,
    shape: tuple[int, int, int] = (4, 8, 8),
    dtype: torch.dtype = torch.float64,
    guidance: Guidance | None = None,
    providers: Sequence[ToyProvider] | None = None,
    same_start: bool = False,
    same_noise: bool = False,
) -> Drawn:
    """Draw one image per seed with a strategy that is made ready here.

    Args:
        strategy: anything but begun.
        count: number of providers.
        eta: of the sampling grid.
        seeds: one per image, for its noise and its boxes: two, none or one.
        steps: length of the grid.
        shape: (C, H, W) of the latents.
        dtype: of the latents.
        guidance: of all providers [scale 3].
        providers: in place of those that differ in all they predict.
        same_start: whether all providers start at one x_T.
        same_noise: whether all providers get the same noise at a stochastic step.
    """
    providers = providers or toy_providers(count, shape)
    latents = [initial_latents(seeds, shape, salt=0 if same_start else k).to(dtype) for k in range(count)]
    source = seeded_noise(seeds, shape, dtype)
    drawn_noise: list[tuple[int, int]] = []

    def noise(provider: int, step: Step) -> torch.Tensor:
        drawn_noise.append((provider, step.index))
        return source(0 if same_noise else provider, step)

    regions = None
    if strategy.needs_regions:
        instances = [{f"box{k}": Instance(phrase="x", box=box) for k, box in enumerate(_BOXES[s % 3])} for s in seeds]
        regions = instance_masks([Scene(instances=one) for one in instances], *shape[1:], torch.device("cpu"))
    reports: list[StepReport] = []
    final, trace = run_toys(
        providers, strategy, latents, steps, eta, noise, guidance or Guidance(scale=3.0), regions, reports.append
    )
    plan = [strategy.evaluated(index) for index in range(steps)]
    # The contract asks states for noise again.
    return Drawn(final, trace, plan, reports, [provider.calls for provider in providers], list(drawn_noise))


def same_providers(count: int) -> list[ToyProvider]:
    """Return providers that differ in nothing."""
    return [toy_providers(1)[0] for _ in range(count)]


def example_options(options: type[BaseModel], length: int = 2) -> list[tuple[str, Any]]:
    """Return a value for every option that its JSON schema allows by itself, lists with `length` entries."""
    schema = options.model_json_schema()
    definitions = schema.get("$defs", {})
    return [(name, _example(one, definitions, length)) for name, one in schema.get("properties", {}).items()]


def _example(schema: Mapping[str, Any], definitions: Mapping[str, Any], length: int) -> Any:
    if "$ref" in schema:
        return _example(definitions[schema["$ref"].rpartition("/")[2]], definitions, length)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][-1]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _example(next(one for one in schema[union] if one.get("type") != "null"), definitions, length)
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    values: dict[str, Any] = {"integer": low + 1, "number": low + 0.375, "boolean": True, "string": "a"}
    if schema.get("type") != "array":
        return values.get(schema.get("type", ""))
    if "prefixItems" in schema:
        return [_example(one, definitions, length) for one in schema["prefixItems"]]
    return [_example(schema.get("items", {}), definitions, length) for _ in range(length)]


@contextlib.contextmanager
def watch_advance(
    strategy: AggregationStrategy,
    before: Callable[[list[torch.Tensor]], object] = lambda tensors: None,
    after: Callable[[Advance], object] = lambda advance: None,
    inside: contextlib.AbstractContextManager[object] | None = None,
) -> Iterator[None]:
    """Look over a strategy's shoulder.

    Args:
        strategy: whose `advance` is watched within the `with` block.
        before: gets all tensors that a step is given.
        after: gets what a step returns.
        inside: entered for the duration of every step.
    """
    advance = strategy.advance

    def watched(step: Step, states: Sequence[ProviderState], transition: Transition) -> Advance:
        given = [step.regions, *(one for s in states for one in (s.latents, s.noise_prediction, s.unconditional))]
        before([one for one in given if one is not None])
        with inside or contextlib.nullcontext():
            result = advance(step, states, transition)
        after(result)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strategy, "advance", watched)
        yield


_WAITING = frozenset({
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "allclose", "_linalg_check_errors"),
    *("_unique2", "unique_dim", "unique_consecutive"),
})  # fmt: skip


class NeverWaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations whose result Python, or the shape of a tensor, depends on: they wait for a GPU.

    Attributes:
        found: the operations.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()
        self._patch: pytest.MonkeyPatch | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, options = func.overloadpacket.__name__, kwargs or {}
        if name in _WAITING or _has_a_result_of_unknown_size(name, args, options):
            self.found.add(name)
        return func(*args, **options)

    def __enter__(self) -> NeverWaiting:
        # On the CPU these read memory without an operation.
        self._patch = pytest.MonkeyPatch()
        for name in ("tolist", "numpy", "cpu"):
            self._patch.setattr(torch.Tensor, name, self._noting(name, getattr(torch.Tensor, name)))
        self._patch.setattr(torch.Tensor, "to", self._noting("to", torch.Tensor.to, _says_cpu))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        assert self._patch is not None
        self._patch.undo()

    def _noting(
        self, name: str, method: Callable[..., Any], waits: Callable[[Iterable[object]], bool] = lambda given: True
    ) -> Callable[..., Any]:
        def noted(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            if waits((*arguments, *options.values())):
                self.found.add(name)
            return method(tensor, *arguments, **options)

        return noted


def _says_cpu(given: Iterable[object]) -> bool:
    # The word alone: the device of another tensor is the CPU as well in these runs, and rightly so.
    return any(isinstance(one, str) and one.startswith("cpu") for one in given)


def _has_a_result_of_unknown_size(name: str, args: Sequence[Any], options: Mapping[str, Any]) -> bool:
    # Whether it depends on values how many elements an operation takes.
    if name == "repeat_interleave":
        return options.get("output_size") is None
    # `x[mask] = 0.0` is a `masked_fill`, which asks for no count.
    if name == "index" or (name == "index_put_" and args[2].numel() != 1):
        return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
    return False
