"""What is told of the work while it goes on: a bar in a terminal, a line every ten seconds anywhere else."""

import contextlib
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

NOTE_SUFFIX = ".note"
EVERY_S = 10.0
"""How often a line is written where there is no terminal."""
_NOTE_EVERY_S = 1.0


class Note:
    """Tells other processes how far this one is in its source, by a small file.

    Args:
        path: of the file; it is made, and replaced, once a second at most.
        duration_s: of the source, or None where that is not known.
    """

    def __init__(self, path: Path, duration_s: float | None) -> None:
        self._path = path
        self._ending = "" if duration_s is None else f" of {_clock(duration_s)}"
        self._written = time.monotonic()

    def at(self, done_s: float) -> None:
        """So much of the source has been followed."""
        now = time.monotonic()
        if now - self._written >= _NOTE_EVERY_S:
            self._written = now
            with contextlib.suppress(OSError):  # a full disk is told where clips are written
                self._path.write_text(f"{_clock(done_s)}{self._ending}", encoding="utf-8")


class Progress:
    """Counts sources and clips; a context manager.

    Args:
        labels: of the sources, by their names.
        folder: where the `Note` of each source, NAME.note, lies while it is worked on.
    """

    def __init__(self, labels: Mapping[str, str], folder: Path) -> None:
        self._labels = labels
        self._folder = folder
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(total=len(labels), unit="source", disable=not self._terminal)
        self._sources = self._clips = 0
        self._started = time.monotonic()
        self._over = threading.Event()
        self._lines = threading.Thread(target=self._write_lines, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        if not self._terminal and self._labels:
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._lines.is_alive():
            self._lines.join()
        self._bar.close()

    def done(self, name: str, clips: int) -> None:
        """A source is finished, and gave so many clips."""
        (self._folder / f"{name}{NOTE_SUFFIX}").unlink(missing_ok=True)  # what a process that died left
        self._sources += 1
        self._clips += clips
        self._bar.set_postfix(clips=self._clips, refresh=False)
        self._bar.update()

    def tell(self, text: str) -> None:
        """Write something between the lines."""
        tqdm.write(text, file=sys.stderr)

    def _write_lines(self) -> None:
        while not self._over.wait(EVERY_S):
            paths = sorted(self._folder.glob(f"*{NOTE_SUFFIX}"))
            notes = [(self._labels[path.name.removesuffix(NOTE_SUFFIX)], _read(path)) for path in paths]
            at_work = [f"{label} ({how_far})" for label, how_far in notes if how_far]
            sys.stderr.write(
                f"{_clock(time.monotonic() - self._started)}: {self._sources} of {len(self._labels)} sources, "
                f"{self._clips} clips{'; at work: ' if at_work else ''}{', '.join(at_work)}\n"
            )
            sys.stderr.flush()


def _read(path: Path) -> str:
    """A note, or nothing where there is none."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""


def _clock(seconds: float) -> str:
    """Minutes and seconds, as 2:05; or hours, minutes and seconds, as 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
