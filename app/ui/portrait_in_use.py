"""The portrait that is animated, or about to be."""

from dataclasses import replace
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import PersonCutOut, SourceFailed, SourceReady
from app.ui.chain import Chain, Link
from app.ui.kept_settings import KeptSettings
from app.ui.messages import Message
from app.ui.portrait_desk import PortraitDesk
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.pipeline.pipeline import Pipeline
    from app.pipeline.portraits import Portrait


class PortraitInUse(QObject):
    """Has the pipeline animate what is chosen on the desk, and follows what becomes of it. Lives on the GUI thread.

    It owns the portrait that was chosen last and the one to come back to. Which portraits there are, and reading them,
    is the desk's; what a portrait is moved with, `PresetDesk`'s.

    Args:
        desk: where portraits are chosen.
        kept: where the choice is kept.
        given: the one of this run, which is not kept; None: as kept.

    Attributes:
        pipeline: animates; None before it is there.
        portrait: the one that was chosen last, once it is read.
        animated: key of the one that is animated, or "".
        cutting_out: whether the person is being cut out of one.

    Signals:
        changed: anything of the above.
        exhausted: none can be used; why.
        told: a message to show.
    """

    changed = pyqtSignal()
    exhausted = pyqtSignal(str)
    told = pyqtSignal(object)

    def __init__(self, desk: PortraitDesk, kept: KeptSettings, given: str | None) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self.portrait: Portrait | None = None
        self.animated = ""
        self.cutting_out = False
        self._desk, self._kept, self._given = desk, kept, given
        self._proven: Portrait | None = None
        self._link = Chain().portrait
        desk.chosen.connect(self._use)
        desk.changed.connect(self._look)

    @property
    def link(self) -> Link:
        """How it stands, by the name that it bears now."""
        return Link(True, self._desk.name_of(self.animated)) if self._link.done else self._link

    def offer(self) -> None:
        """Have a pipeline that knows none animate it, once it is read."""
        if self.pipeline is not None and self.portrait is not None:
            self.pipeline.set_portrait(self.portrait)

    def hear(self, event: SourceReady | SourceFailed | PersonCutOut) -> None:
        """Take a fact about a portrait."""
        match event:
            case SourceReady():
                self._desk.settle(event.key)
                if self._is_chosen(event.key):
                    self._proven = self.portrait
                self._link = Link(True, self._desk.name_of(event.key))
                self.animated = event.key
            case SourceFailed():
                self._desk.refuse(event.key)
                if self._proven is not None and self._is_chosen(event.key):
                    self.portrait = self._proven
                    self._keep(self._proven)
                self.told.emit(Message("portrait", event.message))
            case PersonCutOut():
                self.cutting_out = event.under_way

    def begin_anew(self) -> None:
        """The pipeline is started anew: it cuts nobody out yet."""
        self.cutting_out = False

    def forget(self) -> None:
        """Another pipeline is made, which animates nobody yet."""
        self.begin_anew()
        self._link = Chain().portrait

    def _use(self, portrait: "Portrait") -> None:
        self.portrait = portrait
        if portrait.entry.key != self._given:
            self._keep(portrait)
        if not self._link.done:
            self._link = Link(text=phrase("the portrait is being prepared"))
        self.offer()
        self.changed.emit()

    def _look(self) -> None:
        if self._desk.exhausted and not self._link.failed:
            self._link = Link(text=phrase("no portrait can be used: add another one"), failed=True)
            self.exhausted.emit(self._link.text)
            self.changed.emit()

    def _is_chosen(self, key: str) -> bool:
        return self.portrait is not None and self.portrait.entry.key == key

    def _keep(self, portrait: "Portrait") -> None:
        self._kept.keep(replace(self._kept.settings, portrait=portrait.entry.key))
