"""The provider's contract: batches, guidance, constants computed once, nothing left behind."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from ip_adapter_files import picture, write_adapter
from PIL import Image

from amdm_framework.errors import InputError
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextCondition
from amdm_framework.provider import RunSettings, Step
from amdm_framework.testing.tiny_models import SD_TOPOLOGY_UNET, build_unet, write_diffusers_folder, write_single_file
from amdm_plugin_ip_adapter import provider as provider_module
from amdm_plugin_ip_adapter.condition import IPAdapterCondition, ReferencePicture
from amdm_plugin_ip_adapter.image_encoder import preprocess
from amdm_plugin_ip_adapter.provider import IPAdapterProvider
from amdm_plugin_ip_adapter.strength import BlockScales, Strength
from amdm_plugin_ip_adapter.tiny_model import adapter_tensors

LONG = "a bird on a branch in the rain, " * 4


def reference(seed: int, **others) -> ReferencePicture:
    return ReferencePicture(image=picture(seed), **others)


def condition(prompt: str, *references: ReferencePicture, **strength) -> IPAdapterCondition:
    return IPAdapterCondition(prompt=prompt, negative="grey", references=references, strength=Strength(**strength))


MIXED = (
    condition("a red bird", reference(1)),
    condition(LONG, reference(2), reference(3)),
    condition("a house", reference(1), scale=0.5),
    condition("a dog", reference(4), reference(5), reference(1)),
    condition("a cat", reference(2, box=(0.0, 0.0, 0.5, 1.0)), reference(3)),
    condition("a cow", reference(6)),
)


def settings(count: int, *, guided: bool = True, width: int = 96) -> RunSettings:
    return RunSettings(64, width, 5, guided, tuple(range(count)))


def noise(count: int, width: int = 96) -> torch.Tensor:
    rows = [torch.randn(4, 8, width // 8, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]
    return torch.stack(rows)


def step(index: int = 2, *, guided: bool = True) -> Step:
    return Step(index, 5, 801 - 200 * index, guided)


def predict(provider: IPAdapterProvider, conditions, latents: torch.Tensor, *, guided: bool = True) -> torch.Tensor:
    width = 8 * latents.shape[-1]
    conditioning = provider.encode(conditions, settings(len(conditions), guided=guided, width=width))
    prediction = provider.predict_noise(latents, step(guided=guided), conditioning)
    assert (prediction.unconditional is not None) == guided
    return torch.cat([half for half in (prediction.unconditional, prediction.conditional) if half is not None], dim=1)


@pytest.mark.parametrize("guided", [True, False])
def test_an_image_of_a_batch_equals_the_image_alone(provider, guided):
    """Different texts, lengths, numbers of references, scales and regions."""
    latents = noise(len(MIXED))
    batch = predict(provider, MIXED, latents, guided=guided)
    for row, own in enumerate(MIXED):
        alone = predict(provider, [own], latents[row : row + 1], guided=guided)
        torch.testing.assert_close(batch[row : row + 1], alone, rtol=0, atol=2e-5)


def test_equal_kinds_of_images_share_one_call(provider):
    conditions = [condition(word, reference(seed)) for seed, word in enumerate(("bird", "house", "dog"))]
    conditioning = provider.encode(conditions, settings(3))
    assert len(conditioning.groups) == 1 and conditioning.groups[0].rows is None
    calls = Counter()
    with counted(provider, calls):
        provider.predict_noise(noise(3), step(), conditioning)
    assert calls == {"unet": 6}


class counted:
    """Counts rows that each network is asked about."""

    def __init__(self, provider: IPAdapterProvider, calls: Counter) -> None:
        self.handles = [
            module.register_forward_hook(
                lambda _, inputs, kwargs, output, name=name: calls.update({name: len((*inputs, *kwargs.values())[0])}),
                with_kwargs=True,
            )
            for name, module in provider.modules().items()
        ]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def test_constants_are_computed_once(files, kind, monkeypatch):
    provider = files.load(f"{kind}.safetensors")
    calls: Counter = Counter()
    opened = Counter()
    open_picture = ReferencePicture.open
    monkeypatch.setattr(ReferencePicture, "open", lambda self: (opened.update(["picture"]), open_picture(self))[1])
    make_masks = provider_module.region_masks
    monkeypatch.setattr(provider_module, "region_masks", lambda *a: (opened.update(["masks"]), make_masks(*a))[1])
    conditions = [
        condition("a bird", reference(1), reference(2, box=(0, 0, 1, 0.5))),
        condition("a dog", reference(1), reference(3)),
    ]
    with counted(provider, calls):
        conditioning = provider.encode(conditions, settings(2))
    # Three different pictures; a plus adapter looks at the zero picture as well.
    zero_picture = kind == "plus"
    assert calls == {"text_encoder": 3, "image_encoder": 3 + zero_picture, "image_projection": 4}
    assert opened == {"picture": 4, "masks": 2}
    for counter in (calls, opened):
        counter.clear()
    with counted(provider, calls):
        for index in range(5):
            provider.predict_noise(noise(2), step(index, guided=index < 4), conditioning)
    assert calls == {"unet": 4 * 4 + 2}
    assert not opened
    calls.clear()
    with counted(provider, calls):
        provider.encode(conditions, settings(2))
    assert calls["image_encoder"] == calls["image_projection"] == 3
    with counted(provider, calls):
        provider.encode(conditions, settings(2, guided=False))
    assert calls["image_encoder"] == calls["image_projection"] == 6


def test_the_projection_is_not_run_inside_the_unet(provider):
    inside = provider.unet.encoder_hid_proj.image_projection_layers
    assert [type(layer) for layer in inside] == [torch.nn.Identity]
    assert provider.modules()["image_projection"] is provider.adapter.projection


def test_two_conditionings_do_not_disturb_each_other(provider):
    latents = noise(1)
    weak, strong = condition("a bird", reference(1), scale=0.1), condition("a bird", reference(1), scale=2.0)
    blocks = condition("a bird", reference(1), block_scales=BlockScales(mid=1.0))
    expected = [predict(provider, [one], latents) for one in (weak, strong, blocks)]
    assert (expected[0] - expected[1]).abs().max() > 0.01
    conditionings = [provider.encode([one], settings(1)) for one in (weak, strong, blocks)]
    for _ in range(2):
        for conditioning, known in zip(conditionings, expected, strict=True):
            found = provider.predict_noise(latents, step(), conditioning)
            assert torch.equal(torch.cat([found.unconditional, found.conditional], dim=1), known)


def test_an_error_in_the_unet_leaves_nothing_of_the_run_behind(provider):
    conditioning = provider.encode([condition("a bird", reference(1), scale=0.3)], settings(1))
    with pytest.raises(RuntimeError):
        provider.predict_noise(torch.randn(1, 3, 8, 12), step(), conditioning)
    assert all(processor.text is None and processor.references == () for processor in provider.adapter.processors)


def test_scale_zero_is_the_plain_model(provider):
    plain = StableDiffusionProvider(
        _plain_unet(provider),
        provider.vae,
        provider.prompt_encoder.tokenizer,
        provider.text_encoder,
        provider.latent_space,
        provider.noise_schedule,
    )
    latents = noise(1)
    conditioning = plain.encode([TextCondition(prompt="a bird", negative="grey")], settings(1))
    expected = plain.predict_noise(latents, step(), conditioning)
    found = predict(provider, [condition("a bird", reference(1), scale=0.0)], latents)
    assert torch.equal(found, torch.cat([expected.unconditional, expected.conditional], dim=1))


def _plain_unet(provider: IPAdapterProvider) -> torch.nn.Module:
    unet = type(provider.unet).from_config(dict(provider.unet.config))
    own = {name: value for name, value in provider.unet.state_dict().items() if "attn2.processor" not in name}
    unet.load_state_dict(own)
    return unet.eval()


def test_full_masks_equal_no_masks(provider):
    latents = noise(1)
    masked = predict(provider, [condition("a bird", reference(1, box=(0, 0, 1, 1)))], latents)
    torch.testing.assert_close(
        masked, predict(provider, [condition("a bird", reference(1))], latents), rtol=0, atol=1e-6
    )


def test_how_a_wide_picture_is_shown(files):
    wide = picture(1, width=160)
    square = wide.resize((56, 56), Image.Resampling.BICUBIC)
    latents = noise(1)
    squashing = files.load(fit="squash")
    found, expected = (
        predict(squashing, [condition("a bird", ReferencePicture(image=shown))], latents) for shown in (wide, square)
    )
    assert torch.equal(found, expected)
    assert not torch.equal(preprocess([wide], 56, "crop"), preprocess([wide], 56, "squash"))


def test_half_precision(files, provider, kind):
    """Largest error relative to the largest prediction, as documented in the README; loaded so, or cast later."""
    latents = noise(2)
    expected = predict(provider, MIXED[:2], latents)
    half = files.load(f"{kind}.safetensors", dtype=torch.float16)
    for dtype, tolerance in ((torch.float16, 0.01), (torch.bfloat16, 0.08), (torch.float32, 0.08)):
        half.to(dtype=dtype)
        found = predict(half, MIXED[:2], latents)
        assert half.unet.dtype == half.image_encoder.dtype == dtype
        error = float((found.float() - expected).abs().max() / expected.abs().max())
        print(kind, dtype, f"{error:.1e}")
        assert error < tolerance


def test_bad_input_is_refused_before_sampling(provider, tmp_path):
    two = [condition("a bird", reference(1))] * 2
    conditioning = provider.encode(two, settings(2))
    for rows in (1, 3):
        with pytest.raises(InputError, match=f"found latents of {rows} images, but 2 conditions were encoded"):
            provider.predict_noise(noise(rows), step(), conditioning)
    boxed = [condition("a bird", reference(1, box=(0, 0, 0.5, 1)))]
    with pytest.raises(InputError, match=r"cannot be placed on a picture of 64 x 72 pixels .* multiples of 16"):
        provider.encode(boxed, RunSettings(72, 64, 5, True, (0,)))
    (tmp_path / "oil.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(InputError, match=r"oil\.png is not a picture"):
        provider.encode([condition("a bird", ReferencePicture(image=tmp_path / "oil.png"))], settings(1))
    with pytest.raises(InputError, match=r"block_scales\.up\.block_0: there is no cross-attention"):
        provider.encode([condition("a bird", reference(1), block_scales=BlockScales(up={"block_0": 1}))], settings(1))


def test_the_layout_of_stable_diffusion(tmp_path, files):
    """All sixteen layers, from an original single file, with a preset."""
    write_diffusers_folder(tmp_path, unet_config=SD_TOPOLOGY_UNET)
    write_adapter(tmp_path / "adapter.bin", adapter_tensors(build_unet(SD_TOPOLOGY_UNET), "plus"), torch.float16)
    base = str(write_single_file(tmp_path / "sd.safetensors", tmp_path))
    provider = files.load(str(tmp_path / "adapter.bin"), base=base, preset="style_and_composition")
    assert len(provider.adapter.processors) == 16
    latents = noise(1, 64)
    preset, everywhere, plain = (
        predict(provider, [condition("a bird", reference(1), **strength)], latents)
        for strength in ({"preset": "style_and_composition"}, {}, {"scale": 0.0})
    )
    assert (preset - plain).abs().max() > 0.01
    assert (preset - everywhere).abs().max() > 0.001
