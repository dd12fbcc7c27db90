"""`mcnet-avatar --headless`: the pipeline without a window, with a report in JSON."""

import argparse
import contextlib
import dataclasses
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from app.errors import AppError
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.camera_spec import CameraSpec, parse_camera
from app.pipeline.capture.camera_control import CameraTimes
from app.pipeline.events import (
    BackendChanged,
    Calibrated,
    CalibrationMissed,
    CameraDark,
    CameraFailed,
    CameraLit,
    CameraOpened,
    EngineReady,
    Event,
    Measured,
    MotionRefused,
    SettingRefused,
    SinkClosed,
    SinkFailed,
    SinkOpened,
    SourceFailed,
    SourceReady,
    StageFailed,
    StateChanged,
    Undisclosed,
)
from app.pipeline.output.discloser import Disclose, Discloser
from app.pipeline.output.sinks import NullSink, Sink, parse_output
from app.pipeline.pipeline import Pipeline, PipelineTimes
from app.pipeline.portraits import Portrait, PortraitStore, load_portrait
from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.pipeline.tiers import make_engine
from app.places import (
    control_folder,
    portraits_folder,
    presets_file,
    references_folder,
    settings_file,
    source_cache_folder,
    videos_folder,
)
from app.presets import Presets, load_presets
from app.settings import LiveSettings, kept_origins
from app.space import Obstacle, Space
from app.words import (
    dark_camera_words,
    measured_words,
    missed_calibration_words,
    motion_refused_words,
    not_in_space_words,
    unmet_wishes_words,
)
from mcnet.commands import credentials
from mcnet.commands.arguments import check_motion_options
from mcnet.commands.outputs import check_outputs
from mcnet.disclosure.process import begin_disclosing
from mcnet.files import as_written, cause_and_remedy, replacing
from mcnet.media.scene import Background, parse_background
from mcnet.media.suitability import poor_portrait
from mcnet.signals import StopSignals
from mcnet.track_name import TRACK_SUFFIX

logger = logging.getLogger(__name__)

_FILE_SINK = "file:"
_TELL_EVERY_S = 2.0
_POLL_S = 0.02
_STOP_S = 12.0
_UNASKED = ("retouch", "fine_detail", "surroundings")
"""Settings that are in force though nobody asked for them."""


def run_headless(args: argparse.Namespace) -> int:
    """Run until N frames were animated, or Ctrl-C; returns the exit status.

    Raises:
        AppError, MediaError, CheckpointError, EngineError: what was asked for cannot be done.
    """
    from mcnet.model_file import find_model

    model, device, precision = args.model or "starter", args.device or "auto", args.precision or "auto"
    find_model(model)  # a misspelt name shall not wait for the threads
    check_motion_options(args)

    camera, portrait = parse_camera(args.camera or "0"), args.source or "woman_1"
    background = None if args.background is None else parse_background(args.background, args.background_blur)
    check_places(args, camera, portrait, model, background)
    settings = live_settings(args)
    check_played(args, camera, settings, model)
    if background is not None:
        settings = before_background(settings, background)
    signer = credentials.signing_files(args)
    events: SimpleQueue[Event] = SimpleQueue()
    hearers: list[Callable[[Event], None]] = [events.put]

    def tell(event: Event) -> None:
        for hear in hearers:
            hear(event)

    discloser = Discloser(lambda: signer, tell, begin_disclosing)
    pipeline = Pipeline(
        lambda: make_engine(
            model,
            device,
            precision,
            on_measuring=_tell_measuring,
            on_not_remembered=_tell_not_remembered,
            on_measured=tell,
        ),
        settings=settings,
        output=parse_output(args.size, args.fps),
        on_event=tell,
        source_cache=source_cache_folder(),
        references=references_folder() if args.remember_calibration else None,
        times=PipelineTimes(args.model_timeout_s, CameraTimes(open_s=args.camera_timeout_s)),
    )
    sinks = [parse_sink(text, discloser.recording()) for text in args.sink or ["null"]]
    for sink in sinks:
        pipeline.add_sink(sink)
    store = PortraitStore(portraits_folder(), mends=False)
    shown = load_portrait(portrait, store)
    if complaint := store.take_complaint():
        print(complaint, file=sys.stderr)
    if poor := poor_portrait(shown.entry.name, shown.score, shown.remarks):
        print(poor, file=sys.stderr)
    pipeline.set_portrait(shown)
    pipeline.set_camera(camera)
    recording = None if args.record_motion is None else MotionRecording(args.record_motion)
    pipeline.motion = recording
    watch = Watch(
        events,
        settings,
        in_space_or_fail=args.motion == "space",
        give_up_s=args.give_up_s,
        file_camera=camera.is_recorded,
        sinks={sink.name for sink in sinks},
        discloser=discloser,
    )
    with contextlib.ExitStack() as stack:
        if args.control is not None:
            hearers += stack.enter_context(_controlled(pipeline, store, shown, args.control, discloser))
        stop = stack.enter_context(StopSignals())
        pipeline.start()
        try:
            watch.follow(pipeline, args.frames, args.seconds, lambda: stop.received is not None)
        finally:
            stats = pipeline.report()
            pipeline.stop(timeout_s=_STOP_S)
            discloser.wait()
            watch.end()
    failures = [watch.failure] if watch.failure else []
    if recording is not None:
        try:
            save_motion(recording)
        except AppError as error:
            failures.append(str(error))
    if args.report is not None:
        try:
            write_report(args.report, report(stats, watch))
        except AppError as error:  # the same disk, maybe, that made the run fail
            failures.append(str(error))
    print(_line(stats), file=sys.stderr)
    if failures:
        raise AppError("; ".join(failures))
    return 0


@contextlib.contextmanager
def _controlled(
    pipeline: Pipeline, store: PortraitStore, portrait: Portrait, port: int, discloser: Discloser
) -> Iterator[tuple[Callable[[Event], None], ...]]:
    """Control from outside while the block runs; yields what is to hear the pipeline's events.

    Raises:
        AppError: it cannot listen there.
    """
    from app.control.access import Access
    from app.control.pipeline_operator import PipelineOperator
    from app.control.server import ControlServer
    from app.pipeline.output.recorder import RecorderSink

    def record(path: Path) -> Sink:
        return RecorderSink(path, disclose=discloser.recording())

    try:
        presets = _presets()
    except AppError as error:  # none was asked for yet
        print(f"{error}; there are no presets in this run", file=sys.stderr)
        presets = Presets()
    operator = PipelineOperator(pipeline, store.entries, store.prepare, record, videos_folder, portrait, presets)
    try:
        operator.open()
        server = ControlServer(operator, Access(control_folder()), operator.state, kept_origins(settings_file()))
        operator.on_state = server.show
        server.start(port)
        print(f"control from outside: on port {server.port}, by mcnet-avatar ctl", file=sys.stderr)
        try:
            yield operator.hear, server.tell
        finally:
            server.stop()
    finally:
        operator.close()


def live_settings(args: argparse.Namespace) -> LiveSettings:
    """What the command line says about motion and place; for the rest the defaults.

    Raises:
        AppError: there is no such preset, or the presets cannot be read.
    """
    settings = LiveSettings(
        relative=not args.absolute,
        motion=args.motion or LiveSettings().motion,
        keypoints=args.keypoints,
        retouch=not args.no_retouch,
        surroundings=LiveSettings().surroundings if args.surroundings is None else args.surroundings,
        cut_out=False,
        fine_detail=LiveSettings().fine_detail if args.fine_detail is None else args.fine_detail,
        calibration_s=args.calibration_s,
        portrait_size=args.portrait_size,
        portrait_x=args.portrait_x,
        portrait_y=args.portrait_y,
    )
    if args.preset is None:
        return settings
    return _presets().get(args.preset).over(settings)


def _presets() -> Presets:
    """The presets that are kept; the file stays as it is, as a window may use it.

    Raises:
        AppError: they cannot be read.
    """
    presets, complaint = load_presets(presets_file(), mends=False)
    if complaint is not None:
        print(complaint, file=sys.stderr)
    return presets


def before_background(settings: LiveSettings, background: Background) -> LiveSettings:
    """The settings with the person cut out before that background."""
    path = str(background.path)
    return dataclasses.replace(
        settings,
        cut_out=True,
        background=background.kind,
        background_colour=background.colour,
        background_blur=background.blur,
        background_image=path if background.kind == "image" else settings.background_image,
        background_video=path if background.kind == "video" else settings.background_video,
    )


def check_places(
    args: argparse.Namespace, camera: CameraSpec, portrait: str, model: str, background: Background | None
) -> None:
    """See that report and recordings can be written, and take the place of nothing that is read, before any work.

    Raises:
        OutputError: it is not so.
    """
    sinks = [text for text in args.sink or () if _names_file(text)]
    if twice := {text for text in sinks if sinks.count(text) > 1}:
        raise AppError(f"--sink {twice.pop()}: got it twice, expected each recording once; choose another name")
    recordings = {f"--sink {text}": as_written(text.removeprefix(_FILE_SINK)) for text in sinks}
    report = {} if args.report is None else {"--report": args.report}
    read = {"--source": as_written(portrait), "--model": as_written(model), **credentials.read_by(args)}
    if camera.path is not None:
        read["--camera"] = camera.path
    if background is not None and background.is_file:
        read["--background"] = background.path
    motion = {} if args.record_motion is None else {"--record-motion": args.record_motion}
    suffixes = dict.fromkeys(recordings, (".mp4", ".webm")) | dict.fromkeys(motion, (TRACK_SUFFIX,))
    check_outputs(report | recordings | motion, read, suffixes)


def check_played(args: argparse.Namespace, camera: CameraSpec, settings: LiveSettings, model: str) -> None:
    """See that a motion file in the camera's place can move the avatar as wanted, where reading the model's file tells.

    Raises:
        AppError: it cannot.
        CheckpointError: the model's file cannot be read.
    """
    from mcnet.model_card import is_safetensors
    from mcnet.model_file import ModelFile, find_model

    path = find_model(model)
    in_space = settings.relative and settings.motion == "space"
    if camera.kind != "motion" or in_space or settings.keypoints == "detected" or not is_safetensors(path):
        return
    file = ModelFile.read(path)
    if not file.keypoint_landmarks or file.places_suffice:
        return
    raise AppError(
        f"--{'absolute' if args.absolute else 'motion plane'}: {camera.path} is a motion file, which has no pictures, "
        f"so that live it moves the avatar of model {file.info.name} in space only: use --motion space"
        + (", without --absolute" if args.absolute else "")
    )


def _names_file(text: str) -> bool:
    return text.startswith(_FILE_SINK) and text != _FILE_SINK


def parse_sink(text: str, disclose: Disclose | None = None) -> Sink:
    """A sink as the command line names it; a file is signed by `disclose` once it is finished.

    Raises:
        AppError: it is none.
    """
    kind, _, rest = text.partition(":")
    if text == "null":
        return NullSink()
    if _names_file(text):
        from app.pipeline.output.recorder import RecorderSink

        return RecorderSink(as_written(rest), disclose=disclose)
    if kind == "virtualcam":
        from app.pipeline.output.virtual_camera import VirtualCameraSink

        return VirtualCameraSink(rest or None)
    if kind == "pipewire":
        from app.pipeline.output.pipewire_camera import PipeWireCameraSink
        from app.pipeline.output.pipewire_worker import NODE_NAME

        return PipeWireCameraSink(rest or NODE_NAME, tell=_tell_of_pipewire)
    raise AppError(
        f"--sink: got {text!r}, expected null, file:OUT.mp4, file:OUT.webm, virtualcam, virtualcam:DEVICE, pipewire or "
        "pipewire:NAME"
    )


def _tell_of_pipewire(trouble: str) -> None:
    print(trouble or "The PipeWire camera is there again.", file=sys.stderr)


class Watch:
    """Follows a pipeline's events and decides when the run is over.

    A sink that fails does not end it as long as another one goes on: a call shall outlive its recording.

    Args:
        events: what the pipeline tells.
        settings: of the run.
        in_space_or_fail: motion in space was asked for; otherwise the plane does where it cannot be had, and is told.
        give_up_s: seconds until which a frame must have been animated, once the portrait can be; a slate that was asked
            for from outside stops the clock. Before, seconds for which what makes model and portrait ready may stand
            still: on a busy machine it takes long, and is no hang.
        file_camera: a file stands in for the camera, so that trying again is of no use.
        sinks: their names.
        discloser: told of the model.

    Attributes:
        failure: why the run failed, or "".
        states: what the output showed, and since when in seconds from the start.
        device: where the model runs, and why.
        model: its name.
        backend: what computes, at last.
        backend_reason: why.
        recordings: the files that were finished.
    """

    def __init__(
        self,
        events: "SimpleQueue[Event]",
        settings: LiveSettings,
        *,
        in_space_or_fail: bool,
        give_up_s: float,
        file_camera: bool,
        sinks: set[str],
        discloser: Discloser,
    ) -> None:
        self._discloser = discloser
        self._events = events
        self._settings = settings
        self._in_space_or_fail = in_space_or_fail
        self._space = Space()
        self._obstacle: Obstacle | None = None
        self._sinks = sinks
        self._failed_sinks: list[str] = []
        self._give_up_s = give_up_s
        self._file_camera = file_camera
        self._began_s = self._moved_s = self._looked_s = time.monotonic()
        self._mark: object = None
        self._patience_s = give_up_s
        self.failure = ""
        self.states: list[dict[str, Any]] = []
        self.device = ""
        self.model = ""
        self.backend = ""
        self.backend_reason = ""
        self.recordings: list[str] = []
        self._trouble = ""
        self._opened = False
        self._animated = False
        self._lived = False

    def follow(
        self, pipeline: Pipeline, frames: int | None, seconds: float | None, stopped: Callable[[], bool]
    ) -> None:
        """Wait for the end: so many animated frames, so many seconds, a signal, or a failure."""
        told_s = time.monotonic()
        while not stopped() and not self.failure:
            self.drain()
            if frames is not None and pipeline.frames_out >= frames:
                return
            now_s = time.monotonic()
            over = seconds is not None and now_s - self._began_s >= seconds
            if not pipeline.frames_out and (over or self._stood_still_s(pipeline, now_s) > self._give_up_s):
                self.failure = (
                    f"no frame was animated within {now_s - self._began_s:.0f} s (the output shows: {pipeline.state}); "
                    + self._likely_cause(now_s, slate=pipeline.settings.slate)
                )
            if over:
                return
            if now_s - told_s >= _TELL_EVERY_S:
                told_s = now_s
                logger.info("%s", _line(pipeline.stats()))
            time.sleep(_POLL_S)

    def _stood_still_s(self, pipeline: Pipeline, now_s: float) -> float:
        """Seconds since the portrait can be animated, without those under a slate that was asked for; before, since
        what makes model and portrait last got on.
        """
        if self._animated and pipeline.settings.slate:
            self._moved_s += now_s - self._looked_s
        self._looked_s = now_s
        if not self._animated and (mark := pipeline.inference_mark()) != self._mark:
            self._mark, self._moved_s = mark, now_s
            if now_s - self._began_s > self._patience_s:
                self._patience_s += self._give_up_s
                after_s = now_s - self._began_s
                print(
                    f"the model is still being made ready after {after_s:.0f} s: this machine is busy, or it is large",
                    file=sys.stderr,
                )
        return now_s - self._moved_s

    def _likely_cause(self, now_s: float, *, slate: bool) -> str:
        if self._animated and slate:
            return "the slate was asked for, and not taken away again: mcnet-avatar ctl live does that"
        if self._animated:
            return self._trouble or "is there a face in front of the camera?"
        still_s = now_s - self._moved_s
        if still_s > self._give_up_s:
            return f"what makes the model ready has stood still for {still_s:.0f} s: try --device cpu"
        return "the model was still being made ready: give it more time (--seconds)"

    def end(self) -> None:
        """Take what was told last; a run of which a sink failed has failed, however long the others went on."""
        self._sinks.clear()
        self.drain()
        self.failure = self.failure or "; ".join(self._failed_sinks)

    def drain(self) -> None:
        """Take what was told since the last call."""
        with contextlib.suppress(Empty):
            while True:
                self._hear(self._events.get_nowait())

    def _hear(self, event: Event) -> None:
        match event:
            case StateChanged(state=state, message=message):
                why = {"why": message} if message else {}
                self._lived = self._lived or state is State.LIVE
                self.states.append({"state": state.value, "at_s": round(time.monotonic() - self._began_s, 3), **why})
                logger.info("state: %s%s", state, f": {message}" if message else "")
            case Measured():
                print(f"measured: {measured_words(event)}", file=sys.stderr)
            case EngineReady(model=model, reason=reason, load_s=load_s, backend=backend, backend_reason=why):
                self.model, self.device, self.backend, self.backend_reason = model, reason, backend, why
                self._discloser.uses(model, event.content_hash)
                print(f"model {model} on {reason}; loaded in {load_s:.1f} s; with {backend}: {why}", file=sys.stderr)
                self._learn(Space(model=event.measures, detects=event.detects))
            case SourceReady():
                self._animated = True
                self._learn(dataclasses.replace(self._space, portrait=event.measured))
            case BackendChanged(backend=backend, reason=why):
                self.backend, self.backend_reason = backend, why
                print(f"{backend} computes from now on: {why}", file=sys.stderr)
            case CameraOpened(camera=camera, width_px=width, height_px=height, fps_hz=fps_hz):
                self._opened = True
                note = f" ({unmet})" if (unmet := unmet_wishes_words(event)) else ""
                print(f"{camera}: {width} x {height} at {fps_hz:g} frames/s{note}", file=sys.stderr)
            case Calibrated(score=score, remarks=remarks, kept=kept):
                note = f" ({'; '.join(remarks)})" if remarks else ""
                how = "calibrated as before" if kept else "calibrated"
                print(f"{how}: the reference scores {score} of 100{note}", file=sys.stderr)
            case CalibrationMissed():
                print(missed_calibration_words(), file=sys.stderr)
            case SinkClosed(sink=sink, detail=file) if self._is_new(sink, file):
                self.recordings.append(file)
                asked = sink.removeprefix(_FILE_SINK)
                note = "" if file == asked else f"; {asked} was there already"
                print(f"{file} is saved{note}", file=sys.stderr)
            case SinkOpened(sink=sink, detail=detail) | SinkClosed(sink=sink, detail=detail):
                logger.info("%s: %s %s", type(event).__name__, sink, detail)
            case CameraFailed(message=message, retry_s=retry_s):
                self._trouble = message
                again = "" if retry_s is None else f"; trying again in {retry_s:g} s"
                print(f"{message}{again}", file=sys.stderr)
                if self._file_camera and not self._opened:
                    self.failure = message
            case MotionRefused() if self._lived:  # with a portrait that was asked for from outside
                print(f"{motion_refused_words(event)}; the run goes on", file=sys.stderr)
            case MotionRefused(in_the_plane=in_the_plane):
                self.failure = motion_refused_words(event) + (" (--motion space)" if in_the_plane else "")
            case CameraDark():
                self._trouble = dark_camera_words(event)
                print(self._trouble, file=sys.stderr)
            case CameraLit():
                self._trouble = ""
            case Undisclosed(file=file, message=message):
                print(f"{file} is saved, but without Content Credentials: {message}", file=sys.stderr)
            case SinkFailed(sink=sink, message=message):
                self._lose(sink, message)
            # One that was asked for from outside, or one that nobody has to ask for.
            case SettingRefused(setting=setting, message=message) if self._animated or setting in _UNASKED:
                print(f"{message}; the picture goes on", file=sys.stderr)
            case SettingRefused(message=message):
                self.failure = message  # it was asked for on the command line
            case SourceFailed(message=message) if self._animated:  # another one that was asked for from outside
                print(f"{message}; the portrait before goes on", file=sys.stderr)
            case SourceFailed(message=message) | StageFailed(message=message):
                self.failure = message
            case _:
                logger.info("%s", event)

    def _learn(self, space: Space) -> None:
        """Take what is known of motion in space; say it once where it cannot be had."""
        self._space, obstacle = space, space.obstacle(self._settings)
        if obstacle is None or not self._settings.relative or self._settings.motion != "space":
            return
        why = not_in_space_words(obstacle)
        if self._in_space_or_fail:
            self.failure = f"--motion space: {why}; use --motion plane, or another model or portrait"
        elif obstacle is not self._obstacle:
            self._obstacle = obstacle
            print(f"motion in the plane: {why}", file=sys.stderr)

    def _is_new(self, sink: str, file: str) -> bool:
        """Whether that is a recording with pictures, of which nothing was told yet."""
        return _names_file(sink) and file not in self.recordings and Path(file).exists()

    def _lose(self, sink: str, message: str) -> None:
        self._failed_sinks.append(message)
        self._sinks.discard(sink)
        if not self._sinks:
            self.failure = "; ".join(self._failed_sinks)
        else:
            print(f"{message}; the run goes on without it", file=sys.stderr)


def report(stats: Stats, watch: Watch) -> dict[str, Any]:
    """What a run measured, ready for JSON. `stage_ms` are medians and 95th percentiles."""
    return {
        "model": watch.model,
        "device": watch.device,
        "backend": watch.backend,
        "backend_reason": watch.backend_reason,
        "frames_in": stats.frames_in,
        "frames_out": stats.frames_out,
        "pictures_out": stats.pictures_out,
        "dropped": dict(stats.dropped),
        "fps": round(stats.fps, 2),
        "camera_fps": round(stats.camera_fps, 2),
        "sink_fps": round(stats.sink_fps, 2),
        "age_ms": {name: round(value, 1) for name, value in dataclasses.asdict(stats.age_ms).items()},
        "stage_ms": {
            name: {"p50": round(times.p50, 2), "p95": round(times.p95, 2)} for name, times in stats.stage_ms.items()
        },
        "states": watch.states,
        "recordings": watch.recordings,
        "failure": watch.failure,
    }


def save_motion(recording: MotionRecording) -> None:
    """Write a motion file, and say so.

    Raises:
        AppError: no face was seen, or the place cannot be written.
    """
    early = f"; it ended early: {recording.ended}" if recording.ended else ""
    recording.save()
    print(f"{recording.path}: {recording.frames} frames of motion{early}", file=sys.stderr)


def write_report(path: Path, values: dict[str, Any]) -> None:
    """Write it in one step.

    Raises:
        AppError: the place cannot be written.
    """
    try:
        with replacing(path) as partial:
            partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise AppError(f"cannot write the report {path}: {cause_and_remedy(error)}") from error


def _tell_measuring() -> None:
    print("measuring what runs the model best here", file=sys.stderr)


def _tell_not_remembered(why: str) -> None:
    print(f"not remembered: {why}; it is measured again at the next start", file=sys.stderr)


def _line(stats: Stats) -> str:
    age = stats.age_ms
    return (
        f"{stats.state.upper()} | {stats.fps:.1f} fps | {age.p50:.0f} ms in app (p95 {age.p95:.0f}) | "
        f"dropped {100 * stats.drop_share:.0f} % | {stats.frames_out} frames"
    )
