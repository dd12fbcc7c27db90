"""The model that animates: chosen, taken over, and how it does."""

from dataclasses import replace
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.events import BackendChanged, EngineReady, Measured, ModelRefused, StageFailed
from app.pipeline.state import State
from app.pipeline.stats import LEAST_HZ, Stats
from app.settings import RECENT_MODELS
from app.ui.chain import Chain, Link
from app.ui.kept_settings import KeptSettings
from app.ui.languages import clause, tr
from app.ui.measuring import Measuring
from app.ui.messages import Message
from app.ui.model_desk import BUNDLED, ModelDesk, label_of
from app.ui.run import Run, RunChanges
from app.ui.virtual_camera_switch import VirtualCameraSwitch
from app.words import learning_words, too_slow_words
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.pipeline.models import ModelReport

_STEADY_FRAMES = 60
_ONCE_SLOW = 1.2
"""How much faster than too slow it has to become to count as fast enough again."""


class ModelInUse(QObject):
    """Has the run use the models that are chosen, and follows how the one in use does. Lives on the GUI thread.

    It owns what the engine has told of itself, which model to come back to where another one fails, and whether it is
    too slow for a call. Looking at models is the desk's, trying what runs one best `Measuring`'s, making the pipeline
    anew the run's.

    Args:
        run: makes engines.
        desk: looks at models.
        measuring: knows how fast one is.
        virtual_camera: while it is on, a model takes over in the place of another.
        kept: where the models used are kept.

    Attributes:
        device: where the engine runs, as `cuda:0`; "" before it does.
        engine: one sentence about it.
        backend: what computes, as `torch` or `openvino`; "" before it does.

    Signals:
        changed: how it stands.
        told: a message to show.
    """

    changed = pyqtSignal()
    told = pyqtSignal(object)

    def __init__(
        self,
        run: Run,
        desk: ModelDesk,
        measuring: Measuring,
        virtual_camera: VirtualCameraSwitch,
        kept: KeptSettings,
    ) -> None:
        super().__init__()
        self.device = ""
        self.engine = ""
        self.backend = ""
        self._run = run
        self._desk = desk
        self._measuring = measuring
        self._virtual_camera = virtual_camera
        self._kept = kept
        self._link = Chain().model
        self._slow: str | None = None  # not seen yet; what was measured is told meanwhile
        self._good = ""
        self._awaited = ""  # was chosen in a call, and has neither taken over nor been refused
        desk.chosen.connect(self._use)
        desk.renewed.connect(self._renew)

    @property
    def link(self) -> Link:
        """How it stands."""
        if self._measuring.under_way:
            return Link(text=phrase("this computer is being measured"))
        if not self._link.done:
            return self._link
        if slow := self._measuring.too_slow if self._slow is None else self._slow:
            return Link(True, slow, slow=True)
        return Link(True, self._measuring.words or self._link.text)

    @property
    def loading(self) -> bool:
        """Whether it is neither loaded nor known to have failed."""
        return not self._link.done and not self._link.failed

    def choose(self, model: str) -> None:
        """Look at a model, and use it where nothing speaks against it.

        Args:
            model: bundled name, file or folder.
        """
        if self._run.can_change_model and model != self._run.settings.model:
            self._desk.choose(replace(self._run.settings, model=model))

    def watch_speed(self, stats: Stats) -> None:
        """Notice that the avatar moves too slowly for a call, or fast enough again."""
        if stats.state is not State.LIVE or stats.frames_out < _STEADY_FRAMES:
            return
        enough_hz = LEAST_HZ * (_ONCE_SLOW if self._slow else 1.0)
        slow = too_slow_words(stats.fps) if stats.fps < enough_hz else ""
        if self._slow is None or bool(slow) != bool(self._slow):
            self._slow = slow
            self.changed.emit()

    def hear(self, event: EngineReady | ModelRefused | BackendChanged | Measured) -> None:
        """Take a fact about a model, its engine or its speed."""
        match event:
            case EngineReady():
                self.device, self.engine, self.backend = event.device, event.reason, event.backend
                self._link = Link(True, event.reason)
                if event.asked:
                    self._took_over(event.asked)
                if event.asked in ("", self._awaited):
                    self._awaited = ""
                self._note_good(self._run.settings.model)
            case ModelRefused():
                text = tr(
                    "{model} cannot be used: {reason}. {other} goes on.",
                    model=label_of(event.model),
                    reason=clause(event.message),
                    other=label_of(self._run.settings.model),
                )
                self.told.emit(Message("model", text))
                if event.model == self._awaited:
                    self._awaited = ""
                    self._watch()
            case BackendChanged():
                self.backend = event.backend
            case Measured():
                self._desk.note_speed(self._run.settings.model, event.tier.best.frame_ms)

    def come_back(self, event: StageFailed) -> bool:
        """Go back to the model that ran before, where it is another one's making that has failed.

        Returns:
            Whether there is one to go back to.
        """
        good, tried = self._good, self._run.settings.model
        if event.stage != "model" or good in ("", tried) or not self._run.can_change:
            return False
        self._good = ""  # once: where that one fails as well, something else is wrong
        self.told.emit(
            Message(
                "model",
                tr(
                    "{model} cannot be used: {reason}. {other} is back.",
                    model=label_of(tried),
                    reason=clause(event.message),
                    other=label_of(good),
                ),
            )
        )
        self._run.change(RunChanges(model=good))
        return True

    def fail(self, why: str) -> None:
        """Nothing is animated, whichever stage's fault it is."""
        self._link = Link(text=why, failed=True)

    def recover(self) -> None:
        """What has failed goes on by itself."""
        if self._link.failed:
            self._link = Link(True, self.engine) if self.engine else Chain().model

    def stop(self) -> None:
        """The pipeline is stopped: it has no engine any more."""
        self._link = Chain().model

    def begin_anew(self) -> None:
        """The pipeline is started anew, and may be faster or slower than before."""
        self.stop()
        self._slow = None

    def forget(self) -> None:
        """Another pipeline is made, of which nothing is known."""
        self.begin_anew()
        self.device = self.engine = self.backend = ""
        self._measuring.measured = None

    def _use(self, report: "ModelReport") -> None:
        """Use a model that was looked at: in its place while a call watches, else with everything made anew."""
        if not self._run.can_change_model:
            return
        if self._virtual_camera.wanted and self._link.done and self._run.pipeline is not None:
            self._desk.stop()  # else what the one in use learns meanwhile could take this one's place
            self._awaited = report.model
            self._run.pipeline.use_engine(report.make, report.model)
        elif self._run.can_change:
            self._run.change(RunChanges(model=report.model))
        else:  # nothing runs that could go on with another one
            self.told.emit(Message("model", tr("Switch the virtual camera off first: no model runs."), tone="warning"))

    def _renew(self, report: "ModelReport") -> None:
        if self._run.pipeline is not None and self._link.done and report.card is not None:
            self._run.pipeline.use_engine(report.make, report.model)
            self.told.emit(Message("learning", f"{learning_words(report.card)}.", tone="info"))

    def _took_over(self, model: str) -> None:
        """A model has taken over within the run: another one, or the same, which has learned more."""
        if model == self._run.settings.model:
            return
        self._run.keep_model(model)
        self._slow, self._measuring.measured = None, None
        self.told.emit(Message("model", tr("{model} animates the portrait now.", model=label_of(model)), tone="info"))

    def _note_good(self, model: str) -> None:
        """A model has made its engine: it is the one to come back to."""
        self._good = model
        kept = self._kept.settings
        recent = (model, *(other for other in kept.recent_models if other != model))[:RECENT_MODELS]
        if model not in BUNDLED and recent != kept.recent_models:
            self._kept.keep(replace(kept, recent_models=recent))
        self._watch()

    def _watch(self) -> None:
        """Describe the model in use, and see what it learns, unless another one is on its way."""
        if not self._awaited:
            like = None if self._measuring.measured is None else self._measuring.measured.tier
            self._desk.describe(self._run.settings, like)
