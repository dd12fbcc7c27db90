"""The engine: it makes the network fast, and nothing else knows how.

What is not named here is the engine's own; only `mcnet.bench` and tests look at it.
"""

from mcnet.engine.device import (
    DeviceChoice,
    EngineError,
    EngineOptions,
    Lack,
    Precision,
    Runtime,
    Way,
    chosen_backend,
    gpu_lacks,
    gpus,
    lacks_openvino,
    other_gpus,
    why_no_cuda,
    why_no_openvino,
    why_no_torch,
)
from mcnet.engine.engine import Engine, resized
from mcnet.engine.models import open_model

__all__ = [
    "DeviceChoice",
    "Engine",
    "EngineError",
    "EngineOptions",
    "Lack",
    "Precision",
    "Runtime",
    "Way",
    "chosen_backend",
    "gpu_lacks",
    "gpus",
    "lacks_openvino",
    "open_model",
    "other_gpus",
    "resized",
    "why_no_cuda",
    "why_no_openvino",
    "why_no_torch",
]
