"""The engine: it makes the network fast, and nothing else knows how.

What is not named here is the engine's own; only `mcnet.bench` and tests look at it.
"""

from mcnet.engine.device import (
    DeviceChoice,
    EngineError,
    EngineOptions,
    Precision,
    Runtime,
    Way,
    why_no_cuda,
    why_no_openvino,
)
from mcnet.engine.engine import Engine

__all__ = [
    "DeviceChoice",
    "Engine",
    "EngineError",
    "EngineOptions",
    "Precision",
    "Runtime",
    "Way",
    "why_no_cuda",
    "why_no_openvino",
]
