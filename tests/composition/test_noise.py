"""Where randomness comes from: the target's is what diffusers draws, everybody's depends on the image's seed alone."""

from __future__ import annotations

import hashlib

import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

from amdm_framework.errors import InputError
from amdm_framework.provider import Step
from amdm_framework.sampling.noise import RunNoise, derive_seed

SHAPE = (2, 4, 8, 8)
CPU = torch.device("cpu")


def noise(*seeds: int, shape: tuple[int, int, int, int] = SHAPE, shared: bool = False) -> RunNoise:
    return RunNoise([torch.Generator().manual_seed(seed) for seed in seeds], shape, CPU, torch.float32, shared)


def test_the_target_draws_what_diffusers_draws() -> None:
    run = noise(1, 2)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    for drawn in (run.initial(0), run(0, Step(0, 2, 999)), run(0, Step(1, 2, 499))):
        assert torch.equal(drawn, randn_tensor(SHAPE, generator=generators))


def test_an_image_draws_the_same_alone_and_in_a_batch_for_every_member() -> None:
    batch, single = noise(5, 6), noise(6, shape=(1, 4, 8, 8))
    for member in (0, 1, 2):
        assert torch.equal(batch.initial(member)[1:], single.initial(member))
        assert torch.equal(batch(member, Step(0, 1, 1))[1:], single(member, Step(0, 1, 1)))


def test_members_draw_independently_and_in_any_order() -> None:
    first, second = noise(5, 6), noise(5, 6)
    a = [first.initial(member) for member in (0, 1, 2)]
    b = [second.initial(member) for member in (2, 1, 0)][::-1]
    assert all(torch.equal(one, other) for one, other in zip(a, b, strict=True))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(torch.nn.functional.cosine_similarity(a[one].flatten(), a[other].flatten(), 0)) < 0.2


def test_shared_step_noise_is_the_targets_own() -> None:
    shared, own = noise(5, 6, shared=True), noise(5, 6)
    for index in range(3):
        step = Step(index, 3, 1)
        expected = own(0, step)
        assert all(torch.equal(shared(member, step), expected) for member in (1, 0, 2))


def test_one_generator_serves_a_batch() -> None:
    run = RunNoise(torch.Generator().manual_seed(9), SHAPE, CPU, torch.float64)
    assert torch.equal(
        run.initial(0), torch.randn(SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    )
    assert run.seeds[0] == 9 and len(set(run.seeds)) == 2


def test_no_generator_means_new_seeds_that_a_person_can_copy() -> None:
    runs = [RunNoise(None, SHAPE, CPU, torch.float32) for _ in range(2)]
    assert len({*runs[0].seeds, *runs[1].seeds}) == 4
    assert all(0 <= seed < 2**32 for run in runs for seed in run.seeds)
    assert torch.equal(runs[0].initial(0), noise(*runs[0].seeds).initial(0))


def test_as_many_generators_as_images() -> None:
    with pytest.raises(InputError, match="found 3 generators for a batch of 2: give one, or one per image"):
        noise(1, 2, 3)


def test_derived_seeds_are_the_same_on_every_machine() -> None:
    digest = hashlib.blake2b(b"7:member 1", digest_size=8).digest()
    assert derive_seed(7, "member 1") == int.from_bytes(digest, "big") // 2
    seeds = {derive_seed(seed, f"member {member}") for seed in range(50) for member in range(50)}
    assert len(seeds) == 2500 and all(0 <= seed < 2**63 for seed in seeds)
