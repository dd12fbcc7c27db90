"""Recordings and snapshots of the output, and of the performer's motion."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, QUrl, pyqtSignal
from PyQt6.QtGui import QDesktopServices

from app.pipeline.events import SinkClosed, SinkFailed, SinkOpened, Undisclosed
from app.places import dated_file, make_folder, new_file, taken, unused
from app.ui.folders import Folders
from app.ui.languages import clause, tr
from app.ui.messages import Message, failure_message
from mcnet.errors import UserError
from mcnet.track_name import TRACK_SUFFIX

if TYPE_CHECKING:
    from app.pipeline.animation.motion_recording import MotionRecording
    from app.pipeline.output.discloser import Disclose, Discloser
    from app.pipeline.output.output_frame import Composed
    from app.pipeline.output.sinks import FileSink
    from app.pipeline.output.sound import SoundFeed
    from app.pipeline.pipeline import Pipeline

logger = logging.getLogger(__name__)


class Recordings(QObject):
    """Writes what the output shows to files. Lives on the GUI thread; slow work is done elsewhere.

    Args:
        folders: have the work done in them.
        make_recorder: a sink that writes that file, with that sound or silent, and has it signed by that at its end.
        find_folder: where files go.
        find_sound: the microphone that the next recording has, or None.
        discloser: gives Content Credentials to what is written.
        is_transparent: whether there is to be no background, which WebM and PNG keep.

    Attributes:
        pipeline: gives the pictures; None before it is there.
        path: of the recording under way, or None.
        beginning: of the one whose sink is being made, or None.
        ending: whether the one under way was asked to end, and its file is not whole yet.
        began_s: when it began, in seconds of `time.monotonic`.
        last: the newest picture of the output, or None.

    Signals:
        changed: a recording is to begin, has begun, or has ended.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    changed = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(
        self,
        folders: Folders,
        make_recorder: "Callable[[Path, SoundFeed | None, Disclose], FileSink]",
        find_folder: Callable[[], Path],
        find_sound: "Callable[[], SoundFeed | None]",
        discloser: "Discloser",
        is_transparent: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self.path: Path | None = None
        self.beginning: Path | None = None
        self.ending = False
        self.began_s = 0.0
        self.last: Composed | None = None
        self._folders = folders
        self._make_recorder = make_recorder
        self._find_folder = find_folder
        self._find_sound = find_sound
        self._discloser = discloser
        self._is_transparent = is_transparent
        self._sink: FileSink | None = None
        self._told_of_sound = ""
        self._motion: MotionRecording | None = None
        self._saves: list[_MotionSave] = []

    @property
    def under_way(self) -> bool:
        """Whether something of the output is recorded, or is about to be."""
        return self.path is not None or self.beginning is not None

    @property
    def motion_path(self) -> Path | None:
        """Of the motion file that is recorded, or None."""
        return None if self._motion is None else self._motion.path

    def toggle_motion(self) -> None:
        """Start to record the performer's motion, without pictures, or end it; a message tells once its file is whole.

        Frames in which the performer's face is lost are a part of it.
        """
        from app.pipeline.animation.motion_recording import MotionRecording

        if self._motion is not None:
            self.finish_motion()
        elif self.pipeline is None or not self.pipeline.running:
            text = tr("There is nothing to record at the moment: wait until the preview goes on.")
            self.told.emit(Message("recording", text, tone="info"))
        else:
            recording = MotionRecording(dated_file(self._find_folder(), TRACK_SUFFIX, "motion"))

            def look() -> None:
                make_folder(unused(recording.path).parent)

            def failed(error: Exception) -> None:
                if self._motion is recording:
                    self._take_motion()
                    self.changed.emit()
                    self._failed(error)

            self._motion = self.pipeline.motion = recording
            self.cleared.emit("recording")
            self.changed.emit()
            # What is wrong is told now rather than at its end; a folder in a network may not answer for a while.
            self._folders.run(recording.path.parent, look, lambda _: None, failed)

    def watch(self) -> None:
        """Tell of what no event tells, and end a motion's recording that takes no more; to be called now and then."""
        self._tell_of_sound()
        if self._motion is not None and self._motion.ended:
            text = tr("The recording of your motion ended: {why}.", why=self._motion.ended)
            self.told.emit(Message("motion ended", text, tone="warning"))
            self.finish_motion()

    def finish_motion(self) -> None:
        """End the motion's recording, if there is one, and write it in the background."""
        recording = self._take_motion()
        if recording is not None:
            self.changed.emit()
            self._save(recording)

    def finish_motion_at_last(self) -> None:
        """Likewise before the window's end. The folders' work is waited for when they are stopped."""
        recording = self._take_motion()
        if recording is not None:
            self._save(recording)

    def log_what_is_lost(self) -> None:
        """Say which motions were not written by the window's end, once the folders are stopped, unless it was told."""
        for save in self._saves:
            if save.trouble:
                logger.warning("%s", save.trouble)
            elif not save.done:
                logger.warning("the recording of motion %s is lost: its folder did not answer in time", save.path)

    def _save(self, recording: "MotionRecording") -> None:
        save = _MotionSave(recording)

        def saved(path: Path) -> None:
            self._saves.remove(save)  # what was told is not logged at the end
            self._saved(path)

        def failed(error: Exception) -> None:
            self._saves.remove(save)
            self._failed(error)

        self._saves.append(save)
        self._folders.run(recording.path.parent, save, saved, failed, keeps=True)

    def _take_motion(self) -> "MotionRecording | None":
        recording, self._motion = self._motion, None
        if self.pipeline is not None:
            self.pipeline.motion = None
        return recording

    def toggle(self) -> Path | None:
        """Start a recording, or end the one under way; the message comes once its file is whole.

        Returns:
            The file that is begun, if one is; where another one has its name by then, it gets a name beside that.
        """
        if self.pipeline is None:
            return None
        if self._sink is not None or self.beginning is not None:
            self._end()
            return None
        if not self.pipeline.running:
            text = tr("There is nothing to record at the moment: wait until the preview goes on.")
            self.told.emit(Message("recording", text, tone="info"))
            return None
        path = dated_file(self._find_folder(), ".webm" if self._is_transparent() else ".mp4")
        sound, disclose = self._find_sound(), self._discloser.recording()

        def make() -> "tuple[Path, FileSink]":
            free = unused(path)  # here, as a folder in a network may not answer for a while
            make_folder(free.parent)
            return free, self._make_recorder(free, sound, disclose)

        def failed(error: Exception) -> None:
            if self.beginning == path:
                self.beginning = None
                self.changed.emit()
            self._failed(error)

        self.beginning = path
        self.changed.emit()
        self._folders.run(path.parent, make, lambda made: self._add(path, *made), failed)
        return path

    def _end(self) -> None:
        if self.beginning is not None:
            self.beginning = None  # its sink is dropped once it is made; there is no file yet
            self.changed.emit()
        if self.pipeline is not None and self._sink is not None:
            self.ending = True
            self.pipeline.remove_sink(self._sink.name)

    def leave_folder(self) -> None:
        """Another folder is used from now on: a recording that waits for the one before to answer is not wanted."""
        if self.beginning is not None:
            self._end()
            self.told.emit(Message("recording", tr("The recording had not begun: there is no file."), tone="info"))

    def finish(self) -> None:
        """End the recording, if there is one, before the pipeline stops: its next start would begin another file."""
        self._end()
        self.finish_motion()

    def snapshot(self) -> None:
        """Save what the output shows now as a PNG."""
        if self.last is None:
            self.told.emit(Message("snapshot", tr("There is no picture yet to save."), tone="info"))
            return
        folder, picture, disclose = self._find_folder(), self.last, self._discloser.recording()
        self.cleared.emit("recording")  # of an attempt before

        def write() -> Path:
            from mcnet.disclosure.words import words_of_snapshot
            from mcnet.media.images import write_rgb

            path = new_file(folder, ".png")  # here, as a folder in a network may not answer for a while
            make_folder(folder)
            shown = picture.rgb if picture.alpha is None else picture.straight()
            with taken(path) as free:  # of several within one second each is kept
                write_rgb(free, shown, words_of_snapshot(composite=picture.composite))
            disclose(free, picture.composite)
            return free

        self._folders.run(folder, write, self._saved, self._failed)

    def hear(self, event: SinkOpened | SinkFailed | SinkClosed | Undisclosed) -> None:
        """Take a fact about a file or a sink; those of others' sinks are let pass."""
        if isinstance(event, Undisclosed):
            name, why = Path(event.file).name, clause(event.message)
            text = tr("{name} is saved, but without Content Credentials: {why}.", name=name, why=why)
            self.told.emit(Message("credentials", text, tone="warning"))
            return
        if self._sink is None or event.sink != self._sink.name:
            return
        self._tell_of_sound()
        if isinstance(event, SinkOpened):
            return
        sink, self._sink, self.path, self.ending = self._sink, None, None, False
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

    def _tell_of_sound(self) -> None:
        """Say once what is wrong with the sound of the recording under way."""
        trouble = "" if self._sink is None else self._sink.sound_trouble
        if trouble and trouble != self._told_of_sound:
            self._told_of_sound = trouble
            self.told.emit(Message("recorded sound", trouble, tone="warning"))

    def _add(self, asked: Path, path: Path, sink: "FileSink") -> None:
        if self.pipeline is not None and self.beginning == asked:
            self._sink, self.path, self.beginning, self.began_s = sink, path, None, time.monotonic()
            self._told_of_sound = ""
            self.pipeline.add_sink(sink)
            self.cleared.emit("recording")
            self.cleared.emit("recorded sound")
            self.changed.emit()

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


class _MotionSave:
    """Writes a motion's recording.

    Attributes:
        path: the file.
        done: whether it was written, or failed to be.
        trouble: why it failed, or "".
    """

    def __init__(self, recording: "MotionRecording") -> None:
        self.path = recording.path
        self.done = False
        self.trouble = ""
        self._recording = recording

    def __call__(self) -> Path:
        try:
            make_folder(self.path.parent)
            with taken(self.path) as free:
                self.path = self._recording.path = free
                self._recording.save()
        except Exception as error:
            known = isinstance(error, UserError)
            self.trouble = str(error) if known else f"the recording of motion {self.path} is lost: {error!r}"
            raise
        finally:
            self.done = True
        return self.path


def _show_folder(folder: QUrl) -> None:
    QDesktopServices.openUrl(folder)
