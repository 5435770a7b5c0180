"""The contract kit: tests that every provider and strategy must pass, for authors of plugins. Needs pytest.

from amdm_framework.testing import ProviderContract

class MyModelContract(ProviderContract): ...      # in `amdm_plugin_my_model/contract.py`, see provider_contract.py

from amdm_plugin_my_model.contract import MyModelContract as TestContract      # the plugin's test file

`write_picture` makes pictures for a contract's scenes; `write_tiny_model` makes the tiny model of any installed provider.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .provider_contract import ProviderContract as ProviderContract
    from .scenes import write_picture as write_picture
    from .strategy_contract import StrategyContract as StrategyContract
    from .tiny_compositions import write_tiny_model as write_tiny_model

_HOMES = {
    "ProviderContract": "provider_contract",
    "StrategyContract": "strategy_contract",
    "write_picture": "scenes",
    "write_tiny_model": "tiny_compositions",
}

__all__ = ["ProviderContract", "StrategyContract", "write_picture", "write_tiny_model"]


def __getattr__(name: str) -> Any:
    # Pytest imports this package at every start where the framework is installed: nothing heavy comes with it.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
