"""The live pipeline: owns the threads, and is the one thing that a window or a command talks to."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.pipeline.animator import Animator, Finder
from app.pipeline.camera_control import CameraControl, CameraTimes
from app.pipeline.camera_frame import CameraFrame
from app.pipeline.cameras import Camera, CameraSpec, open_camera
from app.pipeline.driver_view import DriverView
from app.pipeline.engine import EngineFactory
from app.pipeline.events import EngineReady, Event, SettingRefused, StageFailed
from app.pipeline.output_frame import Composed, OutputFrame, State
from app.pipeline.portraits import Portrait
from app.pipeline.presenter import Presenter
from app.pipeline.sink_stage import SinkStage
from app.pipeline.sinks import OutputFormat, Sink
from app.pipeline.slot import LatestSlot
from app.pipeline.source_store import SourceStore
from app.pipeline.stats import Meter, Stats
from app.settings import LiveSettings
from mcnet.errors import UserError

logger = logging.getLogger(__name__)

_FRAME_WAIT_S = 0.04
_AFTER_FAILURE_S = 0.2


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


class Pipeline:
    """Camera thread -> slot -> inference thread -> slot -> sink thread; the newest wins at every hop.

    `start` and `stop` may follow each other as often as wanted; cameras, portraits and sinks that were asked for are
    asked for again at the next start. Methods may be called on any one thread, and none of them waits for a device, a
    model or a frame; what becomes of them is told by events.

    Attributes:
        preview: the newest picture as the sinks got it.
        driver: the newest camera frame with what was found in it; for the driver's own eyes only.
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
        times: PipelineTimes | None = None,
        camera_opener: Callable[[CameraSpec], Camera] = open_camera,
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
            times: how patient to be.
            camera_opener: opens cameras; tests give fakes.
            finder_factory: makes the face finder, on the inference thread; None: `FaceFinder`.
        """
        self.output = output
        self.preview: LatestSlot[Composed] = LatestSlot("preview", on_put=on_picture)
        self.driver: LatestSlot[DriverView] = LatestSlot("driver")
        self._engine_factory = engine_factory
        self._settings = settings
        self._on_event = on_event
        self._on_picture = on_picture
        self._store = None if source_cache is None else SourceStore(source_cache)
        self._times = times or PipelineTimes()
        self._open_camera = camera_opener
        self._finder_factory = finder_factory
        self._camera_spec: CameraSpec | None = None
        self._portrait: Portrait | None = None
        self._sinks: dict[str, Sink] = {}
        self._run: _Run | None = None
        self._last_stats = Stats(State.STARTING)

    @property
    def running(self) -> bool:
        """Whether it was started and not yet stopped."""
        return self._run is not None

    @property
    def state(self) -> State:
        """What the output shows."""
        return State.STARTING if self._run is None else self._run.sink_stage.state

    @property
    def settings(self) -> LiveSettings:
        """In force now."""
        return self._settings

    def start(self) -> None:
        """Start the threads; harmless while running."""
        if self._run is not None:
            return
        self.preview = LatestSlot("preview", on_put=self._on_picture)
        self.driver = LatestSlot("driver")
        self._run = run = _Run(self)
        for sink in self._sinks.values():
            run.sink_stage.add(sink)
        if self._portrait is not None:
            run.commands.put(self._portrait)
        if self._camera_spec is not None:
            run.camera.set_camera(self._camera_spec)
        run.start()

    def stop(self, timeout_s: float = 0.5) -> bool:
        """Stop everything in order: camera, model, sinks. Harmless when called again.

        Returns:
            Whether every thread ended in time; one that hangs in a driver or still loads a model is left behind, is
            heard no more, and ends by itself.
        """
        run, self._run = self._run, None
        if run is None:
            return True
        self._last_stats = run.stats(window_s=None)
        return run.stop(timeout_s)

    def update(self, settings: LiveSettings) -> None:
        """Put other settings in force with the next frame."""
        self._settings = settings

    def set_camera(self, spec: CameraSpec | None) -> None:
        """Use another camera, or none. The one in use goes on until the new one gives frames."""
        self._camera_spec = spec
        if self._run is not None:
            self._run.camera.set_camera(spec)

    def set_portrait(self, portrait: Portrait) -> None:
        """Animate another portrait."""
        self._portrait = portrait
        if self._run is not None:
            self._run.commands.put(portrait)

    def calibrate(self, *, now: bool = False) -> None:
        """Take the reference pose anew: the best of the next seconds, or this very moment's."""
        if self._run is not None:
            self._run.commands.put(_Calibrate(now=now))

    def add_sink(self, sink: Sink) -> None:
        """Send pictures to this sink too; it takes the place of one of the same name."""
        self._sinks[sink.name] = sink
        if self._run is not None:
            self._run.sink_stage.add(sink)

    def remove_sink(self, name: str) -> None:
        """Send no more pictures to this sink, and close it."""
        self._sinks.pop(name, None)
        if self._run is not None:
            self._run.sink_stage.remove(name)

    def stats(self, *, window_s: float | None = 5.0) -> Stats:
        """How it does: over the last seconds; for None, since the avatar was first moved. Once stopped, the last."""
        return self._last_stats if self._run is None else self._run.stats(window_s=window_s)


class _Run:
    """The threads and slots of one run, from start to stop."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._times = pipeline._times
        self._stop = threading.Event()
        self._fault = threading.Event()
        self._meter = Meter()
        self._base_drops: dict[str, int] | None = None
        self.commands: queue.SimpleQueue[Portrait | _Calibrate] = queue.SimpleQueue()
        self._frames: LatestSlot[CameraFrame] = LatestSlot("camera to model")
        self._outputs: LatestSlot[OutputFrame] = LatestSlot("model to sinks")
        self._preview, self._driver = pipeline.preview, pipeline.driver
        presenter = Presenter(
            pipeline.output, self._times.model_s, lambda message: self._emit(SettingRefused("background", message))
        )
        self.sink_stage = SinkStage(pipeline.output, self._outputs, self._preview, presenter, self._meter, self._emit)
        self.camera = CameraControl(self._take, self._emit, pipeline._open_camera, self._times.camera)
        self._threads = [
            self._thread("camera control", self.camera.run),
            self._thread("inference", self._infer),
            self._thread("sinks", self._feed),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        self._stop.set()
        self.camera.request_stop()
        for slot in (self._frames, self._outputs, self._preview, self._driver):
            slot.close()
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        late = [thread.name for thread in self._threads if thread.is_alive()]
        if late:
            logger.warning("still busy %.1f s after the stop, left behind: %s", timeout_s, ", ".join(late))
        return not late

    def stats(self, *, window_s: float | None) -> Stats:
        drops = self._drops()
        base = self._base_drops or drops
        return self._meter.summary(
            self.sink_stage.state,
            {name: count - base[name] for name, count in drops.items()},
            time.monotonic(),
            window_s=window_s,
        )

    def _drops(self) -> dict[str, int]:
        return {slot.name: slot.dropped_count for slot in (self._frames, self._outputs)}

    def _thread(self, name: str, body: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                body()
            except Exception as error:  # the guard that STYLE asks of every thread: report once, show the slate
                logger.exception("stage %s", name)
                self._fault.set()
                self._emit(StageFailed(name, f"{type(error).__name__}: {error}"))

        return threading.Thread(target=guarded, name=name, daemon=True)

    def _emit(self, event: Event) -> None:
        if not self._stop.is_set():
            self._pipeline._on_event(event)

    def _take(self, frame: CameraFrame) -> None:
        self._meter.camera_frame(frame.captured_s)
        self._frames.put(frame)

    def _feed(self) -> None:
        self.sink_stage.run(self._stop.is_set, lambda: self._pipeline._settings, self._fault.is_set)

    def _infer(self) -> None:
        animator = self._make_animator()
        if animator is None:
            return
        failed = False
        try:
            while not self._stop.is_set():
                settings = self._pipeline._settings
                while not self.commands.empty():
                    self._obey(animator, self.commands.get(), settings)
                frame = self._frames.take(_FRAME_WAIT_S)
                try:
                    step = animator.step(frame, time.monotonic(), settings)
                except Exception as error:  # a frame that fails gives the slate; the next one may be well again
                    self._fault.set()
                    if not failed:
                        failed = True
                        logger.exception("inference")
                        self._emit(StageFailed("inference", _sentence(error)))
                    self._stop.wait(_AFTER_FAILURE_S)
                    continue
                if step.output is not None:
                    self._fault.clear()
                    failed = False
                    if step.output.fresh and self._base_drops is None:
                        self._base_drops = self._drops()  # what was dropped while the model was loading tells nothing
                    self._outputs.put(step.output)
                if step.view is not None:
                    self._driver.put(step.view)
        finally:
            animator.close()

    def _make_animator(self) -> Animator | None:
        began_s = time.monotonic()
        try:
            engine = self._pipeline._engine_factory()
            animator = Animator(
                engine,
                self._emit,
                lambda name, elapsed_s: self._meter.stage(name, time.monotonic(), elapsed_s),
                store=self._pipeline._store,
                finder=self._pipeline._finder_factory and self._pipeline._finder_factory(),
            )
        except Exception as error:  # a model that cannot be loaded: the slate stays, and the reason is told
            logger.exception("loading the model")
            self._fault.set()
            self._emit(StageFailed("model", _sentence(error)))
            return None
        self._emit(EngineReady(engine.model_name, engine.choice.reason, time.monotonic() - began_s))
        return animator

    def _obey(self, animator: Animator, command: Portrait | _Calibrate, settings: LiveSettings) -> None:
        if isinstance(command, Portrait):
            animator.set_portrait(command)
        else:
            animator.calibrate(0.0 if command.now else settings.calibration_s)


def _sentence(error: Exception) -> str:
    """What to tell people: our own messages as they are, others with their type."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
