"""Strengths of the motion by name and by portrait, and where a portrait stands: kept, and brought back with it."""

from collections.abc import Callable
from pathlib import Path

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.errors import AppError
from app.presets import Place, Presets, Strengths, load_presets, save_changes
from app.settings import LiveSettings
from app.ui.languages import clause, full_sentence, tr
from app.ui.messages import Message
from mcnet.phrases import phrase

_SAVE_AFTER_MS = 800


class PresetDesk(QObject):
    """Keeps the presets, and what each portrait was last moved with. Lives on the GUI thread.

    A portrait that was never moved before keeps the strengths in force, and has its own from then on.

    Args:
        path: where they are kept; None: nowhere.
        get_live: the live settings in force.
        set_live: puts others in force.

    Attributes:
        presets: all there are.

    Signals:
        changed: `presets` did.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    changed = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(
        self, path: Path | None, get_live: Callable[[], LiveSettings], set_live: Callable[[LiveSettings], None]
    ) -> None:
        super().__init__()
        self.presets = self._kept = Presets()
        self._path = path
        self._get_live = get_live
        self._set_live = set_live
        self._portrait = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SAVE_AFTER_MS)
        self._timer.timeout.connect(self._save)

    def load(self) -> None:
        """Read what was kept; what cannot be read is told, and never written over."""
        if self._path is None:
            return
        try:
            self.presets, complaint = load_presets(self._path)
            self._kept = self.presets
        except AppError as error:
            self._path = None
            complaint = phrase("{error}. Presets of this run are not kept", error=clause(str(error)))
        if complaint is not None:
            self._tell_of_file(complaint)
        self.changed.emit()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that can be applied, the standard one first."""
        return self.presets.names

    @property
    def current(self) -> str:
        """The name of the preset whose strengths are in force, or "" where they are nobody's."""
        return self.presets.name_of(Strengths.of(self._get_live()))

    def apply(self, name: str) -> None:
        """Put a preset's strengths in force; they are the portrait's from then on.

        Raises:
            AppError: there is no preset of that name.
        """
        self._set_live(self.presets.get(name).over(self._get_live()))

    def save(self, name: str) -> bool:
        """Keep the strengths in force under a name; answers whether it can be used. What bore it can come back."""
        before = self.presets.named
        if not self._try(lambda: self.presets.saved(name, Strengths.of(self._get_live()))):
            return False
        for one, strengths in before.items():
            if self.presets.named[one] != strengths:
                self._tell_undoable(tr("The preset {name} has these strengths now.", name=one), one, strengths)
        return True

    def rename(self, before: str, name: str) -> bool:
        """Call one of the user's presets something else; answers whether that can be."""
        return self._try(lambda: self.presets.renamed(before, name))

    def delete(self, name: str) -> None:
        """Take one of the user's presets away; the message about it can bring it back."""
        before = self.presets.named
        if self._try(lambda: self.presets.without(name)):
            self._tell_undoable(tr("The preset {name} was deleted.", name=name), name, before[name])

    def bring_back(self, portrait: str) -> None:
        """A portrait is animated from now on: move it as it was moved last, and put it where it stood."""
        self._portrait = portrait
        live = self._get_live()
        for kept in (self.presets.last.get(portrait), self.presets.places.get(portrait)):
            live = live if kept is None else kept.over(live)
        self._set_live(live)
        self.note()

    def note(self) -> None:
        """Remember what the portrait is moved with now, and where it stands."""
        strengths = Strengths.of(self._get_live())
        if self._portrait and self.presets.last.get(self._portrait) != strengths:
            self._take(self.presets.with_last(self._portrait, strengths))
        place = Place.of(self._get_live())
        if self._portrait and self.presets.places.get(self._portrait) != place:
            self._take(self.presets.with_place(self._portrait, place))

    def save_at_last(self) -> None:
        """Keep what has changed a moment ago, or could not be kept then."""
        self._timer.stop()
        if self.presets != self._kept:
            self._save()

    def _try(self, change: Callable[[], Presets]) -> bool:
        try:
            presets = change()
        except AppError as error:
            self.told.emit(Message("preset", full_sentence(str(error)), tone="warning"))
            return False
        self.cleared.emit("preset")
        self._take(presets)
        return True

    def _tell_undoable(self, text: str, name: str, strengths: Strengths) -> None:
        def undo() -> None:
            self._try(lambda: self.presets.saved(name, strengths))

        self.told.emit(Message("preset", text, tone="info", action=tr("Undo"), act=undo))

    def _take(self, presets: Presets) -> None:
        self.presets = presets
        self._timer.start()
        self.changed.emit()

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            kept, complaint = save_changes(self._path, self._kept, self.presets)
        except AppError as error:
            self.told.emit(Message("presets", full_sentence(str(error)), tone="warning"))
            return
        self.cleared.emit("presets")
        if complaint is not None:
            self._tell_of_file(complaint)
        self.presets, seen, self._kept = kept, self.presets, kept
        if kept != seen:  # another window has some of its own
            self.changed.emit()

    def _tell_of_file(self, complaint: str) -> None:
        self.told.emit(Message("presets file", full_sentence(complaint), tone="warning"))
