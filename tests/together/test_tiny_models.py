"""`write_tiny_model`: tiny weights of installed providers, ready to be members of one composition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

from amdm_framework.errors import InputError, PluginError
from amdm_framework.testing import write_picture, write_tiny_model
from amdm_framework.yaml_files import to_yaml
from toy_plugin import TOY, toy_registry

SCENE = {
    "caption": "a girl",
    "instances": {"girl": {"phrase": "a red hair girl", "box": [0.1, 0.1, 0.6, 0.9]}},
    "references": [{"role": "control", "image": "control.png"}],
}


def test_members_of_one_composition(tmp_path: Path, amdm: Callable[..., Result]) -> None:
    # The composition lies elsewhere than the weights.
    weights, files = tmp_path / "weights", tmp_path / "files"
    providers = [write_tiny_model(name, weights / name) for name in ("migc", "controlnet")]
    assert [block["use"] for block in providers] == ["migc", "controlnet"]
    write_picture(files / "control.png")
    composition = {"providers": providers, "aggregation": {"strategy": "slerp"}, "sampler": {"steps": 2}}
    (files / "composition.yaml").write_text(to_yaml(composition))
    (files / "scene.yaml").write_text(to_yaml(SCENE))
    amdm("run", files / "composition.yaml", "--scene", files / "scene.yaml", "--output", tmp_path / "pictures")
    (picture,) = (tmp_path / "pictures").glob("*.png")
    assert Image.open(picture).size == (64, 64)


def test_what_is_not_installed_and_what_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"there is no provider 'migk'\. Did you mean 'migc'"):
        write_tiny_model("migk", tmp_path / "migk")
    write_picture(tmp_path / "full" / "picture.png")
    with pytest.raises(InputError, match="full is not empty"):
        write_tiny_model("migc", tmp_path / "full")


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (None, "provider 'toy' has no contract, which is what writes its tiny model"),
        ("toy_plugin:Contract", "provider 'toy': its contract 'toy_plugin:Contract' cannot be imported: "),
        ("no_such_module:Contract", "cannot be imported: No module named 'no_such_module'"),
    ],
)
def test_a_provider_whose_contract_cannot_be_used(
    contract: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TOY.model_copy(update={"contract": contract})
    monkeypatch.setattr("amdm_framework.testing.tiny_compositions.discover", lambda: toy_registry(spec))
    with pytest.raises(PluginError, match=message):
        write_tiny_model("toy", tmp_path / "toy")
    assert not (tmp_path / "toy").exists()
