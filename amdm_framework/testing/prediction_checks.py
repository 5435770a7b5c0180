"""What a provider predicts and decodes: shapes, halves, batches, sizes."""

from __future__ import annotations

import pytest
import torch

from ..errors import InputError
from ..latents import LatentSpace, NoiseSchedule
from ..provider import NoisePrediction
from .model_under_test import TOLERANCE, ModelUnderTest, assert_alike, distance


class PredictionChecks:
    """Tests of single predictions of a loaded model."""

    def test_it_says_what_its_latents_are(self, model_under_test: ModelUnderTest) -> None:
        """The loop and `check_compatible` read `latent_space`, `noise_schedule` and `default_size`: one is missing or odd."""
        provider = model_under_test.provider
        for name, kind in (("latent_space", LatentSpace), ("noise_schedule", NoiseSchedule)):
            assert isinstance(getattr(provider, name, None), kind), f"set `{name}` to a {kind.__name__} in __init__"
        table = provider.noise_schedule.alphas_cumprod
        assert table.dtype == torch.float32 and table.ndim == 1, "alphas_cumprod must be a float32 vector"
        falling = bool((table[1:] < table[:-1]).all()) and float(table[-1]) >= 0 and float(table[0]) <= 1
        assert falling, "alphas_cumprod must fall from nearly 1 towards 0, least noise first"
        scale = provider.latent_space.scale
        size = getattr(provider, "default_size", None)
        fits = isinstance(size, tuple) and len(size) == 2 and all(side > 0 and side % scale == 0 for side in size)
        assert fits, f"default_size is {size}, expected (height, width) in pixels, multiples of {scale}"

    def test_predictions_have_the_shape_of_the_latents(self, model_under_test: ModelUnderTest) -> None:
        """Both halves are (B, C, H, W) floats on the latents' device, finite at every step."""
        run = model_under_test.run()
        for index in (0, 1, 3):
            prediction = run.predict(index)
            assert prediction.unconditional is not None, "a guided step needs an unconditional half"
            for name, half in (("conditional", prediction.conditional), ("unconditional", prediction.unconditional)):
                found, expected = tuple(half.shape), tuple(run.latents.shape)
                assert found == expected, f"the {name} half is {found}, expected {expected}"
                assert half.is_floating_point(), f"the {name} half is {half.dtype}, expected floating point"
                assert half.device == run.latents.device, f"the {name} half is on {half.device}"
                assert torch.isfinite(half).all(), f"the {name} half holds NaN or infinity at step {index}"

    def test_sizes_need_not_be_square(self, model_under_test: ModelUnderTest) -> None:
        """Height and width are confused, or a grid of the model is fixed to its default size."""
        assert any(height != width for height, width in model_under_test.sizes), "`sizes` needs one that is not square"
        for height, width in model_under_test.sizes:
            for size in ((height, width), (width, height)):
                run = model_under_test.run(size=size)
                shape = tuple(run.predict().conditional.shape)
                assert shape == tuple(run.latents.shape), f"pictures of {size}: found {shape}"

    def test_an_image_of_a_batch_equals_the_single_run(self, model_under_test: ModelUnderTest) -> None:
        """Images of one batch look at each other: by padding that is not masked, or order, or a shared draw."""
        conditions = model_under_test.conditions
        assert len(conditions) >= 3, "`scenes` must return three or more scenes"
        seeds = [7 + 3 * image for image in range(len(conditions))]
        for guided in (True, False):
            together = model_under_test.run(conditions, seeds=seeds, guided=guided)
            for index in (0, 2):
                batch = together.predict(index, guided)
                for image, (condition, seed) in enumerate(zip(conditions, seeds, strict=True)):
                    alone = model_under_test.run([condition], seeds=[seed], guided=guided).predict(index, guided)
                    what = f"scene {image} in a batch and alone, step {index}, {'guided' if guided else 'unguided'}"
                    assert_alike(_row(batch, image), alone, what)

    def test_the_condition_matters(self, model_under_test: ModelUnderTest) -> None:
        """The model predicts the same whatever it is asked for: what `encode` computed is not used."""
        first, *others = model_under_test.conditions
        alike = []
        for condition in others:
            pair = [model_under_test.run([one], seeds=[0]).predict(0).conditional for one in (first, condition)]
            alike.append(distance(*pair) <= TOLERANCE)
        assert not any(alike), f"scene 0 and scene {alike.index(True) + 1} give one conditional half"

    def test_the_caption_acts_on_the_conditional_half_alone(self, model_under_test: ModelUnderTest) -> None:
        """The halves are swapped, the unconditional one sees the condition, or the conditional one ignores the caption."""
        scene = model_under_test.scenes[-1]
        captions = ("a red bird", "two houses by a lake")
        one, other = (
            model_under_test.run([model_under_test.with_changes(scene, caption=caption)], seeds=[0]).predict(0)
            for caption in captions
        )
        assert one.unconditional is not None and other.unconditional is not None
        changed = distance(one.unconditional, other.unconditional)
        assert changed <= TOLERANCE, (
            f"another caption changes the unconditional half by {changed:.2g} of its largest value: return "
            "NoisePrediction(conditional, unconditional)"
        )
        if "caption" in model_under_test.texts:
            moved = distance(one.conditional, other.conditional) > TOLERANCE
            assert moved, "another caption does not change the conditional half (the contract's `texts` has `caption`)"

    def test_the_negative_prompt_acts_on_the_unconditional_half_alone(self, model_under_test: ModelUnderTest) -> None:
        """The negative prompt reached the conditional half, where it would be drawn, or the unconditional one ignores it."""
        scene = model_under_test.scenes[-1]
        one, other = (
            model_under_test.run([model_under_test.with_changes(scene, negative=negative)], seeds=[0]).predict(0)
            for negative in ("grey", "a blurred picture")
        )
        changed = distance(one.conditional, other.conditional)
        assert changed <= TOLERANCE, f"another negative prompt changes the conditional half by {changed:.2g}"
        assert one.unconditional is not None and other.unconditional is not None
        if "negative" in model_under_test.texts:
            moved = distance(one.unconditional, other.unconditional) > TOLERANCE
            assert moved, (
                "another negative prompt does not change the unconditional half (the contract's `texts` has `negative`)"
            )

    @torch.inference_mode()
    def test_decoded_pictures_lie_between_0_and_1(self, model_under_test: ModelUnderTest) -> None:
        """`decode` returns float32 (B, 3, H * scale, W * scale) in [0, 1], each image by itself."""
        provider = model_under_test.provider
        latents = 3 * model_under_test.latents([1, 2], model_under_test.sizes[-1])
        pictures = provider.decode(latents)
        expected = (2, 3, *(side * provider.latent_space.scale for side in latents.shape[2:]))
        assert tuple(pictures.shape) == expected, f"found {tuple(pictures.shape)}, expected {expected}"
        assert pictures.dtype == torch.float32, f"found {pictures.dtype}, expected float32"
        assert torch.isfinite(pictures).all(), "pictures hold NaN or infinity"
        least, most = float(pictures.min()), float(pictures.max())
        assert least >= 0 and most <= 1, f"values from {least:.3g} to {most:.3g}: clamp (x / 2 + 0.5) to [0, 1]"
        assert distance(pictures[1:], provider.decode(latents[1:])) <= TOLERANCE, "an image depends on its batch"

    def test_pictures_of_impossible_sizes_are_refused(self, model_under_test: ModelUnderTest) -> None:
        """Sides that are no multiple of the latent scale end in an error of torch, instead of an `InputError`."""
        scale = model_under_test.provider.latent_space.scale
        if scale == 1:
            pytest.skip("every size is possible")
        height, width = model_under_test.sizes[0]
        settings = model_under_test.settings([0], size=(height - scale // 2, width))
        try:
            model_under_test.provider.encode(model_under_test.conditions[:1], settings)
        except InputError as error:
            assert str(settings.height) in str(error), f"say which size was asked for, found: {error}"
        except Exception as error:
            pytest.fail(f"a height of {settings.height} fails with {type(error).__name__}: {error}")
        else:
            pytest.fail(f"`encode` accepts a height of {settings.height} pixels, where a latent has {scale} to a side")


def _row(prediction: NoisePrediction, image: int) -> NoisePrediction:
    unconditional = prediction.unconditional
    return NoisePrediction(
        prediction.conditional[image, None], None if unconditional is None else unconditional[image, None]
    )
