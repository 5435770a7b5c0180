"""What members warn about is part of what a run says."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from amdm_framework.composition import SamplerSettings
from amdm_framework.pipeline import AMDMPipeline
from amdm_framework.provider import RunSettings
from amdm_framework.sampling.guidance import Guidance
from amdm_framework.strategies.slerp import Slerp
from amdm_framework.testing.closed_form import ToyProvider, make_strategy


class WarningProvider(ToyProvider):
    def encode(self, conditions: Sequence[Any], settings: RunSettings) -> Any:
        for _ in conditions:
            warnings.warn("cut after 3 tokens: 'x'", stacklevel=1)
        warnings.warn("of another kind", DeprecationWarning, stacklevel=1)
        return super().encode(conditions, settings)


def test_what_members_warn_about_while_they_encode_belongs_to_the_run() -> None:
    providers = [WarningProvider(torch.zeros(4, 8, 8)) for _ in range(2)]
    pipe = AMDMPipeline(providers, make_strategy(Slerp), Guidance(scale=1), SamplerSettings(steps=2), names=["a", "b"])
    with pytest.warns() as issued:
        output = pipe(latents=torch.zeros(2, 4, 8, 8), output_type="latent")
    assert output.warnings[:2] == ["a: cut after 3 tokens: 'x'", "b: cut after 3 tokens: 'x'"]
    said = [(one.category, str(one.message)) for one in issued]
    assert said.count((UserWarning, "a: cut after 3 tokens: 'x'")) == 1
    assert (DeprecationWarning, "of another kind") in said
