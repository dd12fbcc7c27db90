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
from app.pipeline.output.pipewire_worker import NODE_NAME, PipeWireWorker, daemon_socket, require_daemon
from app.pipeline.output.sinks import OutputFormat

logger = logging.getLogger(__name__)

_LONGEST_NAME = 64
_ANSWER_S = 10.0
_AGAIN_S, _LONGEST_AGAIN_S = 0.5, 8.0
_STEADY_S = 10.0  # who lived as long does not crash at once
_CONVERSIONS = {"YUY2": cv2.COLOR_RGB2YUV_YUY2, "I420": cv2.COLOR_RGB2YUV_I420}


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
                f"name of the PipeWire camera: got {node_name!r}, expected 1 to {_LONGEST_NAME} printable characters"
            )
        self.detail = ""
        self.sent = 0
        self._node_name = node_name
        self._tell = tell
        self._keeper: _Keeper | None = None
        self._output = OutputFormat()

    def open(self, output: OutputFormat) -> None:
        """Get ready for pictures of that size, which stays. The camera is there a moment later.

        Raises:
            SinkError: PipeWire does not run, or this sink is open already.
        """
        if self._keeper is not None:
            raise SinkError(f"the PipeWire camera is open already ({self.detail}); close it first")
        try:
            require_daemon()
        except OSError as error:
            raise SinkError(
                f"the PipeWire camera cannot be opened: no daemon listens at {daemon_socket()} ({error}); start it "
                "with `systemctl --user start pipewire wireplumber`, or see `mcnet-avatar --doctor`"
            ) from error
        self._output = output
        rate = Fraction(output.fps_hz).limit_denominator(1001)
        wish = CameraWish(self._node_name, (output.width_px, output.height_px), (rate.numerator, rate.denominator))
        self.detail, self.sent = f"{self._node_name} (PipeWire)", 0
        self._keeper = _Keeper(wish, self._tell)

    def send(self, picture: Composed) -> None:
        """Show a picture, if somebody looks. Its bytes are copied before this returns.

        Raises:
            SinkError: PipeWire cannot be used at all, or the sink is not open.
        """
        if self._keeper is None:
            raise SinkError("the PipeWire camera is not open; open it first")
        expected = (self._output.height_px, self._output.width_px, 3)
        if picture.rgb.shape != expected:
            raise SinkError(f"PipeWire camera {self.detail}: got a picture of {picture.rgb.shape}, expected {expected}")
        if self._keeper.failure:
            raise SinkError(self._keeper.failure)
        if self._keeper.give(picture.rgb):
            self.sent += 1

    def close(self) -> None:
        """Take the camera away; call programs lose it. Harmless when called again."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()

    def finished(self) -> bool:
        """True: the camera is let go of at once."""
        return True


class _Keeper:
    """Keeps a process that is the camera, and starts it anew when the daemon has been away.

    Attributes:
        failure: why it cannot be at all, for people, or "".
    """

    def __init__(self, wish: CameraWish, tell: Callable[[str], None]) -> None:
        width, height = wish.size_px
        # Its place is known to nobody else, and goes with the last one who has it.
        self._memory = multiprocessing.get_context("spawn").RawArray("B", width * height * 3)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._wish = wish
        self._tell = tell
        self.failure = ""
        self._lock = threading.Lock()
        self._worker: PipeWireWorker | None = None
        self._format = ""
        self._free = False
        self._was_there = self._told = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="PipeWire camera", daemon=True)
        self._thread.start()

    def give(self, rgb: NDArray[np.uint8]) -> bool:
        """Write a picture for the process, if somebody looks and the last one was taken; whether it did."""
        with self._lock:
            if self._worker is None or not self._format or not self._free:
                return False
            height, width = rgb.shape[:2]
            _, size_bytes = PIXEL_FORMATS[self._format].bytes_of((width, height))
            place = self._bytes[:size_bytes]
            match self._format:
                case "YUY2":
                    cv2.cvtColor(rgb, _CONVERSIONS["YUY2"], dst=place.reshape(height, width, 2))
                case "I420":
                    cv2.cvtColor(rgb, _CONVERSIONS["I420"], dst=place.reshape(height * 3 // 2, width))
                case _:
                    place[:] = rgb.reshape(-1)
            self._free = False
            try:
                self._worker.connection.send((self._format, time.monotonic_ns()))
            except OSError:  # it has ended: whoever waits for its facts hears so
                return False
            return True

    def stop(self) -> None:
        """Take the camera away; does not wait for the thread, which may be starting a process."""
        self._stopped.set()
        with self._lock:
            if self._worker is not None:
                self._worker.end()

    def _run(self) -> None:
        again_s = _AGAIN_S
        while not self._stopped.wait(again_s if self._was_there else 0):
            try:
                require_daemon()
            except OSError:
                continue  # not yet
            began_s = time.monotonic()
            try:
                self._serve()
            except AppError as error:
                if self._stopped.is_set():
                    return
                if not self._was_there:
                    self.failure = f"the PipeWire camera cannot be made: {error}"
                    return
                self._told = True
                self._tell(f"The camera {self._wish.name} is away ({error}). It comes back by itself.")
            again_s = _AGAIN_S if time.monotonic() - began_s > _STEADY_S else min(2 * again_s, _LONGEST_AGAIN_S)

    def _serve(self) -> None:
        """Have the camera until it ends.

        Raises:
            AppError: why it ended.
        """
        worker = PipeWireWorker(pipewire_process.camera, self._wish, self._memory)
        with self._lock:
            self._worker, self._format, self._free = worker, "", True
        try:
            facts = worker.facts(_ANSWER_S)
            while not self._stopped.is_set():
                self._hear(facts)
                facts = worker.facts()
        finally:
            with self._lock:
                self._worker = None
            worker.end()
            worker.close()

    def _hear(self, facts: dict[str, Any]) -> None:
        if "node" in facts:
            self._was_there = True
            if self._told:
                self._told = False
                self._tell("")
            logger.info("PipeWire has the camera %s as node %d", self._wish.name, facts["node"])
        elif "format" in facts:
            with self._lock:
                self._format = facts["format"]
            logger.info("the camera %s is read as %s", self._wish.name, self._format or "nothing: nobody looks")
        else:
            with self._lock:
                self._free = True
