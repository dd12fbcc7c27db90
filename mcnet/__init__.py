"""MCNet: the network, its engine, and the `mcnet` command.

The names below are imported when they are first used, so that `mcnet --help` need not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcnet.arrays import Keypoints, SourceCache
    from mcnet.checkpoint import load_model, save_model
    from mcnet.config import ConfigError, McnetConfig
    from mcnet.engine import Engine, EngineError, EngineOptions, open_model
    from mcnet.generator import Mcnet
    from mcnet.model_file import CheckpointError, ModelFile

    __version__: str

__all__ = [
    "CheckpointError",
    "ConfigError",
    "Engine",
    "EngineError",
    "EngineOptions",
    "Keypoints",
    "Mcnet",
    "McnetConfig",
    "ModelFile",
    "SourceCache",
    "__version__",
    "load_model",
    "open_model",
    "save_model",
]

_HOMES = {
    "arrays": ("Keypoints", "SourceCache"),
    "checkpoint": ("load_model", "save_model"),
    "config": ("ConfigError", "McnetConfig"),
    "engine": ("Engine", "EngineError", "EngineOptions", "open_model"),
    "generator": ("Mcnet",),
    "model_file": ("CheckpointError", "ModelFile"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from mcnet.version import project_version

        return project_version()
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"mcnet.{module}"), name)
    raise AttributeError(f"module 'mcnet' has no attribute {name!r}")
