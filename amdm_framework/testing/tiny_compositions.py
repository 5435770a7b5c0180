"""Tiny models of installed providers, for compositions that several of them are members of."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from ..content_keys import replace_value
from ..errors import InputError, PluginError
from ..plugins import discover
from .model_under_test import ModelUnderTest
from .provider_contract import ProviderContract


def write_tiny_model(name: str, folder: Path) -> dict[str, Any]:
    """Write the tiny random weights of an installed provider, as its contract does, and return what loads them.

    Args:
        name: of the provider, as behind `use:`.
        folder: empty, or created; every model has a folder of its own.

    Returns:
        The provider's block for a composition, `use` among its keys. Paths are absolute, so that the composition may
        lie anywhere: `read_composition({"providers": [write_tiny_model("migc", folder / "migc"), ...]}, discover())`.

    Raises:
        PluginError: there is no such provider, it has no contract, or its contract cannot be imported.
        InputError: there is something in the folder already.
    """
    make_contract = _contract_of(name)
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: files of two models would overwrite each other")
    folder.mkdir(parents=True, exist_ok=True)
    model = ModelUnderTest(make_contract(), folder)
    block = {"use": name, **model.block}
    for file in model.files():
        replace_value(block, file.key, str(file.path))
    return block


def _contract_of(name: str) -> Callable[[], ProviderContract]:
    named = discover().provider(name).contract
    if named is None:
        raise PluginError(
            f"provider {name!r} has no contract, which is what writes its tiny model: its author names one in the "
            'ProviderSpec, contract="module:Class"'
        )
    module, _, attribute = named.partition(":")
    try:
        contract: Callable[[], ProviderContract] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"provider {name!r}: its contract {named!r} cannot be imported: {error}") from error
    return contract
