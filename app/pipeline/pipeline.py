"""The live pipeline: owns the threads, and is the one thing that a window or a command talks to."""

import gc
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2

from app.pipeline.animation.animator import Animator
from app.pipeline.animation.face_tracker import Finder
from app.pipeline.animation.live_engine import EngineFactory, LiveEngine
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.animation.performer_view import PerformerView
from app.pipeline.animation.reference_store import ReferenceStore
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import Camera
from app.pipeline.capture.camera_control import CameraControl, CameraTimes
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.capture.cameras import open_performer
from app.pipeline.capture.track_camera import TrackCamera
from app.pipeline.events import (
    BackendChanged,
    EngineReady,
    Event,
    ModelRefused,
    SettingRefused,
    SinkClosed,
    SinkFailed,
    StageFailed,
    StageRecovered,
)
from app.pipeline.output.output_frame import Composed, OutputFrame
from app.pipeline.output.presenter import Presenter
from app.pipeline.output.sink_stage import SinkStage
from app.pipeline.output.sinks import OutputFormat, Sink
from app.pipeline.portraits import Portrait
from app.pipeline.slot import LatestSlot
from app.pipeline.state import State
from app.pipeline.stats import Meter, Stats
from app.settings import LiveSettings
from mcnet.allocator import share_arenas
from mcnet.errors import log_failure, sentence
from mcnet.media.faces import FaceFinder

logger = logging.getLogger(__name__)

_FRAME_WAIT_S = 0.04
_AFTER_FAILURE_S = 0.2
_SOUND_AFTER_S = 1.0
_HOPS = ("camera to model", "model to sinks")


@dataclass(frozen=True)
class PipelineTimes:
    """How patient the pipeline is, in seconds."""

    model_s: float = 2.5
    """Without a word from the inference stage for so long, the output shows the slate."""
    camera: CameraTimes = field(default_factory=CameraTimes)


class _Calibrate:
    """Asks the inference thread for a calibration."""

    def __init__(self, *, now: bool) -> None:
        self.now = now


class _SwitchedOn(NamedTuple):
    """Asks the inference thread to try again what failed before; see `Animator.try_again`."""

    cut_out: bool
    retouch: bool
    fine_detail: bool
    surroundings: bool


class _UseEngine(NamedTuple):
    """Asks the inference thread for another model."""

    factory: EngineFactory
    model: str


class Pipeline:
    """Camera thread -> slot -> inference thread -> slot -> finishing thread -> slot -> sink thread; the newest wins at
    every hop.

    `start` and `stop` may follow each other as often as wanted; cameras, portraits and sinks that were asked for are
    asked for again at the next start. Methods may be called on any thread, and none but `stop` waits for a device, a
    model or a frame; what becomes of them is told by events.

    Attributes:
        preview: the newest picture as the sinks got it.
        performer: the newest camera frame with what was found in it; for the performer's own eyes only.
        motion: takes the performer's motion from the next frame on; None: nobody wants it.
        output: size and rate of the output.
    """

    def __init__(
        self,
        engine_factory: EngineFactory,
        *,
        settings: LiveSettings,
        output: OutputFormat,
        on_event: Callable[[Event], None],
        on_picture: Callable[[], None] | None = None,
        source_cache: Path | None = None,
        references: Path | None = None,
        times: PipelineTimes | None = None,
        camera_opener: Callable[[CameraSpec], Camera | TrackCamera] = open_performer,
        finder_factory: Callable[[], Finder] | None = None,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            engine_factory: makes the engine, on the inference thread.
            settings: in force until `update`.
            output: size and rate of the output.
            on_event: told what happens, on the thread that found it out; must not wait.
            on_picture: called after each new picture in `preview`; must not wait.
            source_cache: folder for encoded portraits; None: they are not kept.
            references: folder for what was calibrated; likewise.
            times: how patient to be.
            camera_opener: opens cameras; tests give fakes.
            finder_factory: makes the face finder, on the inference thread; None: `FaceFinder`.
        """
        self.output = output
        self.preview: LatestSlot[Composed] = LatestSlot("preview", on_put=on_picture)
        self.performer: LatestSlot[PerformerView] = LatestSlot("performer")
        self.engine_factory = engine_factory
        self.on_event = on_event
        self.store = None if source_cache is None else SourceStore(source_cache)
        self.references = None if references is None else ReferenceStore(references)
        self.times = times or PipelineTimes()
        self.camera_opener = camera_opener
        self.finder_factory = finder_factory or (lambda: FaceFinder(tracking=True))
        self._settings = settings
        self._slates = 0  # of `slate_now`, which the settings do not know of yet
        self._slates_lock = threading.Lock()
        self._on_picture = on_picture
        self._camera_spec: CameraSpec | None = None
        self._camera_wish = 0
        self._portrait: Portrait | None = None
        self.motion: MotionRecording | None = None
        self._sinks: dict[str, Sink] = {}
        self._lock = threading.Lock()  # of the next two, and of what is asked for again; never held for long
        self._run: _Run | None = None
        self._before: _Run | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not yet stopped."""
        return self._run is not None

    @property
    def state(self) -> State:
        """What the output shows."""
        run = self._run  # once: another thread may stop it meanwhile
        return State.STARTING if run is None else run.sink_stage.state

    @property
    def settings(self) -> LiveSettings:
        """In force now."""
        settings = self._settings
        return replace(settings, slate=True) if self._slates and not settings.slate else settings

    def start(self) -> None:
        """Start the threads; harmless while running."""
        with self._lock:
            if self._run is not None:
                return
            self.preview = LatestSlot("preview", on_put=self._on_picture)
            self.performer = LatestSlot("performer")
            # What it does here is too small to be shared, and its workers spin for the next piece on a core of the
            # model's.
            cv2.setNumThreads(1)
            share_arenas()
            self._run = run = _Run(self, lambda: self.settings, self._before)
            for sink in self._sinks.values():
                run.sink_stage.add(sink)
            if self._portrait is not None:
                run.commands.put(self._portrait)
            if self._camera_spec is not None:
                run.camera.set_camera(self._camera_spec, self._camera_wish)
            run.start()

    def stop(self, timeout_s: float = 0.5) -> bool:
        """Stop everything in order: camera, model, sinks. Harmless when called again.

        Returns:
            Whether every thread ended in time, cameras' included; one that hangs in a driver or still loads a model is
            left behind, ends by itself, and is heard no more but for what becomes of its sinks: a recording may take
            longer than this to be whole. The next run's thread of the same stage waits for it.
        """
        with self._lock:
            run, self._run = self._run, None
            if run is None:
                return True
            self._before = run
        return run.stop(timeout_s)

    def update(self, settings: LiveSettings) -> None:
        """Put other settings in force with the next frame.

        A calibration that is not to be remembered any more is deleted at once: there may be no next frame. What is
        switched on is tried again where it failed before, also if it was off for less than a frame.
        """
        before, self._settings = self._settings, settings
        forgets = before.remember_calibration and not settings.remember_calibration
        switched_on = _SwitchedOn(
            cut_out=settings.cut_out and not before.cut_out,
            retouch=settings.retouch and not before.retouch,
            fine_detail=settings.fine_detail and not before.fine_detail,
            surroundings=settings.surroundings and not before.surroundings,
        )
        if any(switched_on):
            with self._lock:
                if self._run is not None:
                    self._run.commands.put(switched_on)
        if forgets and self.references is not None:
            self.references.clear()

    def slate_now(self) -> None:
        """Show the slate with the next picture, whatever is going on where the settings are kept.

        It stays, whatever settings `update` brings meanwhile, until `take_over_slate` is called once for each time.
        """
        with self._slates_lock:
            self._slates += 1

    def take_over_slate(self) -> None:
        """Have the settings decide again after a `slate_now`: whoever keeps them has heard of it, and they have it."""
        with self._slates_lock:
            self._slates = max(0, self._slates - 1)

    def set_camera(self, spec: CameraSpec | None) -> int:
        """Use another camera, or none. The one in use goes on until the new one gives frames.

        Returns:
            The number of this wish: events of cameras that carry another one are late, and of a former wish.
        """
        with self._lock:
            self._camera_spec = spec
            self._camera_wish += 1
            if self._run is not None:
                self._run.camera.set_camera(spec, self._camera_wish)
            return self._camera_wish

    def set_portrait(self, portrait: Portrait) -> None:
        """Animate another portrait."""
        with self._lock:
            self._portrait = portrait
            if self._run is not None:
                self._run.commands.put(portrait)

    def use_engine(self, factory: EngineFactory, model: str) -> None:
        """Animate by another model; the one in use goes on where that fails, of which an event tells.

        While it is made the output holds its last picture, or shows the slate as whenever no picture comes.

        Args:
            factory: makes its engine, on the inference thread; best with its weights read already.
            model: its name, for events.
        """
        with self._lock:
            if self._run is None:
                self.engine_factory = factory
            else:
                self._run.commands.put(_UseEngine(factory, model))

    def calibrate(self, *, now: bool = False) -> None:
        """Take the reference pose anew: the best of the next seconds, or this very moment's."""
        with self._lock:
            if self._run is not None:
                self._run.commands.put(_Calibrate(now=now))

    def add_sink(self, sink: Sink) -> None:
        """Send pictures to this sink too; it takes the place of one of the same name."""
        with self._lock:
            self._sinks[sink.name] = sink
            if self._run is not None:
                self._run.sink_stage.add(sink)

    def remove_sink(self, name: str) -> None:
        """Send no more pictures to this sink, and close it."""
        with self._lock:
            known, run = self._sinks.pop(name, None), self._run
            if run is not None:
                run.sink_stage.remove(name)
        if run is None and known is not None:
            self.on_event(SinkClosed(name, known.detail))

    @property
    def frames_out(self) -> int:
        """How many frames moved the avatar and reached the sinks, in this run or the last; costs nothing to ask."""
        run = self._run or self._before
        return 0 if run is None else run.meter.frames_out

    def inference_mark(self) -> object:
        """What differs from the last call's as long as the inference thread gets on; costs some tens of microseconds.

        A thread that hangs is in the same place and uses no processor time, however busy the machine is. Where the
        system does not tell the processor time of a thread (all but Linux), a single call into a library that takes
        long looks alike.
        """
        run = self._run
        return None if run is None else run.inference_mark()

    def stats(self) -> Stats:
        """How it does, over the last five seconds."""
        state, run = self.state, self._run or self._before
        return Stats(state) if run is None else run.meter.recent(state, time.monotonic())

    def report(self) -> Stats:
        """How this run, or the last, did since the avatar was first moved."""
        run = self._run or self._before
        return Stats(self.state) if run is None else run.meter.overall(run.sink_stage.state, time.monotonic())


class _Faults:
    """Which stages are faulty now; each says so of itself only. The slate is shown while there is any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: set[str] = set()

    def add(self, stage: str) -> None:
        with self._lock:
            self._stages.add(stage)

    def clear(self, stage: str) -> None:
        with self._lock:
            self._stages.discard(stage)

    def any(self) -> bool:
        return bool(self._stages)


class _Health:
    """Whether one stage works: told once when it does not any more, and once when it has worked again for a while.

    Used on that stage's thread.
    """

    def __init__(self, stage: str, faults: _Faults, emit: Callable[[Event], None]) -> None:
        self._stage = stage
        self._faults = faults
        self._emit = emit
        self._failed_s: float | None = None

    def fails(self, error: Exception) -> None:
        """While an error is handled."""
        self._faults.add(self._stage)
        if self._failed_s is None:
            log_failure(logger, self._stage, error)
            self._emit(StageFailed(self._stage, sentence(error)))
        self._failed_s = time.monotonic()

    def works(self, began_s: float) -> None:
        """What was begun then was done well."""
        # A second without a failure, or the call would blink between the avatar and the slate.
        if self._failed_s is not None and began_s - self._failed_s > _SOUND_AFTER_S:
            self._failed_s = None
            self._faults.clear(self._stage)
            self._emit(StageRecovered(self._stage))


class _Run:
    """The threads and slots of one run, from start to stop."""

    def __init__(self, pipeline: Pipeline, settings: Callable[[], LiveSettings], before: "_Run | None") -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._stop = threading.Event()
        self._muted = threading.Event()
        self._faults = _Faults()
        self.commands: queue.SimpleQueue[Portrait | _Calibrate | _SwitchedOn | _UseEngine] = queue.SimpleQueue()
        self._frames: LatestSlot[CameraFrame] = LatestSlot(_HOPS[0])
        self._made: LatestSlot[OutputFrame] = LatestSlot(_HOPS[1])
        self._outputs: LatestSlot[OutputFrame] = LatestSlot(_HOPS[1])
        self.meter = Meter(_HOPS)
        self._preview, self._performer = pipeline.preview, pipeline.performer
        presenter = Presenter(pipeline.output, pipeline.times.model_s, self._refuse)
        self.sink_stage = SinkStage(pipeline.output, self._outputs, self._preview, presenter, self.meter, self._emit)
        self.camera: CameraControl = CameraControl(
            self._take,
            self._emit,
            pipeline.camera_opener,
            pipeline.times.camera,
            None if before is None else before.camera,
        )
        self._older = {} if before is None else before.alive()
        bodies = {
            "camera control": self.camera.run,
            "inference": self._infer,
            "finishing": self._finish,
            "sinks": self._feed,
        }
        self._threads = {name: self._thread(name, body, self._older.get(name)) for name, body in bodies.items()}

    def start(self) -> None:
        for thread in self._threads.values():
            thread.start()

    def stop(self, timeout_s: float) -> bool:
        began_s = time.monotonic()
        deadline_s = began_s + timeout_s
        self._stop.set()
        self.camera.request_stop()
        for slot in (self._frames, self._made, self._outputs, self._preview, self._performer):
            slot.close()
        for thread in self._threads.values():
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._muted.set()
        if not self._threads["sinks"].is_alive():  # it may never have come to its turn
            self.sink_stage.give_up_requests()
        late = [*self.alive(), *self.camera.left_behind()]
        if late:
            waited_s = time.monotonic() - began_s  # a camera's read is not waited for until the last
            logger.warning("still busy %.1f s after the stop, left behind: %s", waited_s, ", ".join(late))
        return not late

    def alive(self) -> dict[str, threading.Thread]:
        """The stages whose threads have not ended; of a stage that never came to its turn, the one it waited for."""
        threads = self._older | {name: thread for name, thread in self._threads.items() if thread.is_alive()}
        return {name: thread for name, thread in threads.items() if thread.is_alive()}

    def inference_mark(self) -> object:
        thread = self._threads["inference"]
        frame = sys._current_frames().get(thread.ident or 0)
        place = None if frame is None else (id(frame), frame.f_lasti)
        try:  # user and system time: see proc_pid_stat(5); the name before them may hold anything
            status = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="utf-8", errors="replace")
            used = status.rpartition(")")[2].split()[11:13]
        except OSError:
            used = []
        return place, *used

    def _thread(self, name: str, body: Callable[[], None], older: threading.Thread | None) -> threading.Thread:
        def guarded() -> None:
            while older is not None and older.is_alive():  # of a run that hung: one thread at a time has a device
                if self._stop.wait(_FRAME_WAIT_S):
                    return
            try:
                body()
            except Exception as error:  # the last guard of a thread: reported once, and the slate is shown
                log_failure(logger, f"stage {name}", error)
                self._faults.add(name)
                self._emit(StageFailed(name, sentence(error)))

        return threading.Thread(target=guarded, name=name, daemon=True)

    def _emit(self, event: Event) -> None:
        # What becomes of a sink concerns whoever wished for it, however late it is; the next run's sinks come after it.
        if not self._muted.is_set() or isinstance(event, SinkClosed | SinkFailed):
            self._pipeline.on_event(event)

    def _refuse(self, setting: str, message: str) -> None:
        self._emit(SettingRefused(setting, message))

    def _take(self, frame: CameraFrame) -> None:
        self.meter.camera_frame(frame.captured_s)
        if self._frames.put(frame):
            self.meter.drop(self._frames.name, frame.captured_s)

    def _feed(self) -> None:
        self.sink_stage.run(self._stop.is_set, self._settings, self._faults.any)

    def _infer(self) -> None:
        animator = self._make_animator()
        if animator is None:
            return
        backend = animator.engine.backend_name
        health = _Health("inference", self._faults, self._emit)
        try:
            while not self._stop.is_set():
                settings = self._settings()
                self._obey(animator, settings)
                animator.recording = self._pipeline.motion
                frame = self._frames.take(_FRAME_WAIT_S)
                now_s = time.monotonic()
                try:
                    step = animator.step(frame, now_s, settings)
                    if step.output is not None and self._made.put(step.output):
                        self.meter.drop(self._made.name, now_s)
                    view = None if step.view is None else animator.follow(step.view)
                except Exception as error:  # a frame that fails gives the slate; the next one may be well again
                    health.fails(error)
                    animator.recover()
                    self._stop.wait(_AFTER_FAILURE_S)
                    continue
                if step.output is not None:
                    health.works(now_s)
                if view is not None:
                    self._performer.put(view)
                if animator.engine.backend_name != backend:
                    backend = animator.engine.backend_name
                    self._emit(BackendChanged(backend, animator.engine.backend_reason))
        finally:
            animator.close()

    def _finish(self) -> None:
        """Finish pictures apart from the model and from the sinks, so that neither waits for it."""
        health = _Health("finishing", self._faults, self._emit)
        while not self._stop.is_set():
            frame = self._made.take(_FRAME_WAIT_S)
            if frame is None:
                continue
            began_s = time.monotonic()
            try:
                frame.finish()
            except Exception as error:  # a picture that fails gives the slate; the next one may be well again
                health.fails(error)
                continue
            health.works(began_s)
            if self._outputs.put(frame):
                self.meter.drop(self._outputs.name, began_s)

    def _make_animator(self) -> Animator | None:
        began_s = time.monotonic()
        pipeline = self._pipeline
        # What the run before left in cycles, of our objects or a library's, holds tens of megabytes behind few objects,
        # so that Python's collector would come to it late; here nothing waits for a frame yet.
        gc.collect()
        try:
            engine = pipeline.engine_factory()
            animator = Animator(
                engine,
                self._emit,
                lambda name, elapsed_s: self.meter.stage(name, time.monotonic(), elapsed_s),
                finder=pipeline.finder_factory(),
                store=pipeline.store,
                references=pipeline.references,
            )
        except Exception as error:  # a model that cannot be loaded: the slate stays, and the reason is told
            log_failure(logger, "loading the model", error)
            self._faults.add("model")
            self._emit(StageFailed("model", sentence(error)))
            return None
        self._emit(_ready(engine, began_s))
        return animator

    def _obey(self, animator: Animator, settings: LiveSettings) -> None:
        """Do what was asked since the last frame; of several portraits, calibrations or models, only the last."""
        portrait: Portrait | None = None
        calibrate: _Calibrate | None = None
        model: _UseEngine | None = None
        while not self.commands.empty():
            command = self.commands.get()
            if isinstance(command, Portrait):
                portrait = command
            elif isinstance(command, _UseEngine):
                model = command
            elif isinstance(command, _SwitchedOn):
                animator.try_again(**command._asdict())
            else:
                calibrate = command
        if model is not None:
            self._use(model, animator)
        if portrait is not None:
            animator.set_portrait(portrait, cut_out=settings.cut_out, fine_detail=settings.fine_detail)
        if calibrate is not None:
            animator.calibrate(0.0 if calibrate.now else settings.calibration_s)

    def _use(self, wish: _UseEngine, animator: Animator) -> None:
        """Another model in the place of the one before, which stays where that fails."""
        began_s = time.monotonic()
        try:
            engine = wish.factory()
            animator.use_engine(
                engine,
                lambda holds: self._emit(_ready(engine, began_s, asked=wish.model, keeps_reference=holds)),
            )
        except Exception as error:  # whatever it is, out of memory included: the call goes on with the one before
            log_failure(logger, f"model {wish.model}", error)
            self._emit(ModelRefused(wish.model, sentence(error)))
            return
        self._pipeline.engine_factory = wish.factory


def _ready(engine: LiveEngine, began_s: float, asked: str = "", *, keeps_reference: bool = False) -> EngineReady:
    return EngineReady(
        engine.model_name,
        engine.choice.device,
        engine.choice.reason,
        time.monotonic() - began_s,
        engine.backend_name,
        engine.backend_reason,
        measures=bool(engine.keypoint_landmarks),
        detects=engine.detects,
        asked=asked,
        keeps_reference=keeps_reference,
        content_hash=engine.content_hash,
    )
