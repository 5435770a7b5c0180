"""The whole UNet and short denoising loops, against the original's."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from migc_goldens import CPU, GOLDEN, assert_close, condition_of, read_case, runs
from safetensors.torch import load_file

from amdm_framework.models.context import LoadContext
from amdm_framework.models.rows import Rows
from amdm_framework.models.tensor_files import read_tensors
from amdm_framework.models.unet_layers import layer_size
from amdm_plugin_migc.attention import FusionSchedule, InstanceAttention, InstanceRun
from amdm_plugin_migc.checkpoint import load_block, read_blocks
from amdm_plugin_migc.modules import MIGCBlock
from amdm_plugin_migc.phase_order import draw_phase_orders

CASE, RECORDED = read_case("unet")
RUNS = runs("unet")


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    unet = UNet2DConditionModel(**CASE["unet_config"])
    unet.load_state_dict(
        {name: value.float() for name, value in load_file(GOLDEN / "unet" / "unet.safetensors").items()}
    )
    return unet.eval().requires_grad_(False)


@functools.cache
def load_golden_blocks() -> dict[str, MIGCBlock]:
    context = LoadContext(device=CPU, dtype=torch.float32)
    tensors = read_tensors(GOLDEN / "unet" / "migc.safetensors")
    return {layer: load_block(stored, context) for layer, stored in read_blocks(tensors, CASE["unet_config"]).items()}


def install(unet: UNet2DConditionModel, migc_steps: int, naive_fuser_steps: int) -> InstanceAttention:
    return InstanceAttention(unet, load_golden_blocks(), FusionSchedule(migc_steps, naive_fuser_steps))


def prepare(
    attention: InstanceAttention,
    tested: list[dict[str, Any]],
    orders: list[torch.Tensor],
    latent_size: tuple[int, int] = (32, 32),
) -> InstanceRun:
    """Prepare a batch of recorded runs."""
    states, pooled = RECORDED["encoder_hidden_states"], RECORDED["embeds_pooler"][:, 0]
    counts = [run["instances"] for run in tested]
    phrases = torch.cat([states[2 : 2 + count] for count in counts])
    height, width = (8 * side for side in latent_size)
    return attention.prepare(
        [condition_of(run) for run in tested],
        phrases,
        torch.cat([pooled[1 : 1 + count] for count in counts]),
        orders,
        height,
        width,
        latent_size,
    )


def texts(images: int, rows: Rows) -> torch.Tensor:
    """Return text states of a negative prompt and a caption for every image."""
    negative, caption = RECORDED["encoder_hidden_states"][:2, None]
    both = torch.cat([negative.repeat(images, 1, 1), caption.repeat(images, 1, 1)])
    return rows.take(both, images)


def recorded_orders(tag: str, attention: InstanceAttention, index: int, steps: int) -> torch.Tensor:
    """Return a run's four permutations at its step, others at the steps before, which are not evaluated."""
    orders = draw_phase_orders(0, attention.phase_order_count(steps), 28)
    if f"{tag}.perms" in RECORDED:
        orders[4 * index : 4 * index + 4] = RECORDED[f"{tag}.perms"]
    return orders


def evaluate(unet: UNet2DConditionModel, attention: InstanceAttention, run: InstanceRun, index: int, rows: Rows) -> Any:
    states = texts(1, rows)
    with attention.during(run, index, rows):
        return unet(RECORDED["latent"].repeat(len(states), 1, 1, 1), CASE["timestep"], states).sample


@pytest.mark.parametrize("tag", RUNS)
def test_unet_equals_the_original(unet: UNet2DConditionModel, tag: str) -> None:
    run = RUNS[tag]
    attention = install(unet, run["MIGCsteps"], run["NaiveFuserSteps"])
    index = run["step_index"]
    prepared = prepare(attention, [run], [recorded_orders(tag, attention, index, 50)])
    layers: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: layers.update({name: output}))
        for name, module in attention.layers.items()
    ]
    expected = RECORDED[f"{run.get('eps_same_as', tag)}.eps"]
    assert_close(evaluate(unet, attention, prepared, index, Rows.BOTH), expected, CASE["tolerance"])
    for hook in hooks:
        hook.remove()
    recorded = {name: value for name, value in RECORDED.items() if name.startswith(f"{tag}.layer.")}
    assert len(recorded) == (4 if tag == "n2_migc" else 0)
    for name, value in recorded.items():
        assert_close(layers[name.removeprefix(f"{tag}.layer.").removesuffix(".out")], value, CASE["tolerance"])


@pytest.mark.parametrize(("rows", "expected"), [(Rows.UNCONDITIONAL, slice(0, 1)), (Rows.CONDITIONAL, slice(1, 2))])
def test_one_half_alone_equals_the_original(unet: UNet2DConditionModel, rows: Rows, expected: slice) -> None:
    tag = "n2_migc_naive"
    run = RUNS[tag]
    attention = install(unet, run["MIGCsteps"], run["NaiveFuserSteps"])
    prepared = prepare(attention, [run], [recorded_orders(tag, attention, run["step_index"], 50)])
    found = evaluate(unet, attention, prepared, run["step_index"], rows)
    assert_close(found, RECORDED[f"{tag}.eps"][expected], CASE["tolerance"])


@pytest.mark.parametrize(("index", "guided"), [(0, True), (3, False), (6, True)])
def test_an_image_in_a_batch_equals_the_image_alone(unet: UNet2DConditionModel, index: int, guided: bool) -> None:
    attention = install(unet, 2, 3)
    tested = [RUNS[tag] for tag in ("n2_scales", "n0", "n4_migc", "n1_migc")]
    orders = [draw_phase_orders(seed, attention.phase_order_count(12), 28) for seed in range(len(tested))]
    latents = torch.randn(4, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    size = (8, 12)

    def predict(images: list[int]) -> torch.Tensor:
        run = prepare(attention, [tested[i] for i in images], [orders[i] for i in images], size)
        rows = Rows.BOTH if guided else Rows.CONDITIONAL
        sample = latents[images].repeat(1 + guided, 1, 1, 1)
        with attention.during(run, index, rows):
            return unet(sample, 481, texts(len(images), rows)).sample.unflatten(0, (1 + guided, len(images)))

    together = predict([0, 1, 2, 3])
    for image in range(4):
        torch.testing.assert_close(together[:, image : image + 1], predict([image]), rtol=0, atol=2e-5)


def test_between_calls_the_unet_is_the_plain_one(unet: UNet2DConditionModel) -> None:
    attention = install(unet, 25, 25)
    run = prepare(attention, [RUNS["n2_migc"]], [recorded_orders("n2_migc", attention, 0, 1)])
    with pytest.raises(KeyboardInterrupt), attention.during(run, 0, Rows.BOTH):
        raise KeyboardInterrupt
    assert all(layer.processor.fusion is None for layer in attention.layers.values())
    latents = RECORDED["latent"].repeat(2, 1, 1, 1)
    plain = unet(latents, CASE["timestep"], RECORDED["encoder_hidden_states"][:2]).sample
    assert_close(plain, RECORDED["n2_vanilla.eps"], CASE["tolerance"])


LOOP, LOOP_RECORDED = read_case("loop")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("tag", runs("loop"))
def test_loops_equal_the_originals(unet: UNet2DConditionModel, tag: str) -> None:
    run = runs("loop")[tag]
    attention = install(unet, run["MIGCsteps"], run["NaiveFuserSteps"])
    scheduler = {"euler": EulerDiscreteScheduler, "ddim": DDIMScheduler}[tag].from_config(run["scheduler_config"])
    scheduler.set_timesteps(run["steps"])
    torch.testing.assert_close(scheduler.timesteps.float(), LOOP_RECORDED[f"{tag}.timesteps"])
    orders = LOOP_RECORDED[f"{tag}.perms"].flatten(0, 1)
    assert torch.equal(orders, draw_phase_orders(run["perm_seed"], attention.phase_order_count(run["steps"]), 28))
    prepared = prepare(attention, [run], [orders])
    latents = LOOP_RECORDED["noise"] * run["init_noise_sigma"]
    for index, timestep in enumerate(scheduler.timesteps):
        inputs = scheduler.scale_model_input(latents, timestep).repeat(2, 1, 1, 1)
        with attention.during(prepared, index, Rows.BOTH):
            negative, positive = unet(inputs, timestep, texts(1, Rows.BOTH)).sample.chunk(2)
        epsilon = negative + run["guidance_scale"] * (positive - negative)
        latents = scheduler.step(epsilon, timestep, latents).prev_sample
        assert_close(latents[0], LOOP_RECORDED[f"{tag}.latents"][index], LOOP["tolerance"])


def test_layer_sizes_are_those_of_the_feature_maps(unet: UNet2DConditionModel) -> None:
    attention = install(unet, -1, 0)
    seen = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].shape[1]}))
        for name, module in attention.layers.items()
    ]
    unet(torch.zeros(1, 4, 13, 22), 1, torch.zeros(1, 1, 32))
    for hook in hooks:
        hook.remove()
    sizes = {name: layer_size(name, (13, 22), 4) for name in attention.layers}
    assert {name: height * width for name, (height, width) in sizes.items()} == seen
    assert sizes["mid_block.attentions.0.transformer_blocks.0.attn2"] == (2, 3)
