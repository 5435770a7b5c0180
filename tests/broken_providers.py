"""The small provider with one defect at a time, each with the tests of the contract that notice it."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from PIL import Image
from pydantic import AfterValidator, BeforeValidator, Field
from torch import nn

import small_provider
from amdm_framework.errors import CheckpointError, InputError
from amdm_framework.models.checkpoints import read_tensors, resolve_reference
from amdm_framework.models.context import LoadContext
from amdm_framework.provider import (
    CheckpointReference,
    EpsilonProvider,
    NoisePrediction,
    ProviderReport,
    ProviderSpec,
    RunSettings,
    Step,
)
from amdm_framework.scene import Reference, Scene
from small_provider import (
    SPEC,
    SmallCondition,
    SmallConditioning,
    SmallContract,
    SmallOptions,
    SmallProvider,
    SmallUNet,
)


@dataclass(frozen=True)
class Mutant:
    """A provider with one defect.

    Attributes:
        caught_by: the tests that fail, the one that is meant for it first.
        message: a part of what that one says.
        spec: of the broken provider.
        contract: that it is under.
    """

    caught_by: tuple[str, ...]
    message: str
    spec: ProviderSpec
    contract: type[SmallContract] = SmallContract


MUTANTS: dict[str, Mutant] = {}


def caught_by(*tests: str, says: str) -> Callable[[Any], Any]:
    """Register a defect: a subclass of the provider, its options, condition or contract, or a function that changes a spec.

    Args:
        tests: names without `test_`, the one that is meant for it first.
        says: a part of the message of the first.
    """

    def register(broken: Any) -> Any:
        contract, spec = SmallContract, SPEC
        if not isinstance(broken, type):
            changes = broken()
        elif issubclass(broken, SmallProvider):
            changes = {"load": partial(small_provider.load, provider=broken)}
        elif issubclass(broken, SmallOptions):
            changes = {"options": broken}
        elif issubclass(broken, SmallContract):
            changes, contract, spec = {}, broken, broken.spec
        else:
            changes = {"condition": broken, "condition_from_scene": partial(_take, broken)}
        tests_with_prefix = tuple(f"test_{name}" for name in tests)
        MUTANTS[broken.__name__] = Mutant(tests_with_prefix, says, spec.model_copy(update=changes), contract)
        return broken

    return register


def _take(condition: type[SmallCondition], scene: Scene, options: Any) -> SmallCondition:
    return condition(prompt=scene.caption, negative=scene.negative, instances=tuple(scene.instances.values()))


# What a spec says.


@caught_by("the_summary_is_one_short_line", says="write one line")
def a_summary_of_two_lines() -> dict[str, Any]:
    return {"summary": "A provider.\nIt has a long story."}


@caught_by("the_summary_is_one_short_line", says="at most 120")
def a_summary_like_a_paragraph() -> dict[str, Any]:
    return {"summary": "A provider with a long story. " * 5 + "And more."}


@caught_by("options_and_condition_have_json_schemas", says="HasNoSchema")
class HasNoSchema(SmallCondition):
    hook: Callable[[], None] | None = Field(default=None, description="Called at the end.")


@caught_by("every_option_is_described", says="extra")
class HasNoDescription(SmallOptions):
    extra: int = 0


# What people give it.


@caught_by("options_survive_being_written_and_read", says="it is read as")
class GrowsWithEveryReading(SmallOptions):
    strength: Annotated[float, AfterValidator(lambda value: value / 2)] = Field(
        default=1.0, allow_inf_nan=False, description="Of the boxes."
    )


@caught_by("conditions_survive_being_written_and_read", says="made again of its own fields")
class AddsAStyle(SmallCondition):
    prompt: Annotated[str, AfterValidator(lambda text: text + ", oil painting")] = Field(description="What to draw.")


@caught_by("odd_values_of_options_are_refused", says="AttributeError")
class ExpectsAText(SmallOptions):
    mode: Annotated[str, BeforeValidator(lambda text: text.strip())] = Field(default="plain", description="How.")


@caught_by("odd_values_of_options_are_refused", says="nan is accepted")
class AcceptsNaN(SmallOptions):
    strength: float = Field(default=1.0, description="Of the boxes.")


@caught_by("options_say_which_texts_are_files", says="CheckpointReference")
class HidesItsFile(SmallOptions):
    checkpoint: str = Field(description="Its weights.")


@caught_by("a_missing_file_is_named", "odd_values_of_options_are_refused", says="FileNotFoundError")
def opens_what_is_not_there() -> dict[str, Any]:
    def load(options: SmallOptions, context: LoadContext) -> EpsilonProvider:
        (context.base_dir / options.checkpoint).stat()
        return small_provider.load(options, context)

    return {"load": load}


@caught_by("a_truncated_file_is_named", "hostile_pickles_are_refused", says="SafetensorError")
def reads_with_another_library() -> dict[str, Any]:
    def load(options: SmallOptions, context: LoadContext) -> EpsilonProvider:
        path = resolve_reference(options.checkpoint, context)
        if path.suffix == ".safetensors":
            safetensors.torch.load_file(path)
        return small_provider.load(options, context)

    return {"load": load}


@caught_by("a_truncated_file_is_named", says="does not name it")
def keeps_the_name_of_the_file_to_itself() -> dict[str, Any]:
    def load(options: SmallOptions, context: LoadContext) -> EpsilonProvider:
        path = resolve_reference(options.checkpoint, context)
        try:
            return small_provider.load(options, context)
        except CheckpointError:
            raise CheckpointError("damaged") if path.suffix == ".safetensors" else CheckpointError(str(path)) from None

    return {"load": load}


@caught_by("hostile_pickles_are_refused", says="executed")
def unpickles_whatever_comes() -> dict[str, Any]:
    def load(options: SmallOptions, context: LoadContext) -> EpsilonProvider:
        path = resolve_reference(options.checkpoint, context)
        if path.suffix == ".ckpt":
            with contextlib.suppress(pickle.UnpicklingError):
                torch.load(path, weights_only=False)
        return small_provider.load(options, context)

    return {"load": load}


@caught_by("a_scene_without_its_ingredients", says="KeyError")
def looks_for_a_girl() -> dict[str, Any]:
    def condition_from_scene(scene: Scene, options: Any) -> SmallCondition:
        if not scene.references:
            scene.instances["girl"]
        return _take(SmallCondition, scene, options)

    return {"condition_from_scene": condition_from_scene}


@caught_by("a_scene_without_its_ingredients", says="say what is missing")
def refuses_without_a_reason() -> dict[str, Any]:
    def condition_from_scene(scene: Scene, options: Any) -> SmallCondition:
        if not scene.references:
            raise ValueError("references")
        return _take(SmallCondition, scene, options)

    return {"condition_from_scene": condition_from_scene}


@caught_by(
    "a_scene_without_its_ingredients", "an_empty_condition_is_accepted_or_refused_in_words", says="cannot be drawn"
)
class DividesByTheLengthOfTheCaption(SmallProvider):
    def positive(self, condition: SmallCondition) -> torch.Tensor:
        return super().positive(condition) * (1 / min(len(condition.prompt), 1))


@caught_by("the_scenes_have_what_the_model_needs", says="(scene 0: the scene has no picture of role 'depth'): override")
def needs_a_picture_that_its_scenes_lack() -> dict[str, Any]:
    def condition_from_scene(scene: Scene, options: Any) -> SmallCondition:
        if not any(reference.role == "depth" for reference in scene.references):
            raise ValueError("the scene has no picture of role 'depth'")
        return _take(SmallCondition, scene, options)

    return {"condition_from_scene": condition_from_scene}


def _reading_pictures(read: Callable[[Path], None]) -> dict[str, Any]:
    def condition_from_scene(scene: Scene, options: Any) -> SmallCondition:
        for reference in scene.references:
            assert isinstance(reference.image, Path)
            read(reference.image)
        return _take(SmallCondition, scene, options)

    return {"condition_from_scene": condition_from_scene}


@caught_by(
    "a_picture_that_cannot_be_read_is_named", says="torn.png: `encode` or `condition_from_scene` fails with OSError"
)
def opens_pictures_itself() -> dict[str, Any]:
    return _reading_pictures(lambda path: Image.open(path).load() and None)


@caught_by("a_picture_that_cannot_be_read_is_named", says="deep.png for every picture is accepted")
def turns_deep_pictures_white() -> dict[str, Any]:
    def read(path: Path) -> None:
        try:
            Image.open(path).convert("RGB")
        except OSError as error:
            raise InputError(f"{path.name} is no picture") from error

    return _reading_pictures(read)


@caught_by("a_picture_that_cannot_be_read_is_named", says="does not name it")
def keeps_the_name_of_the_picture_to_itself() -> dict[str, Any]:
    def read(path: Path) -> None:
        try:
            Reference(role="style", image=path).open()
        except InputError:
            raise ValueError("this is no picture that can be read") from None

    return _reading_pictures(read)


class PicturesCondition(SmallCondition):
    """Keeps the scene's pictures for `encode`."""

    references: tuple[Reference, ...] = Field(default=(), description="Pictures.")


@caught_by("a_picture_that_cannot_be_read_is_named", says="fails with ValueError")
def raises_another_error_in_encode() -> dict[str, Any]:
    class OpensInEncode(SmallProvider):
        def positive(self, condition: PicturesCondition) -> torch.Tensor:  # type: ignore[override]
            for reference in getattr(condition, "references", ()):
                try:
                    reference.open()
                except InputError as error:
                    raise ValueError(str(error)) from error
            return super().positive(condition)

    def condition_from_scene(scene: Scene, options: Any) -> SmallCondition:
        return PicturesCondition(**vars(_take(SmallCondition, scene, options)), references=scene.references)

    load = partial(small_provider.load, provider=OpensInEncode)
    return {"condition": PicturesCondition, "condition_from_scene": condition_from_scene, "load": load}


@caught_by("an_empty_condition_is_accepted_or_refused_in_words", says="AttributeError")
class NeedsACondition(SmallProvider):
    def encode(self, conditions: Sequence[SmallCondition], settings: RunSettings) -> SmallConditioning:
        return super().encode([condition.model_copy() for condition in conditions], settings)


# How it is loaded.


@caught_by("the_spec_names_this_contract", says="set `contract=")
def has_no_contract() -> dict[str, Any]:
    return {"contract": None}


@caught_by("the_spec_names_this_contract", says="leads nowhere")
def names_a_contract_that_is_not_there() -> dict[str, Any]:
    return {"contract": "small_provider:Contract"}


@caught_by("the_spec_names_this_contract", says="is not what")
def names_the_contract_of_another() -> dict[str, Any]:
    return {"contract": "amdm_framework.builtin.contract:StableDiffusionContract"}


@caught_by("weights_have_the_dtype_of_the_run", "inspection_predicts_what_is_loaded", says="unet.conv_in.weight")
def keeps_the_dtype_of_the_file() -> dict[str, Any]:
    def load(options: SmallOptions, context: LoadContext) -> EpsilonProvider:
        return small_provider.load(options, replace(context, dtype=torch.float32))

    return {"load": load}


@caught_by("weights_have_the_dtype_of_the_run", "a_loaded_model_can_be_cast", says="half_precision_tolerance")
class OverflowsInHalfPrecision(SmallProvider):
    def call(self, latents: torch.Tensor, step: Step, context: torch.Tensor) -> torch.Tensor:
        large = torch.tensor(1000.0, dtype=context.dtype)
        return super().call(latents, step, (context + large) - large)


@caught_by("a_loaded_model_can_be_cast", "inspection_predicts_what_is_loaded", says="cannot predict any more")
class ForgetsANetwork(SmallProvider):
    def modules(self) -> Mapping[str, nn.Module]:
        return {"unet": self.unet, "vae": self.vae}


@caught_by("networks_are_ready_for_inference", says="unet is in training mode")
class IsStillBeingTrained(SmallProvider):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unet.train()


@caught_by("networks_are_ready_for_inference", says="require gradients")
class AsksForGradients(SmallProvider):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.vae.requires_grad_(True)


@caught_by("weights_are_held_once", says="bytes a second time")
class CopiesItsWeights(SmallProvider):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unet.conv_in.weight = nn.Parameter(self.unet.conv_in.weight.clone(), requires_grad=False)


@caught_by("files_of_weights_are_noted", says="is empty")
def notes_nothing() -> dict[str, Any]:
    def load(options: SmallOptions, context: LoadContext) -> EpsilonProvider:
        return small_provider.load(options, replace(context, weight_files=[]))

    return {"load": load}


def load_with_adapter(options: FolderOptions, context: LoadContext) -> EpsilonProvider:
    read_tensors(resolve_reference(options.adapter, context) / "weights.safetensors")
    return small_provider.load(options, context)


class FolderOptions(SmallOptions):
    """With an adapter in a folder."""

    adapter: CheckpointReference = Field(description="A folder with further weights.")


@caught_by("files_of_weights_are_noted", says="weights which are not noted: adapter (adapter)")
class NotesNothingOfAFolder(SmallContract):
    spec = SPEC.model_copy(update={"options": FolderOptions, "load": load_with_adapter})

    def options(self, folder: Path) -> dict[str, Any]:
        (folder / "adapter").mkdir()
        safetensors.torch.save_file({"weight": torch.ones(2)}, folder / "adapter" / "weights.safetensors")
        return {**super().options(folder), "adapter": "adapter"}


@caught_by("inspection_predicts_what_is_loaded", says="default_size")
def reports_another_size() -> dict[str, Any]:
    return {"inspect": lambda options, context: replace(small_provider.inspect(options, context), default_size=(8, 8))}


@caught_by("inspection_predicts_what_is_loaded", says="held: unet: 208 bytes reported, ")
def reports_half_of_its_weights() -> dict[str, Any]:
    def inspect(options: SmallOptions, context: LoadContext) -> ProviderReport:
        report = small_provider.inspect(options, context)
        return replace(report, components={**report.components, "unet": report.components["unet"][::2]})

    return {"inspect": inspect}


@caught_by("inspection_predicts_what_is_loaded", says="`inspect` lacks: vae (60 bytes)")
def reports_one_network_less() -> dict[str, Any]:
    def inspect(options: SmallOptions, context: LoadContext) -> ProviderReport:
        report = small_provider.inspect(options, context)
        return replace(report, components={name: report.components[name] for name in ("unet", "text_encoder")})

    return {"inspect": inspect}


# What it predicts.


@caught_by("it_says_what_its_latents_are", "inspection_predicts_what_is_loaded", says="default_size")
class HasAnOddSize(SmallProvider):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.default_size = (60, 64)


@caught_by("predictions_have_the_shape_of_the_latents", says="NaN or infinity at step 3")
class EndsInNaN(SmallProvider):
    def call(self, latents: torch.Tensor, step: Step, context: torch.Tensor) -> torch.Tensor:
        return super().call(latents, step, context) * (float("nan") if step.index == 3 else 1.0)


@caught_by("predictions_have_the_shape_of_the_latents", says="expected floating point")
class CountsInWholeNumbers(SmallProvider):
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        prediction = super().predict_noise(latents, step, conditioning)
        return prediction if step.index != 3 else NoisePrediction(latents.int(), prediction.unconditional)


@caught_by("sizes_need_not_be_square", says="pictures of (64, 96)")
class ConfusesHeightAndWidth(SmallProvider):
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        prediction = super().predict_noise(latents, step, conditioning)
        halves = (prediction.conditional, prediction.unconditional)
        return NoisePrediction(*(half if half is None else half.reshape(*latents.shape[:2], latents.shape[3], -1)
                                 for half in halves))  # fmt: skip


@caught_by("an_image_of_a_batch_equals_the_single_run", says="in a batch and alone")
class NormalizesOverTheBatch(SmallProvider):
    def encode(self, conditions: Sequence[SmallCondition], settings: RunSettings) -> SmallConditioning:
        encoded = super().encode(conditions, settings)
        return replace(encoded, conditional=encoded.conditional / encoded.conditional.std())


@caught_by("an_image_of_a_batch_equals_the_single_run", says="scene 1 in a batch and alone")
class DrawsForTheWholeBatch(SmallProvider):
    def encode(self, conditions: Sequence[SmallCondition], settings: RunSettings) -> SmallConditioning:
        encoded = super().encode(conditions, settings)
        drawn = torch.randn(16, generator=torch.Generator().manual_seed(settings.seeds[0]))
        return replace(encoded, conditional=encoded.conditional + drawn.to(encoded.conditional.dtype))


@caught_by(
    "the_condition_matters",
    "the_caption_acts_on_the_conditional_half_alone",
    says="scene 0 and scene 1 give one conditional half",
)
class IgnoresWhatItIsAsked(SmallProvider):
    def positive(self, condition: SmallCondition) -> torch.Tensor:
        return self.text("something")


@caught_by("the_caption_acts_on_the_conditional_half_alone", says="changes the unconditional half")
class LeaksTheCaption(SmallProvider):
    def negative(self, condition: SmallCondition) -> torch.Tensor:
        return super().negative(condition) + self.text(condition.prompt)


@caught_by("the_negative_prompt_acts_on_the_unconditional_half_alone", says="changes the conditional half")
class DrawsTheNegativePrompt(SmallProvider):
    def positive(self, condition: SmallCondition) -> torch.Tensor:
        return super().positive(condition) + self.text(condition.negative)


@caught_by(
    "the_caption_acts_on_the_conditional_half_alone",
    "the_negative_prompt_acts_on_the_unconditional_half_alone",
    "the_condition_matters",
    "the_unconditional_half_is_computed_only_when_wanted",
    says="another caption changes the unconditional half",
)
class SwapsTheHalves(SmallProvider):
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        prediction = super().predict_noise(latents, step, conditioning)
        if prediction.unconditional is None:
            return prediction
        return NoisePrediction(prediction.unconditional, prediction.conditional)


@caught_by("decoded_pictures_lie_between_0_and_1", says="clamp")
class DoesNotClamp(SmallProvider):
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae(latents)


@caught_by("decoded_pictures_lie_between_0_and_1", says="depends on its batch")
class StretchesContrast(SmallProvider):
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        pictures = super().decode(latents)
        return pictures * pictures.mean()


@caught_by("pictures_of_impossible_sizes_are_refused", says="accepts a height of 60")
class TakesAnySize(SmallProvider):
    def check_size(self, settings: RunSettings) -> None:
        pass


# How it runs.


@caught_by("seeds_alone_decide", "two_runs_of_one_provider_do_not_disturb_each_other", says="another state of torch's")
class DrawsWithoutASeed(SmallProvider):
    def encode(self, conditions: Sequence[SmallCondition], settings: RunSettings) -> SmallConditioning:
        encoded = super().encode(conditions, settings)
        return replace(encoded, conditional=encoded.conditional + 1e-6 * torch.randn_like(encoded.conditional))


class ProjectingUNet(SmallUNet):
    """Projects its context at every step."""

    def forward(self, sample: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return super().forward(sample, timesteps, self.project(context))


@caught_by("constants_are_computed_once", says="the same input of unet.project")
class ProjectsAtEveryStep(SmallProvider):
    unet_class = ProjectingUNet


@caught_by("constants_are_computed_once", says="text_encoder.out")
class ReadsTheNegativePromptAtEveryStep(SmallProvider):
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        self.text("grey")
        return super().predict_noise(latents, step, conditioning)


@caught_by("a_prediction_leaves_the_conditioning_alone", says="wrote into the latents")
class WritesIntoTheLatents(SmallProvider):
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        prediction = super().predict_noise(latents, step, conditioning)
        if step.index == 2:
            latents.mul_(1.0001)
        return prediction


@caught_by("a_prediction_leaves_the_conditioning_alone", says="step 1, before and after other steps")
class ForgetsLittleByLittle(SmallProvider):
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        prediction = super().predict_noise(latents, step, conditioning)
        if step.index == 2:
            conditioning.conditional *= 0.99999
        return prediction


@caught_by("the_unconditional_half_is_computed_only_when_wanted", says="rows pass the UNet")
class ThrowsHalfAway(SmallProvider):
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        if not step.guided:
            self.call(latents, step, conditioning.conditional)
        return super().predict_noise(latents, step, conditioning)


@caught_by("the_unconditional_half_is_computed_only_when_wanted", says="there is an unconditional half")
class AlwaysGuides(SmallProvider):
    def predict_noise(self, latents: torch.Tensor, step: Step, conditioning: SmallConditioning) -> NoisePrediction:
        prediction = super().predict_noise(latents, step, conditioning)
        return NoisePrediction(prediction.conditional, latents) if not step.guided else prediction


@caught_by("sequential_guidance_gives_the_same", says="one call of the UNet had 8 rows")
class IgnoresSequentialGuidance(SmallProvider):
    def encode(self, conditions: Sequence[SmallCondition], settings: RunSettings) -> SmallConditioning:
        return super().encode(conditions, replace(settings, sequential_guidance=False))


@caught_by("sequential_guidance_gives_the_same", says="sequential and joint guidance")
class EvaluatesInTheWrongOrder(SmallProvider):
    def encode(self, conditions: Sequence[SmallCondition], settings: RunSettings) -> SmallConditioning:
        encoded = super().encode(conditions, settings)
        if settings.sequential_guidance and encoded.unconditional is not None:
            return SmallConditioning(encoded.unconditional, encoded.conditional, settings)
        return encoded


@caught_by("two_runs_of_one_provider_do_not_disturb_each_other", says="between steps of another run")
class KeepsTheSizeOfARun(SmallProvider):
    def encode(self, conditions: Sequence[SmallCondition], settings: RunSettings) -> SmallConditioning:
        self.aspect = settings.width / settings.height
        return super().encode(conditions, settings)

    def call(self, latents: torch.Tensor, step: Step, context: torch.Tensor) -> torch.Tensor:
        return super().call(latents, step, context) * self.aspect


class PatchedUNet(SmallUNet):
    """A class that every load patches."""


@caught_by("two_loaded_models_do_not_disturb_each_other", says="beside another")
class PatchesAClass(SmallProvider):
    unet_class = PatchedUNet

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        before = PatchedUNet.forward

        def forward(self: PatchedUNet, *inputs: torch.Tensor) -> torch.Tensor:
            return 1.001 * before(self, *inputs)

        PatchedUNet.forward = forward  # type: ignore[method-assign]
