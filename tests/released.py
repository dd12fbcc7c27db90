"""The stored cases of the released network, and the weights that go with them.

`golden/case_*.npz` hold inputs and outputs of the released network for weights drawn by a rule; `draw` follows it.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
SHAPES: dict[str, dict[str, list[int]]] = json.loads((GOLDEN / "state_dict_shapes.json").read_text(encoding="utf-8"))
CASES = ("case_a", "case_b")


def load_case(name: str) -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def to_tensor(rgb: NDArray[np.uint8]) -> Tensor:
    """A picture, (H, W, 3) uint8 RGB, as the network takes it: (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255


def draw(part: str, seed: int) -> dict[str, Tensor]:
    """The state dict of `generator`, `kp_detector` or `discriminator` for a case's seed, with the released keys."""
    return {key: torch.from_numpy(_draw_one(part, key, shape, seed)) for key, shape in SHAPES[part].items()}


def checkpoint(seed: int) -> dict[str, dict[str, Tensor]]:
    """What the authors' `.pth.tar` holds, drawn."""
    return {part: draw(part, seed) for part in ("generator", "kp_detector")}


def _draw_one(part: str, key: str, shape: list[int], seed: int) -> NDArray[Any]:
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if key == "down.weight" or key.endswith(".down.weight"):
        return _gaussian_kernel(shape)
    rng = np.random.default_rng([seed, zlib.crc32(f"{part}.{key}".encode())])
    n = rng.standard_normal(int(np.prod(shape))).astype(np.float32).reshape(shape)
    if leaf == "running_mean":
        drawn = 0.1 * n
    elif leaf == "running_var":
        drawn = 1 + 0.2 * np.abs(n)
    elif key == "mbUnit.styleconv.weight":
        drawn = 0 * n
    elif "norm" in key and leaf == "weight":
        drawn = 1 + 0.1 * n
    elif key == "jacobian.weight":
        drawn = 0.002 * n
    elif key == "jacobian.bias":
        drawn = np.tile(np.array([1, 0, 0, 1], np.float32), len(n) // 4) + 0.05 * n
    elif key.endswith("modulation.weight"):
        drawn = 0.1 * n
    elif key.endswith("modulation.bias"):
        drawn = 1 + 0.1 * n
    elif key.endswith("modulated_conv.weight"):
        drawn = n
    elif leaf == "bias":
        drawn = 0.1 * n
    elif key == "mbUnit.mb":
        drawn = 0.5 * n
    else:
        fan_in = np.prod(shape[2:] if len(shape) == 5 else shape[1:])
        drawn = n * np.sqrt(2 / fan_in)
    return drawn.astype(np.float32)


def _gaussian_kernel(shape: list[int]) -> NDArray[np.float32]:
    """The blur that shrinks 256 to 64, written out apart from the network's own."""
    offsets = np.arange(13) - 6.0
    profile = np.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = np.outer(profile, profile)
    return np.broadcast_to(kernel / kernel.sum(), shape).astype(np.float32).copy()
