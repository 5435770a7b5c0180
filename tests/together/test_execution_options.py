"""Options of execution change how three models run, and not what they draw."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from amdm_framework.composition import read_composition
from amdm_framework.devices import choose_device, device_of
from amdm_framework.errors import InputError
from amdm_framework.models.offload import OffloadedWeights
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.plugins import PluginRegistry, discover
from amdm_framework.scene import Scene, read_scene

PROVIDERS: list[dict[str, Any]] = [
    {"use": "interactdiffusion", "checkpoint": "interact-diffusion-v1.pth", "base": "sd"},
    {"use": "migc", "checkpoint": "MIGC_SD14.ckpt", "base": "sd"},
    {"use": "ip_adapter", "checkpoint": "ip-adapter_sd15.safetensors", "image_encoder": "image_encoder", "base": "sd"},
]
SCENE = {
    "caption": "a girl drinks",
    "negative": "lowres",
    "instances": {
        "girl": {"phrase": "a girl", "box": [0.1, 0.15, 0.62, 0.98]},
        "bottle": {"phrase": "a blue bottle", "box": [0.48, 0.4, 0.7, 0.8]},
    },
    "interactions": [{"subject": "girl", "action": "drinking", "object": "bottle"}],
    "references": [{"role": "style", "image": "style.png"}],
}


@pytest.fixture(scope="module")
def plugins() -> PluginRegistry:
    return discover()


@pytest.fixture(scope="module")
def scenes(models: Path) -> list[Scene]:
    return [read_scene(SCENE, models), read_scene({**SCENE, "caption": "a boy"}, models)]


def load(models: Path, plugins: PluginRegistry, **options: Any) -> AMDMPipeline:
    own = options.pop("own", {})
    blocks = {block["use"]: block | own.get(block["use"], {}) for block in PROVIDERS}
    content = {
        "providers": [blocks[name] for name in options.pop("order", blocks)],
        "aggregation": {"strategy": "composable", "steps": 1},
        "sampler": {"guidance_scale": 7.5},
        **options,
    }
    return AMDMPipeline.from_composition(read_composition(content, plugins, base_dir=models), "cpu", plugins=plugins)


def draw(pipeline: AMDMPipeline, scenes: list[Scene], steps: int = 3) -> torch.Tensor:
    """Two pictures (2, 3, H, W) in [0, 1]."""
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    images: torch.Tensor = pipeline(scenes, generator=generators, num_inference_steps=steps, output_type="pt").images
    return images


@pytest.fixture(scope="module")
def plain(models: Path, plugins: PluginRegistry, scenes: list[Scene]) -> torch.Tensor:
    return draw(load(models, plugins), scenes)


class ForgetfulWeights(OffloadedWeights):
    """What is not on the device cannot be used: outside of its place in main memory a weight is not a number."""

    def attach(self, networks: Iterable[torch.nn.Module], layer_by_layer: bool) -> None:
        super().attach(networks, layer_by_layer)
        self.most = 0
        self._spoil(self.in_main_memory)

    def bring(self, tensors: Iterable[torch.Tensor]) -> None:
        super().bring(tensors)
        self.most = max(self.most, sum(self.in_main_memory[tensor].nbytes for tensor in self._on_device))

    def take_away(self, tensors: Iterable[torch.Tensor]) -> None:
        tensors = list(tensors)
        super().take_away(tensors)
        self._spoil(tensors)

    def _spoil(self, tensors: Iterable[torch.Tensor]) -> None:
        with torch.inference_mode(False):
            for tensor in tensors:
                if tensor.is_floating_point():
                    tensor.data = torch.full_like(self.in_main_memory[tensor], float("nan"))


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloaded_weights_are_there_when_they_are_needed(
    models: Path, plugins: PluginRegistry, scenes: list[Scene], plain: torch.Tensor, offload: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("amdm_framework.loading.OffloadedWeights", ForgetfulWeights)
    pipeline = load(models, plugins, offload=offload)
    weights = pipeline._loader.offloaded
    networks = [network for provider in pipeline.providers for network in provider.modules().values()]
    assert all(device_of(network) == torch.device("cpu") for network in networks)
    for _ in range(2):
        assert torch.equal(draw(pipeline, scenes), plain)
        assert not weights._on_device
    sizes = [sum(t.nbytes for t in {*network.parameters(), *network.buffers()}) for network in networks]
    layers = [sum(t.nbytes for t in module.parameters(recurse=False)) for n in networks for module in n.modules()]
    # One network, or what lies on the way down to one layer.
    assert weights.most == max(sizes) if offload == "model" else weights.most < 2 * max(layers)
    with pytest.raises(InputError, match="cannot be moved or cast"):
        pipeline.to("cpu")


class WeightsThatDoNotFitOnce(ForgetfulWeights):
    """There is too little memory the first time that a network follows another one."""

    failed = False

    def bring(self, tensors: Iterable[torch.Tensor]) -> None:
        tensors = list(tensors)
        if not self.failed and self.most and any(tensor not in self._on_device for tensor in tensors):
            self.failed = True
            super().bring(tensors[:1])
            raise torch.OutOfMemoryError
        super().bring(tensors)


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_too_little_memory_for_offloaded_weights_is_over_with_the_run(
    models: Path, plugins: PluginRegistry, scenes: list[Scene], plain: torch.Tensor, offload: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("amdm_framework.loading.OffloadedWeights", WeightsThatDoNotFitOnce)
    pipeline = load(models, plugins, offload=offload)
    with pytest.raises(torch.OutOfMemoryError):
        draw(pipeline, scenes)
    assert not pipeline._loader.offloaded._on_device
    assert torch.equal(draw(pipeline, scenes), plain)


def test_a_network_is_brought_again_after_another_one_did_not_fit() -> None:
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected = first(torch.ones(1, 2))
    weights = WeightsThatDoNotFitOnce(torch.device("cpu"))
    weights.attach([first, second], layer_by_layer=False)
    first(torch.ones(1, 2))
    with pytest.raises(torch.OutOfMemoryError):
        second(torch.ones(1, 2))
    assert torch.equal(first(torch.ones(1, 2)), expected)


def test_shared_weights_stay_on_the_device_from_one_network_to_the_next() -> None:
    shared = torch.nn.Linear(2, 2)
    first = torch.nn.Sequential(shared, torch.nn.Linear(2, 2))
    second = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    second[0].weight = shared.weight
    weights = OffloadedWeights(torch.device("cpu"))
    moves: list[int] = []
    bring = weights.bring

    def count(tensors: Iterable[torch.Tensor]) -> None:
        tensors = list(tensors)
        moves.append(sum(tensor not in weights._on_device for tensor in tensors))
        bring(tensors)

    weights.bring = count
    weights.attach([first, second], layer_by_layer=False)
    for network in (first, first, second, first[1], first):
        network(torch.zeros(1, 2))
    # Four tensors, then three and three again; a part brings the whole.
    assert moves == [4, 3, 3]


def test_members_on_two_devices_draw_the_same(
    models: Path, plugins: PluginRegistry, scenes: list[Scene], plain: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_second(name: str) -> torch.device:
        return torch.device("cpu", 1) if name == "cuda:1" else choose_device(name)

    monkeypatch.setattr("amdm_framework.models.context.choose_device", with_a_second)
    own = {"migc": {"device": "cuda:1"}, "ip_adapter": {"device": "cpu"}}
    pipeline = load(models, plugins, own=own)
    assert [context.device.index for context in pipeline._loader.contexts] == [None, 1, None]
    assert torch.equal(draw(pipeline, scenes), plain)
    with pytest.raises(InputError, match="offload: `model` works with one device only, the members are on 2"):
        load(models, plugins, own=own, offload="model")


def test_a_device_that_is_not_here_is_named(models: Path, plugins: PluginRegistry) -> None:
    with pytest.raises(InputError, match=r"providers\.1\.device: device 'cuda:63': this machine has \d+ CUDA devices"):
        load(models, plugins, own={"migc": {"device": "cuda:63"}})


def test_options_for_speed_and_memory_go_together(
    models: Path, plugins: PluginRegistry, scenes: list[Scene], plain: torch.Tensor
) -> None:
    options = {"channels_last": True, "attention": "math", "sequential_guidance": True, "vae_tiling": True}
    drawn = draw(load(models, plugins, release=True, **options), scenes)
    torch.testing.assert_close(drawn, plain, rtol=0, atol=2e-4)


def test_compiled_networks_draw_the_same_and_are_compiled_once(
    models: Path, plugins: PluginRegistry, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are captured as for a real compiler, which would take minutes; what they hold runs as it is."""
    captured = CompileCounter()
    compile_module = torch.nn.Module.compile

    def compile_eagerly(module: torch.nn.Module, **options: Any) -> None:
        compile_module(module, **options, backend=captured)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    # What torch notes about every compilation is formatted once more for pytest, which takes longer than to compile.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)
    torch.compiler.reset()
    # The target is evaluated at every step; the attention of this one depends on the step most.
    order = ("migc", "interactdiffusion", "ip_adapter")
    compiled, plain = (load(models, plugins, order=order, compile=mode) for mode in ("regional", False))
    assert captured.frame_count == 0
    torch.testing.assert_close(draw(compiled, scenes), draw(plain, scenes), rtol=0, atol=2e-4)
    graphs = captured.frame_count
    assert graphs > 3 and captured.op_count > 100
    assert not torch._dynamo.utils.counters["graph_break"]
    torch.testing.assert_close(draw(compiled, scenes, 6), draw(plain, scenes, 6), rtol=0, atol=2e-4)
    assert captured.frame_count == graphs
