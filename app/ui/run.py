"""The pipeline of a run: made, started, and made anew."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PyQt6.QtCore import QObject, pyqtSignal

from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.settings import AppSettings
from app.ui.kept_settings import KeptSettings
from app.ui.measuring import Measuring
from app.ui.messages import failure_message
from app.ui.parts import WindowOptions
from app.ui.recordings import Recordings
from app.ui.virtual_camera_switch import VirtualCameraSwitch
from app.ui.worker import Worker

if TYPE_CHECKING:
    from app.pipeline.pipeline import Pipeline


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

    def forced(self, options: WindowOptions) -> WindowOptions:
        """What the command line still forces: what is changed is as it was chosen, and not as it says."""
        return replace(
            options,
            model=options.model if self.model is None else None,
            device=options.device if self.device is None else None,
            size=options.size if self.size_px is None else None,
            fps_hz=options.fps_hz if self.fps_hz is None else None,
        )


class Run(QObject):
    """Has the pipeline made, started and made anew. Lives on the GUI thread; slow work goes to the worker.

    It owns the pipeline, and what engine and output are made from: the kept settings, and what the command line says
    otherwise. What the pipeline is to open and to animate, and what is proven of it, is others': they are told when all
    of that begins anew.

    Args:
        worker: makes and stops the pipeline.
        make: of settings. Blocks.
        options: from the command line.
        kept: the settings.
        virtual_camera: while it is on, a call depends on the pipeline.
        recordings: end before the pipeline does.
        measuring: has the pipeline stopped, and what runs the model best tried.

    Attributes:
        pipeline: None before it is there, and while another one is made.

    Signals:
        given: the pipeline, before it is started; None when it is taken away.
        begun: a pipeline that was made has been started.
        stopping: it is stopped in the background, to be started again: what has failed is over.
        stopped: it is about to be started again.
        renewing: it was taken away, and another one is made in the background.
        changed: it has been started again.
        told: a message to show.
    """

    given = pyqtSignal(object)
    begun = pyqtSignal()
    stopping = pyqtSignal()
    stopped = pyqtSignal()
    renewing = pyqtSignal()
    changed = pyqtSignal()
    told = pyqtSignal(object)

    def __init__(
        self,
        worker: Worker,
        make: "Callable[[AppSettings], Pipeline]",
        options: WindowOptions,
        kept: KeptSettings,
        virtual_camera: VirtualCameraSwitch,
        recordings: Recordings,
        measuring: Measuring,
    ) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self._worker = worker
        self._make = make
        self._options = options
        self._kept = kept
        self._virtual_camera = virtual_camera
        self._recordings = recordings
        self._measuring = measuring
        measuring.ended.connect(self._start_again)

    @property
    def settings(self) -> AppSettings:
        """What engine and output are made from: the kept settings, and what the command line says otherwise."""
        return self._options.over(self._kept.settings)

    @property
    def can_change(self) -> bool:
        """Whether the pipeline may be made anew: it is there, and no call or measuring depends on it."""
        return self.can_change_model and not self._virtual_camera.wanted

    @property
    def can_change_model(self) -> bool:
        """Whether another model may be chosen: also while a call watches, which then has the slate for a moment."""
        return self.pipeline is not None and not self._measuring.under_way

    def begin(self) -> None:
        """Have the pipeline made and started."""
        self._worker.run(self._load, self._begin, self._report("pipeline"))

    def stop(self) -> bool:
        """Stop the pipeline, and wait for it; harmless when called again. Returns whether its threads have ended."""
        return self.pipeline is None or self.pipeline.stop()

    def restart(self) -> None:
        """Stop the pipeline and start it again."""
        if (pipeline := self.pipeline) is None or self._measuring.under_way:  # which starts it at its end
            return
        self._recordings.finish()
        self.stopping.emit()
        self._worker.run(pipeline.stop, lambda _: self._start_again(), self._report("stage"))

    def change(self, changes: RunChanges) -> None:
        """Use another model, device, or output's size or rate: engine and output are made anew, and it is kept."""
        if not self.can_change or changes.over(self.settings) == self.settings:
            return
        self._options = changes.forced(self._options)
        self._kept.keep(changes.over(self._kept.settings))
        self._recordings.finish()
        pipeline, self.pipeline = self.pipeline, None
        assert pipeline is not None
        self.given.emit(None)
        self.renewing.emit()

        def make() -> "Pipeline":
            pipeline.stop()
            return self._load()

        self._worker.run(make, self._begin, self._report("pipeline"))

    def keep_model(self, model: str) -> None:
        """A model has taken over within the run: it is what engines are made from from now on."""
        changes = RunChanges(model=model)
        self._options = changes.forced(self._options)
        self._kept.keep(changes.over(self._kept.settings))

    def measure(self) -> None:
        """Try what runs the model best here, with everything else at rest, and go on with that."""
        if self.pipeline is None or self._measuring.under_way or self._virtual_camera.on_air:
            return
        self._recordings.finish()
        self.stopping.emit()
        self._measuring.start(self.pipeline, self.settings)

    def stats(self, state: State) -> Stats:
        """How the pipeline does; `state`: what the output shows where there is none."""
        return Stats(state) if self.pipeline is None else self.pipeline.stats()

    def _load(self) -> "Pipeline":
        return self._make(self.settings)

    def _begin(self, pipeline: "Pipeline") -> None:
        self.pipeline = pipeline
        self.given.emit(pipeline)
        pipeline.update(self._kept.live)
        pipeline.start()
        self.begun.emit()

    def _start_again(self) -> None:
        if self.pipeline is None or self.pipeline.running or self._measuring.under_way:
            return  # somebody was quicker, and what was proven since then holds
        self.stopped.emit()
        self.pipeline.start()
        self.changed.emit()

    def _report(self, key: str) -> Callable[[Exception], None]:
        return lambda error: self.told.emit(failure_message(key, error))
