"""Random numbers that are a pure function of where they are used, computed where they are needed.

Nothing here has a state: a number depends on (seed, step, the sample's place in the global batch, a name) alone. A
resumed run therefore draws what the uninterrupted one would have drawn, and two processes with half a batch each draw
what one process with the whole batch draws. All arithmetic on bits is that of 64-bit integers, so that a GPU draws the
same uniform numbers as a CPU; and the step may be a tensor, so that a recorded step draws anew when it is replayed.
"""

import functools
import hashlib
import math

import torch
from torch import Tensor

_SIGN = 1 << 63
_BITS = 24
"""Of a uniform number: as many as float32 holds exactly below 1."""


def _signed(bits: int) -> int:
    """A 64-bit pattern as torch's int64 has it."""
    bits &= 2 * _SIGN - 1
    return bits - 2 * _SIGN if bits >= _SIGN else bits


_GOLDEN, _FIRST, _SECOND = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Draws:
    """The random numbers of one step.

    Args:
        seed: of the run.
        step: optimiser step, from 0; a tensor () int64 on the device where a step is recorded and replayed.
        first: place of this process's first sample in the global batch.
        count: samples of this process.
        device: where the numbers are computed.
    """

    def __init__(
        self, seed: int, step: int | Tensor, first: int, count: int, device: torch.device | str = "cpu"
    ) -> None:
        self.seed = seed
        self.step = step
        self.first = first
        self.count = count
        self.device = torch.device(device)
        # Filled and not copied there: for a copy the host would wait.
        number = step if isinstance(step, Tensor) else torch.full((), step, dtype=torch.int64, device=self.device)
        self._key = _mix(number * _GOLDEN + _hash(f"seed {seed}"))

    def to(self, device: torch.device | str) -> "Draws":
        """The same numbers, computed on another device."""
        return Draws(self.seed, self.step, self.first, self.count, device)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """(count, *shape) float32 numbers in [0, 1), multiples of 2^-24; the same name gives the same numbers."""
        return (self._bits(name, *shape) >> (64 - _BITS) & ((1 << _BITS) - 1)).float() * 2.0**-_BITS

    def normal(self, name: str, *shape: int) -> Tensor:
        """(count, *shape) float32 numbers from N(0, 1), by Box and Muller's transform of the halves of 64 bits."""
        bits = self._bits(name, *shape)
        above = ((bits >> 32 & 0xFFFFFFFF).float() + 1) * 2.0**-32  # in (0, 1]: its logarithm is finite
        turn = (bits & 0xFFFFFF).float() * (2 * math.pi * 2.0**-24)
        return (-2 * torch.log(above)).sqrt() * torch.cos(turn)

    def between(self, name: str, low: float, high: float, *shape: int) -> Tensor:
        """(count, *shape) float32 numbers in [low, high)."""
        return low + (high - low) * self.uniform(name, *shape)

    def chance(self, name: str, probability: float) -> Tensor:
        """(count,) bool, each true with the given probability."""
        return self.uniform(name) < probability

    def below(self, name: str, limit: Tensor, *shape: int) -> Tensor:
        """(count, *shape) int64 numbers from 0 to limit - 1; the limit is (count, ...), at most 2^31."""
        high = self._bits(name, *shape) >> 32 & 0xFFFFFFFF
        return high * limit >> 32

    def _bits(self, name: str, *shape: int) -> Tensor:
        """(count, *shape) int64, all 64 bits random."""
        each = math.prod(shape)
        places = torch.arange(self.first, self.first + self.count, device=self.device)
        counters = (places[:, None] << 32) + torch.arange(each, device=self.device)
        return _mix(counters * _GOLDEN + _mix(self._key + _hash(name))).view(self.count, *shape)


@functools.lru_cache(maxsize=4096)
def _hash(text: str) -> int:
    return _signed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit reaches every output bit."""
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """To the right, with zeros from the left: torch's own shift of int64 repeats the sign."""
    return bits >> places & ((1 << (64 - places)) - 1)
