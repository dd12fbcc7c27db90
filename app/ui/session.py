"""One run of the app behind the window: the pipeline, the settings, and what is proven so far."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from PyQt6.QtCore import QObject, QTimer, pyqtSignal

from app.control.facts import AppState, PortraitFact, gains_of, with_gains
from app.control.operation import Answer, find_portrait, switched
from app.control.protocol import (
    ApplyPreset,
    Calibrate,
    ChoosePortrait,
    Command,
    Live,
    Record,
    RefusedError,
    SetGains,
    Slate,
    Stop,
    SwitchDetail,
    SwitchRetouch,
)
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
    ModelRefused,
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
from app.settings import RECENT_MODELS, AppSettings, ControlSettings, LiveSettings, WindowSettings, save_changes
from app.space import Space
from app.ui.bridge import Bridge
from app.ui.call_microphone import CallMicrophone
from app.ui.camera_desk import CameraDesk
from app.ui.chain import Chain, Link
from app.ui.cleanup import Cleanup
from app.ui.insight import Insight
from app.ui.languages import capital, clause, full_sentence, tr
from app.ui.measuring import LEAST_HZ, Measuring
from app.ui.messages import Message, failure_message
from app.ui.microphone import Microphone
from app.ui.model_desk import BUNDLED, ModelDesk, label_of
from app.ui.panic_key import PanicKey
from app.ui.parts import Parts, WindowOptions
from app.ui.portrait_desk import PortraitDesk
from app.ui.preset_desk import PresetDesk
from app.ui.recordings import Recordings
from app.ui.remote import Remote
from app.ui.virtual_camera_switch import VirtualCameraSwitch
from app.ui.worker import Worker
from app.words import learning_words, motion_refused_words, too_slow_words
from mcnet.disclosure import SigningFiles
from mcnet.files import as_written
from mcnet.phrases import Phrase, listed, phrase

if TYPE_CHECKING:
    from app.pipeline.animation.performer_view import PerformerView
    from app.pipeline.models import ModelReport
    from app.pipeline.pipeline import Pipeline
    from app.pipeline.portraits import Portrait

logger = logging.getLogger(__name__)

_SAVE_AFTER_MS = 800
_STEADY_FRAMES = 60
_ONCE_SLOW = 1.2
"""How much faster than too slow it has to become to count as fast enough again."""


@dataclass(frozen=True)
class RunChanges:
    """What is to be used from now on; None leaves it as it is.

    Attributes:
        model: a bundled name, or a file.
        device: as `AppSettings.device`.
        size_px: width and height of the output.
        fps_hz: pictures per second of the output.
    """

    model: str | None = None
    device: str | None = None
    size_px: tuple[int, int] | None = None
    fps_hz: float | None = None

    def over(self, settings: AppSettings) -> AppSettings:
        """The settings with these changes."""
        width_px, height_px = self.size_px or (settings.output_width_px, settings.output_height_px)
        return replace(
            settings,
            model=self.model or settings.model,
            device=self.device or settings.device,
            output_width_px=width_px,
            output_height_px=height_px,
            output_fps_hz=self.fps_hz or settings.output_fps_hz,
        )


class Session(QObject):
    """Wires what runs to what the window shows, and answers its wishes. Lives on the GUI thread and never waits.

    Attributes:
        settings: as they are kept.
        state: what the output shows.
        why: the pipeline's reason for the state, or "".
        fault: what has failed and what to do, while it has; or "".
        device: where the engine runs, as `cuda:0`; "" before it does.
        engine: one sentence about it.
        backend: what computes, as `torch` or `openvino`; "" before it does.
        space: whether the avatar can be moved in space.
        calibrating: how far the calibration has come, 0 to 1, or None.
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
        self.settings = self._kept = replace(settings, live=replace(settings.live, slate=False))
        self._unsaved = False  # what could not be kept when it changed
        self.state = State.STARTING
        self.why = ""
        self.fault = ""
        self.device = ""
        self.engine = ""
        self.backend = ""
        self.space = Space()
        self.calibrating: float | None = None
        self._cutting_out = False
        self._relies_on_key = False
        self._model, self._calibration, self._portrait_link = Chain().model, Chain().calibration, Chain().portrait
        self._options = options
        self._parts = parts
        self._cleanup = Cleanup()
        self._pipeline: Pipeline | None = None
        self._portrait: Portrait | None = None
        self._proven_portrait: Portrait | None = None
        self._panicked = False
        self._closed = False
        self._slow: str | None = None  # not seen yet; what was measured is told meanwhile
        self._animated = ""
        self._refused: set[str] = set()
        self.devices: tuple[tuple[str, str], ...] = ()
        self._bridge = Bridge(self._hear, self.woken.emit)
        self._worker = Worker("window worker", threads=2)
        self._cleanup.add("worker", self._worker.stop)
        self._portrait_worker = Worker("portrait worker")  # one thread: the gallery's index is read and written whole
        self._cleanup.add("portrait worker", self._portrait_worker.stop)
        self._model_worker = Worker("model worker")  # its looks at a run that learns are nobody's business
        self._cleanup.add("model worker", self._model_worker.stop)
        self._cleanup.add("bridge", self._bridge.close)
        self._save_timer = QTimer(self)
        self._save_timer.setSingleShot(True)
        self._save_timer.setInterval(_SAVE_AFTER_MS)
        self._save_timer.timeout.connect(self._save)
        self._cleanup.add("settings", self._save_at_last)
        self._microphone_worker = Worker("microphone worker")  # a sound server that hangs holds up nobody else
        self._cleanup.add("microphone worker", self._microphone_worker.stop)
        self.microphone = Microphone(
            self._microphone_worker, parts.list_microphones, parts.open_microphone, settings.microphone
        )
        self._cleanup.add("microphone", self.microphone.close)
        self.call_microphone = CallMicrophone(parts.make_call_microphone, lambda: self.stats().age_ms.p50 / 1000)
        self._cleanup.add("call microphone", self.call_microphone.close)
        self._cleanup.add("motion recording", lambda: self.recordings.finish_motion_at_last())
        self._cleanup.add("pipeline", self._stop_pipeline)  # before it: the end of a recording still has its sound
        camera = options.camera or settings.camera
        self.desk = PortraitDesk(self._portrait_worker, parts.open_store)
        self.presets = PresetDesk(
            None if options.safe else presets_file(options.settings_path), lambda: self.settings.live, self.set_live
        )
        self._cleanup.add("presets", self.presets.save_at_last)
        self.camera_desk = CameraDesk(self._worker, parts.list_cameras, parts.parse_camera, camera)
        self.virtual_camera = VirtualCameraSwitch(
            self._worker, parts.examine_virtual_camera, parts.make_virtual_camera, settings.virtual_camera
        )
        self._cleanup.add("virtual camera", self.virtual_camera.close)
        self._discloser = Discloser(self._signing_files, self._bridge.tell, parts.begin_disclosing)
        self.recordings = Recordings(
            self._worker,
            parts.make_recorder,
            self._videos_folder,
            lambda: self.microphone.feed if self.microphone.wanted else None,
            self._discloser,
            lambda: self.settings.live.cut_out and self.settings.live.background == "alpha",
        )
        self.measuring = Measuring(self._worker, parts.measure, self._bridge.tell)
        self.models = ModelDesk(self._model_worker, parts.examine_model, parts.read_card, parts.model_stamp)
        self._cleanup.add("models", self._stop_models)
        self._good_model = ""
        self._awaited = ""  # was chosen in a call, and has neither taken over nor been refused
        self.insight = Insight(parts.make_inspector)
        self._cleanup.add("insight", self.insight.end)
        control_worker = Worker("control worker")
        self.remote = Remote(
            control_worker,
            parts.make_control,
            settings.control,
            options.control_port,
            self._perform,
            self.call_microphone.mute_now,
        )
        self._cleanup.add("remote", self.remote.close)  # first of all: who asks now would ask in vain
        self.panic_key = PanicKey(control_worker, parts.listen_for, self.remote.panic, settings.control.slate_key)
        self._cleanup.add("panic key", self.panic_key.close)
        self._score: int | None = None
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
        for part in (self.desk, self.presets, *parts):
            part.told.connect(self.told)
            part.cleared.connect(self.cleared)
        for part in parts:
            part.changed.connect(self._changed)
        self.desk.chosen.connect(self._use_portrait)
        self.desk.changed.connect(self._look_for_portrait)
        self.camera_desk.chosen.connect(lambda text: self._keep(replace(self.settings, camera=text)))
        self.microphone.chosen.connect(
            lambda on, key: self._keep(replace(self.settings, record_sound=on, microphone=key))
        )
        self.microphone.changed.connect(self._choose_call_microphone)
        self.call_microphone.chosen.connect(lambda on: self._keep(replace(self.settings, call_microphone=on)))
        self.live_changed.connect(lambda: self.call_microphone.mute(self.settings.live.slate))
        self.remote.chosen.connect(self._keep_control)
        self.panic_key.chosen.connect(lambda key: self._keep_control(replace(self.settings.control, slate_key=key)))
        self.panic_key.pressed.connect(self._follow_panic_key)
        self.panic_key.changed.connect(self._watch_panic_key)
        self.changed.connect(self._show_remote)
        self.live_changed.connect(self._show_remote)
        self.presets.changed.connect(self._show_remote)
        self.camera_desk.interrupted.connect(self._end_calibrating)
        self.virtual_camera.chosen.connect(lambda kind: self._keep(replace(self.settings, virtual_camera=kind)))
        self.virtual_camera.switched_on.connect(lambda: self._set_slate(True))
        self.virtual_camera.gone.connect(self._virtual_camera_gone)
        self.measuring.ended.connect(self._start_again)
        self.models.chosen.connect(self._use_model)
        self.models.renewed.connect(self._renew_model)
        for worker in (self._worker, self._portrait_worker):
            worker.busy_changed.connect(self._tell_busy)

    # Starting and ending

    def start(self) -> None:
        """Begin everything that a run needs, side by side, off the GUI thread."""
        self.presets.load()
        self.desk.open(self._options.portrait or self.settings.portrait)
        self._worker.run(self._load_pipeline, self._begin, self._report("pipeline"))
        self.camera_desk.refresh()
        self.virtual_camera.examine()
        self._worker.run(self._parts.list_devices, self._take_devices, self._report("devices"))
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

    def _take_devices(self, devices: tuple[tuple[str, str], ...]) -> None:
        self.devices = devices
        self._changed()

    def _load_pipeline(self) -> "Pipeline":
        settings = self._options.over(self.settings)
        self.models.expect(settings.model)
        return self._parts.make_pipeline(settings, self._bridge.tell, self._bridge.wake)

    def _begin(self, pipeline: "Pipeline") -> None:
        self._pipeline = pipeline
        self.camera_desk.pipeline = self.virtual_camera.pipeline = self.recordings.pipeline = pipeline
        self.remote.pipeline = pipeline
        pipeline.update(self.settings.live)
        pipeline.start()
        if self._portrait is not None:
            pipeline.set_portrait(self._portrait)
        self.camera_desk.open()
        self.live_changed.emit()
        self.changed.emit()

    def _stop_pipeline(self) -> bool:
        return self._pipeline is None or self._pipeline.stop()

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
        self.state, self.why, self.calibrating, self._cutting_out = State.STARTING, "", None, False
        self._end_fault()
        self._model, self._calibration, self._slow = Chain().model, Chain().calibration, None
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
        self._forget_refused(before, live)
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
        self.presets.note()
        self.live_changed.emit()

    def _forget_refused(self, before: LiveSettings, live: LiveSettings) -> None:
        """Another picture is wished for than the one that could not be had: the notice about that one goes."""
        changed = {
            name
            for name in ("slate_image", "idle_motion", "retouch", "fine_detail")
            if getattr(before, name) != getattr(live, name)
        }
        backgrounds = ((one.background, one.background_image, one.background_video) for one in (before, live))
        if len(set(backgrounds)) > 1:
            changed.add("background")
        if before.cut_out != live.cut_out:
            changed.add("cut_out")
        self._clear_refused(changed)

    def _clear_refused(self, settings: set[str]) -> None:
        for setting in self._refused & settings:
            self.cleared.emit(setting)
        self._refused -= settings

    def set_window(self, window: WindowSettings) -> None:
        """Change how the window looks."""
        if window == self.settings.window:
            return
        self.settings = replace(self.settings, window=window)
        self._save_timer.start()
        self.window_changed.emit()

    # What runs

    @property
    def run_settings(self) -> AppSettings:
        """What engine and output are made from: the kept settings, and what the command line says otherwise."""
        return self._options.over(self.settings)

    @property
    def can_change_run(self) -> bool:
        """Whether the pipeline may be made anew: it is there, and no call or measuring depends on it."""
        return self._pipeline is not None and not self.virtual_camera.wanted and not self.measuring.under_way

    @property
    def can_change_model(self) -> bool:
        """Whether another model may be chosen: also while a call watches, which then has the slate for a moment."""
        return self._pipeline is not None and not self.measuring.under_way

    def choose_model(self, model: str) -> None:
        """Look at a model, and use it where nothing speaks against it.

        Args:
            model: bundled name, file or folder.
        """
        if self.can_change_model and model != self.run_settings.model:
            self.models.choose(replace(self.run_settings, model=model))

    def _use_model(self, report: "ModelReport") -> None:
        """Use a model that was looked at: in its place while a call watches, else with everything made anew."""
        if not self.can_change_model:
            return
        if self.virtual_camera.wanted and self._model.done and self._pipeline is not None:
            self.models.stop()  # else what the one in use learns meanwhile could take this one's place
            self._awaited = report.model
            self._pipeline.use_engine(report.make, report.model)
        elif self.can_change_run:
            self.set_run(RunChanges(model=report.model))
        else:  # nothing runs that could go on with another one
            self.told.emit(Message("model", tr("Switch the virtual camera off first: no model runs."), tone="warning"))

    def _renew_model(self, report: "ModelReport") -> None:
        if self._pipeline is not None and self._model.done and report.card is not None:
            self._pipeline.use_engine(report.make, report.model)
            self.told.emit(Message("learning", f"{learning_words(report.card)}.", tone="info"))

    def _model_in_use(self, model: str) -> None:
        """A model has made its engine: it is the one to come back to."""
        self._good_model = model
        recent = (model, *(other for other in self.settings.recent_models if other != model))[:RECENT_MODELS]
        if model not in BUNDLED and recent != self.settings.recent_models:
            self._keep(replace(self.settings, recent_models=recent))
        self._watch_model()

    def _watch_model(self) -> None:
        """Describe the model in use, and see what it learns, unless another one is on its way."""
        if not self._awaited:
            like = None if self.measuring.measured is None else self.measuring.measured.tier
            self.models.describe(self.run_settings, like)

    def _stop_models(self) -> bool:
        self.models.stop()
        return True

    def set_run(self, changes: RunChanges) -> None:
        """Use another model, device, or output's size or rate: engine and output are made anew, and it is kept."""
        if not self.can_change_run or changes.over(self.run_settings) == self.run_settings:
            return
        self._options = replace(
            self._options,
            model=self._options.model if changes.model is None else None,
            device=self._options.device if changes.device is None else None,
            size=self._options.size if changes.size_px is None else None,
            fps_hz=self._options.fps_hz if changes.fps_hz is None else None,
        )
        self._keep(changes.over(self.settings))
        self.recordings.finish()
        pipeline, self._pipeline = self._pipeline, None
        assert pipeline is not None
        self.camera_desk.pipeline = self.virtual_camera.pipeline = self.recordings.pipeline = None
        self.remote.pipeline = None
        self._forget_run()
        self._changed()

        def make() -> "Pipeline":
            pipeline.stop()
            return self._load_pipeline()

        self._worker.run(make, self._begin, self._report("pipeline"))

    def _forget_run(self) -> None:
        """Everything has to be proven anew."""
        self.state, self.why, self.calibrating, self._slow = State.STARTING, "", None, None
        self.device = self.engine = self.backend = ""
        self.space = Space()
        self.measuring.measured = None
        self._model, self._calibration, self._portrait_link = Chain().model, Chain().calibration, Chain().portrait
        self._end_fault()

    @property
    def recordings_folder(self) -> Path:
        """Where recordings and snapshots go."""
        return self._videos_folder()

    def set_recordings_folder(self, folder: Path) -> None:
        """Put recordings and snapshots there from now on."""
        self._keep(replace(self.settings, recordings=str(folder)))

    def set_content_credentials(self, wanted: bool) -> None:
        """Give Content Credentials to recordings and snapshots that are finished from now on, or leave them without."""
        self._keep(replace(self.settings, content_credentials=wanted))

    def _signing_files(self) -> SigningFiles | None:
        kept = self.settings
        if not kept.content_credentials:
            return None
        return SigningFiles(kept.signing_certificates, kept.signing_key)

    def set_window_size(self, width_px: int, height_px: int) -> None:
        """Remember how large the window is; nobody needs to be told."""
        self._keep(replace(self.settings, window=replace(self.settings.window, width_px=width_px, height_px=height_px)))

    def _keep(self, settings: AppSettings) -> None:
        self.settings = settings
        self._save_timer.start()

    def _keep_control(self, control: ControlSettings) -> None:
        self.remote.settings = control
        self._keep(replace(self.settings, control=control))

    def _save(self) -> None:
        if self._options.safe:
            return
        kept = replace(self.settings, live=replace(self.settings.live, slate=False))
        try:
            save_changes(self._options.settings_path, self._kept, kept)
        except AppError as error:
            self._unsaved = True
            self.told.emit(Message("settings", str(error)))
        else:
            self._kept, self._unsaved = kept, False
            self.cleared.emit("settings")

    def _save_at_last(self) -> None:
        if self._save_timer.isActive() or self._unsaved:
            self._save_timer.stop()
            self._save()

    # Portraits

    def _use_portrait(self, portrait: "Portrait") -> None:
        self._portrait = portrait
        if portrait.entry.key != self._options.portrait:
            self._keep(replace(self.settings, portrait=portrait.entry.key))
        if not self._portrait_link.done:
            self._portrait_link = Link(text=phrase("the portrait is being prepared"))
        if self._pipeline is not None:
            self._pipeline.set_portrait(portrait)
        self._changed()

    def _look_for_portrait(self) -> None:
        if self.desk.exhausted and not self._portrait_link.failed:
            self._portrait_link = Link(text=phrase("no portrait can be used: add another one"), failed=True)
            if self.state is State.STARTING:  # it is not the model that is waited for
                self.why = phrase("no portrait can be used: add another one")
            self._changed()

    @property
    def portrait(self) -> "Portrait | None":
        """The portrait that was chosen last, once it is read."""
        return self._portrait

    @property
    def animated(self) -> str:
        """Key of the portrait that is animated, or ""."""
        return self._animated

    # Going live

    @property
    def ready(self) -> bool:
        """Whether there is a pipeline, so that wishes can be answered."""
        return self._pipeline is not None

    @property
    def busy(self) -> bool:
        """Whether something is under way in the background."""
        return self._worker.busy + self._portrait_worker.busy + self._model_worker.busy > 0

    @property
    def chain(self) -> Chain:
        """What is proven so far."""
        return Chain(
            model=self._model_link(),
            camera=self.camera_desk.link,
            portrait=self._name_of_portrait(),
            calibration=self._calibration,
            virtual_camera=self.virtual_camera.link,
            absolute=not self.settings.live.relative,
        )

    @property
    def reason(self) -> str:
        """Why the output shows what it shows, and what to do, as far as the state alone does not say it; or ""."""
        if self.state is State.FAULT:
            return self.fault or self.why
        if self.state is State.STARTING:
            return self.why or self.chain.missing()
        return self.why

    def _name_of_portrait(self) -> Link:
        """The portrait's link, by the name that it bears now."""
        return Link(True, self.desk.name_of(self._animated)) if self._portrait_link.done else self._portrait_link

    def _model_link(self) -> Link:
        if self.measuring.under_way:
            return Link(text=phrase("this computer is being measured"))
        if not self._model.done:
            return self._model
        if slow := self.measuring.too_slow if self._slow is None else self._slow:
            return Link(True, slow, slow=True)
        return Link(True, self.measuring.words or self._model.text)

    def watch_speed(self, stats: Stats) -> None:
        """Notice that the avatar moves too slowly for a call, or fast enough again."""
        if stats.state is not State.LIVE or stats.frames_out < _STEADY_FRAMES:
            return
        enough_hz = LEAST_HZ * (_ONCE_SLOW if self._slow else 1.0)
        slow = too_slow_words(stats.fps) if stats.fps < enough_hz else ""
        if self._slow is None or bool(slow) != bool(self._slow):
            self._slow = slow
            self._changed()

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

    def _watch_panic_key(self) -> None:
        """A key that was heard and is not any more is told of at once: somebody relies on it."""
        key = self.panic_key
        if key.heard or not key.text:
            self.cleared.emit("panic key")
            self._relies_on_key = key.heard
        elif self._relies_on_key:
            text = tr("The slate key is not heard: {why}.", why=key.text)
            self.told.emit(Message("panic key", text, tone="warning"))

    def _follow_panic_key(self) -> None:
        self.slate()
        self._take_over_slate()

    def _take_over_slate(self) -> None:
        """The settings have the slate by now that the pipeline had before this thread knew of it."""
        if self._pipeline is not None:
            self._pipeline.take_over_slate()
        self.call_microphone.take_over_silence()

    def _set_slate(self, slate: bool) -> None:
        self.set_live(replace(self.settings.live, slate=slate))

    def _virtual_camera_gone(self) -> None:
        # Nobody watches any more: the preview goes on. But a call may hear, or hear again, who has said stop.
        if not self._panicked and not self.call_microphone.wanted:
            self._set_slate(False)

    def _choose_call_microphone(self) -> None:
        """Calls hear the microphone that recordings hear."""
        names, key = dict(self.microphone.microphones or ()), self.microphone.key
        self.call_microphone.use(key, names.get(key, ""))

    def _end_calibrating(self) -> None:
        self.calibrating = None

    # From outside

    def _perform(self, command: Command) -> Answer:
        """Do what was asked from outside.

        Raises:
            RefusedError: it cannot be done now.
        """
        slate = self.settings.live.slate
        match command:
            case Slate():
                if switched(command.to, slate):
                    self.slate()
                    if command.to == "on":
                        self._take_over_slate()
                elif slate:
                    self._lift_slate()
            case Live():
                self._lift_slate()
            case Stop():
                self.stop()
                self._take_over_slate()
            case ChoosePortrait():
                return self._choose_for(command)
            case Calibrate():
                for link in (self.chain.model, self.chain.camera):
                    if not link.done:
                        raise RefusedError("not_now", f"calibrate: {link.text}")
                self.calibrate(now=command.now)
                return {}
            case Record():
                return {"recording": self._record_for(command)}
            case SetGains():
                self.set_live(with_gains(self.settings.live, command.changes))
                return {"gains": gains_of(self.settings.live), "preset": self.presets.current}
            case ApplyPreset():
                self.presets.apply(command.name)
                return {"gains": gains_of(self.settings.live), "preset": self.presets.current}
            case SwitchRetouch(setting=setting) | SwitchDetail(setting=setting):
                live = self.settings.live
                change: dict[str, Any] = {setting: switched(command.to, getattr(live, setting))}
                self.set_live(replace(live, **change))
                return {setting: getattr(self.settings.live, setting)}
            case _:
                assert_never(command)
        return {"slate": self.settings.live.slate}

    def _lift_slate(self) -> None:
        """As the button does: for a call once everything is proven; without one, only a slate can be taken away."""
        if self.live:
            return
        missing = self.chain.missing()
        if missing and (self.virtual_camera.wanted or not self.settings.live.slate):
            raise RefusedError("not_now", f"live: {missing}")
        self.go_live()

    def _choose_for(self, command: ChoosePortrait) -> Answer:
        names = {entry.key: entry.name for entry in self.desk.entries}
        key = find_portrait(names, command, self.desk.current)
        self.desk.choose(key)
        return {"portrait": {"id": key, "name": names[key]}}

    def _record_for(self, command: Record) -> str:
        path = None if self.recordings.ending else self.recordings.path or self.recordings.beginning
        if switched(command.to, path is not None) == (path is not None):
            return "" if path is None else str(path)
        if self.recordings.ending:
            raise RefusedError("not_now", "record: the recording before is being finished; try again in a moment")
        if path is None and (self._pipeline is None or not self._pipeline.running):
            raise RefusedError("not_now", "record: there is nothing to record at the moment")
        began = self.recordings.toggle()
        if began is None and path is None:
            raise RefusedError("not_now", "record: it cannot begin; the window says why")
        return "" if began is None else str(began)

    def _show_remote(self) -> None:
        portrait = PortraitFact(self._animated, self.desk.name_of(self._animated)) if self._animated else None
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
                score=self._score if chain.calibration.done else None,
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

    # What the pipeline gives

    def pull(self) -> "tuple[Composed | None, PerformerView | None]":
        """The newest pictures, each at most once."""
        if self._pipeline is None:
            return None, None
        composed = self._pipeline.preview.take(0)
        if composed is not None:
            self.recordings.last = composed
            if composed.state is not self.state:
                before, self.state, self.why = self.state, composed.state, ""
                self._follow_state(before)
                self.changed.emit()
        return composed, self._pipeline.performer.take(0)

    def stats(self) -> Stats:
        """How the pipeline does."""
        return Stats(self.state) if self._pipeline is None else self._pipeline.stats()

    def _hear(self, event: Event) -> None:
        logger.debug("event %s", event)
        self.remote.tell(event)
        match event:
            case MeasuringProgress() | Measured():
                self.measuring.hear(event)
                if isinstance(event, Measured):
                    self.models.note_speed(self.run_settings.model, event.tier.best.frame_ms)
            case EngineReady():
                self._discloser.uses(event.model, event.content_hash)
                self.device, self.engine, self.backend = event.device, event.reason, event.backend
                kept = event.keeps_reference and self.space.reference
                self.space = Space(model=event.measures, detects=event.detects, reference=kept)
                self._model = Link(True, event.reason)
                if event.asked:
                    self._took_model(event.asked)
                if event.asked in ("", self._awaited):
                    self._awaited = ""
                self._model_in_use(self.run_settings.model)
            case ModelRefused():
                text = tr(
                    "{model} cannot be used: {reason}. {other} goes on.",
                    model=label_of(event.model),
                    reason=clause(event.message),
                    other=label_of(self.run_settings.model),
                )
                self.told.emit(Message("model", text))
                if event.model == self._awaited:
                    self._awaited = ""
                    self._watch_model()
            case BackendChanged():
                self.backend = event.backend
            case SourceReady():
                self.space = replace(self.space, portrait=event.measured)
                self.desk.settle(event.key)
                if self._portrait is not None and self._portrait.entry.key == event.key:
                    self._proven_portrait = self._portrait
                self._portrait_link = Link(True, self.desk.name_of(event.key))
                self._animated = event.key
                self._clear_refused({"retouch", "fine_detail"})  # it was said of the portrait before
                self.presets.bring_back(event.key)
            case SourceFailed():
                self._source_failed(event)
            case PersonCutOut():
                self._cutting_out = event.under_way
            case CameraOpened() | CameraFailed() | CameraDark():
                self.camera_desk.hear(event)
            case CalibrationProgress():
                self.calibrating, self.why = event.share, event.hint
                self._calibration = Link(text=phrase("the calibration is under way"))
            case Calibrated():
                self.calibrating, self.why = None, ""
                self.space = replace(self.space, reference=event.in_space)
                self._calibration, self._score = Link(True, _score_words(event)), event.score
            case ReferenceImproved():
                if self._calibration.done:  # another calibration may be under way
                    self._calibration, self._score = Link(True, _score_words(event)), event.score
            case StateChanged():
                self._state_changed(event)
            case SinkOpened() | SinkFailed() | SinkClosed():
                self.virtual_camera.hear(event)
                self.recordings.hear(event)
            case Undisclosed():
                self.recordings.hear(event)
            case MotionRefused():
                self.told.emit(Message("camera", full_sentence(capital(motion_refused_words(event))), tone="warning"))
            case SettingRefused():
                self._refused.add(event.setting)
                self.told.emit(Message(event.setting, event.message, tone="warning"))
            case StageFailed():
                self._stage_failed(event)
            case StageRecovered():
                self._stage_recovered()
            case _:
                assert_never(event)
        self._changed()

    def _state_changed(self, event: StateChanged) -> None:
        before, self.state, self.why = self.state, event.state, event.message
        self._follow_state(before)
        if event.state is State.CALIBRATING and self._calibration.done:
            self._calibration = Chain().calibration

    def _source_failed(self, event: SourceFailed) -> None:
        self.desk.refuse(event.key)
        if self._proven_portrait is not None and self._portrait is not None and self._portrait.entry.key == event.key:
            self._portrait = self._proven_portrait
            self._keep(replace(self.settings, portrait=self._portrait.entry.key))
        self.told.emit(Message("portrait", event.message))

    def _took_model(self, model: str) -> None:
        """A model has taken over within the run: another one, or the same, which has learned more."""
        if model == self.run_settings.model:
            return
        self._options = replace(self._options, model=None)
        self._keep(replace(self.settings, model=model))
        self._slow, self.measuring.measured = None, None
        self.told.emit(Message("model", tr("{model} animates the portrait now.", model=label_of(model)), tone="info"))

    def _stage_failed(self, event: StageFailed) -> None:
        good, tried = self._good_model, self.run_settings.model
        if event.stage == "model" and good and good != tried and self.can_change_run:
            self._good_model = ""  # once: where that one fails as well, something else is wrong
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
            self.set_run(RunChanges(model=good))
            return
        # The slate is what the sinks' stage shows: without it nothing is.
        # A phrase has no full stop, and stays one.
        reason = event.message if isinstance(event.message, Phrase) else event.message.rstrip(".")
        if event.stage == "model":
            self.fault = phrase("the model cannot be loaded: {reason}", reason=reason)
        elif event.stage == "sinks":
            self.fault = phrase("the output has failed: {reason}", reason=reason)
        else:
            self.fault = phrase("the {stage} has failed: {reason}", stage=event.stage, reason=reason)
        self._model = Link(text=self.fault, failed=True)
        so = tr("No picture goes out any more.") if event.stage == "sinks" else tr("The output shows the slate.")
        self._tell_fault(f"{full_sentence(capital(self.fault))} {so}")

    def _tell_fault(self, text: str) -> None:
        self.told.emit(Message("stage", text, action=tr("Start again"), act=self._restart))

    def _stage_recovered(self) -> None:
        if self._model.failed:
            self._model = Link(True, self.engine) if self.engine else Chain().model
            self._end_fault()

    def _end_fault(self) -> None:
        self.fault = ""
        self.cleared.emit("stage")

    def _follow_state(self, before: State) -> None:
        """A fault may come of pictures that fail to come, of which no stage has told; it goes with them."""
        if self.state is State.FAULT and before is not State.FAULT and not self.fault:
            self._tell_fault(
                tr(
                    "The model has given no picture for a while, so the output shows the slate. It goes on by itself "
                    "once there is one; if it stays so, start again."
                )
            )
        elif before is State.FAULT and self.state is not State.FAULT and not self.fault:
            self.cleared.emit("stage")

    # Helpers

    def _changed(self) -> None:
        self._tell_busy()
        self.changed.emit()

    def _videos_folder(self) -> Path:
        return as_written(self.settings.recordings) if self.settings.recordings else videos_folder()

    def _report(self, key: str) -> Callable[[Exception], None]:
        return lambda error: self.told.emit(failure_message(key, error))

    def _tell_busy(self) -> None:
        if self._closed:
            return
        if self.measuring.under_way:
            self.busy_changed.emit(tr("measuring…"))
        elif self.models.looking:
            self.busy_changed.emit(tr("looking at the model…"))
        elif not self._model.done and not self._model.failed:
            self.busy_changed.emit(tr("loading the model…"))
        else:
            reading = tr("reading the portrait…") if self._portrait_worker.busy else ""
            if self._cutting_out and not reading:
                reading = tr("cutting the person out; the scene stays until then…")
            self.busy_changed.emit(reading or (tr("working…") if self._worker.busy else ""))


def _score_words(event: Calibrated | ReferenceImproved) -> str:
    if isinstance(event, Calibrated) and event.kept:
        score = phrase("{score} of 100, as calibrated before", score=event.score)
    else:
        score = phrase("{score} of 100", score=event.score)
    return phrase("{score}: {remarks}", score=score, remarks=listed(event.remarks)) if event.remarks else score
