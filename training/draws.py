"""Random numbers that are a pure function of where they are used.

Nothing here has a state: a number depends on (seed, step, the sample's place in the global batch, a name) alone. A
resumed run therefore draws what the uninterrupted one would have drawn, and two processes with half a batch each draw
what one process with the whole batch draws.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Draws:
    """The random numbers of one step.

    Args:
        seed: of the run.
        step: optimiser step, from 0.
        first: place of this process's first sample in the global batch.
        count: samples of this process.
    """

    def __init__(self, seed: int, step: int, first: int, count: int) -> None:
        self.seed = seed
        self.step = step
        self.first = first
        self.count = count

    def uniform(self, name: str, *shape: int) -> NDArray[np.float64]:
        """(count, *shape) numbers in [0, 1); the same name gives the same numbers."""
        each = int(np.prod(shape, dtype=np.int64))
        digest = hashlib.blake2b(f"{self.seed}/{self.step}/{name}".encode(), digest_size=8).digest()
        places = np.arange(self.first, self.first + self.count, dtype=np.uint64)[:, None]
        counters = (places << np.uint64(32)) + np.arange(each, dtype=np.uint64)
        bits = _mix(np.asarray(counters * _GOLDEN + np.frombuffer(digest, np.uint64), np.uint64))
        return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(self.count, *shape)

    def normal(self, name: str, *shape: int) -> NDArray[np.float64]:
        """(count, *shape) numbers from N(0, 1), by Box and Muller's transform."""
        radius = np.sqrt(-2 * np.log1p(-self.uniform(f"{name}/radius", *shape)))
        return np.asarray(radius * np.cos(2 * np.pi * self.uniform(f"{name}/angle", *shape)))

    def between(self, name: str, low: float, high: float, *shape: int) -> NDArray[np.float64]:
        """(count, *shape) numbers in [low, high)."""
        return low + (high - low) * self.uniform(name, *shape)

    def chance(self, name: str, probability: float) -> NDArray[np.bool_]:
        """(count,) truths, each with the given probability."""
        return np.asarray(self.uniform(name) < probability)


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit reaches every output bit."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
