"""Searches a camera's frame for the face while the model still renders the frame before it."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple, Protocol, TypeVar

from mcnet.arrays import Rgb
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face

T = TypeVar("T")

_REMEMBERED = 3


class Finder(Protocol):
    """Follows the performer's face; see `mcnet.media.faces.FaceFinder`."""

    def find(self, rgb: Rgb) -> list[Face]: ...

    def forget(self) -> None: ...

    def close(self) -> None: ...


class _Offer(NamedTuple):
    """A frame that the camera gave.

    Attributes:
        number: the position among all offered frames.
        rgb: the very array that will be asked for.
        answer: the search's result; None where none was started.
    """

    number: int
    rgb: Rgb
    answer: Future[list[Face]] | None


class LookAhead:
    """A `Finder` that lives on a thread of its own and may begin with a frame before it is asked for it.

    It begins as soon as the camera gives the frame, but only after the two frames before were asked for one after the
    other: where the model cannot keep up, or detects the keypoints so that the face is searched for now and then, most
    frames are never looked at, and searching them would take time from the model.

    Any thread may `offer`; the other methods belong to one thread.
    """

    def __init__(self, make: Callable[[], Finder]) -> None:
        """Make the finder, on its thread; whatever `make` raises is raised here."""
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._offers: deque[_Offer] = deque(maxlen=_REMEMBERED)
        self._offered = 0
        self._asked = 0
        self._keeps_up = False
        self._finder: Finder | None = None
        self._thread = threading.Thread(target=self._work, name="face finder", daemon=True)
        self._thread.start()
        try:
            self._finder = self._call(make).result()
        except BaseException:
            self._end()
            raise

    def offer(self, rgb: Rgb) -> None:
        """Tell of a new frame: (H, W, 3) uint8, not to be written to any more. Never waits."""
        with self._lock:
            if self._finder is None:
                return
            self._offered += 1
            for one in self._offers:
                if one.answer is not None:
                    one.answer.cancel()  # unless it has begun: this one is newer
            answer = self._search(self._finder, rgb) if self._keeps_up else None
            self._keeps_up = False  # until that is asked for
            self._offers.append(_Offer(self._offered, rgb, answer))

    def find(self, rgb: Rgb) -> list[Face]:
        """As `FaceFinder.find`; at once where the frame was searched ahead."""
        with self._lock:
            if self._finder is None:
                raise MediaError("cannot look for faces: this finder was closed, make a new one")
            answer = None
            offer = next((one for one in self._offers if one.rgb is rgb), None)
            if offer is not None:
                self._offers.remove(offer)  # so that nobody cancels it
                self._keeps_up = offer.number == self._asked + 1
                self._asked = offer.number
                answer = offer.answer
            if answer is None or answer.cancelled():
                answer = self._search(self._finder, rgb)
        return answer.result()

    def forget(self) -> None:
        """As `FaceFinder.forget`; what was found ahead by following the face is forgotten too."""
        with self._lock:
            if self._finder is not None:
                self._offers = deque((one._replace(answer=None) for one in self._offers), _REMEMBERED)
                self._call(self._finder.forget)

    def close(self) -> None:
        """Free the finder and the frames, and end the thread; harmless when called again."""
        with self._lock:
            finder, self._finder = self._finder, None
            self._offers.clear()
        if finder is not None:
            self._call(finder.close)
            self._end()

    def _end(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def _search(self, finder: Finder, rgb: Rgb) -> Future[list[Face]]:
        return self._call(lambda: finder.find(rgb))

    def _call(self, do: Callable[[], T]) -> Future[T]:
        """Have something done on the finder's thread, after what it was given before."""
        answer: Future[T] = Future()

        def run() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(do())
            except Exception as error:  # for whoever asks
                answer.set_exception(error)

        self._calls.put(run)
        return answer

    def _work(self) -> None:
        while (run := self._calls.get()) is not None:
            run()
            del run  # or it would hold a camera's frame until the next one
