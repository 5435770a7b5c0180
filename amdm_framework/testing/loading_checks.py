"""How a provider is loaded: precision, sharing, what is noted of its files, what a look at them predicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
import torch

from ..provider import EpsilonProvider, ProviderReport, TensorInfo
from .hostile_files import WEIGHT_SUFFIXES
from .model_under_test import HALF, ModelUnderTest


class LoadingChecks:
    """Tests of what `load` and `inspect` do."""

    def test_the_spec_names_this_contract(self, model_under_test: ModelUnderTest) -> None:
        """`amdm plugin-check` finds a contract by `ProviderSpec(contract="module:Class")`, which leads elsewhere."""
        named = model_under_test.spec.contract
        assert named is not None, 'set `contract="amdm_plugin_my_model.contract:MyModelContract"` in the ProviderSpec'
        module, _, name = named.partition(":")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            pytest.fail(f"contract {named!r} leads nowhere: {error}")
        assert isinstance(self, found), f"contract {named!r} is not what {type(self).__name__} inherits from"

    def test_weights_have_the_dtype_of_the_run(self, model_under_test: ModelUnderTest) -> None:
        """Networks are loaded in `context.dtype`, in which a GPU has room for them; one kept that of its file."""
        provider = model_under_test.half_provider
        other = sorted(
            f"{network}.{name} ({parameter.dtype})"
            for network, module in provider.modules().items()
            for name, parameter in module.named_parameters()
            if parameter.is_floating_point() and parameter.dtype != HALF
        )
        assert not other, f"asked for {HALF}: {', '.join(other[:5])}"
        _assert_near(model_under_test, provider, "loaded in bfloat16")

    def test_a_loaded_model_can_be_cast(self, model_under_test: ModelUnderTest) -> None:
        """`to(dtype=...)` reaches what `modules()` names: a network or a tensor is missing there and kept its dtype."""
        provider = model_under_test.load().to(dtype=HALF)
        try:
            _assert_near(model_under_test, provider, "cast to bfloat16")
        except RuntimeError as error:
            pytest.fail(f"after `to(dtype={HALF})` it cannot predict any more: {error}")

    @torch.inference_mode()
    def test_it_runs_on_a_gpu(self, model_under_test: ModelUnderTest) -> None:
        """A tensor is made on the CPU, or lies outside `modules()` and stays there: take the device of what it meets."""
        if not torch.cuda.is_available():
            pytest.skip("this machine has no CUDA device")
        gpu = torch.device("cuda")
        loaded = model_under_test.load(model_under_test.context(device=gpu))
        moved = model_under_test.load().to(device=gpu)
        for provider, what in ((loaded, "loaded on a GPU"), (moved, "moved to a GPU")):
            elsewhere = sorted(
                f"{network}.{name} ({parameter.device})"
                for network, module in provider.modules().items()
                for name, parameter in module.named_parameters()
                if parameter.device.type != gpu.type
            )
            assert not elsewhere, f"{what}: {', '.join(elsewhere[:5])}"
            try:
                _assert_near(model_under_test, provider, what, gpu)
                pictures = provider.decode(model_under_test.latents([1]).to(gpu))
            except RuntimeError as error:
                pytest.fail(f"{what}, it cannot predict or decode: {error}")
            assert torch.isfinite(pictures).all(), f"{what}: pictures hold NaN or infinity"

    def test_networks_are_ready_for_inference(self, model_under_test: ModelUnderTest) -> None:
        """A network is in training mode (dropout), or its weights ask for gradients (memory)."""
        for name, module in model_under_test.provider.modules().items():
            assert not any(layer.training for layer in module.modules()), f"{name} is in training mode: call `.eval()`"
            asking = any(parameter.requires_grad for parameter in module.parameters())
            assert not asking, f"weights of {name} require gradients: load_strict, or `.requires_grad_(False)`"

    def test_weights_are_held_once(self, model_under_test: ModelUnderTest) -> None:
        """Two members with equal weights hold them twice: load with `load_strict`, or `context.weights.share(module)`."""
        first = model_under_test.provider
        alone = _held_bytes(first)
        second = model_under_test.load(model_under_test.loaded_with)
        more = _held_bytes(first, second) - alone
        assert more == 0, f"loaded twice with one store, it takes {more} of {alone} bytes a second time"

    def test_files_of_weights_are_noted(self, model_under_test: ModelUnderTest) -> None:
        """Pictures carry the digests of the weights they were made of: append to `context.weight_files` what is read."""
        provider, context = model_under_test.provider, model_under_test.loaded_with
        if not any(True for module in provider.modules().values() for _ in module.parameters()):
            pytest.skip("the model has no weights")
        assert context.weight_files, "`context.weight_files` is empty after `load`"
        absent = [str(file.path) for file in context.weight_files if not file.path.is_file()]
        assert not absent, f"noted, but not files: {', '.join(absent)}"
        noted = {file.path.resolve() for file in context.weight_files}
        unread = [
            f"{'.'.join(map(str, file.key))} ({file.path.name})"
            for file in model_under_test.files()
            if (weights := _weights_at(file.path)) and not weights & noted
        ]
        assert not unread, f"options that lead to weights which are not noted: {', '.join(unread)}"

    def test_inspection_predicts_what_is_loaded(self, model_under_test: ModelUnderTest) -> None:
        """`amdm check` says another latent space, schedule, size or memory than the loaded model has."""
        inspect = model_under_test.spec.inspect
        if inspect is None:
            pytest.skip("the spec has no `inspect`: `amdm check` can say little about this model")
        loaded = {torch.float32: model_under_test.provider, HALF: model_under_test.half_provider}
        for dtype, provider in loaded.items():
            report = inspect(model_under_test.options, model_under_test.context(dtype))
            assert report.latent_space == provider.latent_space, "latent_space"
            assert report.default_size == provider.default_size, "default_size"
            same = torch.equal(report.noise_schedule.alphas_cumprod, provider.noise_schedule.alphas_cumprod)
            assert same, "noise_schedule.alphas_cumprod"
            assert report.noise_schedule.prediction_type == provider.noise_schedule.prediction_type, "prediction_type"
            assert not report.downloads, f"everything lies on this machine, but {report.downloads} would be fetched"
            every = [tensor for component in report.components.values() for tensor in component]
            found, expected = _reported_bytes(every, dtype), _held_bytes(provider)
            assert found == expected, (
                f"{dtype}: {found} bytes of weights reported, {expected} held: {_differences(report, provider, dtype)}"
            )


def _weights_at(path: Path) -> set[Path]:
    # All that lie in a folder; which of them are read is the model's own business.
    files = path.rglob("*") if path.is_dir() else [path]
    return {file.resolve() for file in files if file.suffix in WEIGHT_SUFFIXES}


def _reported_bytes(tensors: Sequence[TensorInfo], dtype: torch.dtype) -> int:
    # Integers are buffers such as positions, which are no weights.
    unique = {tensor.identity: tensor for tensor in tensors}
    return sum(math.prod(tensor.shape) * dtype.itemsize for tensor in unique.values() if "F" in tensor.dtype)


def _differences(report: ProviderReport, provider: EpsilonProvider, dtype: torch.dtype) -> str:
    reported = {name: _reported_bytes(tensors, dtype) for name, tensors in report.components.items()}
    held = {name: _held_bytes_of([module]) for name, module in provider.modules().items()}
    lacking = [f"{name} ({held[name]} bytes)" for name in held if name not in reported]
    foreign = [f"{name} ({reported[name]} bytes)" for name in reported if name not in held]
    parts = [f"`inspect` lacks: {', '.join(lacking)}"] if lacking else []
    parts += [f"it has besides: {', '.join(foreign)}"] if foreign else []
    parts += [
        f"{name}: {reported[name]} bytes reported, {held[name]} held"
        for name in held
        if name in reported and reported[name] != held[name]
    ]
    return "; ".join(parts) or "components that share weights are counted twice"


def _assert_near(
    model_under_test: ModelUnderTest, provider: EpsilonProvider, what: str, device: torch.device | None = None
) -> None:
    conditions = model_under_test.conditions[1:3]
    one = model_under_test.run(conditions, provider=provider, device=device).predict()
    other = model_under_test.run(conditions).predict()
    assert one.conditional.is_floating_point(), f"{what}: predictions are {one.conditional.dtype}"
    halves = [(one.conditional, other.conditional), (one.unconditional, other.unconditional)]
    pairs = [(a.float().cpu(), b.float().cpu()) for a, b in halves if a is not None and b is not None]
    away = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    limit = model_under_test.half_precision_tolerance
    assert away <= limit, f"{what}, a prediction is {away:.2g} of its norm away (half_precision_tolerance is {limit})"


def _held_bytes(*providers: EpsilonProvider) -> int:
    return _held_bytes_of([module for provider in providers for module in provider.modules().values()])


def _held_bytes_of(modules: Sequence[torch.nn.Module]) -> int:
    parameters = {parameter for module in modules for parameter in module.parameters()}
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
