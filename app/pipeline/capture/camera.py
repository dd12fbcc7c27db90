"""What every camera is, whoever gives its frames: the contract, and what its makers share."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from time import monotonic
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import CameraError
from mcnet.phrases import phrase

_PROBED_FRAMES = 12
_PROBED_S = 1.0
_LONGEST_PROBE_S = 4.0
"""So many frames are looked at, or for so long, to learn the rate of a camera; the second does not count the longest
wait, the last bound does."""
_UNEVEN_FRAMES = 2
"""The first ones may come late, or in a heap from a buffer."""


class RateProbe:
    """Learns a camera's rate from when its first frames arrive: by the median of the waits.

    A machine that stands still for a while counts as one long wait, which neither ends the probe nor moves the median.
    Frames that come in a heap after it are believed where they are most of those that are looked at.
    """

    def __init__(self) -> None:
        self._arrivals_s: list[float] = []

    def arrived(self) -> None:
        """A frame came just now."""
        self._arrivals_s.append(monotonic())

    @property
    def is_done(self) -> bool:
        """Whether no more frames are needed."""
        waits_s = self._waits_s()
        if sum(waits_s) >= _LONGEST_PROBE_S or len(self._arrivals_s) >= _PROBED_FRAMES:
            return True
        return len(waits_s) > _UNEVEN_FRAMES and sum(waits_s) - max(waits_s) >= _PROBED_S

    def rate_hz(self, plausible_hz: tuple[float, float], otherwise_hz: float) -> float:
        """Frames per second, once it is done.

        Args:
            plausible_hz: least and most that is believed.
            otherwise_hz: the answer where it is not.
        """
        waits_s = self._waits_s()
        rate_hz = 1 / max(1e-6, median(waits_s[_UNEVEN_FRAMES:] or waits_s))
        return round(rate_hz, 1) if plausible_hz[0] <= rate_hz <= plausible_hz[1] else otherwise_hz

    def _waits_s(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self._arrivals_s)]


@dataclass(frozen=True)
class CameraInfo:
    """A camera that is there.

    Attributes:
        name: as its maker calls it.
        spec_text: what `parse_camera` turns into its spec; stays the same when cameras are plugged in otherwise, as
            far as the system allows.
    """

    name: str
    spec_text: str


@dataclass(frozen=True)
class CameraFormat:
    """What an opened camera gives.

    Attributes:
        width_px, height_px: of every frame.
        fps_hz: frames per second: measured over the first frames of a device, the true rate of a file.
    """

    width_px: int
    height_px: int
    fps_hz: float


class Camera(Protocol):
    """An open camera. Opened and read on one thread.

    Attributes:
        name: for people.
        format: what it gives.
        is_device: whether frames come from a sensor, so that identical ones mean that it froze.
    """

    name: str
    format: CameraFormat
    is_device: bool

    def read(self) -> NDArray[np.uint8]:
        """Wait for the next frame: (H, W, 3) uint8 RGB of the format's size, a fresh array.

        Raises:
            CameraError: the camera gives no frames any more, or was closed.
        """
        ...

    def close(self) -> None:
        """Let go of the device; harmless when called again, and from any thread.

        A file's or folder's `read` that waits on another thread ends at once. A device's cannot be interrupted: there
        the device is let go of as soon as that `read` is over.
        """
        ...


class Tenancy:
    """Lets go of something as soon as nobody uses it, whichever thread asks for that.

    Attributes:
        closed: set by the first `close`.
    """

    def __init__(self, name: str, release: Callable[[], None]) -> None:
        self.closed = threading.Event()
        self._name = name
        self._release = release
        self._released = False
        self._in_use = threading.Lock()

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Keep it from being let go of within the block."""
        try:
            with self._in_use:
                self.require_open()
                yield
        finally:
            if self.closed.is_set():
                self._try_release()

    def require_open(self) -> None:
        """Raise a CameraError once closed."""
        if self.closed.is_set():
            raise CameraError(phrase("{name} was closed; open it again to read on", name=self._name))

    def close(self) -> None:
        """Let go of it now, or when the user of now is done."""
        self.closed.set()
        self._try_release()

    def _try_release(self) -> None:
        # Whoever comes second finds the lock free: the closer after the user's block, or the user after the closer.
        if not self._in_use.acquire(blocking=False):
            return
        try:
            if not self._released:
                self._released = True
                self._release()
        finally:
            self._in_use.release()
