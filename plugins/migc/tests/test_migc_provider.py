"""The provider through the real loading path: batches, guidance, determinism, precision, sharing, bad input."""

from __future__ import annotations

import gc
import json
import weakref
from collections import Counter
from typing import Any

import pytest
import torch
from migc_files import MIGCFiles

import amdm_plugin_migc
from amdm_framework.builtin.stable_diffusion import StableDiffusionOptions
from amdm_framework.builtin.stable_diffusion import load as load_plain
from amdm_framework.errors import CheckpointError, InputError
from amdm_framework.models.stable_diffusion import TextCondition
from amdm_framework.provider import NoisePrediction, RunSettings, Step
from amdm_framework.scene import Scene
from amdm_plugin_migc import attention as attention_module
from amdm_plugin_migc.condition import DEFAULT_NEGATIVE, MIGCCondition, condition_from_scene
from amdm_plugin_migc.options import MIGCOptions
from amdm_plugin_migc.phase_order import draw_phase_orders
from amdm_plugin_migc.provider import SPEC, MIGCProvider, inspect

GIRL = {"phrase": "a red hair girl", "box": (0.05, 0.1, 0.6, 0.95)}
BOTTLE = {"phrase": "a blue bottle", "box": (0.45, 0.4, 0.9, 0.8)}
HAT = {"phrase": "a hat", "box": (0.1, 0.0, 0.5, 0.3)}
SCENES = [
    MIGCCondition(prompt="a girl drinks", instances=[GIRL, BOTTLE], ca_scale=(0.7, 1.3), sac_scale=(1.5,)),
    MIGCCondition(prompt="a street in the rain", negative="sun"),
    MIGCCondition(prompt="three things", instances=[HAT, GIRL, BOTTLE], ea_scale=0.5),
]


def settings_of(count: int, height: int = 64, width: int = 64, guided: bool = True, steps: int = 4) -> RunSettings:
    return RunSettings(height, width, steps, guided, tuple(range(7, 7 + count)))


def latents_of(count: int, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.randn(count, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(3))


def step_at(index: int, guided: bool = True) -> Step:
    return Step(index, 4, 901 - 200 * index, guided)


def predict(
    provider: MIGCProvider, conditions: list[Any], index: int = 0, guided: bool = True, **settings: Any
) -> NoisePrediction:
    given = settings_of(len(conditions), guided=guided, **settings)
    latents = latents_of(len(conditions), given.height, given.width)
    return provider.predict_noise(latents, step_at(index, guided), provider.encode(conditions, given))


def assert_same(found: NoisePrediction, expected: NoisePrediction, limit: float) -> None:
    torch.testing.assert_close(found.conditional, expected.conditional, rtol=0, atol=limit)
    if expected.unconditional is None:
        assert found.unconditional is None
    else:
        torch.testing.assert_close(found.unconditional, expected.unconditional, rtol=0, atol=limit)


def difference(first: NoisePrediction, second: NoisePrediction) -> float:
    return float((first.conditional.float() - second.conditional.float()).abs().max())


@pytest.mark.parametrize("index", [0, 2, 3], ids=["migc", "naive", "captions only"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 104)])
def test_an_image_in_a_batch_equals_the_image_alone(
    migc_provider: MIGCProvider, index: int, height: int, width: int
) -> None:
    settings = settings_of(3, height, width)
    latents = latents_of(3, height, width)
    together = migc_provider.predict_noise(latents, step_at(index), migc_provider.encode(SCENES, settings))
    for image, scene in enumerate(SCENES):
        own = RunSettings(height, width, 4, True, settings.seeds[image : image + 1])
        alone = migc_provider.predict_noise(
            latents[image : image + 1], step_at(index), migc_provider.encode([scene], own)
        )
        rows = slice(image, image + 1)
        assert_same(NoisePrediction(together.conditional[rows], together.unconditional[rows]), alone, 2e-5)


@pytest.mark.parametrize("guided", [True, False])
def test_without_instances_it_is_the_base_model(
    migc_files: MIGCFiles, migc_provider: MIGCProvider, guided: bool
) -> None:
    plain = load_plain(StableDiffusionOptions(checkpoint="sd"), migc_files.context())
    conditions = [TextCondition(prompt="a street", negative="sun"), TextCondition(prompt="", negative="")]
    settings = settings_of(2, guided=guided)
    expected = plain.predict_noise(latents_of(2), step_at(0, guided), plain.encode(conditions, settings))
    own = [MIGCCondition(prompt=one.prompt, negative=one.negative) for one in conditions]
    assert_same(predict(migc_provider, own, guided=guided), expected, 1e-5)


def test_instances_act_on_the_conditional_half_alone_and_only_while_they_shall(migc_provider: MIGCProvider) -> None:
    with_instances, without = [SCENES[0]], [SCENES[0].model_copy(update={"instances": ()})]
    for index, acts in enumerate([True, True, True, False]):
        first, second = (predict(migc_provider, scenes, index) for scenes in (with_instances, without))
        torch.testing.assert_close(first.unconditional, second.unconditional, rtol=0, atol=1e-5)
        assert (difference(first, second) > 1e-3) == acts


@pytest.mark.parametrize("index", [0, 2, 3])
def test_guidance_off_computes_the_conditional_half_alone(migc_provider: MIGCProvider, index: int) -> None:
    guided = predict(migc_provider, SCENES, index)
    rows: list[int] = []
    hook = migc_provider.unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    conditioning = migc_provider.encode(SCENES, settings_of(3))
    at_this_step = migc_provider.predict_noise(latents_of(3), step_at(index, guided=False), conditioning)
    in_this_run = predict(migc_provider, SCENES, index, guided=False)
    hook.remove()
    assert rows == [3, 3]
    for unguided in (at_this_step, in_this_run):
        assert_same(unguided, NoisePrediction(guided.conditional), 1e-5)


def test_what_is_constant_is_computed_once(migc_provider: MIGCProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    hooks = []

    def count(name: str, module: torch.nn.Module) -> None:
        hooks.append(module.register_forward_hook(lambda *_: calls.update([name])))

    count("text encoder", migc_provider.text_encoder)
    for layer in migc_provider.attention.layers.values():
        count("text projection", layer.to_k)
        count("text projection", layer.to_v)
        if (block := layer.processor.migc) is not None:
            count("position net", block.pos_net)
            count("phrase projection", block.ea.to_k)
            count("phrase projection", block.ea.to_v)
            count("step", block.la)
    for name in ("draw_masks", "resize_masks", "instance_slots"):
        original = getattr(attention_module, name)
        monkeypatch.setattr(
            attention_module, name, lambda *a, name=name, original=original: calls.update([name]) or original(*a)
        )
    conditioning = migc_provider.encode(SCENES, settings_of(3))
    once = dict(calls)
    layers, blocks = 4, 3
    # Prompts and phrases.
    assert once["text encoder"] == 2
    assert once["position net"] == blocks
    assert once["phrase projection"] == 2 * 2 * blocks
    assert once["text projection"] == 2 * 2 * layers
    assert once["draw_masks"] == 3
    for index in range(4):
        migc_provider.predict_noise(latents_of(3), step_at(index), conditioning)
    for hook in hooks:
        hook.remove()
    assert calls.pop("step") == 2 * blocks
    assert calls == once


def test_only_layers_that_see_phrases_project_them(migc_files: MIGCFiles) -> None:
    run = migc_files.load(naive_fuser_steps=-1).encode(SCENES, settings_of(3)).groups[0].run
    assert set(run.layers) == {
        name for name in migc_files.load().attention.layers if not name.startswith("down_blocks")
    }
    run = migc_files.load(naive_fuser_steps=-1, migc_steps=-1).encode(SCENES, settings_of(3)).groups[0].run
    assert not run.layers


def test_a_seed_gives_one_picture_and_another_seed_another(migc_provider: MIGCProvider) -> None:
    torch.manual_seed(1)
    first = predict(migc_provider, [SCENES[2]])
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(first.conditional, predict(migc_provider, [SCENES[2]]).conditional)
    assert torch.equal(torch.get_rng_state(), before)
    other = migc_provider.encode([SCENES[2]], RunSettings(64, 64, 4, True, (8,)))
    assert difference(first, migc_provider.predict_noise(latents_of(1), step_at(0), other)) > 1e-5
    # Every step has an order of its own, whatever was evaluated before it.
    conditioning = migc_provider.encode([SCENES[2]], settings_of(1))
    late = migc_provider.predict_noise(latents_of(1), step_at(1), conditioning)
    assert torch.equal(late.conditional, predict(migc_provider, [SCENES[2]], 1).conditional)
    assert not torch.equal(*conditioning.groups[0].run.layers[next(iter(_block_layers(conditioning)))].block.slots)


def _block_layers(conditioning: Any) -> list[str]:
    return [name for name, layer in conditioning.groups[0].run.layers.items() if layer.block is not None]


def test_recorded_orders_can_be_given(migc_files: MIGCFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = migc_files.load()
    asked = []

    def recorded(seed: int, count: int, slots: int) -> torch.Tensor:
        asked.append((seed, count, slots))
        return draw_phase_orders(99, count, slots)

    drawn = predict(provider, [SCENES[2]])
    provider.phase_orders = recorded
    given = predict(provider, [SCENES[2]])
    # Three blocks at each of four steps; migc_steps reaches beyond the run.
    assert asked == [(7, 12, 28)]
    assert difference(drawn, given) > 1e-5
    provider.phase_orders = draw_phase_orders
    conditioning = provider.encode([SCENES[2]], RunSettings(64, 64, 4, True, (99,)))
    assert torch.equal(given.conditional, provider.predict_noise(latents_of(1), step_at(0), conditioning).conditional)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 1e-2), (torch.bfloat16, 8e-2)])
@pytest.mark.parametrize("index", [0, 2])
def test_half_precision_stays_near(migc_files: MIGCFiles, dtype: torch.dtype, limit: float, index: int) -> None:
    options = {"migc_steps": 1, "naive_fuser_steps": 2}
    wide = predict(migc_files.load(**options), SCENES, index)
    half = predict(migc_files.load(migc_files.context(dtype), **options), SCENES, index)
    assert half.conditional.dtype == dtype
    assert difference(half, wide) <= limit * float(wide.conditional.abs().max())


def test_long_prompts_keep_images_apart(migc_provider: MIGCProvider) -> None:
    long = SCENES[0].model_copy(update={"prompt": "a very long caption " * 6})
    scenes = [SCENES[2], long, SCENES[1]]
    together = predict(migc_provider, scenes)
    latents = latents_of(3)
    for image, scene in enumerate(scenes):
        conditioning = migc_provider.encode([scene], RunSettings(64, 64, 4, True, (7 + image,)))
        alone = migc_provider.predict_noise(latents[image : image + 1], step_at(0), conditioning)
        torch.testing.assert_close(together.conditional[image], alone.conditional[0], rtol=0, atol=2e-5)


def test_repeated_phrases_are_joined_by_and(migc_files: MIGCFiles) -> None:
    repeating = migc_files.load(aug_phase_with_and=True)
    spelled = [
        {"phrase": f"{one['phrase']}, and {one['phrase']}", "box": one["box"]}
        for one in (HAT | {"phrase": "hat"}, BOTTLE)
    ]
    plain = MIGCCondition(prompt="x", instances=[HAT | {"phrase": "hat"}, BOTTLE])
    expected = predict(migc_files.load(), [MIGCCondition(prompt="x", instances=spelled)])
    assert torch.equal(predict(repeating, [plain]).conditional, expected.conditional)
    # A second run does not repeat what was repeated.
    assert torch.equal(predict(repeating, [plain]).conditional, expected.conditional)


def test_nothing_of_a_run_is_left_behind(migc_provider: MIGCProvider) -> None:
    conditioning = migc_provider.encode(SCENES, settings_of(3))
    expected = migc_provider.predict_noise(latents_of(3), step_at(0), conditioning)
    with pytest.raises(RuntimeError):
        migc_provider.predict_noise(torch.zeros(3, 5, 8, 8), step_at(0), conditioning)
    processors = [layer.processor for layer in migc_provider.attention.layers.values()]
    assert all(processor.fusion is None and processor.text is None for processor in processors)
    assert_same(migc_provider.predict_noise(latents_of(3), step_at(0), conditioning), expected, 0)
    run = weakref.ref(conditioning.groups[0].run)
    del conditioning
    assert run() is None


def test_members_share_weights_and_do_not_disturb_each_other(migc_files: MIGCFiles) -> None:
    context = migc_files.context()
    plain = load_plain(StableDiffusionOptions(checkpoint="sd"), context)
    conditioning = plain.encode([TextCondition(prompt="x")], settings_of(1))
    before = plain.predict_noise(latents_of(1), step_at(0), conditioning)
    first, second = (migc_files.load(context, naive_fuser_steps=steps) for steps in (-1, 3))
    own = dict(first.unet.named_parameters())
    for name, parameter in plain.unet.named_parameters():
        assert own[name] is parameter
    assert all(own[name] is parameter for name, parameter in second.unet.named_parameters())
    predict(second, SCENES)
    assert_same(plain.predict_noise(latents_of(1), step_at(0), conditioning), before, 0)
    assert difference(predict(first, SCENES), predict(second, SCENES)) > 1e-4
    assert [file.component for file in context.weight_files].count("adapter") == 2


def test_a_provider_is_freed_when_it_is_let_go_of(migc_files: MIGCFiles) -> None:
    provider = migc_files.load()
    predict(provider, SCENES)
    unet = weakref.ref(provider.unet)
    gc.collect()
    gc.disable()
    try:
        del provider
        assert unet() is None
    finally:
        gc.enable()


def test_the_hook_registers_the_spec() -> None:
    registered: list[Any] = []
    amdm_plugin_migc.register_providers(registered.append)
    assert registered == [SPEC]
    assert SPEC.name == "migc"


def test_what_is_taken_from_a_scene() -> None:
    options = MIGCOptions(checkpoint="c", base="b", ca_scale=[0.5, 2.0], ea_scale=0.25)
    scene = Scene.model_validate(
        {
            "caption": "a girl drinks",
            "instances": {"girl": GIRL, "bottle": BOTTLE},
            "interactions": [{"subject": "girl", "action": "drinking", "object": "bottle"}],
        }
    )
    condition = condition_from_scene(scene, options)
    assert condition.prompt == "a girl drinks"
    assert [one.phrase for one in condition.instances] == ["a red hair girl", "a blue bottle"]
    assert (condition.ca_scale, condition.ea_scale, condition.sac_scale) == ((0.5, 2.0), 0.25, 1.0)
    assert condition.negative == DEFAULT_NEGATIVE == "worst quality, low quality, bad anatomy"
    assert condition_from_scene(Scene(negative="sun"), MIGCOptions(checkpoint="c", base="b")).negative == "sun"
    assert MIGCCondition.model_validate(json.loads(condition.model_dump_json())) == condition


BAD = {
    "too many": ({"instances": [HAT] * 29}, "29 instances.*at most 28"),
    "blank phrase": ({"instances": [HAT | {"phrase": "  "}]}, "instance 0 has a blank phrase"),
    "ca_scale": ({"instances": [HAT], "ca_scale": [1, 2]}, "ca_scale: found 2 numbers for 1 instances"),
    "ea_scale": ({"instances": [HAT], "ea_scale": []}, "ea_scale: found 0 numbers for 1 instances"),
    "sac_scale": ({"instances": [HAT], "sac_scale": [1, 2]}, "sac_scale: found 2 numbers for 1 instances.*at most 1"),
    "not a number": ({"instances": [HAT], "sac_scale": float("nan")}, "finite number"),
    "box": ({"instances": [HAT | {"box": (0, 0, 512, 512)}]}, "look like pixels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_conditions_are_refused_in_one_sentence(case: str) -> None:
    content, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        MIGCCondition.model_validate(content)


def test_28_instances_are_drawn(migc_provider: MIGCProvider) -> None:
    assert predict(migc_provider, [MIGCCondition(instances=[HAT] * 28)]).conditional.isfinite().all()


def test_weights_with_less_room_say_so(migc_provider: MIGCProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migc_provider.attention, "depth", 4)
    with pytest.raises(InputError, match="image 2 has 3 instances.*at most 2"):
        migc_provider.encode(SCENES, settings_of(3))


def test_sizes_and_long_phrases(migc_provider: MIGCProvider) -> None:
    with pytest.raises(InputError, match="multiples of 8"):
        migc_provider.encode(SCENES, settings_of(3, 60, 64))
    with pytest.warns(UserWarning, match="cut after 75 tokens"):
        migc_provider.encode([MIGCCondition(instances=[HAT | {"phrase": "hat" * 40}])], settings_of(1))


def test_inspection_predicts_what_is_loaded(migc_files: MIGCFiles) -> None:
    report = inspect(MIGCOptions(checkpoint="MIGC_SD14.ckpt", base="sd"), migc_files.context())
    provider = migc_files.load()
    assert report.latent_space == provider.latent_space
    assert report.default_size == provider.default_size
    assert sum(len(part) for part in report.components.values()) == sum(
        len(list(module.parameters())) for module in provider.modules().values()
    )
    options = MIGCOptions(checkpoint="hf://nobody/nothing/MIGC_SD14.ckpt", base="sd")
    assert inspect(options, migc_files.context()).downloads == ("hf://nobody/nothing/MIGC_SD14.ckpt",)
    with pytest.raises(CheckpointError, match="holds no MIGC weights"):
        inspect(MIGCOptions(checkpoint="sd/unet/diffusion_pytorch_model.safetensors", base="sd"), migc_files.context())
