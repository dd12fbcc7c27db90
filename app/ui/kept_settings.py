"""The settings in force, and what of them is in the file."""

from dataclasses import replace
from pathlib import Path

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.errors import AppError
from app.settings import AppSettings, LiveSettings, save_changes
from app.ui.messages import Message

_SAVE_AFTER_MS = 800


class KeptSettings(QObject):
    """Keeps the settings: what changes in them is in the file a moment later. Lives on the GUI thread.

    It owns the settings in force and what the file has of them. What a setting does is others' affair: who changes one
    puts it in force, but for the live ones, of which a signal tells whoever changed them. The slate is never kept.

    Args:
        path: where they are kept; None: nowhere.
        settings: as they were kept.
        parent: with it what is about to be kept goes.

    Attributes:
        settings: those in force.

    Signals:
        live_changed: the live settings; those before.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    live_changed = pyqtSignal(object)
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(self, path: Path | None, settings: AppSettings, parent: QObject) -> None:
        super().__init__(parent)
        self.settings = self._kept = _without_slate(settings)
        self._unsaved = False  # what could not be kept when it changed
        self._path = path
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SAVE_AFTER_MS)
        self._timer.timeout.connect(self._save)

    @property
    def live(self) -> LiveSettings:
        """What the pipeline's stages read."""
        return self.settings.live

    def keep(self, settings: AppSettings) -> None:
        """Have these from now on."""
        self.settings = settings
        self._timer.start()

    def set_live(self, live: LiveSettings) -> None:
        """Change what the stages read; they have it with the next frame."""
        before = self.live
        if live != before:
            self.keep(replace(self.settings, live=live))
            self.live_changed.emit(before)

    def save_at_last(self) -> None:
        """Keep what has changed a moment ago, or could not be kept then."""
        if self._timer.isActive() or self._unsaved:
            self._timer.stop()
            self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        settings = _without_slate(self.settings)
        try:
            complaint = save_changes(self._path, self._kept, settings)
        except AppError as error:
            self._unsaved = True
            self.told.emit(Message("settings", str(error)))
        else:
            self._kept, self._unsaved = settings, False
            self.cleared.emit("settings")
            if complaint is not None:
                self.told.emit(Message("settings file", complaint, tone="warning"))


def _without_slate(settings: AppSettings) -> AppSettings:
    """These, as the next run begins with them."""
    return replace(settings, live=replace(settings.live, slate=False))
