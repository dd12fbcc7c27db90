"""One run of the app behind the window: the pipeline, the settings, and what is proven so far."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from PyQt6.QtCore import QObject, pyqtSignal

from app.control.facts import AppState, PortraitFact, gains_of
from app.pipeline.events import (
    BackendChanged,
    Calibrated,
    CalibrationMissed,
    CalibrationProgress,
    CameraDark,
    CameraFailed,
    CameraLit,
    CameraOpened,
    EngineReady,
    Event,
    Measured,
    MeasuringProgress,
    ModelRefused,
    MotionFollowed,
    MotionRefused,
    PersonCutOut,
    ReferenceImproved,
    SettingRefused,
    SinkClosed,
    SinkFailed,
    SinkOpened,
    SourceFailed,
    SourceReady,
    StageFailed,
    StageRecovered,
    StateChanged,
    Undisclosed,
)
from app.pipeline.output.discloser import Discloser
from app.pipeline.output.output_frame import Composed
from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.places import presets_file, videos_folder
from app.settings import AppSettings, ControlSettings, LiveSettings, WindowSettings
from app.space import Space
from app.ui.bridge import Bridge
from app.ui.calibration import Calibration
from app.ui.call_microphone import CallMicrophone
from app.ui.camera_desk import CameraDesk
from app.ui.chain import Chain
from app.ui.cleanup import Cleanup
from app.ui.folders import Folders
from app.ui.going_live import GoingLive
from app.ui.insight import Insight
from app.ui.kept_settings import KeptSettings
from app.ui.languages import capital, full_sentence, tr
from app.ui.measuring import Measuring
from app.ui.messages import Message, failure_message
from app.ui.microphone import Microphone
from app.ui.model_desk import ModelDesk
from app.ui.model_in_use import ModelInUse
from app.ui.output_state import OutputState
from app.ui.panic_key import PanicKey
from app.ui.parts import Parts, WindowOptions
from app.ui.portrait_desk import PortraitDesk
from app.ui.portrait_in_use import PortraitInUse
from app.ui.preset_desk import PresetDesk
from app.ui.recordings import Recordings
from app.ui.refusals import Refusals
from app.ui.remote import Remote
from app.ui.run import Run, RunChanges
from app.ui.virtual_camera_switch import VirtualCameraSwitch
from app.ui.window_operator import WindowOperator
from app.ui.worker import Worker
from app.words import missed_calibration_words, motion_refused_words
from mcnet.disclosure import SigningFiles
from mcnet.files import as_written

if TYPE_CHECKING:
    from app.pipeline.animation.performer_view import PerformerView
    from app.pipeline.pipeline import Pipeline
    from app.pipeline.portraits import Portrait

logger = logging.getLogger(__name__)


class Session(QObject):
    """Wires what runs to what the window shows, and answers its wishes. Lives on the GUI thread and never waits.

    It makes all that a run needs, hands the pipeline's facts to whom they concern, and stops it all at the end. Of
    state it owns next to nothing: how the model, the portrait, the calibration and the output stand is known where each
    is followed, and the settings are `KeptSettings`'. What the window reads and wishes for of them has its name here.

    Attributes:
        desk: the portraits.
        presets: strengths of the motion by name and by portrait.
        camera_desk: the cameras.
        virtual_camera: its switch.
        devices: where the model can run besides the processor, as the settings name it, with a name for people.
        recordings: what is written to files.
        microphone: whose sound they have, if it is on.
        call_microphone: the same one for calls, as late as the picture.
        measuring: what runs the model best here.
        models: those that can animate.
        remote: control from outside.
        panic_key: a key for the slate while another window has the focus.
        insight: the inside of the network, while somebody looks.

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
        self._kept = KeptSettings(None if options.safe else options.settings_path, settings, self)
        self._output = OutputState(lambda: self._run.restart())
        self._calibration = Calibration()
        self._options = options
        self._parts = parts
        self._cleanup = Cleanup()
        self._closed = False
        self._refusals = Refusals()
        self.devices: tuple[tuple[str, str], ...] = ()
        self._bridge = Bridge(self._hear, self.woken.emit)
        self._worker = Worker("window worker", threads=2)
        self._cleanup.add("worker", self._worker.stop)
        self._cleanup.add("output state", self._output.end_fault)
        self._folders = Folders()  # for files that are written; one that does not answer holds up nothing else
        self._cleanup.add("folders", self._stop_folders)  # what waits for one comes after the settings are kept
        self._portrait_worker = Worker("portrait worker")  # one thread: the gallery's index is read and written whole
        self._cleanup.add("portrait worker", self._portrait_worker.stop)
        self._model_worker = Worker("model worker")  # its looks at a run that learns are nobody's business
        self._cleanup.add("model worker", self._model_worker.stop)
        self._cleanup.add("bridge", self._bridge.close)
        self._cleanup.add("settings", self._kept.save_at_last)
        self._microphone_worker = Worker("microphone worker")  # a sound server that hangs holds up nobody else
        self._cleanup.add("microphone worker", self._microphone_worker.stop)
        self.microphone = Microphone(
            self._microphone_worker, parts.list_microphones, parts.open_microphone, settings.microphone
        )
        self._cleanup.add("microphone", self.microphone.close)
        self.call_microphone = CallMicrophone(parts.make_call_microphone, lambda: self.stats().age_ms.p50 / 1000)
        self._cleanup.add("call microphone", self.call_microphone.close)
        self._cleanup.add("motion recording", lambda: self.recordings.finish_motion_at_last())
        self._cleanup.add("pipeline", lambda: self._run.stop())  # before it: the end of a recording still has its sound
        camera = options.camera or settings.camera
        self.desk = PortraitDesk(self._portrait_worker, parts.open_store)
        self._portrait = PortraitInUse(self.desk, self._kept, options.portrait)
        self.presets = PresetDesk(
            None if options.safe else presets_file(options.settings_path), lambda: self._kept.live, self._kept.set_live
        )
        self._cleanup.add("presets", self.presets.save_at_last)
        self.camera_desk = CameraDesk(self._worker, parts.list_cameras, parts.parse_camera, camera)
        self.virtual_camera = VirtualCameraSwitch(
            self._worker, parts.examine_virtual_camera, parts.make_virtual_camera, settings.virtual_camera
        )
        self._cleanup.add("virtual camera", self.virtual_camera.close)
        self._discloser = Discloser(self._signing_files, self._bridge.tell, parts.begin_disclosing)
        self.recordings = Recordings(
            self._folders,
            parts.make_recorder,
            self._videos_folder,
            lambda: self.microphone.feed if self.microphone.wanted else None,
            self._discloser,
            lambda: self.settings.live.cut_out and self.settings.live.background == "alpha",
        )
        self.measuring = Measuring(self._worker, parts.measure, self._bridge.tell)
        self._run = Run(
            self._worker,
            self._make_pipeline,
            options,
            self._kept,
            self.virtual_camera,
            self.recordings,
            self.measuring,
        )
        self.models = ModelDesk(self._model_worker, parts.examine_model, parts.read_card, parts.model_stamp)
        self._cleanup.add("models", self.models.stop)
        self._model = ModelInUse(self._run, self.models, self.measuring, self.virtual_camera, self._kept)
        self._going_live = GoingLive(
            self._run,
            self._kept,
            model=self._model,
            camera=self.camera_desk,
            portrait=self._portrait,
            calibration=self._calibration,
            virtual_camera=self.virtual_camera,
            call_microphone=self.call_microphone,
            recordings=self.recordings,
        )
        self.insight = Insight(parts.make_inspector)
        self._cleanup.add("insight", self.insight.end)
        self._operator = WindowOperator(
            self._going_live,
            self._kept,
            self.virtual_camera,
            self._calibration,
            self.desk,
            self.presets,
            self.recordings,
        )
        control_worker = Worker("control worker")
        self.remote = Remote(
            control_worker,
            parts.make_control,
            settings.control,
            options.control_port,
            self._operator.perform,
            self.call_microphone.mute_now,
        )
        self._cleanup.add("remote", self.remote.close)  # first of all: who asks now would ask in vain
        self.panic_key = PanicKey(control_worker, parts.listen_for, self.remote.panic, settings.control.slate_key)
        self._cleanup.add("panic key", self.panic_key.close)
        self._connect()

    def _connect(self) -> None:
        parts = (
            self.camera_desk,
            self.virtual_camera,
            self.recordings,
            self.microphone,
            self.call_microphone,
            self.measuring,
            self.models,
            self.remote,
        )
        for part in (
            self._kept,
            self._output,
            self._refusals,
            self.desk,
            self.presets,
            self.panic_key,
            self._folders,
            *parts,
        ):
            part.told.connect(self.told)
            part.cleared.connect(self.cleared)
        for part in parts:
            part.changed.connect(self._changed)
        for source in (self._portrait, self._run, self._model):
            source.told.connect(self.told)
            source.changed.connect(self._changed)
        self._run.given.connect(self._give)
        self._run.begun.connect(self._follow_begun)
        self._run.stopping.connect(self._await_model)
        self._run.stopped.connect(self._begin_anew)
        self._run.renewing.connect(self._forget_run)
        self._portrait.exhausted.connect(self._await_portrait)
        self._kept.live_changed.connect(self._follow_live)
        self.camera_desk.chosen.connect(lambda text: self._kept.keep(replace(self.settings, camera=text)))
        self.microphone.chosen.connect(
            lambda on, key: self._kept.keep(replace(self.settings, record_sound=on, microphone=key))
        )
        self.microphone.changed.connect(self._choose_call_microphone)
        self.call_microphone.chosen.connect(lambda on: self._kept.keep(replace(self.settings, call_microphone=on)))
        self.live_changed.connect(lambda: self.call_microphone.mute(self.settings.live.slate))
        self.remote.chosen.connect(self._keep_control)
        self.panic_key.chosen.connect(lambda key: self._keep_control(replace(self.settings.control, slate_key=key)))
        self.panic_key.pressed.connect(self._going_live.follow_panic)
        self.changed.connect(self._show_remote)
        self.live_changed.connect(self._show_remote)
        self.presets.changed.connect(self._show_remote)
        self.camera_desk.interrupted.connect(self._calibration.interrupt)
        self.virtual_camera.chosen.connect(lambda kind: self._kept.keep(replace(self.settings, virtual_camera=kind)))
        self._going_live.changed.connect(self.changed)
        for worker in (self._worker, self._portrait_worker, self._folders):
            worker.busy_changed.connect(self._tell_busy)

    # Starting and ending

    def start(self) -> None:
        """Begin everything that a run needs, side by side, off the GUI thread."""
        self.presets.load()
        self.desk.open(self._options.portrait or self.settings.portrait)
        self._run.begin()
        self.camera_desk.refresh()
        self.virtual_camera.examine()
        self._worker.run(self._parts.list_devices, self._take_devices, self._no_devices)
        self.microphone.switch(self.settings.record_sound)
        self._choose_call_microphone()
        self.call_microphone.mute(self.settings.live.slate)
        self.call_microphone.switch(self.settings.call_microphone)
        self.remote.open()
        self.panic_key.open()
        self._tell_busy()

    def close(self) -> bool:
        """Stop everything, the last started first; harmless when called again.

        Returns:
            Whether every thread has ended.
        """
        self._closed = True
        return self._cleanup.run()

    def _stop_folders(self) -> bool:
        stopped = self._folders.stop()
        self.recordings.log_what_is_lost()
        return stopped

    def _make_pipeline(self, settings: AppSettings) -> "Pipeline":
        self.models.expect(settings.model)
        return self._parts.make_pipeline(settings, self._bridge.tell, self._bridge.wake)

    def _give(self, pipeline: "Pipeline | None") -> None:
        self.camera_desk.pipeline = self.virtual_camera.pipeline = self.recordings.pipeline = pipeline
        self.remote.pipeline = self._calibration.pipeline = self._portrait.pipeline = pipeline

    def _follow_begun(self) -> None:
        self._portrait.offer()
        self.camera_desk.open()
        self.live_changed.emit()
        self.changed.emit()

    def _await_model(self) -> None:
        self._output.end_fault()
        self._model.stop()
        self._changed()

    def _begin_anew(self) -> None:
        """After a stop: everything has to be proven anew."""
        self._output.begin_anew()
        self._clear_of_run()
        self._calibration.begin_anew()
        self._portrait.begin_anew()
        self._model.begin_anew()
        self.camera_desk.open()  # these may not be the ones that were wished for last: those may have failed
        self._portrait.offer()

    def _forget_run(self) -> None:
        """Everything has to be proven anew."""
        self._output.begin_anew()
        self._clear_of_run()
        self._calibration.forget()
        self._portrait.forget()
        self._model.forget()
        self._changed()

    def _clear_of_run(self) -> None:
        """What a run told until it should tell that it is over: it ends without."""
        self.cleared.emit("calibration")
        self.cleared.emit("motion refused")

    def _take_devices(self, devices: tuple[tuple[str, str], ...]) -> None:
        self.devices = devices
        self._changed()

    def _no_devices(self, error: Exception) -> None:
        self.told.emit(failure_message("devices", error))

    # What is shown, proven and under way

    @property
    def state(self) -> State:
        """What the output shows."""
        return self._output.state

    @property
    def reason(self) -> str:
        """Why the output shows what it shows, and what to do, as far as the state alone does not say it; or ""."""
        return self._output.reason(self.chain.missing())

    @property
    def chain(self) -> Chain:
        """What is proven so far."""
        return self._going_live.chain

    @property
    def live(self) -> bool:
        """Whether a call may see the avatar now."""
        return self._going_live.live

    @property
    def calibrating(self) -> float | None:
        """How far the calibration has come, 0 to 1, or None."""
        return self._calibration.share

    @property
    def space(self) -> Space:
        """Whether the avatar can be moved in space."""
        return self._calibration.space

    @property
    def in_space(self) -> bool:
        """Whether the avatar is moved in space, as far as is known."""
        return self.space.moves(self.settings.live)

    @property
    def portrait(self) -> "Portrait | None":
        """The portrait that was chosen last, once it is read."""
        return self._portrait.portrait

    @property
    def animated(self) -> str:
        """Key of the portrait that is animated, or ""."""
        return self._portrait.animated

    @property
    def device(self) -> str:
        """Where the engine runs, as `cuda:0`; "" before it does."""
        return self._model.device

    @property
    def engine(self) -> str:
        """One sentence about the engine."""
        return self._model.engine

    @property
    def backend(self) -> str:
        """What computes, as `torch` or `openvino`; "" before it does."""
        return self._model.backend

    @property
    def run_settings(self) -> AppSettings:
        """What engine and output are made from: the kept settings, and what the command line says otherwise."""
        return self._run.settings

    @property
    def can_change_run(self) -> bool:
        """Whether the pipeline may be made anew: it is there, and no call or measuring depends on it."""
        return self._run.can_change

    @property
    def can_change_model(self) -> bool:
        """Whether another model may be chosen: also while a call watches, which then has the slate for a moment."""
        return self._run.can_change_model

    @property
    def ready(self) -> bool:
        """Whether there is a pipeline, so that wishes can be answered."""
        return self._run.pipeline is not None

    @property
    def busy(self) -> bool:
        """Whether something is under way in the background."""
        return self._worker.busy + self._portrait_worker.busy + self._model_worker.busy + self._folders.busy > 0

    def stats(self) -> Stats:
        """How the pipeline does."""
        return self._run.stats(self.state)

    def pull(self) -> "tuple[Composed | None, PerformerView | None]":
        """The newest pictures, each at most once."""
        if self._run.pipeline is None:
            return None, None
        composed = self._run.pipeline.preview.take(0)
        if composed is not None:
            self.recordings.last = composed
            if composed.state is not self.state:
                self._output.change(composed.state)
                self.changed.emit()
        return composed, self._run.pipeline.performer.take(0)

    # What the user wishes

    def go_live(self) -> None:
        """Take the slate away: with a virtual camera once the chain is proven, without one at any time."""
        self._going_live.go_live()

    def stop(self) -> None:
        """Leave the slate up. The virtual camera stays, so that the call keeps its picture."""
        self._going_live.stop()

    def slate(self) -> None:
        """The panic key: the slate with the next picture, whatever else is going on. Never takes it away."""
        self._going_live.slate()

    def calibrate(self, *, now: bool) -> None:
        """Take the reference: from this very frame, or hands-free from the best of the next ones."""
        self._calibration.take(now=now)

    def measure(self) -> None:
        """Try what runs the model best here, with everything else at rest, and go on with that."""
        self._run.measure()

    def choose_model(self, model: str) -> None:
        """Look at a model, and use it where nothing speaks against it.

        Args:
            model: bundled name, file or folder.
        """
        self._model.choose(model)

    def set_run(self, changes: RunChanges) -> None:
        """Use another model, device, or output's size or rate: engine and output are made anew, and it is kept."""
        self._run.change(changes)

    def watch_speed(self, stats: Stats) -> None:
        """Notice that the avatar moves too slowly for a call, or fast enough again."""
        self._model.watch_speed(stats)

    # Settings

    @property
    def settings(self) -> AppSettings:
        """As they are kept."""
        return self._kept.settings

    def set_live(self, live: LiveSettings) -> None:
        """Change what the stages read; they have it with the next frame."""
        self._kept.set_live(live)

    def _follow_live(self, before: LiveSettings) -> None:
        live = self.settings.live
        if self._run.pipeline is not None:
            self._run.pipeline.update(live)
        self._refusals.follow(before, live)
        if before.relative and not live.relative:
            self.cleared.emit("calibration")
        if self._calibration.follow(before, live):
            self._changed()
        self.presets.note()
        self.live_changed.emit()

    def set_window(self, window: WindowSettings) -> None:
        """Change how the window looks."""
        if window == self.settings.window:
            return
        self._kept.keep(replace(self.settings, window=window))
        self.window_changed.emit()

    def set_window_size(self, width_px: int, height_px: int) -> None:
        """Remember how large the window is; nobody needs to be told."""
        window = replace(self.settings.window, width_px=width_px, height_px=height_px)
        self._kept.keep(replace(self.settings, window=window))

    @property
    def recordings_folder(self) -> Path:
        """Where recordings and snapshots go."""
        return self._videos_folder()

    def where_recordings_are(self, then: Callable[[Path, bool | None], None]) -> None:
        """Tell `then` where recordings and snapshots go, and whether that folder is there, None where it does not
        answer, of which a message tells.
        """
        folder = self.recordings_folder
        self._folders.ask(folder, lambda there: then(folder, there))

    def set_recordings_folder(self, folder: Path) -> None:
        """Put recordings and snapshots there from now on, and what has not begun elsewhere nowhere."""
        if folder != self.recordings_folder:
            self.recordings.leave_folder()
        self._kept.keep(replace(self.settings, recordings=str(folder)))

    def set_content_credentials(self, wanted: bool) -> None:
        """Give Content Credentials to recordings and snapshots that are finished from now on, or leave them without."""
        self._kept.keep(replace(self.settings, content_credentials=wanted))

    def _videos_folder(self) -> Path:
        return as_written(self.settings.recordings) if self.settings.recordings else videos_folder()

    def _signing_files(self) -> SigningFiles | None:
        kept = self.settings
        if not kept.content_credentials:
            return None
        return SigningFiles(kept.signing_certificates, kept.signing_key)

    def _keep_control(self, control: ControlSettings) -> None:
        self.remote.settings = control
        self._kept.keep(replace(self.settings, control=control))

    def _choose_call_microphone(self) -> None:
        """Calls hear the microphone that recordings hear."""
        names, key = dict(self.microphone.microphones or ()), self.microphone.key
        self.call_microphone.use(key, names.get(key, ""))

    # What is told

    def _hear(self, event: Event) -> None:
        logger.debug("event %s", event)
        self.remote.tell(event)
        match event:
            case MeasuringProgress() | Measured():
                self.measuring.hear(event)
                if isinstance(event, Measured):
                    self._model.hear(event)
            case EngineReady():
                self._discloser.uses(event.model, event.content_hash)
                self._calibration.hear(event)
                self._model.hear(event)
            case ModelRefused() | BackendChanged():
                self._model.hear(event)
            case SourceReady():
                self._calibration.hear(event)
                self._portrait.hear(event)
                self._refusals.follow_portrait()
                self.presets.bring_back(event.key)
            case SourceFailed() | PersonCutOut():
                self._portrait.hear(event)
            case CameraOpened() | CameraFailed() | CameraDark() | CameraLit():
                self.camera_desk.hear(event)
            case CalibrationProgress():
                self._calibration.hear(event)
                self._output.why = event.hint
                self.cleared.emit("calibration")
            case CalibrationMissed():
                self._calibration.hear(event)
                self._output.why = ""
                text = full_sentence(capital(missed_calibration_words()))
                self.told.emit(Message("calibration", text, tone="warning"))
            case Calibrated():
                self._calibration.hear(event)
                self.cleared.emit("calibration")
                self._output.why = ""
            case ReferenceImproved():
                self._calibration.hear(event)
            case StateChanged():
                self._output.change(event.state, event.message)
                if event.state is State.CALIBRATING:
                    self._calibration.miss()
            case SinkOpened() | SinkFailed() | SinkClosed():
                self.virtual_camera.hear(event)
                self.recordings.hear(event)
            case Undisclosed():
                self.recordings.hear(event)
            case MotionRefused():
                self._calibration.hear(event)
                self._output.why = ""
                text = full_sentence(capital(motion_refused_words(event)))
                self.told.emit(Message("motion refused", text, tone="warning"))
            case MotionFollowed():
                self.cleared.emit("motion refused")
            case SettingRefused():
                self._refusals.hear(event)
            case StageFailed():
                if not self._model.come_back(event):
                    self._output.fail(event)
                    self._model.fail(self._output.fault)
            case StageRecovered():
                self._output.recover(event.stage)
                if self._output.fault:
                    self._model.fail(self._output.fault)
                else:
                    self._model.recover()
            case _:
                assert_never(event)
        self._changed()

    def _await_portrait(self, why: str) -> None:
        if self.state is State.STARTING:  # it is not the model that is waited for
            self._output.why = why

    def _changed(self) -> None:
        self._tell_busy()
        self.changed.emit()

    def _tell_busy(self) -> None:
        if self._closed:
            return
        if self.measuring.under_way:
            self.busy_changed.emit(tr("measuring…"))
        elif self.models.looking:
            self.busy_changed.emit(tr("looking at the model…"))
        elif self._model.loading:
            self.busy_changed.emit(tr("loading the model…"))
        else:
            reading = tr("reading the portrait…") if self._portrait_worker.busy else ""
            if self._portrait.cutting_out and not reading:
                reading = tr("cutting the person out; the scene stays until then…")
            self.busy_changed.emit(reading or (tr("working…") if self._worker.busy + self._folders.busy else ""))

    def _show_remote(self) -> None:
        portrait = PortraitFact(self.animated, self.desk.name_of(self.animated)) if self.animated else None
        chain, recording = self.chain, self.recordings.path
        self.remote.show(
            AppState(
                mode="window",
                state=self.state,
                shows_avatar=self.state.shows_avatar,
                why=self.reason,
                slate=self.settings.live.slate,
                live=self.live and self.state.shows_avatar,
                missing=chain.missing(),
                calibrating=None if self.calibrating is None else round(self.calibrating, 2),
                score=self._calibration.score if chain.calibration.done else None,
                camera=chain.camera.text if chain.camera.done else "",
                portrait=portrait,
                portraits=tuple(PortraitFact(entry.key, entry.name) for entry in self.desk.entries),
                recording="" if recording is None else str(recording),
                gains=gains_of(self.settings.live),
                preset=self.presets.current,
                presets=self.presets.names,
                retouch=self.settings.live.retouch,
                fine_detail=self.settings.live.fine_detail,
                model=self.run_settings.model,
                device=self.device,
                backend=self.backend,
            )
        )
