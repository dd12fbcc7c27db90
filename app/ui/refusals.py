"""Notices about settings that the pipeline could not follow."""

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import SettingRefused
from app.settings import LiveSettings
from app.ui.messages import Message

_ALONE = ("slate_image", "idle_motion", "retouch", "fine_detail", "surroundings", "cut_out")
_BACKGROUND = ("background", "background_image", "background_video")


class Refusals(QObject):
    """Tells which settings cannot be followed, until something else is wished for. Lives on the GUI thread.

    It owns the names of those that were refused; what the pipeline does meanwhile is its own affair.

    Signals:
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(self) -> None:
        super().__init__()
        self._refused: set[str] = set()

    def hear(self, event: SettingRefused) -> None:
        """A setting cannot be followed."""
        self._refused.add(event.setting)
        self.told.emit(Message(event.setting, event.message, tone="warning"))

    def follow(self, before: LiveSettings, live: LiveSettings) -> None:
        """Another picture is wished for than the one that could not be had: the notice about that one goes."""
        changed = {name for name in (*_ALONE, *_BACKGROUND) if getattr(before, name) != getattr(live, name)}
        self._clear({"background" if name in _BACKGROUND else name for name in changed})

    def follow_portrait(self) -> None:
        """Another portrait is animated: what was said of the drawing on the one before goes."""
        self._clear({"retouch", "fine_detail", "surroundings"})

    def _clear(self, settings: set[str]) -> None:
        for setting in self._refused & settings:
            self.cleared.emit(setting)
        self._refused -= settings
