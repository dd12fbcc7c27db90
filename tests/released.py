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
_BLOCK = 2**16


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
    n = np.empty(int(np.prod(shape)), np.float32)
    # A block at a time, in place: a hundred million numbers in doubles would be paged in anew for each step.
    doubles = np.empty(_BLOCK)
    for first in range(0, len(n), _BLOCK):
        block = n[first : first + _BLOCK]
        block[:] = _by_rule(key, shape, rng.standard_normal(out=doubles[: len(block)]).astype(np.float32))
    return n.reshape(shape)


def _by_rule(key: str, shape: list[int], n: NDArray[np.float32]) -> NDArray[Any]:
    """Numbers of a standard normal distribution, as those of a weight."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_mean":
        return 0.1 * n
    if leaf == "running_var":
        return 1 + 0.2 * np.abs(n)
    if key == "mbUnit.styleconv.weight":
        return 0 * n
    if "norm" in key and leaf == "weight":
        return 1 + 0.1 * n
    if key == "jacobian.weight":
        return 0.002 * n
    if key == "jacobian.bias":
        return np.tile(np.array([1, 0, 0, 1], np.float32), len(n) // 4) + 0.05 * n
    if key.endswith("modulation.weight"):
        return 0.1 * n
    if key.endswith("modulation.bias"):
        return 1 + 0.1 * n
    if key.endswith("modulated_conv.weight"):
        return n
    if leaf == "bias":
        return 0.1 * n
    if key == "mbUnit.mb":
        return 0.5 * n
    spread: np.float64 = np.sqrt(2 / np.prod(shape[2:] if len(shape) == 5 else shape[1:]))
    return n * spread


def _gaussian_kernel(shape: list[int]) -> NDArray[np.float32]:
    """The blur that shrinks 256 to 64, written out apart from the network's own."""
    offsets = np.arange(13) - 6.0
    profile = np.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = np.outer(profile, profile)
    return np.broadcast_to(kernel / kernel.sum(), shape).astype(np.float32).copy()
