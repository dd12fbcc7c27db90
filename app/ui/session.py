"""One run of the app behind the window: the pipeline, the settings, and what is proven so far."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.errors import AppError
from app.pipeline.events import (
    BackendChanged,
    Calibrated,
    CalibrationProgress,
    CameraDark,
    CameraFailed,
    CameraOpened,
    EngineReady,
    Event,
    Measured,
    MeasuringProgress,
    SettingRefused,
    SinkClosed,
    SinkFailed,
    SinkOpened,
    SourceFailed,
    SourceReady,
    StageFailed,
    StageRecovered,
    StateChanged,
)
from app.pipeline.output.output_frame import Composed
from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.places import videos_folder
from app.settings import AppSettings, LiveSettings, WindowSettings, save_settings
from app.space import Space
from app.ui.bridge import Bridge
from app.ui.camera_desk import CameraDesk
from app.ui.chain import Chain, Link
from app.ui.cleanup import Cleanup
from app.ui.measuring import Measuring
from app.ui.messages import Message, failure_message
from app.ui.parts import Parts, WindowOptions
from app.ui.portrait_desk import PortraitDesk
from app.ui.recordings import Recordings
from app.ui.virtual_camera_switch import VirtualCameraSwitch
from app.ui.worker import Worker

if TYPE_CHECKING:
    from app.pipeline.animation.performer_view import PerformerView
    from app.pipeline.pipeline import Pipeline
    from app.pipeline.portraits import Portrait

logger = logging.getLogger(__name__)

_SAVE_AFTER_MS = 800


class Session(QObject):
    """Wires what runs to what the window shows, and answers its wishes. Lives on the GUI thread and never waits.

    Attributes:
        settings: as they are kept.
        state: what the output shows.
        why: the pipeline's reason for the state, or "".
        device: where the engine runs, as `cuda:0`; "" before it does.
        engine: one sentence about it.
        backend: what computes, as `torch` or `openvino`; "" before it does.
        space: whether the avatar can be moved in space.
        calibrating: how far the calibration has come, 0 to 1, or None.
        smoothing_delay_ms: from a smoothing setting to its delay; None before it is known.
        desk: the portraits.
        camera_desk: the cameras.
        virtual_camera: its switch.
        recordings: what is written to files.
        measuring: what runs the model best here.

    Signals:
        changed: anything of the above.
        live_changed: the live settings, whoever changed them.
        window_changed: the window settings, likewise.
        woken: there may be new pictures; `pull` them.
        told: a message to show.
        cleared: the key of a message that is not true any more.
        busy_changed: what is under way in the background, or "".
    """

    changed = pyqtSignal()
    live_changed = pyqtSignal()
    window_changed = pyqtSignal()
    woken = pyqtSignal()
    told = pyqtSignal(object)
    cleared = pyqtSignal(str)
    busy_changed = pyqtSignal(str)

    def __init__(self, options: WindowOptions, settings: AppSettings, parts: Parts) -> None:
        super().__init__()
        self.settings = replace(settings, live=replace(settings.live, slate=False))
        self.state = State.STARTING
        self.why = ""
        self.device = ""
        self.engine = ""
        self.backend = ""
        self.space = Space()
        self.calibrating: float | None = None
        self.smoothing_delay_ms: Callable[[float], float] | None = None
        self._model, self._calibration, self._portrait_link = Chain().model, Chain().calibration, Chain().portrait
        self._options = options
        self._parts = parts
        self._cleanup = Cleanup()
        self._pipeline: Pipeline | None = None
        self._portrait: Portrait | None = None
        self._proven_portrait: Portrait | None = None
        self._panicked = False
        self._closed = False
        self._bridge = Bridge(self._hear, self.woken.emit)
        self._worker = Worker("window worker", threads=2)
        self._cleanup.add("worker", self._worker.stop)
        self._portrait_worker = Worker("portrait worker")  # one thread: the gallery's index is read and written whole
        self._cleanup.add("portrait worker", self._portrait_worker.stop)
        self._cleanup.add("bridge", self._bridge.close)
        self._save_timer = QTimer(self)
        self._save_timer.setSingleShot(True)
        self._save_timer.setInterval(_SAVE_AFTER_MS)
        self._save_timer.timeout.connect(self._save)
        self._cleanup.add("settings", self._save_at_last)
        camera = options.camera or settings.camera
        self.desk = PortraitDesk(self._portrait_worker, parts.open_store)
        self.camera_desk = CameraDesk(self._worker, parts.list_cameras, parts.parse_camera, camera)
        self.virtual_camera = VirtualCameraSwitch(self._worker, parts.examine_virtual_camera, parts.make_virtual_camera)
        self.recordings = Recordings(self._worker, parts.make_recorder, self._videos_folder)
        self.measuring = Measuring(self._worker, parts.measure, self._bridge.tell)
        self._connect()

    def _connect(self) -> None:
        for part in (self.desk, self.camera_desk, self.virtual_camera, self.recordings, self.measuring):
            part.told.connect(self.told)
        for part in (self.camera_desk, self.virtual_camera, self.recordings, self.measuring):
            part.changed.connect(self._changed)
        for part in (self.camera_desk, self.virtual_camera):
            part.cleared.connect(self.cleared)
        self.desk.chosen.connect(self._use_portrait)
        self.camera_desk.chosen.connect(lambda text: self._keep(replace(self.settings, camera=text)))
        self.camera_desk.interrupted.connect(self._end_calibrating)
        self.virtual_camera.switched_on.connect(lambda: self._set_slate(True))
        self.virtual_camera.gone.connect(self._virtual_camera_gone)
        self.measuring.ended.connect(self._start_again)
        for worker in (self._worker, self._portrait_worker):
            worker.busy_changed.connect(self._tell_busy)

    # Starting and ending

    def start(self) -> None:
        """Begin everything that a run needs, side by side, off the GUI thread."""
        self.desk.open(self._options.portrait or self.settings.portrait)
        self._worker.run(self._load_pipeline, self._begin, self._report("pipeline"))
        self.camera_desk.refresh()
        self.virtual_camera.examine()
        self._tell_busy()

    def close(self) -> bool:
        """Stop everything, the last started first; harmless when called again.

        Returns:
            Whether every thread has ended.
        """
        self._closed = True
        return self._cleanup.run()

    def _load_pipeline(self) -> "tuple[Pipeline, Callable[[float], float]]":
        settings = self._options.over(self.settings)
        pipeline = self._parts.make_pipeline(settings, self._bridge.tell, self._bridge.wake)
        return pipeline, self._parts.load_smoothing_delay()

    def _begin(self, made: "tuple[Pipeline, Callable[[float], float]]") -> None:
        pipeline, self.smoothing_delay_ms = made
        self._pipeline = pipeline
        self.camera_desk.pipeline = self.virtual_camera.pipeline = self.recordings.pipeline = pipeline
        self._cleanup.add("pipeline", pipeline.stop)
        pipeline.update(self.settings.live)
        pipeline.start()
        if self._portrait is not None:
            pipeline.set_portrait(self._portrait)
        self.camera_desk.open()
        self.live_changed.emit()
        self.changed.emit()

    def _restart(self) -> None:
        if (pipeline := self._pipeline) is None:
            return
        self.recordings.finish()
        self._model = Chain().model
        self._changed()
        self._worker.run(pipeline.stop, lambda _: self._start_again(), self._report("stage"))

    def _start_again(self) -> None:
        """After a stop: everything has to be proven anew."""
        assert self._pipeline is not None
        self.state, self.why, self.calibrating = State.STARTING, "", None
        self._model, self._calibration = Chain().model, Chain().calibration
        self.camera_desk.open()  # these may not be the ones that were wished for last: those may have failed
        if self._portrait is not None:
            self._pipeline.set_portrait(self._portrait)
        self._pipeline.start()
        self._changed()

    def measure(self) -> None:
        """Try what runs the model best here, with everything else at rest, and go on with that."""
        if self._pipeline is None or self.measuring.under_way or self.virtual_camera.on_air:
            return
        self.recordings.finish()
        self.measuring.start(self._pipeline, self._options.over(self.settings))

    # Settings

    def set_live(self, live: LiveSettings) -> None:
        """Change what the stages read; they have it with the next frame."""
        before = self.settings.live
        if live == before:
            return
        in_space = self.in_space
        self.settings = replace(self.settings, live=live)
        if self._pipeline is not None:
            self._pipeline.update(live)
        self._save_timer.start()
        if self.space.needs_calibration(live):
            self.space = replace(self.space, reference=False)
            self.calibrate(now=False)
        # The chain asks for a calibration or does not, and for another one in space than in the plane.
        if live.relative != before.relative or self.in_space != in_space:
            self._changed()
        self.live_changed.emit()

    def set_window(self, window: WindowSettings) -> None:
        """Change how the window looks."""
        if window == self.settings.window:
            return
        self.settings = replace(self.settings, window=window)
        self._save_timer.start()
        self.window_changed.emit()

    def set_window_size(self, width_px: int, height_px: int) -> None:
        """Remember how large the window is; nobody needs to be told."""
        self._keep(replace(self.settings, window=replace(self.settings.window, width_px=width_px, height_px=height_px)))

    def _keep(self, settings: AppSettings) -> None:
        self.settings = settings
        self._save_timer.start()

    def _save(self) -> None:
        kept = replace(self.settings, live=replace(self.settings.live, slate=False))
        try:
            save_settings(self._options.settings_path, kept)
        except AppError as error:
            self.told.emit(Message("settings", str(error)))
        else:
            self.cleared.emit("settings")

    def _save_at_last(self) -> None:
        if self._save_timer.isActive():
            self._save_timer.stop()
            self._save()

    # Portraits

    def _use_portrait(self, portrait: "Portrait") -> None:
        self._portrait = portrait
        if portrait.entry.key != self._options.portrait:
            self._keep(replace(self.settings, portrait=portrait.entry.key))
        if not self._portrait_link.done:
            self._portrait_link = Link(text="the portrait is being prepared")
        if self._pipeline is not None:
            self._pipeline.set_portrait(portrait)
        self._changed()

    @property
    def portrait(self) -> "Portrait | None":
        """The portrait that was chosen last, once it is read."""
        return self._portrait

    # Going live

    @property
    def ready(self) -> bool:
        """Whether there is a pipeline, so that wishes can be answered."""
        return self._pipeline is not None

    @property
    def busy(self) -> bool:
        """Whether something is under way in the background."""
        return self._worker.busy + self._portrait_worker.busy > 0

    @property
    def chain(self) -> Chain:
        """What is proven so far."""
        return Chain(
            model=Link(text="this computer is being measured") if self.measuring.under_way else self._model,
            camera=self.camera_desk.link,
            portrait=self._portrait_link,
            calibration=self._calibration,
            virtual_camera=self.virtual_camera.link,
            absolute=not self.settings.live.relative,
        )

    @property
    def live(self) -> bool:
        """Whether a call may see the avatar now."""
        return self.virtual_camera.on_air and not self.settings.live.slate

    @property
    def in_space(self) -> bool:
        """Whether the avatar is moved in space, as far as is known."""
        return self.space.moves(self.settings.live)

    def go_live(self) -> None:
        """Take the slate away: with a virtual camera once the chain is proven, without one at any time."""
        if self.virtual_camera.wanted and self.chain.missing():
            return
        self._panicked = False
        self._set_slate(False)
        self.changed.emit()

    def stop(self) -> None:
        """Leave the slate up. The virtual camera stays, so that the call keeps its picture."""
        self._set_slate(True)
        self.changed.emit()

    def slate(self) -> None:
        """The panic key: the slate with the next picture, whatever else is going on. Never takes it away."""
        self._panicked = True
        self.stop()

    def calibrate(self, *, now: bool) -> None:
        """Take the reference: from this very frame, or hands-free from the best of the next ones."""
        if self._pipeline is not None:
            self._pipeline.calibrate(now=now)

    def _set_slate(self, slate: bool) -> None:
        self.set_live(replace(self.settings.live, slate=slate))

    def _virtual_camera_gone(self) -> None:
        if not self._panicked:  # nobody watches any more: the preview goes on
            self._set_slate(False)

    def _end_calibrating(self) -> None:
        self.calibrating = None

    # What the pipeline gives

    def pull(self) -> "tuple[Composed | None, PerformerView | None]":
        """The newest pictures, each at most once."""
        if self._pipeline is None:
            return None, None
        composed = self._pipeline.preview.take(0)
        if composed is not None:
            self.recordings.last = composed.rgb
            if composed.state is not self.state:
                self.state, self.why = composed.state, ""
                self.changed.emit()
        return composed, self._pipeline.performer.take(0)

    def stats(self) -> Stats:
        """How the pipeline does."""
        return Stats(self.state) if self._pipeline is None else self._pipeline.stats()

    def _hear(self, event: Event) -> None:
        logger.debug("event %s", event)
        match event:
            case MeasuringProgress() | Measured():
                self.measuring.hear(event)
            case EngineReady():
                self.device, self.engine, self.backend = event.device, event.reason, event.backend
                self.space = Space(model=event.measures)
                self._model = Link(True, self.measuring.words or event.reason)
            case BackendChanged():
                self.backend = event.backend
            case SourceReady():
                self.space = replace(self.space, portrait=event.measured)
                self.desk.settle(event.key)
                if self._portrait is not None and self._portrait.entry.key == event.key:
                    self._proven_portrait = self._portrait
                self._portrait_link = Link(True, self.desk.name_of(event.key))
            case SourceFailed():
                self._source_failed(event)
            case CameraOpened() | CameraFailed() | CameraDark():
                self.camera_desk.hear(event)
            case CalibrationProgress():
                self.calibrating, self.why = event.share, event.hint
                self._calibration = Link(text="the calibration is under way")
            case Calibrated():
                self.calibrating, self.why = None, ""
                self.space = replace(self.space, reference=event.in_space)
                remarks = f": {', '.join(event.remarks)}" if event.remarks else ""
                self._calibration = Link(True, f"{event.score} of 100{remarks}")
            case StateChanged():
                self._state_changed(event)
            case SinkOpened() | SinkFailed() | SinkClosed():
                self.virtual_camera.hear(event)
                self.recordings.hear(event)
            case SettingRefused():
                self.told.emit(Message(event.setting, event.message, tone="warning"))
            case StageFailed():
                self._stage_failed(event)
            case StageRecovered():
                self._stage_recovered()
            case _:
                assert_never(event)
        self._changed()

    def _state_changed(self, event: StateChanged) -> None:
        self.state, self.why = event.state, event.message
        if event.state is State.CALIBRATING and self._calibration.done:
            self._calibration = Chain().calibration

    def _source_failed(self, event: SourceFailed) -> None:
        self.desk.refuse(event.key)
        if self._proven_portrait is not None and self._portrait is not None and self._portrait.entry.key == event.key:
            self._portrait = self._proven_portrait
            self._keep(replace(self.settings, portrait=self._portrait.entry.key))
        self.told.emit(Message("portrait", event.message))

    def _stage_failed(self, event: StageFailed) -> None:
        self._model = Link(text="a part has failed", failed=True)
        what = "The model cannot be loaded" if event.stage == "model" else f"The {event.stage} has failed"
        text = f"{what}: {event.message.rstrip('.')}. The output shows the slate."
        self.told.emit(Message("stage", text, action="Start again", act=self._restart))

    def _stage_recovered(self) -> None:
        if self._model.failed and self.engine:
            self._model = Link(True, self.measuring.words or self.engine)
            self.cleared.emit("stage")

    # Helpers

    def _changed(self) -> None:
        self._tell_busy()
        self.changed.emit()

    def _videos_folder(self) -> Path:
        return Path(self.settings.recordings) if self.settings.recordings else videos_folder()

    def _report(self, key: str) -> Callable[[Exception], None]:
        return lambda error: self.told.emit(failure_message(key, error))

    def _tell_busy(self) -> None:
        if self._closed:
            return
        if self.measuring.under_way:
            self.busy_changed.emit("measuring…")
        elif not self._model.done and not self._model.failed:
            self.busy_changed.emit("loading the model…")
        else:
            reading = "reading the portrait…" if self._portrait_worker.busy else ""
            self.busy_changed.emit(reading or ("working…" if self._worker.busy else ""))
