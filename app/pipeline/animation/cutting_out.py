"""The mattes of portraits, made on a thread of their own: no picture waits for one."""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time

import cv2

from app.pipeline.animation.source_store import SourceStore
from app.pipeline.portraits import Portrait
from mcnet.errors import sentence
from mcnet.media.errors import MediaError
from mcnet.media.matte import Matte, cut_out, resized_matte
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

_NICENESS = 10
_TELL_AFTER_S = 0.2
_JOIN_S = 0.3
"""Less than the pipeline waits for its stages: what takes longer ends by itself."""
_AT_EXIT_S = 10.0
"""Several times what a portrait takes on a busy machine: what takes longer hangs."""


class CuttingOut:
    """One portrait that is being cut out, or was.

    Args:
        portrait: who.
        size_px: the side of its square in the pictures that it is for.
        meanwhile: what serves until the end: a matte that was made for pictures of another size.

    Attributes:
        portrait: as given.
        size_px: as given.
        took_s: for how long the matte was computed; 0 before that, and where it was kept.
        matte: what there is now; None before the end without `meanwhile`, and where none can be made.
        failure: why it cannot be, for people; "" otherwise.
    """

    def __init__(self, portrait: Portrait, size_px: int, meanwhile: Matte | None = None) -> None:
        self.portrait = portrait
        self.size_px = size_px
        self.took_s = 0.0
        self.matte = meanwhile
        self.failure = ""
        self._squared: tuple[Matte, Matte] | None = None
        self._wished_s = time.monotonic()
        self._ended = threading.Event()

    @property
    def over(self) -> bool:
        """Whether nothing more comes: the matte is there, or there will be no other."""
        return self._ended.is_set()

    @property
    def failed(self) -> bool:
        """Whether it is over without a matte, whatever the reason."""
        return self.over and self.matte is None

    @property
    def takes_long(self) -> bool:
        """Whether it is not over after a time that a user notices."""
        return self.matte is None and not self.over and time.monotonic() - self._wished_s > _TELL_AFTER_S

    def is_for(self, portrait: Portrait, size_px: int) -> bool:
        """Whether it is that very portrait's, for pictures of that size."""
        return self.portrait is portrait and self.size_px == size_px

    def matte_of(self, *, surrounded: bool) -> Matte | None:
        """What there is now, for pictures with what is around the square, or for the square alone."""
        whole = self.matte
        if whole is None or surrounded:
            return whole
        if self._squared is None or self._squared[0] is not whole:
            self._squared = whole, whole.of_square()
        return self._squared[1]

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""
        return self._ended.wait(timeout_s)

    def make(self, store: SourceStore | None) -> None:
        """Compute the matte, or read what was kept; in any case it is over then.

        Args:
            store: of mattes, or None.
        """
        try:
            self.matte = self._matte(store)
            self._ended.set()
        except BaseException as error:  # whatever it is, out of memory and SystemExit included: nobody waits for ever
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Have it be over without a matte of its own."""
        try:
            said = sentence(error) if isinstance(error, Exception) else type(error).__name__
            self.failure = phrase("the person cannot be cut out of this portrait: {error}", error=said)
            if isinstance(error, MediaError | cv2.error):
                logger.warning("the person cannot be cut out: %s", error)
            else:
                logger.error("the person cannot be cut out", exc_info=error)
        finally:
            self._ended.set()

    def _matte(self, store: SourceStore | None) -> Matte:
        shown, margins = self.portrait.surrounded(self.size_px)
        kept = store.load_matte(shown, margins) if store else None
        if kept is not None:
            return kept
        began_s = time.perf_counter()
        made = cut_out(shown, margins)
        self.took_s = time.perf_counter() - began_s
        if store:
            store.save_matte(shown, made)
        return made


_THREAD = "cutting out"


class Cutter:
    """Cuts portraits out, one after another, on a thread that lives as long as there is something to do.

    Python's own way out waits for the portrait that is being cut out, as a thread that is torn out of OpenCV's code
    aborts the process; but not for ever, as it would if the thread were no daemon. The app does not take that way.

    Args:
        store: of mattes, or None.
    """

    def __init__(self, store: SourceStore | None) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[CuttingOut] = []
        self._current: CuttingOut | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, portrait: Portrait, size_px: int, *, before: CuttingOut | None = None) -> CuttingOut:
        """Have a portrait cut out; it may be under way already, and over at once where that cannot begin.

        Args:
            portrait: who.
            size_px: the side of its square in the pictures that it is for.
            before: what was cut out last; of the same portrait it serves until this one is over.
        """
        with self._lock:
            for one in (self._current, *self._waiting):
                if one is not None and not one.failed and one.is_for(portrait, size_px):
                    return one
            wish = CuttingOut(portrait, size_px, _in_size(before, portrait, size_px))
            if self._closed:
                wish.fail(RuntimeError("closed"))
                return wish
            self._waiting.append(wish)
            if self._thread is None or not self._thread.is_alive():
                try:
                    thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)
                    thread.start()
                    atexit.unregister(_wait_at_exit)
                    atexit.register(_wait_at_exit)
                    self._thread = thread
                except Exception as error:  # too many threads, or out of memory: a failure like every other
                    self._waiting.clear()
                    wish.fail(error)
            return wish

    def keep_only(self, *wanted: CuttingOut) -> None:
        """Do not begin what is not wanted any more; what is begun ends, and is kept for the next time."""
        with self._lock:
            self._waiting = [one for one in self._waiting if one in wanted]

    def close(self) -> None:
        """End it; harmless when called again. A portrait that takes long is left to its end."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            thread = self._thread
        if thread is not None:
            thread.join(_JOIN_S)
            if thread.is_alive():
                logger.info("a portrait is still being cut out %.1f s after the stop, left behind", _JOIN_S)

    def _run(self) -> None:
        """The thread's body."""
        _come_after_the_call()
        while (wish := self._next()) is not None:
            wish.make(self._store)

    def _next(self) -> CuttingOut | None:
        with self._lock:
            self._current = self._waiting.pop(0) if self._waiting else None
            if self._current is None:
                self._thread = None
            return self._current


def _in_size(before: CuttingOut | None, portrait: Portrait, size_px: int) -> Matte | None:
    """The matte of the same portrait that there is already, for pictures of another size."""
    if before is None or before.portrait is not portrait or before.matte is None:
        return None
    try:
        return resized_matte(before.matte, size_px, portrait.margins(size_px))
    except Exception as error:  # out of memory, say: the picture before stays until there is another
        logger.warning("the matte cannot be resized: %s", error)
        return None


def _wait_at_exit() -> None:
    deadline_s = time.monotonic() + _AT_EXIT_S
    for thread in threading.enumerate():
        if thread.name == _THREAD:
            thread.join(max(0.0, deadline_s - time.monotonic()))


def _come_after_the_call() -> None:
    """Lower the priority of the calling thread, where the system has priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(Exception):  # forbidden, by a container or after `nice`: it is cut out all the same
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
