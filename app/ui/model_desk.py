"""The models: looked at before they are used, described, and read again while they learn."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.settings import AppSettings
from app.ui.languages import spoken, tr
from app.ui.messages import Message, failure_message
from app.ui.worker import Worker
from mcnet.errors import UserError
from mcnet.model_card import LATEST_FILE, MODEL_FILE

if TYPE_CHECKING:
    from app.pipeline.models import ModelReport
    from mcnet.bench.tiers import Tier
    from mcnet.model_card import ModelCard

logger = logging.getLogger(__name__)

BUNDLED = ("starter", "starter_light")
_LOOK_MS = 2000
_OF_A_FOLDER = (MODEL_FILE, LATEST_FILE)


class ModelDesk(QObject):
    """Looks at models on the worker; lives on the GUI thread.

    Args:
        worker: looks.
        examine: reads card and weights, with what was measured of a model like it. Blocks.
        read_card: reads the card alone. Blocks.
        stamp: tells a model that still learns apart from what takes its place; None of others. Blocks.

    Attributes:
        card: of the model in use; None where it has none, or it is not read yet.
        card_of: the model that the card is of; "" before any was read.
        looking: whether a model that was chosen is being looked at.

    Signals:
        changed: anything of the above.
        chosen: a model was looked at and is to be used; its report.
        renewed: the model in use has learned more; its report.
        told: a message to show.
        cleared: the key of a message that is not true any more.
    """

    changed = pyqtSignal()
    chosen = pyqtSignal(object)
    renewed = pyqtSignal(object)
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)

    def __init__(
        self,
        worker: Worker,
        examine: "Callable[[AppSettings, Tier | None], ModelReport]",
        read_card: "Callable[[str], ModelCard | None]",
        stamp: Callable[[str], tuple[int, ...] | None],
    ) -> None:
        super().__init__()
        self.card: ModelCard | None = None
        self.card_of = ""
        self.looking = False
        self._worker, self._examine, self._read_card, self._stamp = worker, examine, read_card, stamp
        self._watched: AppSettings | None = None
        self._like: Tier | None = None
        self._seen: tuple[int, ...] | None = None
        self._read: dict[str, tuple[int, ...]] = {}
        self._under_way = False
        self._told_of: str = ""
        self._wish = 0
        self._frame_ms: dict[str, float] = {}
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self.look_again)

    def frame_ms(self, model: str) -> float | None:
        """What a frame of a model that was looked at takes here, as far as it was measured before."""
        return self._frame_ms.get(model)

    def note_speed(self, model: str, frame_ms: float) -> None:
        """Remember what was measured of a model since the window was opened, on however busy a machine."""
        self._frame_ms[model] = frame_ms

    def choose(self, settings: AppSettings) -> None:
        """Look at the model that settings name, and use it unless something speaks against it.

        What cannot be used is refused, and what speaks against it is told, with a button for using it all the same;
        until then nothing changes.
        """
        self._wish += 1
        wish = self._wish
        self.looking = True
        self.cleared.emit("model")
        self.changed.emit()

        def examined(report: "ModelReport") -> None:
            if wish != self._wish:
                return  # another one was chosen meanwhile
            self.looking = False
            if report.frame_ms is not None:
                self._frame_ms[report.model] = report.frame_ms
            if report.warnings:
                said = " ".join(map(spoken, report.warnings))
                text = tr("{name}: {text}", name=label_of(report.model), text=said)
                act = lambda: self._use(report)  # noqa: E731 - a slot
                self.told.emit(Message("model", text, tone="warning", action=tr("Use it all the same"), act=act))
            else:
                self._use(report)
            self.changed.emit()

        def failed(error: Exception) -> None:
            if wish == self._wish:
                self.looking = False
                self.told.emit(failure_message("model", error))
                self.changed.emit()

        self._worker.run(lambda: self._examine(settings, None), examined, failed)

    def _use(self, report: "ModelReport") -> None:
        self._read[report.model] = report.stamp
        self.chosen.emit(report)

    def expect(self, model: str) -> None:
        """Note what a model's file is before an engine is made from it, so that what takes its place meanwhile counts
        as new. Blocks; may be called on any thread.
        """
        with contextlib.suppress(UserError):  # there is none, which making the engine tells
            if (stamp := self._stamp(model)) is not None:
                self._read[model] = stamp

    def describe(self, settings: AppSettings, like: "Tier | None") -> None:
        """Read the card of the model that is in use now, and watch it if it still learns.

        What is watched for is another file than the engine was made from, as it was when that was read.

        Args:
            settings: that it was made from.
            like: what was measured of it, for what takes its place.
        """
        self._watched, self._like = settings, like
        self._watch(False)  # until it is known what to compare with
        model = settings.model

        def read() -> "tuple[ModelCard | None, tuple[int, ...] | None]":
            return self._read_card(model), self._stamp(model)

        def done(answer: "tuple[ModelCard | None, tuple[int, ...] | None]") -> None:
            if self._watched is not None and self._watched.model == model:
                self.card, stamp = answer
                self.card_of = model
                self._seen = self._read.setdefault(model, stamp) if stamp is not None else None
                self._watch(stamp is not None)
                self.changed.emit()

        def failed(error: Exception) -> None:
            logger.info("the card of %s cannot be read: %s", model, error)  # it runs: its file may be gone by now
            if self._watched is not None and self._watched.model == model:
                self.card, self.card_of = None, model
                self._watch(False)
                self.changed.emit()

        self._worker.run(read, done, failed)

    def _watch(self, wanted: bool) -> None:
        if wanted:
            self._timer.start()
        else:
            self._timer.stop()

    def stop(self) -> None:
        """Watch nothing any more; harmless when called again."""
        self._timer.stop()
        self._watched = None

    def look_again(self) -> None:
        """See whether the model that still learns has a successor, and read it; one look at a time."""
        settings, like, seen = self._watched, self._like, self._seen
        if settings is None or self._under_way:
            return
        self._under_way = True

        def read() -> "ModelReport | None":
            stamp = self._stamp(settings.model)
            return None if stamp is None or stamp == seen else self._examine(settings, like)

        def done(report: "ModelReport | None") -> None:
            self._under_way = False
            if report is None or self._watched is not settings:
                return
            self._seen = self._read[report.model] = report.stamp
            self.card, self._told_of = report.card, ""
            self.cleared.emit("model")
            self.renewed.emit(report)
            self.changed.emit()

        def failed(error: Exception) -> None:
            self._under_way = False
            if self._watched is not settings:
                return
            if str(error) != self._told_of:  # once, and not every other second
                self._told_of = str(error)
                text = tr(
                    "What the run has learned since cannot be used: {error}. What it had learned before goes on.",
                    error=error,
                )
                self.told.emit(Message("model", text, tone="warning"))

        self._worker.run(read, done, failed)


def label_of(model: str) -> str:
    """A model's name for people: the bundled name, the file's, or the folder's."""
    path = Path(model)
    return path.parent.name if path.name in _OF_A_FOLDER else path.name.removesuffix(".safetensors")
