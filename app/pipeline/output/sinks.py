"""Where composed pictures go, one after another at a steady rate."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

from app.errors import AppError
from app.pipeline.output.output_frame import Composed


@dataclass(frozen=True)
class OutputFormat:
    """Size and rate of the output, fixed for a session: call programs do not bear a change.

    Attributes:
        width_px: even.
        height_px: even.
        fps_hz: pictures per second, repeated ones included.
    """

    width_px: int = 1280
    height_px: int = 720
    fps_hz: float = 30.0

    def __post_init__(self) -> None:
        for name, value in (("width_px", self.width_px), ("height_px", self.height_px)):
            if value < 64 or value > 4096 or value % 2:
                raise ValueError(f"output {name}: got {value}, expected an even number from 64 to 4096")
        if not 1 <= self.fps_hz <= 120:
            raise ValueError(f"output fps_hz: got {self.fps_hz}, expected 1 to 120")


def parse_output(text: str | None, fps_hz: float | None) -> OutputFormat:
    """`1280x720` as an output format; what is not given is as `OutputFormat` has it.

    Raises:
        AppError: it is something else, or odd.
    """
    usual = OutputFormat()
    text = text or f"{usual.width_px}x{usual.height_px}"
    width, times, height = text.lower().partition("x")
    if not (times and width.isdecimal() and height.isdecimal() and len(text) < 20):
        raise AppError(f"--size: got {text!r}, expected WIDTHxHEIGHT such as 1280x720")
    try:
        return OutputFormat(int(width), int(height), usual.fps_hz if fps_hz is None else fps_hz)
    except ValueError as error:
        raise AppError(f"--size, --fps: {error}") from error


class Sink(Protocol):
    """A device or file that takes pictures. The sink stage opens it, writes to it and closes it on one thread.

    `open` is called before anything else, once per run, then `send` about `fps_hz` times per second, then `close` once,
    also after a failure of `send`, but not after one of `open`. All may raise `SinkError`; the sink is then taken out
    and the others go on. None may keep the stage for longer than a picture's time: what takes longer, such as finishing
    a file, goes on elsewhere after `close`, until `finished` says so. `send` must not write to the picture.

    Attributes:
        name: says what it is, for people and as its key: two sinks of one pipeline never share a name.
        detail: the device or file, once open; "" where there is none.
    """

    name: str
    detail: str

    def open(self, output: OutputFormat) -> None:
        """Get ready for pictures of that size."""
        ...

    def send(self, picture: Composed) -> None:
        """Take a picture of the size that `open` was told."""
        ...

    def close(self) -> None:
        """Let go of the device; begin to finish the file."""
        ...

    def finished(self) -> bool:
        """Whether everything that `close` began is done; raises once if it failed."""
        ...


class FileSink(Sink, Protocol):
    """A sink that writes a file, with sound where that is wanted.

    Attributes:
        sound_trouble: why the sound that was wanted is not, or not all, in the file, for people, or "".
    """

    sound_trouble: str


class NullSink:
    """Takes everything and keeps nothing."""

    name = "null"
    detail = ""

    def open(self, output: OutputFormat) -> None: ...

    def send(self, picture: Composed) -> None: ...

    def close(self) -> None: ...

    def finished(self) -> bool:
        return True


class HashSink:
    """Remembers what was shown, as hashes: for tests.

    Attributes:
        digests: SHA-256 of every picture, in order.
        states: its state.
    """

    name = "hash"
    detail = ""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self.states: list[str] = []

    def open(self, output: OutputFormat) -> None: ...

    def send(self, picture: Composed) -> None:
        self.digests.append(hashlib.sha256(picture.rgb.tobytes()).hexdigest())
        self.states.append(picture.state.value)

    def close(self) -> None: ...

    def finished(self) -> bool:
        return True
