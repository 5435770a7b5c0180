"""Every recorded trace of the paper's rule and of the published code, recomputed through the denoising loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from amdm_framework.latents import NoiseSchedule
from amdm_framework.provider import Step
from amdm_framework.sampling.loop import StepReport
from amdm_framework.sampling.transition import transitions
from amdm_framework.strategies import amdm as amdm_module
from amdm_framework.strategies.amdm import AMDM
from amdm_framework.strategies.amdm_authors import AMDMAuthors
from amdm_framework.strategies.base import AggregationStrategy
from amdm_framework.testing.closed_form import ToyProvider, make_strategy, run_toys

GOLDEN = Path(__file__).parents[1] / "golden" / "amdm"
PAPER = sorted(path.stem for path in GOLDEN.glob("paper_*.json"))
AUTHORS = sorted(path.stem for path in GOLDEN.glob("authors_*.json"))
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def assert_close(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    assert found.dtype == expected.dtype, what
    torch.testing.assert_close(
        found, expected, rtol=0, atol=TOLERANCE[expected.dtype], msg=lambda text: f"{what}: {text}"
    )


def paper_strategy(case: dict[str, Any]) -> AggregationStrategy:
    several = case["n_models"] > 1
    return make_strategy(
        AMDM,
        steps=case["s"],
        weights=case["weights"] if several else None,
        step_sizes=case["step_sizes"] if several and case["step_sizes"] else None,
        coefficients=case["weight_formula"] or "paper",
        norm_scope={"sample": "sample", "whole": "batch"}[case["norm_scope"]],
    )


def authors_strategy(case: dict[str, Any]) -> AggregationStrategy:
    if case["n_models"] == 1:
        return make_strategy(AMDMAuthors)
    first, last = case["window"]
    return make_strategy(
        AMDMAuthors,
        window=(first, last + 1),
        weights=case["weights"],
        step_sizes=case["step_sizes"],
        norm_scope="batch",
    )


def check_trace(
    case: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    strategy: AggregationStrategy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, steps = case["n_models"], case["steps"]
    schedule = NoiseSchedule.from_scheduler_config(case["schedule"])
    providers = [
        ToyProvider(tensors[f"pattern_{k}"], **case["models"][k], schedule=schedule, name=f"toy{k}")
        for k in range(count)
    ]
    grid = transitions(schedule, steps, case["eta_ddim"])
    assert [transition.timestep for transition in grid] == case["timesteps"]
    if "sigmas" in case:
        assert [transition.std for transition in grid] == pytest.approx(case["sigmas"], abs=1e-14)
    if "alpha_t" in tensors:
        assert [transition.alpha for transition in grid] == tensors["alpha_t"].tolist()
    assert [transition.alpha_cumprod for transition in grid] == tensors["abar_t"].tolist()
    assert [transition.alpha_cumprod_previous for transition in grid] == tensors["abar_prev"].tolist()

    aggregated = case["aggregated_indices"]
    last_secondary = (aggregated[-1] + 1) if aggregated else 0
    aggregates: list[torch.Tensor] = []
    means: list[torch.Tensor] = []
    mix, move = amdm_module.weighted_sum, amdm_module.manifold_step

    def recording_sum(*arguments: Any) -> torch.Tensor:
        aggregates.append(mix(*arguments))
        return aggregates[-1]

    def recording_step(aggregate: torch.Tensor, mean: torch.Tensor, *arguments: Any) -> Any:
        means.append(mean)
        return move(aggregate, mean, *arguments)

    monkeypatch.setattr(amdm_module, "weighted_sum", recording_sum)
    monkeypatch.setattr(amdm_module, "manifold_step", recording_step)

    def noise(provider: int, step: Step) -> torch.Tensor:
        return tensors[f"z_{provider}"][step.index]

    states: list[dict[int, torch.Tensor]] = [{0: tensors[f"x_init_{k}"]} for k in range(count)]

    def watch(report: StepReport) -> None:
        index = report.step.index
        for k, latents in enumerate(report.latents):
            if latents is not None:
                states[k][index + 1] = latents
        if index in aggregated:
            for k, state in enumerate(report.states):
                own = report.transition.sample(state.latents, state.epsilon, lambda k=k: noise(k, report.step))
                assert_close(own, tensors[f"own_{k}"][aggregated.index(index)], f"own_{k} at step {index}")

    inputs = [tensors[f"x_init_{k}"] for k in range(count)]
    final, trace = run_toys(providers, strategy, inputs, steps, case["eta_ddim"], noise, on_step_end=watch)

    for k in range(count):
        compared = 0
        for row, index in enumerate(tensors[f"x_index_{k}"].tolist()):
            if k == 0 or index <= last_secondary:
                assert_close(states[k][index], tensors[f"x_{k}"][row], f"x_{k} after {index} steps")
                compared += 1
        assert compared > 0
    assert_close(final, tensors["x_0"][-1], "final latents of the target")
    if aggregated and count > 1:
        assert_close(torch.stack(aggregates), tensors["xprime"], "xprime")
        for k in range(count):
            assert_close(torch.stack(means[k::count]), tensors[f"mu_{k}"], f"mu_{k}")
            recorded = tensors[f"dist_{k}"]
            distances = [
                row.metrics["distance_to_mean"]
                for row in trace.rows
                if row.provider == k and "distance_to_mean" in row.metrics
            ]
            found = torch.tensor(distances, dtype=recorded.dtype)
            assert_close(found if recorded.ndim == 2 else found[:, 0], recorded, f"dist_{k}")

    needed = case["evaluations_per_model"]
    if case["kind"] == "authors":
        # The published code evaluates every network to the end and discards what the secondaries predict.
        needed = [steps] + [last_secondary] * (count - 1)
    assert [len(provider.calls) for provider in providers] == needed
    assert trace.total_evaluations == sum(needed)


@pytest.mark.parametrize("name", PAPER)
def test_paper_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    check_trace(case, load_file(GOLDEN / f"{name}.safetensors"), paper_strategy(case), monkeypatch)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", AUTHORS)
def test_authors_trace(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    tensors = load_file(GOLDEN / f"{name}_{precision}.safetensors")
    check_trace(case, tensors, authors_strategy(case), monkeypatch)


def test_every_recorded_case_is_run() -> None:
    assert len(PAPER) >= 18
    assert len(AUTHORS) == 7
    recorded = {path.name for path in GOLDEN.glob("*.safetensors")} - {"strategies.safetensors"}
    run = {f"{name}.safetensors" for name in PAPER}
    run |= {f"{name}_{precision}.safetensors" for name in AUTHORS for precision in ("float64", "float32")}
    assert recorded == run


def test_weight_one_without_noise_is_the_target_alone() -> None:
    w1 = load_file(GOLDEN / "paper_n2_t10_w1.safetensors")
    s0 = load_file(GOLDEN / "paper_n2_t10_s0.safetensors")
    assert torch.equal(w1["x_0"][-1], s0["x_0"][-1])
