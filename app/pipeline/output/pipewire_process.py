"""What the processes that speak to PipeWire run; `app.pipeline.output.pipewire_camera` starts them.

Its library is native code that the app cannot answer for: whoever crashes takes no call with them, and is started anew.
"""

import contextlib
import ctypes
import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, NoReturn

from app.errors import AppError
from app.pipeline.output.pipewire_client import (
    DRIVER,
    ERROR,
    FORMAT_PARAM,
    I420,
    MAP_BUFFERS,
    OUTPUT,
    PAUSED,
    RGB,
    STREAMING,
    VIDEO_FORMAT,
    YUY2,
    LibraryError,
    PipeWire,
    Stream,
    read_id,
    video_buffers,
    video_format,
)
from mcnet.phrases import phrase


class CameraWish(NamedTuple):
    """A camera that PipeWire shall have.

    Attributes:
        name: of the node, and for people.
        size_px: width and height.
        rate: pictures per second, as a fraction.
    """

    name: str
    size_px: tuple[int, int]
    rate: tuple[int, int]


class PixelFormat(NamedTuple):
    """How a picture lies in memory.

    Attributes:
        code: PipeWire's.
        stride: bytes of a row of the first plane, over the width.
        size: bytes of the picture, over the number of pixels.
        black_pixel: the bytes of the first plane, over and over.
        black_rest: the byte of all others.
    """

    code: int
    stride: int
    size: float
    black_pixel: bytes
    black_rest: bytes = b""

    def bytes_of(self, size_px: tuple[int, int]) -> tuple[int, int]:
        """Bytes of a row of the first plane, and of the picture."""
        width, height = size_px
        return self.stride * width, round(self.size * width * height)

    def black(self, size_px: tuple[int, int]) -> bytes:
        """A picture that shows nothing."""
        stride_bytes, size_bytes = self.bytes_of(size_px)
        first = stride_bytes * size_px[1]
        return self.black_pixel * (first // len(self.black_pixel)) + self.black_rest * (size_bytes - first)


# In the order in which they are offered: the first is the one that costs least, and OBS takes the second alone.
PIXEL_FORMATS = {
    "I420": PixelFormat(I420, 1, 1.5, b"\x10", b"\x80"),
    "YUY2": PixelFormat(YUY2, 2, 2, b"\x10\x80"),
    "RGB": PixelFormat(RGB, 3, 3, b"\0"),
}


def serve(connection: "Connection[Any, Any]", job: Callable[..., None], *args: Any) -> None:
    """The process, which ends with the one that started it.

    Args:
        connection: takes the answers of the job, or one with an `error` for people, and whether it is the `library`'s.
        job: to be done.
        args: of the job, after the connection.
    """
    end_with_parent()
    with contextlib.suppress(BrokenPipeError, EOFError, ConnectionResetError):  # nobody listens any more
        try:
            job(connection, *args)
        except AppError as error:
            connection.send({"error": str(error), "library": isinstance(error, LibraryError)})
    os._exit(0)  # without the library's own end, which has nothing to do that the daemon would not


def end_with(connection: "Connection[Any, Any]", error: str) -> NoReturn:
    """End the process, which has no more to do than to say why; from any thread."""
    with contextlib.suppress(OSError):
        connection.send({"error": error})
    os._exit(0)


def end_with_parent() -> None:
    """End the process, from now on, when the app is gone, killed even, and whatever native code is at."""

    def wait() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def examine(connection: "Connection[Any, Any]") -> None:
    """Send what there is: `version` of the daemon, `manager`: the session manager's name, or "".

    Raises:
        AppError: there is no library or no daemon.
    """
    pipewire = PipeWire()
    known = pipewire.globals()
    clients = [one.properties.get("application.name", "") for one in known if one.kind == "Client"]
    managers = [name for name in clients if name.startswith(("WirePlumber", "pipewire-media-session"))]
    # Another one that does its work has at least the settings that all of them have.
    if not managers and any(one.properties.get("metadata.name") == "default" for one in known):
        managers = ["a session manager"]
    connection.send({"version": pipewire.version, "manager": managers[0] if managers else ""})


def camera(connection: "Connection[Any, Any]", wish: CameraWish, memory: Any) -> None:
    """Be a camera until nobody wants it any more.

    Sends dicts: `node`, its number, once it is there; `format`, of `PIXEL_FORMATS`, once somebody reads it, "" when
    nobody does; `taken`, its time, for each picture. Receives for each picture that lies in the memory its format
    and its time, in nanoseconds of the monotonic clock, the next one not before it was taken.

    Args:
        connection: for this.
        wish: which camera.
        memory: of one picture in the format that was sent.

    Raises:
        AppError: there is no library or no daemon, or it has ended.
    """
    _Camera(connection, wish, memory).run()


class _Camera:
    def __init__(self, connection: "Connection[Any, Any]", wish: CameraWish, memory: Any) -> None:
        self._connection = connection
        self._wish = wish
        self._memory = memory
        self._picture = ctypes.create_string_buffer(ctypes.sizeof(memory))
        self._format = ""
        self._told = False
        self._streaming = False
        self._time_ns = 0
        self._number = self._given = 0
        self._pipewire = PipeWire(self._lose)
        self._stream = Stream(
            self._pipewire,
            {
                "media.class": "Video/Source",
                "media.role": "Camera",
                "media.type": "Video",
                "node.name": wish.name,
                "node.nick": wish.name,
                "node.description": wish.name,
                "priority.driver": "0",  # sets the pace of pictures, and of nobody's sound
            },
            on_state=self._hear_state,
            on_param=self._hear_param,
            on_process=self._process,
        )

    def run(self) -> None:
        size_px, rate = self._wish.size_px, self._wish.rate
        offers = [video_format(one.code, size_px, rate) for one in PIXEL_FORMATS.values()]
        self._stream.connect(OUTPUT, DRIVER | MAP_BUFFERS, offers)
        while True:
            written, time_ns = self._connection.recv()
            with self._pipewire:
                fits = self._streaming and written == self._format  # or it was negotiated anew meanwhile
                if fits:
                    ctypes.memmove(self._picture, ctypes.addressof(self._memory), self._bytes()[1])
                    self._time_ns = time_ns
                    self._number += 1
                    if self._number == 1:
                        self._overwrite(self._picture)
                self._connection.send({"taken": time_ns})
                if fits:
                    self._stream.trigger()

    def _bytes(self) -> tuple[int, int]:
        return PIXEL_FORMATS[self._format].bytes_of(self._wish.size_px)

    def _overwrite(self, picture: Any) -> None:
        """What this reader has not seen yet, and what the next one may find, is this picture."""
        self._stream.overwrite(ctypes.addressof(picture), self._bytes()[1])

    def _lose(self, message: str) -> None:
        end_with(self._connection, message)

    def _hear_state(self, state: int, error: str) -> None:
        if state == ERROR:
            self._lose(phrase("PipeWire has refused the camera: {error}", error=error))
        if state == PAUSED and not self._told:
            self._told = True
            self._connection.send({"node": self._stream.node_id})
        streaming = state == STREAMING
        if streaming != self._streaming:
            self._streaming = streaming
            self._number = self._given = 0  # of the pictures that this reader is sent: what lies there is older
            if not streaming and self._format:
                self._overwrite(ctypes.create_string_buffer(PIXEL_FORMATS[self._format].black(self._wish.size_px)))
            self._connection.send({"format": self._format if streaming else ""})

    def _hear_param(self, param: int, address: int) -> None:
        if param != FORMAT_PARAM or not address:
            return
        code = read_id(address, VIDEO_FORMAT)
        self._format = next(name for name, one in PIXEL_FORMATS.items() if one.code == code)
        self._number = self._given = 0
        self._stream.set_params(video_buffers(*self._bytes()))

    def _process(self) -> None:
        if self._number == self._given:  # nothing yet; or two came before the loop's turn, and it gave the second one
            return
        self._given = self._number
        stride_bytes, size_bytes = self._bytes()
        place = ctypes.addressof(self._picture)
        self._stream.give_picture(place, size_bytes, stride_bytes, self._time_ns, self._number)
