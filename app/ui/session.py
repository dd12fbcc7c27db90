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
    CameraFailed,
    CameraOpened,
    EngineReady,
    Event,
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
from app.ui.bridge import Bridge
from app.ui.chain import Chain, Link
from app.ui.cleanup import Cleanup
from app.ui.messages import Message
from app.ui.parts import Parts, WindowOptions
from app.ui.permissions import when_camera_is_allowed
from app.ui.portrait_desk import PortraitDesk
from app.ui.recordings import Recordings
from app.ui.space import Space
from app.ui.worker import Worker
from mcnet.errors import UserError

if TYPE_CHECKING:
    from app.pipeline.animation.performer_view import DriverView
    from app.pipeline.capture.cameras import CameraInfo
    from app.pipeline.doctor import VirtualCameraReport
    from app.pipeline.output.sinks import Sink
    from app.pipeline.pipeline import Pipeline
    from app.pipeline.portraits import Portrait

logger = logging.getLogger(__name__)

_SAVE_AFTER_MS = 800
_MEASURING_STOP_S = 5.0


class Session(QObject):
    """Owns what runs, and answers the window's wishes. Lives on the GUI thread and never waits.

    Attributes:
        settings: as they are kept.
        chain: what is proven so far.
        state: what the output shows.
        why: the pipeline's reason for the state, or "".
        device: where the engine runs, as `cuda:0`; "" before it does.
        engine: one sentence about it.
        backend: what computes, as `torch` or `openvino`; "" before it does.
        space: whether the avatar can be moved in space.
        desk: the portraits.
        cameras: those that are there; None while they are looked for.
        camera: text of the one in use, or "".
        report: of the virtual camera's doctor; None while it looks.
        recordings: what is written to files.
        calibrating: how far the calibration has come, 0 to 1, or None.
        measuring: how far the measuring of this machine has come, 0 to 1, or None.
        measured: what it said, one sentence, or "".

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
        self.chain = Chain(absolute=not settings.live.relative)
        self.state = State.STARTING
        self.why = ""
        self.device = ""
        self.engine = ""
        self.backend = ""
        self.space = Space()
        self.cameras: list[CameraInfo] | None = None
        self.camera = options.camera or settings.camera
        self.report: VirtualCameraReport | None = None
        self.calibrating: float | None = None
        self.measuring: float | None = None
        self.measured = ""
        self.smoothing_delay_ms: Callable[[float], float] | None = None
        self._options = options
        self._parts = parts
        self._cleanup = Cleanup()
        self._pipeline: Pipeline | None = None
        self._portrait: Portrait | None = None
        self._proven_portrait: Portrait | None = None
        self._proven_camera = ""
        self._proven_link = Link()
        self._virtual_camera: Sink | None = None
        self._virtual_camera_wanted = False
        self._panicked = False
        self._closed = False
        self._bridge = Bridge(self._hear, self.woken.emit, self._measuring)
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
        self.desk = PortraitDesk(self._portrait_worker, parts.open_store)
        self.desk.told.connect(self.told)
        self.desk.chosen.connect(self._use_portrait)
        self.recordings = Recordings(self._worker, parts.make_recorder, self._videos_folder)
        self.recordings.told.connect(self.told)
        self.recordings.changed.connect(self.changed)
        for worker in (self._worker, self._portrait_worker):
            worker.busy_changed.connect(self._tell_busy)

    # Starting and ending

    def start(self) -> None:
        """Begin everything that a run needs, side by side, off the GUI thread."""
        self.desk.open(self._options.portrait or self.settings.portrait)
        self._worker.run(self._load_pipeline, self._begin, self._report("pipeline"))
        self.refresh_cameras()
        self.examine_virtual_camera()
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
        bridge = self._bridge
        pipeline = self._parts.make_pipeline(
            settings, bridge.tell, bridge.wake, lambda sentence: bridge.progress(1.0, sentence)
        )
        return pipeline, self._parts.load_smoothing_delay()

    def _begin(self, made: "tuple[Pipeline, Callable[[float], float]]") -> None:
        pipeline, self.smoothing_delay_ms = made
        self._pipeline = self.recordings.pipeline = pipeline
        self._cleanup.add("pipeline", pipeline.stop)
        pipeline.update(self.settings.live)
        pipeline.start()
        if self._portrait is not None:
            pipeline.set_portrait(self._portrait)
        self._open_camera()
        self.live_changed.emit()
        self.changed.emit()

    def _restart(self) -> None:
        if (pipeline := self._pipeline) is None:
            return
        self.recordings.finish()
        self._set_chain(replace(self.chain, model=Chain().model))
        self._worker.run(pipeline.stop, lambda _: self._start_again(pipeline), self._report("stage"))

    def _start_again(self, pipeline: "Pipeline") -> None:
        """After a stop: everything has to be proven anew."""
        self.state, self.why, self.calibrating = State.STARTING, "", None
        self._set_chain(replace(self.chain, model=Chain().model, calibration=Chain().calibration))
        self._open_camera()  # these may not be the ones that were wished for last: those may have failed
        if self._portrait is not None:
            pipeline.set_portrait(self._portrait)
        pipeline.start()

    def measure(self) -> None:
        """Try what runs the model best here, with everything else at rest, and go on with that."""
        pipeline = self._pipeline
        if pipeline is None or self.measuring is not None or self.on_air:
            return
        self.recordings.finish()
        self.measuring, self.why = 0.0, "getting ready"
        settings = self._options.over(self.settings)
        self._set_chain(replace(self.chain, model=Link(text="this computer is being measured")))

        def work() -> str:
            pipeline.stop(_MEASURING_STOP_S)
            return self._parts.measure(settings, self._bridge.progress)

        def go_on() -> None:
            self.measuring, self.why = None, ""
            self._start_again(pipeline)

        def failed(error: Exception) -> None:
            go_on()
            self._report("measuring")(error)

        def done(sentence: str) -> None:
            self.measured = sentence
            go_on()
            self.told.emit(Message("measured", f"Measured: {sentence}.", tone="info"))

        self._worker.run(work, done, failed)

    def _measuring(self, share: float, text: str) -> None:
        if self.measuring is None:
            self.measured = text
        else:
            self.measuring, self.why = share, text
        self.changed.emit()

    # Settings

    def set_live(self, live: LiveSettings) -> None:
        """Change what the stages read; they have it with the next frame."""
        if live == self.settings.live:
            return
        in_space = self.in_space
        self.settings = replace(self.settings, live=live)
        if self._pipeline is not None:
            self._pipeline.update(live)
        self._save_timer.start()
        if self.chain.absolute == live.relative:
            self._set_chain(replace(self.chain, absolute=not live.relative))
        if self.space.needs_calibration(live):
            self.space = replace(self.space, reference=False)
            self.calibrate(now=False)
        if self.in_space != in_space:  # what a calibration asks for is other, too
            self.changed.emit()
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

    # Cameras

    def refresh_cameras(self) -> None:
        """Look again which cameras are there."""
        self.cameras = None
        self.changed.emit()
        self._worker.run(self._parts.list_cameras, self._take_cameras, self._no_cameras)

    def choose_camera(self, text: str) -> None:
        """Take another camera, or a file that stands in for one, and remember it."""
        if text == self.camera and self.chain.camera.done:
            return
        self.camera = text
        self._keep(replace(self.settings, camera=text))
        self._open_camera()
        self.changed.emit()

    def _take_cameras(self, cameras: "list[CameraInfo]") -> None:
        self.cameras = cameras
        if not self.camera and cameras:
            self.camera = cameras[0].spec_text
            self._open_camera()
        elif not self.camera:
            self._set_chain(replace(self.chain, camera=Link(text="no camera was found", failed=True)))
            self.told.emit(
                Message("camera", "No camera was found. Plug one in and refresh, or let a video file stand in for it.")
            )
        self.changed.emit()

    def _no_cameras(self, error: Exception) -> None:
        self.cameras = []
        self._report("cameras")(error)
        self.changed.emit()

    def _open_camera(self) -> None:
        if self._pipeline is None or not self.camera:
            return
        try:
            spec = self._parts.parse_camera(self.camera)
        except UserError as error:
            self._set_chain(replace(self.chain, camera=Link(text="the camera cannot be used", failed=True)))
            self.told.emit(Message("camera", str(error)))
            return
        pipeline = self._pipeline
        self.calibrating = None
        self._set_chain(replace(self.chain, camera=Link(text="the camera is being opened")))
        if spec.kind == "device":
            when_camera_is_allowed(lambda: pipeline.set_camera(spec), self._camera_is_forbidden)
        else:
            pipeline.set_camera(spec)

    def _camera_is_forbidden(self) -> None:
        self._set_chain(replace(self.chain, camera=Link(text="the system forbids the camera", failed=True)))
        self.told.emit(
            Message("camera", "The system does not let this app use the camera. Allow it in System Settings, Privacy.")
        )

    # Portraits

    def _use_portrait(self, portrait: "Portrait") -> None:
        self._portrait = portrait
        if portrait.entry.key != self._options.portrait:
            self._keep(replace(self.settings, portrait=portrait.entry.key))
        if not self.chain.portrait.done:
            self._set_chain(replace(self.chain, portrait=Link(text="the portrait is being prepared")))
        if self._pipeline is not None:
            self._pipeline.set_portrait(portrait)
        self.changed.emit()

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
    def on_air(self) -> bool:
        """Whether a virtual camera takes the pictures."""
        return self.chain.virtual_camera.done

    @property
    def opening_virtual_camera(self) -> bool:
        """Whether the virtual camera was switched on and has not answered yet."""
        return self._virtual_camera_wanted and not self.on_air

    @property
    def live(self) -> bool:
        """Whether a call may see the avatar now."""
        return self.on_air and not self.settings.live.slate

    @property
    def in_space(self) -> bool:
        """Whether the avatar is moved in space, as far as is known."""
        return self.space.moves(self.settings.live)

    def go_live(self) -> None:
        """Take the slate away: with a virtual camera once the chain is proven, without one at any time."""
        if self._virtual_camera_wanted and self.chain.missing():
            return
        self._panicked = False
        self.set_live(replace(self.settings.live, slate=False))
        self.changed.emit()

    def stop(self) -> None:
        """Leave the slate up. The virtual camera stays, so that the call keeps its picture."""
        self.set_live(replace(self.settings.live, slate=True))
        self.changed.emit()

    def slate(self) -> None:
        """The panic key: the slate with the next picture, whatever else is going on. Never takes it away."""
        self._panicked = True
        self.stop()

    def calibrate(self, *, now: bool) -> None:
        """Take the reference: from this very frame, or hands-free from the best of the next ones."""
        if self._pipeline is not None:
            self._pipeline.calibrate(now=now)

    # Sinks

    def examine_virtual_camera(self) -> None:
        """Have the doctor look."""
        self.report = None
        self.changed.emit()
        self._worker.run(self._parts.examine_virtual_camera, self._take_report, self._report("virtual camera"))

    def set_virtual_camera(self, on: bool) -> None:
        """Switch the virtual camera. It starts with the slate; going live is another step."""
        if self._pipeline is None:
            return
        if not on:
            if self._virtual_camera is None:
                self._virtual_camera_gone(Chain().virtual_camera)
            else:
                self._pipeline.remove_sink(self._virtual_camera.name)
            return
        if self._virtual_camera_wanted:
            return
        self._virtual_camera_wanted = True
        self.set_live(replace(self.settings.live, slate=True))
        self._set_chain(replace(self.chain, virtual_camera=Link(text="the virtual camera is being opened")))
        self._worker.run(self._parts.make_virtual_camera, self._add_virtual_camera, self._no_virtual_camera)

    def _take_report(self, report: "VirtualCameraReport") -> None:
        self.report = report
        self.changed.emit()

    def _add_virtual_camera(self, sink: "Sink") -> None:
        if self._pipeline is not None and self._virtual_camera_wanted and self._virtual_camera is None:
            self._virtual_camera = sink
            self._pipeline.add_sink(sink)
            self.changed.emit()

    def _no_virtual_camera(self, error: Exception) -> None:
        self._virtual_camera_gone(Link(text="the virtual camera cannot be opened", failed=True))
        self._report("virtual camera")(error)

    def _virtual_camera_gone(self, link: Link) -> None:
        if self._pipeline is not None and self._virtual_camera is not None:
            self._pipeline.remove_sink(self._virtual_camera.name)  # or it would come back with the next start
        self._virtual_camera, self._virtual_camera_wanted = None, False
        self._set_chain(replace(self.chain, virtual_camera=link))
        if not self._panicked:  # nobody watches any more: the preview goes on
            self.set_live(replace(self.settings.live, slate=False))

    # What the pipeline gives

    def pull(self) -> "tuple[Composed | None, DriverView | None]":
        """The newest pictures, each at most once."""
        if self._pipeline is None:
            return None, None
        composed = self._pipeline.preview.take(0)
        if composed is not None:
            self.recordings.last = composed.rgb
            if composed.state is not self.state:
                self.state, self.why = composed.state, ""
                self.changed.emit()
        return composed, self._pipeline.driver.take(0)

    def stats(self) -> Stats:
        """How the pipeline does."""
        return Stats(self.state) if self._pipeline is None else self._pipeline.stats()

    def _hear(self, event: Event) -> None:
        logger.debug("event %s", event)
        match event:
            case EngineReady():
                self.device, self.engine, self.backend = event.reason.split(" ", 1)[0], event.reason, event.backend
                self.space = Space(model=event.measures)
                self._set_chain(replace(self.chain, model=Link(True, self.measured or event.reason)))
            case BackendChanged():
                self.backend = event.backend
            case SourceReady():
                self.space = replace(self.space, portrait=event.measured)
                self.desk.settle(event.key)
                if self._portrait is not None and self._portrait.entry.key == event.key:
                    self._proven_portrait = self._portrait
                self._set_chain(replace(self.chain, portrait=Link(True, self.desk.name_of(event.key))))
            case SourceFailed():
                self._source_failed(event)
            case CameraOpened():
                self._camera_opened(event)
            case CameraFailed():
                self._camera_failed(event)
            case CalibrationProgress():
                self.calibrating, self.why = event.share, event.hint
                waiting = Link(text="the calibration is under way")
                self._set_chain(replace(self.chain, calibration=waiting))
            case Calibrated():
                self.calibrating, self.why = None, ""
                self.space = replace(self.space, reference=event.in_space)
                remarks = f": {', '.join(event.remarks)}" if event.remarks else ""
                self._set_chain(replace(self.chain, calibration=Link(True, f"{event.score} of 100{remarks}")))
            case StateChanged():
                self._state_changed(event)
            case SinkOpened() | SinkFailed() | SinkClosed():
                self._hear_of_sink(event)
            case SettingRefused():
                self.told.emit(Message(event.setting, event.message, tone="warning"))
            case StageFailed():
                self._stage_failed(event)
            case StageRecovered():
                self._stage_recovered()
            case _:
                assert_never(event)
        self.changed.emit()

    def _state_changed(self, event: StateChanged) -> None:
        self.state, self.why = event.state, event.message
        if event.state is State.CALIBRATING and self.chain.calibration.done:
            self._set_chain(replace(self.chain, calibration=Chain().calibration))

    def _source_failed(self, event: SourceFailed) -> None:
        self.desk.refuse(event.key)
        if self._proven_portrait is not None and self._portrait is not None and self._portrait.entry.key == event.key:
            self._portrait = self._proven_portrait
            self._keep(replace(self.settings, portrait=self._portrait.entry.key))
        self.told.emit(Message("portrait", event.message))

    def _camera_opened(self, event: CameraOpened) -> None:
        size = f"{event.width_px} x {event.height_px}, {event.fps_hz:.0f} fps"
        text = f"{size}; {event.remark}" if event.remark else size
        self._proven_camera, self._proven_link = self.camera, Link(True, text)
        self._set_chain(replace(self.chain, camera=self._proven_link))
        self.cleared.emit("camera")

    def _camera_failed(self, event: CameraFailed) -> None:
        text = f"{event.message.rstrip('.')}."
        if event.retry_s is not None:
            text += f" Trying again in {max(1, round(event.retry_s))} s."
        if event.kept:
            self._set_chain(replace(self.chain, camera=self._proven_link))
            self.camera = self._proven_camera
            self._keep(replace(self.settings, camera=self.camera))
            text += f" {Path(event.kept).name} goes on."
        else:
            self.calibrating = None
            self._set_chain(replace(self.chain, camera=Link(text="the camera gives no frames", failed=True)))
        self.told.emit(Message("camera", text, action="Refresh cameras", act=self.refresh_cameras))

    def _hear_of_sink(self, event: SinkOpened | SinkFailed | SinkClosed) -> None:
        if self._virtual_camera is not None and event.sink == self._virtual_camera.name:
            if isinstance(event, SinkOpened):
                self._set_chain(replace(self.chain, virtual_camera=Link(True, event.detail or event.sink)))
                self.cleared.emit("virtual camera")
            elif isinstance(event, SinkClosed) and not event.asked:
                again = Link(text="the virtual camera is being opened again")
                self._set_chain(replace(self.chain, virtual_camera=again))
            elif isinstance(event, SinkFailed):
                self._virtual_camera_gone(Link(text="the virtual camera does not take pictures", failed=True))
                self.told.emit(Message("virtual camera", event.message))
                self.examine_virtual_camera()
            else:
                self._virtual_camera_gone(Chain().virtual_camera)
        else:
            self.recordings.hear(event)

    def _stage_failed(self, event: StageFailed) -> None:
        self._set_chain(replace(self.chain, model=Link(text="a part has failed", failed=True)))
        what = "The model cannot be loaded" if event.stage == "model" else f"The {event.stage} has failed"
        text = f"{what}: {event.message.rstrip('.')}. The output shows the slate."
        self.told.emit(Message("stage", text, action="Start again", act=self._restart))

    def _stage_recovered(self) -> None:
        if self.chain.model.failed and self.engine:
            self._set_chain(replace(self.chain, model=Link(True, self.measured or self.engine)))
            self.cleared.emit("stage")

    # Helpers

    def _set_chain(self, chain: Chain) -> None:
        self.chain = chain
        self._tell_busy()
        self.changed.emit()

    def _videos_folder(self) -> Path:
        return Path(self.settings.recordings) if self.settings.recordings else videos_folder()

    def _report(self, key: str) -> Callable[[Exception], None]:
        def report(error: Exception) -> None:
            if isinstance(error, UserError):
                self.told.emit(Message(key, str(error)))
            else:
                logger.error("unexpected error about the %s", key, exc_info=error)
                self.told.emit(Message(key, f"Something unexpected went wrong ({key}): {error!r}."))

        return report

    def _tell_busy(self) -> None:
        if self._closed:
            return
        if self.measuring is not None:
            self.busy_changed.emit("measuring…")
        elif not self.chain.model.done and not self.chain.model.failed:
            self.busy_changed.emit("loading the model…")
        else:
            reading = "reading the portrait…" if self._portrait_worker.busy else ""
            self.busy_changed.emit(reading or ("working…" if self._worker.busy else ""))
