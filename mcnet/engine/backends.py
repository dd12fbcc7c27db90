"""What computes for the engine: one interface, and the making of a backend in the background."""

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from mcnet.arrays import Array, Flow, Keypoints, Rgb, SourceCache


class Rendered(NamedTuple):
    """Frames.

    Attributes:
        rgb: (B, size_px, size_px, 3) uint8, a fresh array.
        witness: a number that is NaN or infinite if any keypoint or colour was; uint8 cannot tell.
        flow: of the same frames, fresh arrays, where it was asked for.
    """

    rgb: Rgb
    witness: float
    flow: Flow | None = None


class Backend(Protocol):
    """What computes. The engine has one, and another one where that fails.

    Every call comes from one thread. Pictures are (B, size_px, size_px, 3) uint8 RGB, everything else float32 on the
    host. Sources and keypoints may come from another backend of the same model and precision.

    Attributes:
        name: for people.
    """

    name: str

    def detect(self, rgb: Rgb) -> Keypoints[Array]:
        """Keypoints of B pictures; asked only of a model that detects (`ModelInfo.detects`)."""
        ...

    def encode(self, rgb: Rgb, keypoints: Keypoints[Array]) -> SourceCache[Array]:
        """Everything that a source (B = 1) and its keypoints settle."""
        ...

    def render(self, cache: SourceCache[Array], driving: Keypoints[Array], *, with_flow: bool = False) -> Rendered:
        """One source, taking the keypoints of B frames; the flow costs nothing where it is not asked for."""
        ...


class Preparation:
    """A backend in the making, on a thread of its own.

    Attributes:
        backend: once it is made.
        failure: what prevented it.
    """

    def __init__(self, make: Callable[[], Backend]) -> None:
        """Start making it."""
        self._make = make
        self.backend: Backend | None = None
        self.failure: Exception | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mcnet-backend")
        self._thread.start()

    def wait(self) -> None:
        """Until it is done."""
        # Python 3.11 takes a thread for ended whose joining Ctrl-C interrupts. The end of the process would not wait
        # for it, and OpenVINO, which still compiles in it, would abort the process.
        self._done.wait()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.backend = self._make()
        except Exception as error:  # whatever it is, the engine says it and goes on
            self.failure = error
        finally:
            self._done.set()
