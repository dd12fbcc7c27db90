"""Writing files so that a failure loses nothing."""

import contextlib
import errno
import glob
import itertools
import logging
import os
import shutil
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from mcnet.phrases import listed, phrase

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger(__name__)

_REMEDIES = {
    errno.ENOSPC: phrase("make room on the disk"),
    errno.EDQUOT: phrase("make room: what you may use of the disk is used up"),
    errno.EFBIG: phrase("choose a disk that takes larger files, or make it shorter"),
}

_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP)  # file systems that do not know what that is

_SCRATCH_BYTES = 40  # of the name that it stands in for, so that a person sees what was left behind
_USUAL_NAME_BYTES = 255
_TRIED_BYTES = 4096  # less may be kept beside the name, where a full disk has room


def cause_and_remedy(error: Exception) -> str:
    """Why a file could not be written and what to do about it, for the end of a sentence.

    Args:
        error: an `OSError`, or one of PyAV's, which have the same fields and numbers of FFmpeg's own besides.
    """
    number, said = getattr(error, "errno", None) or 0, getattr(error, "strerror", None) or str(error)
    if number not in errno.errorcode:  # an encoder's failure, say, that no other place would help
        return said
    return listed([said, _REMEDIES.get(number, phrase("choose another place"))], ";")


def as_written(path: str | Path) -> Path:
    """A path as a person writes it, `~` being a home; where nobody's home is meant, it stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~ of nobody: whoever opens it tells that there is no such file
        return Path(path)


def free_name(path: Path) -> Path:
    """The path itself, or with a number behind its stem, such that nothing is there yet.

    A stem that leaves no room for the number, by what the file system takes, is cut short for it.

    Raises:
        OSError: the folder cannot be looked into, or the name itself is too long.
    """
    room = most_name_bytes(path.parent)
    tails = (f"-{number}{path.suffix}" for number in itertools.count(2))
    numbered = (path.with_name(_start_of(path.stem, room - len(os.fsencode(tail))) + tail) for tail in tails)
    return next(name for name in itertools.chain([path], numbered) if not name.exists())


def may_be_file(path: str | Path) -> bool:
    """Whether there is a file, or nobody can see whether there is, as in a folder that is another user's: whoever reads
    it will be told why it cannot be had.
    """
    try:
        return Path(path).is_file()
    except OSError:
        return True


class Claim:
    """A file that says that a process is at work, for as long as it is: however that process ends, the system lets go.

    Args:
        path: of that file, which `take` makes and `release` takes away; a crash leaves it behind, and it says nothing
            then. What is claimed is not this file: that may be replaced meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @classmethod
    def beside(cls, path: Path) -> "Claim":
        """That of a file, whatever it is called by who claims it, and whether it is there or not."""
        path = followed(path)
        number = zlib.crc32(os.fsencode(path.name))
        return cls(path.with_name(f".{_start_of(path.name, _SCRATCH_BYTES)}.{number:08x}.claim"))

    def take(self) -> bool:
        """Take it, unless another one has it: another process, or another `Claim` of this one.

        Raises:
            OSError: the file cannot be made, or its file system has no locks, so that nobody knows.
        """
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if not self._lock(descriptor):
                    return False
                if self._is_still(descriptor):
                    self._descriptor, descriptor = descriptor, -1
                    return True
            finally:
                if descriptor >= 0:
                    os.close(descriptor)

    def release(self) -> None:
        """Let go of it; harmless when it was not taken."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if sys.platform == "win32":  # what is open stays there, and what another one has taken since is open
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self.path.unlink()
        else:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(descriptor)

    def _lock(self, descriptor: int) -> bool:
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # the latter is Windows'
            return False
        except OSError:
            self.path.unlink(missing_ok=True)  # it would say nothing
            raise
        return True

    def _is_still(self, descriptor: int) -> bool:
        """Whether the file at the path is the open one: who had the claim takes the file away."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim what two processes must not work on at once, while the block runs.

    Yields:
        Whether nobody else is at work on it; also where that cannot be known, as nothing can be written beside it.
    """
    claim = Claim.beside(path)
    try:
        alone = claim.take()
    except OSError as error:
        logger.info("whether another process is at work on %s cannot be known: %s", path, error)
        alone = True
    try:
        yield alone
    finally:
        claim.release()


def followed(path: Path) -> Path:
    """Where a path leads, over all links; as `Path.resolve`, which fails where links lead in a circle."""
    return Path(os.path.realpath(path))


def real_place(path: Path) -> Path:
    """Where a file or folder lies that is to be written: a link stays, and what it leads to is written."""
    try:
        return followed(path) if path.is_symlink() else path
    except OSError:  # a name that is too long, say: whoever writes there tells of it
        return path


def scratch_beside(path: Path, suffix: str = "") -> Path:
    """A name beside a path, of the calling thread's own, for what is to take its place once it is complete.

    Args:
        path: whatever its name's length, the scratch name is a short one: a name that a file system takes must not
            fail for what is added to it.
        suffix: of the scratch name, where what writes goes by it.
    """
    writer = f"{os.getpid()}-{threading.get_native_id()}"
    return path.with_name(f"{_scratch_begins(path)}{writer}.partial{suffix}")


def _scratch_begins(path: Path) -> str:
    return f".{_start_of(path.name, _SCRATCH_BYTES)}.{zlib.crc32(os.fsencode(path.name)):08x}."


def remove_left_scratch(path: Path, process_id: int | None = None) -> None:
    """Remove what processes that were killed left of what was to take the place of a file or folder (`scratch_beside`).

    Args:
        path: of that file or folder.
        process_id: whose, of one that has ended; None: anybody's, for who knows that nobody is writing it.
    """
    place = real_place(path)
    whose = "*" if process_id is None else process_id
    for left in place.parent.glob(f"{glob.escape(_scratch_begins(place))}{whose}-*.partial*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()


def try_beside(path: Path) -> None:
    """See that there is room for a file beside a path, by writing a little there, which is taken away again.

    Raises:
        OSError: there is none, or nothing may be written.
    """
    trial = scratch_beside(path, ".trial")
    try:
        trial.write_bytes(bytes(_TRIED_BYTES))
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)


def most_name_bytes(folder: Path) -> int:
    """How long a name may be, in bytes, on the folder's file system."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows; a folder that is not there
        return _USUAL_NAME_BYTES


def _start_of(name: str, room: int) -> str:
    """As much of a name's start as has room in so many bytes, by whole characters."""
    while len(os.fsencode(name)) > room:
        name = name[:-1]
    return name


def take_place(partial: Path, place: Path) -> None:
    """Put a finished file in a place, by the rights of the file that was there; one made its owner's alone stays so.

    Raises:
        OSError: it cannot take the place.
    """
    with contextlib.suppress(OSError):  # nothing is there yet; a file system without rights
        if partial.stat().st_mode & 0o077:
            shutil.copymode(place, partial)
    partial.replace(place)


def _settle(path: Path) -> None:
    """Wait until what is in a file is on its disk: a power cut would leave the name, and zeros or nothing in it."""
    descriptor = os.open(path, os.O_RDWR)  # Windows settles only what may be written
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Write a file in one step: what was at `path` stays until the block has ended well.

    Args:
        path: of the file.
        lasting: whether a power cut right after that leaves the one or the other. It means waiting for the disk, which
            who writes between two frames, and could do it again, has no time for.

    Yields:
        A path beside it, or beside what it links to, to write to; the file there takes its place, or is removed if the
        block fails.

    Raises:
        OSError: it cannot take the place.
    """
    place = real_place(path)
    partial = scratch_beside(place)
    try:
        yield partial
        if lasting:
            _settle(partial)
        take_place(partial, place)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep every other process, and thread, that enters such a block with the same folder waiting: what is read there
    is still so when it is written. Not to be nested. Nobody waits on Windows, nor where the file system locks no
    folders (NFS).

    Raises:
        OSError: the folder cannot be opened.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
