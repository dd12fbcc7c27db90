"""A camera that PipeWire has: for call programs that take theirs from there, without a kernel module and without root.

Made by a process of its own (`app.pipeline.output.pipewire_process`); pictures go to it through shared memory, and only
while somebody looks at them.
"""

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import AppError, SinkError
from app.pipeline.output import pipewire_process
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.pipewire_process import PIXEL_FORMATS, CameraWish
from app.pipeline.output.pipewire_worker import NODE_NAME, PipeWireKeeper, daemon_socket, require_daemon
from app.pipeline.output.sinks import OutputFormat
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

_LONGEST_NAME = 64


class PipeWireCameraSink:
    """Gives pictures to a camera in PipeWire; see `Sink`.

    When the daemon ends, the camera comes back with it: no picture is sent meanwhile, and nothing else is disturbed.

    Args:
        node_name: what call programs call it.
        tell: called, from a thread, with what is wrong for the time being, for people, and with "" when it is over.

    Attributes:
        name: `pipewire`.
        detail: the camera's name, once open.
        sent: pictures that a reader was sent since it was opened.

    Raises:
        AppError: it cannot have that name.
    """

    name = "pipewire"

    def __init__(self, node_name: str = NODE_NAME, tell: Callable[[str], None] = lambda _: None) -> None:
        if not 0 < len(node_name) <= _LONGEST_NAME or not node_name.isprintable():
            raise AppError(
                phrase(
                    "name of the PipeWire camera: got {name}, expected 1 to {longest} printable characters",
                    name=repr(node_name),
                    longest=_LONGEST_NAME,
                )
            )
        self.detail = ""
        self.sent = 0
        self._node_name = node_name
        self._tell = tell
        self._camera: _Camera | None = None
        self._output = OutputFormat()

    def open(self, output: OutputFormat) -> None:
        """Get ready for pictures of that size, which stays. The camera is there a moment later.

        Raises:
            SinkError: PipeWire does not run, or this sink is open already.
        """
        if self._camera is not None:
            raise SinkError(
                phrase("the PipeWire camera is open already ({detail}); close it first", detail=self.detail)
            )
        try:
            require_daemon()
        except OSError as error:
            raise SinkError(
                phrase(
                    "the PipeWire camera cannot be opened: no daemon listens at {socket} ({error}); start it with "
                    "`systemctl --user start pipewire wireplumber`, or see `mcnet-avatar --doctor`",
                    socket=daemon_socket(),
                    error=error,
                )
            ) from error
        self._output = output
        rate = Fraction(output.fps_hz).limit_denominator(1001)
        wish = CameraWish(self._node_name, (output.width_px, output.height_px), (rate.numerator, rate.denominator))
        self.detail, self.sent = f"{self._node_name} (PipeWire)", 0
        self._camera = _Camera(wish, self._tell)

    def send(self, picture: Composed) -> None:
        """Show a picture, if somebody looks. Its bytes are copied before this returns.

        Raises:
            SinkError: PipeWire cannot be used at all, or the sink is not open.
        """
        if self._camera is None:
            raise SinkError(phrase("the PipeWire camera is not open; open it first"))
        expected = (self._output.height_px, self._output.width_px, 3)
        if picture.rgb.shape != expected:
            raise SinkError(
                phrase(
                    "PipeWire camera {detail}: got a picture of {shape}, expected {expected}",
                    detail=self.detail,
                    shape=picture.rgb.shape,
                    expected=expected,
                )
            )
        if self._camera.failure:
            raise SinkError(self._camera.failure)
        if self._camera.give(picture.rgb):
            self.sent += 1

    def close(self) -> None:
        """Take the camera away; call programs lose it. Harmless when called again."""
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.stop()

    def finished(self) -> bool:
        """True: the camera is let go of at once."""
        return True


class _Camera:
    """The process that is the camera, with the memory that its pictures go through."""

    def __init__(self, wish: CameraWish, tell: Callable[[str], None]) -> None:
        width, height = wish.size_px
        # Its place is known to nobody else, and goes with the last one who has it.
        memory = multiprocessing.RawArray("B", width * height * 3)
        self._bytes = np.frombuffer(memory, np.uint8)
        self._wish = wish
        self._tell = tell
        self._lock = threading.Lock()
        self._format = ""
        self._free = False
        self._keeper = PipeWireKeeper(
            pipewire_process.camera, (wish, memory), began=self._begin, hear=self._hear, away=self._be_away
        )

    @property
    def failure(self) -> str:
        """Why it cannot be at all, for people, or ""."""
        error = self._keeper.failure
        return "" if error is None else phrase("the PipeWire camera cannot be made: {error}", error=error)

    def give(self, rgb: NDArray[np.uint8]) -> bool:
        """Write a picture for the process, if somebody looks and the last one was taken; whether it did."""
        with self._lock:
            if not self._format or not self._free:
                return False
            height, width = rgb.shape[:2]
            _, size_bytes = PIXEL_FORMATS[self._format].bytes_of((width, height))
            place = self._bytes[:size_bytes]
            match self._format:
                case "YUY2":
                    cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_YUY2, dst=place.reshape(height, width, 2))
                case "I420":
                    cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420, dst=place.reshape(height * 3 // 2, width))
                case _:
                    place[:] = rgb.reshape(-1)
            self._free = False
            return self._keeper.send((self._format, time.monotonic_ns()))

    def stop(self) -> None:
        """Take the camera away; waits for nothing."""
        self._keeper.stop()

    def _begin(self) -> None:
        with self._lock:
            self._format, self._free = "", True

    def _be_away(self, error: AppError | None) -> None:
        if error is None:
            self._tell("")
            return
        name = self._wish.name
        self._tell(phrase("The camera {name} is away ({error}). It comes back by itself.", name=name, error=error))

    def _hear(self, facts: dict[str, Any]) -> None:
        if "node" in facts:
            logger.info("PipeWire has the camera %s as node %d", self._wish.name, facts["node"])
        elif "format" in facts:
            with self._lock:
                self._format = facts["format"]
            logger.info("the camera %s is read as %s", self._wish.name, self._format or "nothing: nobody looks")
        else:
            with self._lock:
                self._free = True
