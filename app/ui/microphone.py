"""The microphone for recordings: which, whether it is on, and what it hears."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, Qt, pyqtSignal

from app.errors import AppError
from app.pipeline.output.sound import SoundFeed
from app.ui.languages import capital, full_sentence, tr
from app.ui.messages import Message
from app.ui.permissions import when_microphone_is_allowed
from app.ui.worker import Worker
from mcnet.errors import sentence
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.ui.microphones import Ear

logger = logging.getLogger(__name__)

_POLL_S = 0.02
_SILENT_S = 2.0
_AGAIN_S = 3.0  # doubled from try to try until something is heard: each is the start of a process
_LONGEST_AGAIN_S = 30.0


class Microphone(QObject):
    """Listens while it is switched on, and not otherwise. Lives on the GUI thread; a thread of its own has the device.

    A microphone that fails or falls silent is opened again and again while it is on; recordings are silent meanwhile.

    Args:
        worker: lists the microphones.
        list_microphones: key and name of each.
        open_microphone: by its key, or the usual one by "".
        key: which, as it was kept.

    Attributes:
        microphones: key and name of each that is there; None until they were looked for.
        key: which was chosen; "" is the system's usual one.
        wanted: whether it is switched on.
        trouble: why nothing is heard, for people, or "".
        name: of the one that is heard, or "".
        feed: what it hears.

    Signals:
        changed: anything of the above.
        chosen: whether it is switched on and which, when the user changed that.
        told: a message to show.
        cleared: the key of a message that is not true any more.
        _reported: the number of a switching-on, a name or "", and a trouble or ""; always queued.
    """

    changed = pyqtSignal()
    chosen = pyqtSignal(bool, str)
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)
    _reported = pyqtSignal(int, str, str)

    def __init__(
        self,
        worker: Worker,
        list_microphones: Callable[[], list[tuple[str, str]]],
        open_microphone: "Callable[[str], Ear]",
        key: str,
    ) -> None:
        super().__init__()
        self.microphones: Sequence[tuple[str, str]] | None = None
        self.key = key
        self.wanted = False
        self.trouble = self.name = ""
        self.feed = SoundFeed()
        self._worker = worker
        self._list = list_microphones
        self._open = open_microphone
        self._number = 0
        self._lock = threading.Lock()
        self._listening: _Listening | None = None
        self._reported.connect(self._hear, Qt.ConnectionType.QueuedConnection)  # type: ignore[call-arg] # missing in PyQt6's stubs

    def switch(self, on: bool) -> None:
        """Switch it on or off."""
        if on == self.wanted:
            return
        self.wanted = on
        self.chosen.emit(on, self.key)
        if on:
            self._begin()
            self.refresh()
        else:
            self._end()
        self.changed.emit()

    def choose(self, key: str) -> None:
        """Use another one."""
        if key == self.key:
            return
        self.key = key
        self.chosen.emit(self.wanted, key)
        if self.wanted:
            self._end()
            self._begin()
        self.changed.emit()

    def refresh(self) -> None:
        """Look again for microphones."""
        self._worker.run(self._list, self._take, lambda _: self._take([]))

    def close(self) -> bool:
        """Stop listening; harmless when called again. Returns whether the thread has ended."""
        listening = self._end()
        return listening is None or listening.ended(0.5)

    def _begin(self) -> None:
        self.trouble = self.name = ""
        when_microphone_is_allowed(self._listen, self._forbid)

    def _listen(self) -> None:
        if self.wanted and self._listening is None:
            self._number += 1
            self._listening = _Listening(self._number, self.key, self._open, self.feed, self._report, threading.Event())

    def _forbid(self) -> None:
        self._hear(
            self._number, "", tr("the system's privacy settings keep the microphone from this app: allow it there")
        )

    def _end(self) -> "_Listening | None":
        """Stop listening, and forget what was heard."""
        with self._lock:
            listening, self._listening = self._listening, None
            self._number += 1
        if listening is not None:
            listening.stop()
        self.feed.end()
        self.trouble = self.name = ""
        self.cleared.emit("microphone")
        return listening

    def _take(self, microphones: list[tuple[str, str]]) -> None:
        self.microphones = microphones
        self.changed.emit()

    def _report(self, number: int, name: str, trouble: str) -> None:
        """From the thread."""
        with self._lock:  # so that nothing is emitted while, or after, the GUI takes this down
            if number == self._number:
                self._reported.emit(number, name, trouble)

    def _hear(self, number: int, name: str, trouble: str) -> None:
        if number != self._number or not self.wanted:
            return
        self.name, self.trouble = name, trouble
        if trouble:
            text = tr("{trouble} Recordings go on, and are silent meanwhile.", trouble=full_sentence(capital(trouble)))
            self.told.emit(Message("microphone", text, tone="warning"))
        else:
            self.cleared.emit("microphone")
        self.changed.emit()


class _Listening:
    """One thread that has a microphone, from its switching on to its switching off.

    Args:
        number: of the switching-on.
        key: of the microphone.
        open_microphone: opens it.
        feed: takes what is heard.
        report: called with the number, the name and the trouble, whenever one of these changes.
        stop: set when nothing is to be heard any more.
    """

    def __init__(
        self,
        number: int,
        key: str,
        open_microphone: "Callable[[str], Ear]",
        feed: SoundFeed,
        report: Callable[[int, str, str], None],
        stop: threading.Event,
    ) -> None:
        self._number = number
        self._key = key
        self._open = open_microphone
        self._feed = feed
        self._report = report
        self._said: tuple[str, str] | None = None
        self._again_s = _AGAIN_S
        self._stop = stop
        self._putting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let nothing more be heard from now on; does not wait for the thread, which a sound server may hold."""
        with self._putting:
            self._stop.set()

    def ended(self, timeout_s: float) -> bool:
        """Whether the thread ends within that time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                ear = self._open(self._key)
                try:
                    self._listen(ear)
                finally:
                    ear.close()
            except AppError as error:
                self._say("", str(error))
            except Exception as error:  # told, and tried again
                logger.exception("the microphone")
                self._say("", phrase("the microphone fails: {error}", error=sentence(error)))
            self._stop.wait(self._again_s)
            self._again_s = min(2 * self._again_s, _LONGEST_AGAIN_S)

    def _listen(self, ear: "Ear") -> None:
        """Hear it until it is switched off.

        Raises:
            AppError: it gives no sound any more.
        """
        heard_s = time.monotonic()
        begun = False
        while not self._stop.wait(_POLL_S):
            wave = ear.read()
            now_s = time.monotonic()
            if wave.size:
                with self._putting:
                    if self._stop.is_set():
                        return
                    if not begun:
                        self._feed.begin(ear.rate_hz)
                    self._feed.put(wave, now_s)
                begun, heard_s, self._again_s = True, now_s, _AGAIN_S
                self._say(ear.name, "")
            elif now_s - heard_s > _SILENT_S:
                raise AppError(
                    phrase(
                        "the microphone {name} gives no sound: plug it in again, or choose another one", name=ear.name
                    )
                )

    def _say(self, name: str, trouble: str) -> None:
        if self._said != (name, trouble):
            self._said = name, trouble
            logger.info("microphone: %s", trouble or f"hears {name}")
            self._report(self._number, name, trouble)
