"""What a provider makes of input, good and bad: options, conditions, scenes, files."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import BaseModel, ValidationError

from ..errors import AMDMError, InputError
from ..scene import Scene
from .hostile_files import HOSTILE_WRITERS, WEIGHT_SUFFIXES, hostile_copies
from .model_under_test import ModelUnderTest
from .scenes import write_picture

TOO_LARGE = 10**9
"""A number that a model may accept and then has no memory for: it is not loaded with it."""

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, "", "x", -1, 0.5, TOO_LARGE, float("nan"), float("inf"), [], [[]], {}, {"x": 1}),
)
"""What people write into a composition by mistake."""


class InputChecks:
    """Tests of what a provider is given by people."""

    def test_options_survive_being_written_and_read(self, model_under_test: ModelUnderTest) -> None:
        """Every picture carries its composition as JSON, from which `amdm rerun` draws it again."""
        _assert_survives(model_under_test.options)

    def test_the_scenes_have_what_the_model_needs(self, model_under_test: ModelUnderTest) -> None:
        """The contract has a scene that `condition_from_scene` refuses; tests that need conditions are skipped for it."""
        if model_under_test.refusal:
            pytest.fail(model_under_test.refusal)

    def test_conditions_survive_being_written_and_read(self, model_under_test: ModelUnderTest) -> None:
        """A condition is plain data: a composition replaces keys of it, and batches hand it over as JSON."""
        for scene, condition in zip(model_under_test.scenes, model_under_test.conditions, strict=True):
            expected = model_under_test.spec.condition
            assert isinstance(condition, expected), (
                f"condition_from_scene returned {condition!r}, not {expected.__name__}"
            )
            fields = {name: getattr(condition, name) for name in type(condition).model_fields}
            again = expected.model_validate(fields)
            assert again == condition, f"made again of its own fields, the condition is {again!r}, was {condition!r}"
            # Pictures from Python have no form in JSON; such scenes cannot be recorded either.
            if not any(isinstance(reference.image, Image.Image) for reference in scene.references):
                _assert_survives(condition)

    def test_odd_values_of_options_are_refused(self, model_under_test: ModelUnderTest) -> None:
        """A wrong value in a composition passes, or ends in an error of Python or torch: in a validator, `load` or `encode`."""
        options = model_under_test.spec.options
        tried = [model_under_test.options]
        for name in options.model_fields:
            for value in ODD_VALUES:
                block = _copied_block(model_under_test.block, [name], value)
                try:
                    found = options.model_validate(block)
                except ValidationError:
                    continue
                except Exception as error:
                    pytest.fail(f"{name}={value!r}: a validator fails with {type(error).__name__}: {error}")
                finite = not isinstance(value, float) or -1e300 < value < 1e300
                assert finite or not isinstance(getattr(found, name), float), (
                    f"{name}={value!r} is accepted: Field(allow_inf_nan=False), as pictures of it cannot be recorded"
                )
                # Numbers that are odd for another type only, where they were refused, are not worth a load.
                usual = value in (TOO_LARGE, 0.5) or (value is True and getattr(found, name) is not True)
                if not usual and found not in tried:
                    tried.append(found)
                    _assert_usable_or_refused(model_under_test, found, f"{name}={value!r}")

    def test_options_say_which_texts_are_files(self, model_under_test: ModelUnderTest) -> None:
        """An option that leads to weights is a plain text: pictures would carry its folder, and it is not found again."""
        files = model_under_test.files()
        plain = [".".join(map(str, file.key)) for file in files if not file.declared]
        assert not plain, f"declare as CheckpointReference (or Path): {', '.join(plain)}"

    def test_a_missing_file_is_named(self, model_under_test: ModelUnderTest) -> None:
        """A reference that leads nowhere ends in an error of Python or torch, or in one that does not say which."""
        for file in model_under_test.files():
            missing = f"nowhere/{file.path.name}"
            block = _copied_block(model_under_test.block, file.key, missing)
            with _refusing(f"{'.'.join(map(str, file.key))}: {missing}", naming="nowhere"):
                model_under_test.load(block=block)

    def test_a_truncated_file_is_named(self, model_under_test: ModelUnderTest, tmp_path: Path) -> None:
        """A half downloaded file ends in an error of torch, or is loaded as far as it goes."""
        assert model_under_test.provider is not None
        folder = shutil.copytree(model_under_test.folder, tmp_path / "copy")
        inside = {file.path.resolve() for file in model_under_test.loaded_with.weight_files}
        for path in sorted(inside):
            if not path.is_relative_to(model_under_test.folder.resolve()):
                continue
            damaged = folder / path.relative_to(model_under_test.folder.resolve())
            content = damaged.read_bytes()
            damaged.write_bytes(content[: len(content) * 2 // 3])
            with _refusing(f"{damaged.name} without its last third", naming=damaged.name):
                model_under_test.load(model_under_test.context(folder=folder))
            damaged.write_bytes(content)

    def test_hostile_pickles_are_refused(self, model_under_test: ModelUnderTest, tmp_path: Path) -> None:
        """Checkpoints come from strangers: reading one with `torch.load(weights_only=False)` or pickle runs their code."""
        assert model_under_test.provider is not None
        noted = {file.path.resolve() for file in model_under_test.loaded_with.weight_files}
        placed = False
        for file in model_under_test.files():
            key = ".".join(map(str, file.key))
            # A folder may hold weights that this model does not read.
            read = any(path.is_relative_to(file.path.resolve()) for path in noted)
            for number, write in enumerate(HOSTILE_WRITERS):
                mark = tmp_path / f"mark-{key}-{number}"
                for hostile in hostile_copies(file.path, tmp_path / f"{mark.name}-files", write, mark):
                    placed = True
                    block = _copied_block(model_under_test.block, file.key, str(hostile))
                    refused = _refuses_hostile(model_under_test, block, key, mark)
                    assert refused or not read, f"{key}: loaded all the same with pickles in the place of its weights"
        assert placed or not noted, (
            f"no option leads to weights (files that end in {', '.join(WEIGHT_SUFFIXES)}), but `load` notes "
            f"{', '.join(sorted(path.name for path in noted))}"
        )

    def test_a_scene_without_its_ingredients(self, model_under_test: ModelUnderTest) -> None:
        """A scene that lacks what the model needs is drawn without it, or refused by a ValueError with a sentence."""
        for scene in _poorer(model_under_test.scenes[-1]):
            shown = f"a scene with {', '.join(sorted(scene.model_dump(exclude_defaults=True))) or 'nothing'}"
            try:
                condition = model_under_test.spec.condition_from_scene(scene, model_under_test.options)
            except (ValueError, InputError) as error:
                assert len(str(error).split()) >= 4, (
                    f"{shown} is refused: say what is missing and what to do, not {error!r}"
                )
                continue
            except Exception as error:
                pytest.fail(f"{shown}: condition_from_scene fails with {type(error).__name__}: {error}")
            try:
                prediction = model_under_test.run([condition]).predict()
            except Exception as error:
                pytest.fail(f"{shown}: got a condition that cannot be drawn ({type(error).__name__}: {error})")
            assert torch.isfinite(prediction.conditional).all(), f"{shown}: the prediction holds NaN or infinity"

    def test_an_empty_condition_is_accepted_or_refused_in_words(self, model_under_test: ModelUnderTest) -> None:
        """None stands for an empty condition in Python: `encode` takes it as one, or raises an InputError with a sentence."""
        try:
            prediction = model_under_test.run([None]).predict()
        except InputError as error:
            assert len(str(error).split()) >= 4, f"None is refused: say what is missing, not {error}"
            return
        except Exception as error:
            pytest.fail(f"the condition None: {type(error).__name__} instead of an InputError: {error}")
        assert torch.isfinite(prediction.conditional).all(), "the condition None: the prediction holds NaN or infinity"

    def test_a_picture_that_cannot_be_read_is_named(self, model_under_test: ModelUnderTest, tmp_path: Path) -> None:
        """A torn picture ends in a traceback, or one of 16 bits turns white: `Reference.open()` refuses both by name."""
        model_under_test.need_scenes()
        torn, deep = write_picture(tmp_path / "torn.png"), tmp_path / "deep.png"
        torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
        Image.new("I;16", (64, 64), 40000).save(deep)
        opened = False
        for number, scene in enumerate(model_under_test.scenes):
            taken = [path.name for path in (torn, deep) if not _refuses_picture(model_under_test, scene, path)]
            assert len(taken) != 1, f"scene {number}: {taken[0]} for every picture is accepted, another damage is not"
            opened = opened or not taken
        if not opened:
            pytest.skip("the model opens no picture of the contract's scenes")


def _assert_usable_or_refused(model_under_test: ModelUnderTest, options: BaseModel, what: str) -> None:
    try:
        provider = model_under_test.spec.load(options, model_under_test.context())
        try:
            condition = model_under_test.spec.condition_from_scene(model_under_test.scenes[-1], options)
        except ValueError:
            return
        model_under_test.run([condition], provider=provider)
    except AMDMError:
        pass
    except Exception as error:
        pytest.fail(
            f"{what} is accepted, and `load` or `encode` ends in {type(error).__name__}: {error}. Refuse it in the "
            "options (Literal, Field(ge=...)), or raise an InputError"
        )


def _refuses_hostile(model_under_test: ModelUnderTest, block: Mapping[str, Any], key: str, mark: Path) -> bool:
    unexpected, refused = "", False
    try:
        # Torch warns of what is odd about such a file.
        with warnings.catch_warnings(action="ignore"):
            model_under_test.load(block=block)
    except AMDMError:
        refused = True
    except Exception as error:
        unexpected = f"{key}: {type(error).__name__} instead of CheckpointError: {error}"
    assert not mark.exists(), f"{key}: code inside the checkpoint was executed"
    assert not unexpected, unexpected
    return refused


def _refuses_picture(model_under_test: ModelUnderTest, scene: Scene, path: Path) -> bool:
    # With this file in the place of every reference picture.
    references = tuple(reference.model_copy(update={"image": path}) for reference in scene.references)
    try:
        try:
            condition = model_under_test.with_changes(scene, references=references)
        except ValueError as error:
            raise InputError(str(error)) from error
        model_under_test.run([condition])
    except AMDMError as error:
        assert path.name in str(error), f"{path.name}: the error does not name it: {error}"
        return True
    except Exception as error:
        pytest.fail(f"{path.name}: `encode` or `condition_from_scene` fails with {type(error).__name__}: {error}")
    return False


def _assert_survives(original: BaseModel) -> None:
    text = json.dumps(original.model_dump(mode="json"), allow_nan=False)
    again = type(original).model_validate(json.loads(text))
    assert again == original, f"written as {text}, it is read as {again!r}, but was {original!r}"


def _poorer(scene: Scene) -> Iterator[Scene]:
    loose = tuple(reference for reference in scene.references if reference.instance is None)
    yield Scene()
    yield Scene(caption="a cat")
    yield scene.model_copy(update={"caption": ""})
    yield scene.model_copy(update={"negative": ""})
    yield scene.model_copy(update={"references": ()})
    yield scene.model_copy(update={"interactions": ()})
    yield scene.model_copy(update={"instances": {}, "interactions": (), "references": loose})


def _copied_block(block: Mapping[str, Any], key: Sequence[str | int], value: Any) -> dict[str, Any]:
    # With another value at one key.
    changed = copy.deepcopy(dict(block))
    place: Any = changed
    for part in key[:-1]:
        place = place[part]
    place[key[-1]] = value
    return changed


@contextmanager
def _refusing(what: str, naming: str) -> Iterator[None]:
    try:
        yield
    except AMDMError as error:
        assert naming in str(error), f"{what}: the error does not name it: {error}"
    except Exception as error:
        pytest.fail(f"{what}: {type(error).__name__} instead of CheckpointError: {error}")
    else:
        pytest.fail(f"{what}: loaded all the same")
