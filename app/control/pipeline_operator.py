"""How a pipeline without a window does what is asked from outside."""

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, assert_never

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
from app.pipeline.events import (
    BackendChanged,
    Calibrated,
    CalibrationMissed,
    CalibrationProgress,
    CameraFailed,
    CameraOpened,
    EngineReady,
    Event,
    ReferenceImproved,
    SinkClosed,
    SinkFailed,
    SourceReady,
    StateChanged,
)
from app.pipeline.output.sinks import Sink
from app.pipeline.pipeline import Pipeline
from app.pipeline.portraits import Portrait, PortraitEntry
from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.places import make_folder, new_file
from app.presets import Presets, Strengths
from app.settings import LiveSettings


class PipelineOperator:
    """Operates a pipeline that has no window: on a thread of its own, one command after another.

    It is the only one that changes the pipeline's settings.

    Args:
        pipeline: not started yet, or running.
        list_portraits: the gallery.
        prepare: reads one of its portraits.
        make_recorder: a sink that writes that file.
        find_folder: where recordings go.
        portrait: the one that was given to the pipeline.
        presets: of strengths; those of the start stay.

    Attributes:
        on_state: called with each new state, on the thread that found it out; must not wait.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        list_portraits: Callable[[], list[PortraitEntry]],
        prepare: Callable[[PortraitEntry], Portrait],
        make_recorder: Callable[[Path], Sink],
        find_folder: Callable[[], Path],
        portrait: Portrait,
        presets: Presets,
    ) -> None:
        self._pipeline = pipeline
        self._list_portraits = list_portraits
        self._prepare = prepare
        self._make_recorder = make_recorder
        self._find_folder = find_folder
        self._presets = presets
        self._chosen = portrait.entry
        self._names = {portrait.entry.key: portrait.entry.name}
        self._recording: Sink | None = None
        self._ending = False  # of the recording: it was asked to end, and its file is not whole yet
        self._file = ""
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "control worker")
        self.on_state: Callable[[AppState], None] = lambda _: None
        live = pipeline.settings
        self._state = AppState(
            mode="headless",
            slate=live.slate,
            presets=presets.names,
            retouch=live.retouch,
            fine_detail=live.fine_detail,
            **self._strengths(live),
        )

    @property
    def state(self) -> AppState:
        """As it is now."""
        return self._state

    def open(self) -> None:
        """Read the gallery; not on a thread that must not wait."""
        self._read_gallery()

    def close(self) -> None:
        """Do nothing more; harmless when called again."""
        self._worker.shutdown(cancel_futures=True)

    def panic(self) -> None:
        self._pipeline.slate_now()

    def perform(self, command: Command) -> "Future[Answer]":
        try:
            return self._worker.submit(self._perform, command)
        except RuntimeError as error:
            raise RefusedError("not_now", "the app is ending") from error

    def stats(self) -> Stats:
        return self._pipeline.stats()

    def hear(self, event: Event) -> None:
        """Learn from what the pipeline tells, on whatever thread it does."""
        match event:
            case StateChanged():
                self._change(state=event.state, shows_avatar=event.state.shows_avatar, why=event.message)
                if event.state is not State.CALIBRATING:
                    self._change(calibrating=None)
            case EngineReady():
                self._change(model=event.asked or event.model, device=event.device, backend=event.backend)
            case BackendChanged():
                self._change(backend=event.backend)
            case SourceReady():
                self._change(portrait=PortraitFact(event.key, self._names.get(event.key, event.key)))
            case CameraOpened():
                self._change(camera=event.camera)
            case CameraFailed():
                self._change(camera=event.kept_name)
            case CalibrationProgress():
                self._change(calibrating=round(event.share, 2))
            case CalibrationMissed():
                self._change(calibrating=None)
            case Calibrated() | ReferenceImproved():
                self._change(calibrating=None, score=event.score)
            case SinkClosed() | SinkFailed():
                self._end_recording(event)
            case _:
                pass

    def _change(self, **changes: Any) -> None:
        with self._lock:
            before = self._state
            state = dataclasses.replace(before, **changes)
            self._state = dataclasses.replace(state, live=state.shows_avatar and not state.slate)
            if self._state != before:
                self.on_state(self._state)

    def _perform(self, command: Command) -> Answer:
        match command:
            case Slate():
                answer = self._set_slate(switched(command.to, self._state.slate))
                if command.to == "on":
                    self._pipeline.take_over_slate()  # of `panic`, which came before it
                return answer
            case Live():
                return self._set_slate(False)
            case Stop():
                answer = self._set_slate(True)
                self._pipeline.take_over_slate()
                return answer
            case ChoosePortrait():
                return self._choose(command)
            case Calibrate():
                self._pipeline.calibrate(now=command.now)
                return {}
            case Record():
                return self._record(command)
            case SetGains():
                return self._set_strengths(with_gains(self._pipeline.settings, command.changes))
            case ApplyPreset():
                return self._set_strengths(self._presets.get(command.name).over(self._pipeline.settings))
            case SwitchRetouch(setting=setting) | SwitchDetail(setting=setting):
                live = self._pipeline.settings
                change: dict[str, Any] = {setting: switched(command.to, getattr(live, setting))}
                self._pipeline.update(dataclasses.replace(live, **change))
                self._change(**change)
                return change
            case _:
                assert_never(command)

    def _set_slate(self, slate: bool) -> Answer:
        self._pipeline.update(dataclasses.replace(self._pipeline.settings, slate=slate))
        self._change(slate=slate)
        return {"slate": slate}

    def _strengths(self, live: LiveSettings) -> Answer:
        return {"gains": gains_of(live), "preset": self._presets.name_of(Strengths.of(live))}

    def _set_strengths(self, live: LiveSettings) -> Answer:
        self._pipeline.update(live)
        strengths = self._strengths(live)
        self._change(**strengths)
        return strengths

    def _choose(self, command: ChoosePortrait) -> Answer:
        entries = self._read_gallery()
        key = find_portrait({one.key: one.name for one in entries}, command, self._chosen.key)
        portrait = self._prepare(next(one for one in entries if one.key == key))
        self._chosen = portrait.entry
        self._pipeline.set_portrait(portrait)
        return {"portrait": dataclasses.asdict(PortraitFact(key, portrait.entry.name))}

    def _read_gallery(self) -> list[PortraitEntry]:
        entries = self._list_portraits()
        self._names |= {one.key: one.name for one in entries}
        self._change(portraits=tuple(PortraitFact(one.key, one.name) for one in entries))
        return entries

    def _record(self, command: Record) -> Answer:
        recording = self._recording
        if not switched(command.to, recording is not None and not self._ending):
            if recording is not None:
                self._ending = True
                self._pipeline.remove_sink(recording.name)
            return {"recording": ""}
        if recording is not None and self._ending:
            raise RefusedError("not_now", "record: the recording before is being finished; try again in a moment")
        if recording is None:
            if not self._pipeline.running:
                raise RefusedError("not_now", "there is nothing to record at the moment: nothing is shown")
            folder = self._find_folder()
            make_folder(folder)
            path = new_file(folder, ".mp4")
            self._recording, self._file = self._make_recorder(path), str(path)
            self._change(recording=self._file)
            self._pipeline.add_sink(self._recording)
        return {"recording": self._file}

    def _end_recording(self, event: SinkClosed | SinkFailed) -> None:
        recording = self._recording
        if recording is None or event.sink != recording.name:
            return
        self._recording, self._ending = None, False
        self._pipeline.remove_sink(recording.name)  # or the next start would begin it again
        self._change(recording="")
