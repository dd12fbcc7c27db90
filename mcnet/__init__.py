"""MCNet: the network, its engine, and the `mcnet` command.

The names below are imported when they are first used, so that `mcnet --help` need not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcnet.checkpoint import CheckpointError, load_model, save_model
    from mcnet.config import ConfigError, McnetConfig
    from mcnet.engine import Engine, EngineError, EngineOptions
    from mcnet.generator import Mcnet, SourceCache

__all__ = [
    "CheckpointError",
    "ConfigError",
    "Engine",
    "EngineError",
    "EngineOptions",
    "Mcnet",
    "McnetConfig",
    "SourceCache",
    "load_model",
    "save_model",
]

_HOMES = {
    "checkpoint": ("CheckpointError", "load_model", "save_model"),
    "config": ("ConfigError", "McnetConfig"),
    "engine": ("Engine", "EngineError", "EngineOptions"),
    "generator": ("Mcnet", "SourceCache"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"mcnet.{module}"), name)
    raise AttributeError(f"module 'mcnet' has no attribute {name!r}")
