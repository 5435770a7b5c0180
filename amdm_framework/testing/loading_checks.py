"""How a provider is loaded: precision, sharing, what is noted of its files, what a look at them predicts."""

from __future__ import annotations

import math
from importlib import import_module

import pytest
import torch

from ..provider import EpsilonProvider, ProviderReport
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
            if file.path.suffix in WEIGHT_SUFFIXES and file.path.resolve() not in noted
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
            found, expected = _reported_bytes(report, dtype), _held_bytes(provider)
            assert found == expected, f"{dtype}: {found} bytes of weights reported, {expected} held"


WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def _reported_bytes(report: ProviderReport, dtype: torch.dtype) -> int:
    # Integers are buffers such as positions, which are no weights.
    tensors = {tensor.identity: tensor for component in report.components.values() for tensor in component}
    return sum(math.prod(tensor.shape) * dtype.itemsize for tensor in tensors.values() if "F" in tensor.dtype)


def _assert_near(model_under_test: ModelUnderTest, provider: EpsilonProvider, what: str) -> None:
    conditions = model_under_test.conditions[1:3]
    one, other = (model_under_test.run(conditions, provider=each).predict() for each in (provider, None))
    assert one.conditional.is_floating_point(), f"{what}: predictions are {one.conditional.dtype}"
    halves = [(one.conditional, other.conditional), (one.unconditional, other.unconditional)]
    pairs = [(a.float(), b.float()) for a, b in halves if a is not None and b is not None]
    away = max(float((a - b).norm() / b.norm()) for a, b in pairs)
    limit = model_under_test.half_precision_tolerance
    assert away <= limit, f"{what}, a prediction is {away:.2g} of its norm away (half_precision_tolerance is {limit})"


def _held_bytes(*providers: EpsilonProvider) -> int:
    modules = [module for provider in providers for module in provider.modules().values()]
    parameters = {parameter for module in modules for parameter in module.parameters()}
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
