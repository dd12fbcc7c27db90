"""Containers that are written: FFmpeg's muxers on files of our own, so that a full disk is an error and not a crash."""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import av
import av.error
from av.packet import Packet

from mcnet.signals import handlers_wait


class Muxer:
    """Writes packets into a container, in a file that it owns.

    FFmpeg promises nothing of a muxer that has failed but that it can be freed. The one for MP4, asked again for a
    header that it could not write, counts its tracks twice, reads one that is not there, and crashes the process. So
    the first failure is the last call: the file is closed, then the container, which without a file tries no trailer,
    and every later step fails with the same error. What the failed step wrote is cut off again: the file ends with
    what the last good step wrote.

    A signal handler that comes meanwhile waits for the end of the step: FFmpeg calls back to write, and an exception
    such as `KeyboardInterrupt` cannot pass through it.

    Args:
        path: of the file, which is emptied if it is there.
        container_format: FFmpeg's name of it.
        options: FFmpeg's, for the container.
        new: the file must not be there yet.

    Attributes:
        container: takes streams and metadata before the first step; not to be written to or closed.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(
        self, path: Path, container_format: str, options: dict[str, str] | None = None, *, new: bool = False
    ) -> None:
        self._file = _OwnFile(path, "x" if new else "w")
        self._whole = 0
        self._failure: tuple[int, str] | None = None
        try:
            self.container = av.open(self._file, "w", format=container_format, container_options=options)
        except BaseException:
            self._file.close()
            raise

    def start(self) -> None:
        """Write the header now, and not with the first packet.

        Raises:
            OSError: it cannot be written, or an encoder cannot be opened.
        """
        with self._step():
            self.container.start_encoding()

    def mux(self, packets: "Packet[Any] | Sequence[Packet[Any]]") -> None:
        """Write what an encoder gave, or a packet of another file.

        Raises:
            OSError: the file cannot be written, or an earlier step failed.
        """
        with self._step():
            self.container.mux(packets)

    def finish(self) -> None:
        """Write the trailer and close the file; all packets, the encoders' last ones too, are there.

        Raises:
            OSError: the file cannot be written or closed, or an earlier step failed.
        """
        with self._step():
            self.container.close()
            self._file.close()
        self.close()

    def close(self) -> None:
        """Let go of everything, finished or not. Harmless when called again."""
        self._failure = self._failure or (errno.EBADF, os.strerror(errno.EBADF))
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self._file.truncate(self._whole)
            with contextlib.suppress(OSError):
                self._file.close()
        with contextlib.suppress(av.error.FFmpegError):
            self.container.close()

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        if self._failure is not None:
            raise OSError(*self._failure)
        with handlers_wait():
            try:
                yield
                if self._file.failure is not None:  # not every muxer looks whether its last bytes went out
                    raise OSError(*self._file.failure)
            except BaseException as error:
                self._failure = self._file.failure or _said(error)
                self.close()
                if isinstance(error, av.error.FFmpegError):
                    raise OSError(*self._failure) from error
                raise
            self._whole = self._file.size


class _OwnFile:
    """A file as FFmpeg's callbacks take it: what goes wrong is kept here and returned as a negative number.

    Attributes:
        name: its path; to move the index to the front, the muxer for MP4 opens it once more.
        size: bytes so far.
        failure: the number and the words of what went wrong first; nothing is written after it.
    """

    def __init__(self, path: Path, mode: str) -> None:
        self.name = str(path.absolute())  # FFmpeg takes a relative name with a colon for an address
        self.size = 0
        self.failure: tuple[int, str] | None = None
        self._file = FileIO(self.name, mode)
        self.truncate, self.close = self._file.truncate, self._file.close

    def write(self, data: bytes) -> int:
        if self.failure is None:
            try:
                rest = memoryview(data)
                while rest:  # a full disk takes what still fits, and refuses only the next bytes
                    rest = rest[self._file.write(rest) :]
                self.size = max(self.size, self._file.tell())
                return len(data)
            except (OSError, ValueError) as error:  # the latter: it is closed
                self.failure = _said(error)
        return -self.failure[0]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError) as error:
            return -_said(error)[0]

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    @property
    def closed(self) -> bool:
        return self._file.closed


def _said(error: BaseException) -> tuple[int, str]:
    return getattr(error, "errno", None) or errno.EIO, getattr(error, "strerror", None) or str(error)
