"""What the kit adds to an error of torch that its own batches call forth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from amdm_framework.builtin.contract import StableDiffusionContract
from amdm_framework.models.prompt_encoding import PromptGroup
from amdm_framework.models.rows import Rows
from amdm_framework.models.stable_diffusion import StableDiffusionProvider, TextConditioning
from amdm_framework.provider import RunSettings, Step
from amdm_framework.testing.model_under_test import ModelUnderTest


@dataclass(frozen=True)
class WholeBatchGroup(PromptGroup):
    """With features of the whole batch, whichever images the group has.

    Attributes:
        features: (B, 32, 8, 8).
    """

    features: torch.Tensor


class TakesNothing(StableDiffusionProvider):
    """Gives every call of the UNet the features of all images."""

    def encode(self, conditions: Sequence[Any], settings: RunSettings) -> TextConditioning:
        encoded = super().encode(conditions, settings)
        features = torch.ones(len(conditions), 32, settings.height // 8, settings.width // 8)
        return replace(encoded, groups=[WholeBatchGroup(**vars(group), features=features) for group in encoded.groups])

    def unet_arguments(
        self, step: Step, conditioning: TextConditioning, group: PromptGroup, rows: Rows
    ) -> Mapping[str, Any]:
        assert isinstance(group, WholeBatchGroup)
        return {"down_intrablock_additional_residuals": [group.features, group.features[:, :1, ::2, ::2]]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelUnderTest:
    model = ModelUnderTest(StableDiffusionContract(), tmp_path_factory.mktemp("model"))
    model.provider.__class__ = TakesNothing
    return model


def test_rows_that_were_not_taken_are_explained(model: ModelUnderTest) -> None:
    with pytest.raises(RuntimeError, match="must match the size") as caught:
        model.run(guided=False).predict(guided=False)
    (hint,) = caught.value.__notes__
    assert "a prompt beyond the text model's context" in hint and "`group.take`" in hint


def test_so_are_those_that_fail_while_encoding(model: ModelUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(self: TakesNothing, conditions: Sequence[Any], settings: RunSettings) -> None:
        groups = StableDiffusionProvider.encode(self, conditions, settings).groups
        torch.stack([group.conditional[0] for group in groups] * len(conditions))

    monkeypatch.setattr(TakesNothing, "encode", encode)
    with pytest.raises(RuntimeError, match="equal size") as caught:
        model.run()
    assert "`group.take`" in caught.value.__notes__[0]


def test_a_batch_of_short_prompts_has_no_such_excuse(model: ModelUnderTest) -> None:
    run = model.run(model.conditions[:2], guided=False)
    assert len(run.predict(guided=False).conditional) == 2
    with pytest.raises(RuntimeError) as caught:
        replace(run, latents=run.latents[:, :3]).predict(guided=False)
    assert not hasattr(caught.value, "__notes__")
