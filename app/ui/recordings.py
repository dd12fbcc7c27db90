"""Recordings and snapshots of the output."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, QUrl, pyqtSignal
from PyQt6.QtGui import QDesktopServices

from app.errors import AppError
from app.pipeline.events import SinkClosed, SinkFailed, SinkOpened, Undisclosed
from app.ui.languages import tr
from app.ui.messages import Message, failure_message
from app.ui.worker import Worker
from mcnet.files import cause_and_remedy, free_name
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.pipeline.output.discloser import Disclose, Discloser
    from app.pipeline.output.sinks import FileSink
    from app.pipeline.output.sound import SoundFeed
    from app.pipeline.pipeline import Pipeline


class Recordings(QObject):
    """Writes what the output shows to files. Lives on the GUI thread; slow work goes to the worker.

    Args:
        worker: makes the sinks.
        make_recorder: a sink that writes that file, with that sound or silent, and has it signed by that at its end.
        find_folder: where files go.
        find_sound: the microphone that the next recording has, or None.
        discloser: gives Content Credentials to what is written.

    Attributes:
        pipeline: gives the pictures; None before it is there.
        path: of the recording under way, or None.
        began_s: when it began, in seconds of `time.monotonic`.
        last: the newest picture of the output, (H, W, 3) uint8 RGB, or None.

    Signals:
        changed: a recording has begun or ended.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    changed = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(
        self,
        worker: Worker,
        make_recorder: "Callable[[Path, SoundFeed | None, Disclose], FileSink]",
        find_folder: Callable[[], Path],
        find_sound: "Callable[[], SoundFeed | None]",
        discloser: "Discloser",
    ) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self.path: Path | None = None
        self.began_s = 0.0
        self.last: NDArray[np.uint8] | None = None
        self._worker = worker
        self._make_recorder = make_recorder
        self._find_folder = find_folder
        self._find_sound = find_sound
        self._discloser = discloser
        self._sink: FileSink | None = None

    def toggle(self) -> None:
        """Start a recording, or end the one under way; the message comes once its file is whole."""
        if self.pipeline is None:
            return
        if self._sink is not None:
            self.pipeline.remove_sink(self._sink.name)
            return
        if not self.pipeline.running:
            text = tr("There is nothing to record at the moment: wait until the preview goes on.")
            self.told.emit(Message("recording", text, tone="info"))
            return
        path, sound, disclose = self._new_file("mp4"), self._find_sound(), self._discloser.recording()

        def make() -> "FileSink":
            _make_folder(path.parent)
            return self._make_recorder(path, sound, disclose)

        self._worker.run(make, lambda sink: self._add(path, sink), self._failed)

    def finish(self) -> None:
        """End the recording, if there is one, before the pipeline stops: its next start would begin another file."""
        if self.pipeline is not None and self._sink is not None:
            self.pipeline.remove_sink(self._sink.name)

    def snapshot(self) -> None:
        """Save what the output shows now as a PNG."""
        if self.last is None:
            self.told.emit(Message("snapshot", tr("There is no picture yet to save."), tone="info"))
            return
        rgb, path, disclose = self.last, self._new_file("png"), self._discloser.recording()
        self.cleared.emit("recording")  # of an attempt before

        def write() -> Path:
            from mcnet.media.images import write_rgb

            _make_folder(path.parent)
            write_rgb(path, rgb)
            disclose(path)
            return path

        self._worker.run(write, self._saved, self._failed)

    def hear(self, event: SinkOpened | SinkFailed | SinkClosed | Undisclosed) -> None:
        """Take a fact about a file or a sink; those of others' sinks are let pass."""
        if isinstance(event, Undisclosed):
            name, why = Path(event.file).name, event.message.rstrip(".")
            text = tr("{name} is saved, but without Content Credentials: {why}.", name=name, why=why)
            self.told.emit(Message("credentials", text, tone="warning"))
            return
        if self._sink is None or event.sink != self._sink.name:
            return
        if self._sink.sound_trouble:
            self.told.emit(Message("recorded sound", self._sink.sound_trouble, tone="warning"))
        if isinstance(event, SinkOpened):
            return
        sink, self._sink, self.path = self._sink, None, None
        if isinstance(event, SinkFailed):
            if self.pipeline is not None:
                self.pipeline.remove_sink(sink.name)
            self.told.emit(Message("recording", event.message))
        elif event.detail:
            self._saved(Path(event.detail))
        else:
            text = tr("The recording had not begun: there is no file.")
            self.told.emit(Message("recording", text, tone="warning"))
        self.changed.emit()

    def _add(self, path: Path, sink: "FileSink") -> None:
        if self.pipeline is not None and self._sink is None:
            self._sink, self.path, self.began_s = sink, path, time.monotonic()
            self.pipeline.add_sink(sink)
            self.cleared.emit("recording")
            self.cleared.emit("recorded sound")
            self.changed.emit()

    def _new_file(self, ending: str) -> Path:
        return free_name(self._find_folder() / f"avatar-{datetime.now():%Y-%m-%d-%H%M%S}.{ending}")

    def _saved(self, path: Path) -> None:
        folder = QUrl.fromLocalFile(str(path.parent))
        self.told.emit(
            Message(
                "saved",
                tr("Saved: {path}", path=path),
                tone="info",
                action=tr("Open folder"),
                act=lambda: _show_folder(folder),
            )
        )

    def _failed(self, error: Exception) -> None:
        self.told.emit(failure_message("recording", error))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AppError(
            phrase(
                "cannot make the folder {folder}: {cause}",
                folder=folder,
                cause=cause_and_remedy(error),
            )
        ) from error


def _show_folder(folder: QUrl) -> None:
    QDesktopServices.openUrl(folder)
