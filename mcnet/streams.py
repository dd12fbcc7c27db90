"""Standard output and standard error: what cannot be told is no reason to lose work.

A terminal may close, a reader end, the disk of a log become full, and a program be started without either. A file may
have a name that is no text in the encoding of the output.
"""

import errno
import io
import os
import sys
from pathlib import Path
from typing import TextIO


class _Unfailing(io.FileIO):
    """A file of which nobody hears that it cannot be written.

    Attributes:
        failure: the number of what went wrong first, and the words; None: nothing.
        is_terminal: whether it is one, or was before that closed.
    """

    failure: tuple[int, str] | None = None
    is_terminal = False

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # a buffer, as its users have it
        try:
            return super().write(view) or 0
        except OSError as error:
            self.failure = self.failure or (error.errno or errno.EIO, error.strerror or str(error))
            return view.nbytes


def steady_streams() -> None:
    """Have writing to standard output and standard error never fail; for the beginning of a command.

    What stands in for them already, as in a test, is left alone, and so is a console of Windows, which takes all
    characters by itself.
    """
    _take_numbers()
    sys.stdout, sys.stderr = _steady(sys.stdout, sys.__stdout__), _steady(sys.stderr, sys.__stderr__)


def untold() -> str:
    """Why not all of standard output could be written, for people; "" where it was, or nobody reads on."""
    if sys.stdout is None:
        return ""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Unfailing) or raw.failure is None:
        return ""
    if raw.is_terminal or raw.failure[0] == errno.EPIPE:
        return ""
    return raw.failure[1]


def _take_numbers() -> None:
    """Have something open under 0, 1 and 2: what is opened next would get them, and all that is said would go in it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _steady(stream: TextIO | None, own: TextIO | None) -> TextIO:
    if stream is None:  # a program without a console, or one that was started with it closed
        return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")
    if stream is not own or not isinstance(stream, io.TextIOWrapper) or (sys.platform == "win32" and stream.isatty()):
        return stream
    stream.flush()
    raw = _Unfailing(stream.fileno(), "w", closefd=False)
    raw.is_terminal = stream.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
