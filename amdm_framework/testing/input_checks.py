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

from ..errors import AMDMError
from ..scene import Scene
from .hostile_files import HOSTILE_WRITERS, hostile_copy
from .model_under_test import ModelUnderTest

ODD_VALUES: tuple[Any, ...] = (None, True, "", "x", -1, 0.5, 10**9, float("nan"), float("inf"), [], [[]], {}, {"x": 1})
"""What people write into a composition by mistake."""


class InputChecks:
    """Tests of what a provider is given by people."""

    def test_options_survive_being_written_and_read(self, model_under_test: ModelUnderTest) -> None:
        """Every picture carries its composition as JSON, from which `amdm rerun` draws it again."""
        _assert_survives(model_under_test.options)

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
        """A wrong value in a composition passes, or fails with another error than a ValueError in a validator."""
        options = model_under_test.spec.options
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
        for file in model_under_test.files():
            for number, write in enumerate(HOSTILE_WRITERS):
                mark = tmp_path / f"mark-{'-'.join(map(str, file.key))}-{number}"
                hostile = hostile_copy(file.path, tmp_path / f"{mark.name}-files", write, mark)
                block = _copied_block(model_under_test.block, file.key, str(hostile))
                try:
                    # Torch warns of what is odd about such a file.
                    with warnings.catch_warnings(action="ignore"):
                        model_under_test.load(block=block)
                except AMDMError:
                    pass
                except Exception as error:
                    pytest.fail(
                        f"{'.'.join(map(str, file.key))}: {type(error).__name__} instead of CheckpointError: {error}"
                    )
                assert not mark.exists(), f"{'.'.join(map(str, file.key))}: code inside the checkpoint was executed"

    def test_a_scene_without_its_ingredients(self, model_under_test: ModelUnderTest) -> None:
        """A scene that lacks what the model needs is drawn without it, or refused by a ValueError with a sentence."""
        for scene in _poorer(model_under_test.scenes[-1]):
            shown = f"a scene with {', '.join(sorted(scene.model_dump(exclude_defaults=True))) or 'nothing'}"
            try:
                condition = model_under_test.spec.condition_from_scene(scene, model_under_test.options)
            except ValueError as error:
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
