"""What the window is built on. The heavy modules are imported inside these functions, which run off the GUI thread."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.pipeline.output.sinks import parse_output
from app.places import control_folder, portraits_folder, references_folder, settings_file, source_cache_folder
from app.settings import AppSettings, VirtualCameraKind
from mcnet.phrases import phrase

if TYPE_CHECKING:
    from app.control.facts import AppState
    from app.control.operation import Operator
    from app.control.server import ControlServer
    from app.hotkeys.listening import KeyListener, Standing
    from app.pipeline.animation.live_engine import LiveEngine
    from app.pipeline.camera_spec import CameraSpec
    from app.pipeline.capture.camera import CameraInfo
    from app.pipeline.doctor import VirtualCameraReport
    from app.pipeline.events import Event, Measured, MeasuringProgress
    from app.pipeline.inspector import InspectorProcess
    from app.pipeline.models import ModelReport
    from app.pipeline.output.discloser import Begin, Disclose
    from app.pipeline.output.pipewire_microphone import MicrophoneStanding, PipeWireMicrophone
    from app.pipeline.output.sinks import FileSink, Sink
    from app.pipeline.output.sound import SoundFeed
    from app.pipeline.pipeline import Pipeline
    from app.pipeline.portraits import PortraitStore
    from app.ui.microphones import Ear
    from mcnet.bench.tiers import Tier
    from mcnet.disclosure import Generated, SigningFiles
    from mcnet.model_card import ModelCard

_LOADING = threading.Lock()


@dataclass(frozen=True)
class WindowOptions:
    """What the command line asks of the window. None leaves it to the kept settings, and is not kept itself.

    Attributes:
        model, device, precision: of the engine.
        camera: as `app.pipeline.camera_spec.parse_camera` reads it.
        portrait: a portrait's key or a picture's path.
        size: of the output, as `1280x720`.
        fps_hz: of the output.
        settings_path: where the settings are kept.
        language: of the window.
        new_instance: open a window even where one has these settings already.
        control_port: where control from outside listens; None: as the settings say.
        safe: with what can hardly fail: the processor computes, no virtual camera, and default settings, none of
            which are kept.
    """

    model: str | None = None
    device: str | None = None
    precision: str | None = None
    camera: str | None = None
    portrait: str | None = None
    size: str | None = None
    fps_hz: float | None = None
    settings_path: Path = field(default_factory=settings_file)
    language: str | None = None
    new_instance: bool = False
    control_port: int | None = None
    safe: bool = False

    def made_safe(self) -> "WindowOptions":
        """The same, for a safe start."""
        return replace(self, device="cpu", precision="fp32", safe=True)

    def over(self, settings: AppSettings) -> AppSettings:
        """The settings that engine and output are made from: the kept ones, and what the command line says otherwise.

        Raises:
            AppError: the output cannot have that size or rate.
        """
        size = self.size or f"{settings.output_width_px}x{settings.output_height_px}"
        output = parse_output(size, self.fps_hz or settings.output_fps_hz)
        return replace(
            settings,
            model=self.model or settings.model,
            device=self.device or settings.device,
            precision=self.precision or settings.precision,
            output_width_px=output.width_px,
            output_height_px=output.height_px,
            output_fps_hz=output.fps_hz,
        )


@dataclass(frozen=True)
class Parts:
    """Makers of everything that the window uses and that is not Qt's. Each may take its time; tests give fakes.

    Attributes:
        open_store: the gallery's portraits.
        list_cameras: those that are there.
        parse_camera: text to spec.
        list_devices: where the model can run besides the processor, each with a name for people.
        make_pipeline: from settings and the functions that it calls on its own threads: with each fact, and with each
            picture.
        measure: try again what runs the model best here, telling the progress, and remember it.
        examine_model: the model that settings name, with its weights read.
        read_card: of a model, by its name or place.
        model_stamp: of a model that still learns; None of others.
        examine_virtual_camera: of a kind: ready, missing, busy or denied, and what to do.
        make_virtual_camera: a sink of that kind, which tells from a thread what is wrong for the time being, and ""
            when it is over.
        make_recorder: a sink that writes that file, with that sound or silent, and has it signed by that at its end.
        begin_disclosing: sign a finished file in a process of its own.
        list_microphones: key and name of each.
        open_microphone: by its key, or the usual one by "".
        make_call_microphone: of a microphone's key and name, one in PipeWire that tells from a thread how it stands.
        make_inspector: of a model, what draws the inside of the network.
        listen_for: what hears a key while another window has the focus, not started yet.
        make_control: a server for whoever does what is asked from outside, with the state and the pages allowed.
    """

    open_store: "Callable[[], PortraitStore]"
    list_cameras: "Callable[[], list[CameraInfo]]"
    parse_camera: "Callable[[str], CameraSpec]"
    list_devices: Callable[[], tuple[tuple[str, str], ...]]
    make_pipeline: "Callable[[AppSettings, Callable[[Event], None], Callable[[], None]], Pipeline]"
    measure: "Callable[[AppSettings, Callable[[MeasuringProgress], None]], Measured]"
    examine_model: "Callable[[AppSettings, Tier | None], ModelReport]"
    read_card: "Callable[[str], ModelCard | None]"
    model_stamp: Callable[[str], tuple[int, ...] | None]
    examine_virtual_camera: "Callable[[VirtualCameraKind], VirtualCameraReport]"
    make_virtual_camera: "Callable[[VirtualCameraKind, Callable[[str], None]], Sink]"
    make_recorder: "Callable[[Path, SoundFeed | None, Disclose], FileSink]"
    begin_disclosing: "Begin"
    list_microphones: Callable[[], list[tuple[str, str]]]
    open_microphone: "Callable[[str], Ear]"
    make_call_microphone: "Callable[[str, str, Callable[[MicrophoneStanding], None]], PipeWireMicrophone]"
    make_inspector: "Callable[[str], InspectorProcess]"
    listen_for: "Callable[[str, Callable[[], None], Callable[[Standing], None]], KeyListener]"
    make_control: "Callable[[Operator, AppState, Sequence[str]], ControlServer]"


def real_parts() -> Parts:
    """What a user gets."""
    return Parts(
        open_store=_open_store,
        list_cameras=_list_cameras,
        parse_camera=_parse_camera,
        list_devices=_list_devices,
        make_pipeline=_make_pipeline,
        measure=_measure,
        examine_model=_examine_model,
        read_card=_read_card,
        model_stamp=_model_stamp,
        examine_virtual_camera=_examine_virtual_camera,
        make_virtual_camera=_make_virtual_camera,
        make_recorder=_make_recorder,
        begin_disclosing=_begin_disclosing,
        list_microphones=_list_microphones,
        open_microphone=_open_microphone,
        make_call_microphone=_make_call_microphone,
        make_inspector=_make_inspector,
        listen_for=_listen_for,
        make_control=_make_control,
    )


def without_virtual_camera(parts: Parts) -> Parts:
    """The same parts, without one."""

    def examine(_kind: VirtualCameraKind) -> "VirtualCameraReport":
        _load_opencv()
        from app.pipeline.doctor import VirtualCameraReport

        return VirtualCameraReport(
            "missing", "", phrase("There is no virtual camera in a safe start: start the app again.")
        )

    return replace(parts, examine_virtual_camera=examine)


def _load_opencv() -> None:
    """Import OpenCV on one thread at a time, before whatever imports it among much else.

    For a moment its import has its bare library in its own place; a thread that asks for it just then would keep that,
    which lacks what is written in Python.
    """
    with _LOADING:
        import cv2  # noqa: F401


def _open_store() -> "PortraitStore":
    _load_opencv()
    from app.pipeline.portraits import PortraitStore

    return PortraitStore(portraits_folder())


def _list_cameras() -> "list[CameraInfo]":
    _load_opencv()
    from app.pipeline.capture.cameras import list_cameras

    return list(list_cameras())


def _parse_camera(text: str) -> "CameraSpec":
    from app.pipeline.camera_spec import parse_camera

    return parse_camera(text)


def _list_devices() -> tuple[tuple[str, str], ...]:
    _load_opencv()
    from app.pipeline.tiers import gpus

    return gpus()


def _make_pipeline(
    settings: AppSettings,
    on_event: "Callable[[Event], None]",
    on_picture: Callable[[], None],
) -> "Pipeline":
    _load_opencv()
    from app.pipeline.output.sinks import OutputFormat
    from app.pipeline.pipeline import Pipeline

    return Pipeline(
        lambda: _make_engine(settings, on_event),
        settings=settings.live,
        output=OutputFormat(settings.output_width_px, settings.output_height_px, settings.output_fps_hz),
        on_event=on_event,
        on_picture=on_picture,
        source_cache=source_cache_folder(),
        references=references_folder(),
    )


def _make_engine(settings: AppSettings, on_event: "Callable[[Event], None]") -> "LiveEngine":
    from app.pipeline.tiers import make_engine

    return make_engine(settings.model, settings.device, settings.precision, on_measured=on_event)


def _measure(settings: AppSettings, tell: "Callable[[MeasuringProgress], None]") -> "Measured":
    _load_opencv()
    from app.pipeline.events import MeasuringProgress
    from app.pipeline.tiers import measure_again

    return measure_again(
        settings.model,
        settings.device,
        settings.precision,
        lambda share, way: tell(MeasuringProgress(share, way)),
    )


def _examine_model(settings: AppSettings, like: "Tier | None") -> "ModelReport":
    _load_opencv()
    from app.pipeline.models import examine_model

    return examine_model(settings.model, settings.device, settings.precision, like)


def _read_card(model: str) -> "ModelCard | None":
    _load_opencv()
    from app.pipeline.models import card_of

    return card_of(model)


def _model_stamp(model: str) -> tuple[int, ...] | None:
    _load_opencv()
    from app.pipeline.models import stamp_while_learning

    return stamp_while_learning(model)


def _examine_virtual_camera(kind: VirtualCameraKind) -> "VirtualCameraReport":
    _load_opencv()
    from app.pipeline.doctor import examine_pipewire, examine_virtual_camera

    return examine_pipewire() if kind == "pipewire" else examine_virtual_camera()


def _make_virtual_camera(kind: VirtualCameraKind, tell: Callable[[str], None]) -> "Sink":
    _load_opencv()
    from app.pipeline.output.pipewire_camera import PipeWireCameraSink
    from app.pipeline.output.virtual_camera import VirtualCameraSink

    return PipeWireCameraSink(tell=tell) if kind == "pipewire" else VirtualCameraSink()


def _make_recorder(path: Path, sound: "SoundFeed | None", disclose: "Disclose") -> "FileSink":
    _load_opencv()
    from app.pipeline.output.recorder import RecorderSink

    return RecorderSink(path, sound, disclose)


def _begin_disclosing(
    path: Path, said: "Generated", files: "SigningFiles", tell: Callable[[Path, str], None]
) -> threading.Thread:
    from mcnet.disclosure.process import begin_disclosing

    return begin_disclosing(path, said, files, tell)


def _list_microphones() -> list[tuple[str, str]]:
    from app.ui.microphones import list_microphones

    return list_microphones()


def _open_microphone(key: str) -> "Ear":
    from app.ui.microphones import open_microphone

    return open_microphone(key)


def _make_call_microphone(key: str, name: str, tell: "Callable[[MicrophoneStanding], None]") -> "PipeWireMicrophone":
    from app.pipeline.output.pipewire_microphone import PipeWireMicrophone

    return PipeWireMicrophone(key, name, tell)


def _make_inspector(model: str) -> "InspectorProcess":
    from app.pipeline.inspector import InspectorProcess

    return InspectorProcess(model)


def _listen_for(text: str, pressed: Callable[[], None], tell: "Callable[[Standing], None]") -> "KeyListener":
    from app.hotkeys.support import listen_for

    return listen_for(text, pressed, tell)


def _make_control(operator: "Operator", state: "AppState", origins: Sequence[str]) -> "ControlServer":
    from app.control.access import Access
    from app.control.server import ControlServer

    return ControlServer(operator, Access(control_folder()), state, origins)
