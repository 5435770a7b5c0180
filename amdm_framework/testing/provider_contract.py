"""The tests that every provider must pass: subclass `ProviderContract` with a tiny instance of your model.

    # amdm_plugin_my_model/contract.py
    class MyModelContract(ProviderContract):
        spec = SPEC

        def options(self, folder: Path) -> dict[str, Any]:
            write_diffusers_folder(folder / "sd")
            save_file(random_weights_of_my_adapter(), folder / "adapter.safetensors")
            return {"base": "sd", "checkpoint": "adapter.safetensors"}

    # tests/test_my_model_contract.py
    from amdm_plugin_my_model.contract import MyModelContract as TestContract

`ProviderSpec(contract="amdm_plugin_my_model.contract:MyModelContract", ...)` lets `amdm plugin-check my_model` find it
where the plugin is installed.

The tests are inherited from `spec_checks.py`, `input_checks.py` and their neighbours: each docstring says what is wrong
with a provider where it fails.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from ..provider import ProviderSpec
from ..scene import Scene
from .input_checks import InputChecks
from .loading_checks import LoadingChecks
from .prediction_checks import PredictionChecks
from .run_checks import RunChecks
from .scenes import default_scenes
from .spec_checks import SpecChecks


# Pytest runs the tests of the last base first: the quickest ones, whose defects explain others.
class ProviderContract(RunChecks, PredictionChecks, LoadingChecks, InputChecks, SpecChecks, ABC):
    """Base class of a provider's contract: the tests are inherited, the author says what they run on.

    Attributes:
        spec: of the provider.
        sizes: height and width in pixels of the pictures that are drawn, the usual one first; one is not square.
        half_precision_tolerance: how far a prediction in bfloat16 may be from that in float32, as a share of its
            norm; random weights of a deep network need more than the usual.
        device: where all tests run the model. One of them runs it on `cuda` as well, wherever there is one.
        texts: which texts of a scene change a prediction: `caption` the conditional half, `negative` the
            unconditional one. A model that reads no text has `()`.
        constant_layers: layers, or networks with all their layers (`unet.add_embedding`), that get the same input at
            every step because their network is built so: those inside a UNet of somebody else's that embed the
            picture's size or the guidance scale. What your own code can compute in `encode` belongs there.
    """

    spec: ClassVar[ProviderSpec]
    sizes: ClassVar[tuple[tuple[int, int], ...]] = ((64, 64), (64, 96))
    half_precision_tolerance: ClassVar[float] = 0.1
    device: ClassVar[str] = "cpu"
    texts: ClassVar[tuple[str, ...]] = ("caption", "negative")
    constant_layers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def options(self, folder: Path) -> dict[str, Any]:
        """Write tiny random weights into a folder and return the options that load them.

        No weight should keep a constant value (zero gates, norms of 1): it would hide mistakes.

        Args:
            folder: empty; the contract's own for all of its tests.

        Returns:
            The keys of the provider's block in a composition, without `use`; paths relative to the folder.
        """

    def scenes(self, folder: Path) -> list[Scene]:
        """Return three or more scenes with all that the model understands, with different numbers of instances.

        Override it where the model needs more than the default scenes have, or refuses one of them: these have 0, 1, 2
        and 3 instances, interactions, and one or two references of the role `style`. A model that needs a picture of
        another role adds one to each of them:

            def scenes(self, folder: Path) -> list[Scene]:
                control = Reference(role="control", image=write_picture(folder / "control.png"))
                return [scene.model_copy(update={"references": (control,)}) for scene in super().scenes(folder)]

        Args:
            folder: for pictures that scenes refer to.
        """
        return default_scenes(folder)
