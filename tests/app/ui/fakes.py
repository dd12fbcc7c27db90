"""What the window is built on, without cameras, models and threads."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pytestqt.qtbot import QtBot

from app.control.access import Access
from app.control.facts import AppState
from app.control.operation import Operator
from app.control.server import ControlServer
from app.errors import AppError, CameraError
from app.hotkeys.keys import KeyCombination, parse_key
from app.hotkeys.listening import KeyListener, Standing
from app.pipeline.animation.motion_recording import MotionRecording
from app.pipeline.animation.performer_view import PerformerView
from app.pipeline.camera_spec import CameraSpec, is_address, parse_camera
from app.pipeline.capture.camera import CameraInfo
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.doctor import Fix, VirtualCameraReport
from app.pipeline.events import (
    Calibrated,
    CameraFailed,
    CameraOpened,
    EngineReady,
    Event,
    Measured,
    MeasuringProgress,
    SinkClosed,
    SinkFailed,
    SinkOpened,
    SourceReady,
    StateChanged,
)
from app.pipeline.inspector import Drawn, InspectorProcess, Posed, Request
from app.pipeline.models import ModelReport
from app.pipeline.output.discloser import Disclose
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.pipewire_microphone import MicrophoneStanding, PipeWireMicrophone
from app.pipeline.output.sinks import NullSink, OutputFormat, Sink
from app.pipeline.output.sound import SoundFeed
from app.pipeline.pipeline import Pipeline
from app.pipeline.portraits import Portrait, PortraitEntry, PortraitStore
from app.pipeline.slot import LatestSlot
from app.pipeline.state import State
from app.pipeline.stats import Percentiles, Stats
from app.settings import AppSettings, VirtualCameraKind
from app.ui.parts import Parts
from app.ui.session import Session
from mcnet.bench.tiers import Tier, Timing
from mcnet.config import McnetConfig
from mcnet.disclosure import Generated, SigningFiles
from mcnet.engine import Engine, Way
from mcnet.media.crop import SquareBox
from mcnet.media.errors import MediaError
from mcnet.model_card import Evaluation, ModelCard
from mcnet.phrases import phrase
from tests.app.fakes import StillPipeline

_AUTOMATIC = SquareBox(50.0, 40.0, 60.0)
READY = VirtualCameraReport(
    "ready", "/dev/video10", phrase("The virtual camera {called} is ready.", called="/dev/video10")
)
PIPEWIRE_READY = VirtualCameraReport("ready", "mcnet-avatar", "PipeWire can have a camera.")
MISSING = VirtualCameraReport(
    "missing",
    "",
    phrase("There is no virtual camera: OBS Studio brings one."),
    (
        Fix(phrase("Install it"), "sudo apt install v4l2loopback-dkms"),
        Fix(phrase("Load the module"), "sudo modprobe v4l2loopback"),
    ),
)
STATS = Stats(
    State.LIVE,
    frames_in=100,
    frames_out=90,
    fps=31.2,
    age_ms=Percentiles(62.4, 88.1, 99.0),
    stage_ms={"render": Percentiles(12.0, 15.0, 16.0)},
    dropped={"camera to model": 3},
    drop_share=0.03,
)


GPU_WAY = Way("cuda:0", "fp16", "cudagraph")


def measured(frame_ms: float) -> Measured:
    """What was measured on a fake GPU."""
    return Measured(Tier(Timing(GPU_WAY, frame_ms)))


def plain(colour: int = 120, width: int = 64, height: int = 36) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


class FakePipeline(StillPipeline):
    """Remembers what it was asked, and tells what a test has it tell."""

    def __init__(
        self,
        settings: AppSettings,
        on_event: Callable[[Event], None],
        on_picture: Callable[[], None],
    ) -> None:
        super().__init__(settings.live)
        self.made_from = settings
        self.tell = on_event
        self.preview: LatestSlot[Composed] = LatestSlot("preview", on_put=on_picture)
        self.performer: LatestSlot[PerformerView] = LatestSlot("performer")
        self.camera: CameraSpec | None = None
        self.wish = 0
        self.motion: MotionRecording | None = None
        self.models: list[str] = []
        self.figures = Stats(State.STARTING)

    def start(self) -> None:
        """As the real one: harmless while running."""
        self.starts += not self.running

    def stop(self, timeout_s: float = 0.5) -> bool:
        """As the real one: its sinks are closed, and opened again at the next start; harmless when called again."""
        del timeout_s
        if not self.running:
            return True
        self.stops += 1
        for sink in self.sinks.values():
            self.tell(SinkClosed(sink.name, sink.detail, asked=False))
        return True

    def set_camera(self, spec: CameraSpec | None) -> int:
        self.camera = spec
        self.wish += 1
        return self.wish

    def use_engine(self, factory: object, model: str) -> None:
        del factory
        self.models.append(model)

    def take_over(self, *, keeps_reference: bool = True) -> None:
        """Tell that the model that was asked for last has taken over."""
        asked = self.models[-1]
        self.tell(EngineReady(asked, "cpu", "the processor", 0.1, asked=asked, keeps_reference=keeps_reference))

    def remove_sink(self, name: str) -> None:
        if (sink := self.sinks.pop(name, None)) is not None:
            self.tell(SinkClosed(name, sink.detail))

    def stats(self) -> Stats:
        return self.figures

    def slated(self) -> bool:
        return self.settings.slate

    def show(self, state: State = State.LIVE, rgb: NDArray[np.uint8] | None = None, *, fading: bool = False) -> None:
        """Leave a picture for the window."""
        picture = plain() if rgb is None else rgb
        self.preview.put(Composed(0, time.monotonic(), state, picture, fresh=True, fading=fading))

    def show_performer(self, view: PerformerView) -> None:
        """Leave a view of the performer; the window looks for it when it is woken."""
        self.performer.put(view)

    def prove(self, *, state: State = State.LIVE, measures: bool = True, measured: bool = True) -> None:
        """Tell that model, camera, portrait and calibration are well.

        Args:
            state: what the output shows.
            measures: whether the model's keypoints can be measured.
            measured: whether the portrait's were.
        """
        assert self.portrait is not None
        self.tell(
            EngineReady(
                "fake",
                "cuda:0",
                phrase(
                    "{device} in {precision} with {backend}", device="the fake GPU", precision="bf16", backend="torch"
                ),
                0.1,
                measures=measures,
            )
        )
        self.tell(SourceReady(self.portrait.entry.key, from_cache=False, measured=measured))
        self.open_camera()
        live = self.settings
        in_space = measured and live.relative and live.motion == "space"
        self.tell(Calibrated(92, (phrase("close your mouth"),), in_space=in_space))
        self.tell(StateChanged(state))

    def open_camera(self, fps_hz: float = 30.0) -> None:
        """Tell that the camera that was wished for gives frames."""
        assert self.camera is not None
        self.tell(CameraOpened(self.camera, self.wish, "fake camera", 640, 480, fps_hz))

    def fail_camera(self, message: str, kept: CameraSpec | None = None, retry_s: float | None = None) -> None:
        """Tell that the camera that was wished for fails."""
        assert self.camera is not None
        name = "" if kept is None else kept.name
        self.tell(CameraFailed(self.camera, self.wish, self.camera.name, message, kept, name, retry_s))

    def open_sink(self, name: str) -> None:
        """Tell that a sink takes pictures."""
        self.tell(SinkOpened(name, f"device of {name}"))


class FakeStore:
    """The gallery's store without files and faces: three bundled portraits, and what a test adds.

    Attributes:
        kept: what is in the gallery.
        aside: removed portraits that can be restored.
        fail: what preparing any portrait raises.
        unreadable: keys of those whose file is damaged.
        faceless: squares with a side below this show no face.
        complaint: what is said of the list the next time.
    """

    def __init__(self, folder: Path) -> None:
        self.kept = [
            PortraitEntry(f"fake_{n}", f"Fake {n}", folder / f"fake_{n}.png", bundled=True) for n in range(1, 4)
        ]
        self.aside: list[PortraitEntry] = []
        self.fail: Exception | None = None
        self.unreadable: set[str] = set()
        self.faceless = 0.0
        self.complaint: str | None = None

    @property
    def own(self) -> list[str]:
        """Keys of the user's own portraits."""
        return [entry.key for entry in self.kept if not entry.bundled]

    def own_one(self, name: str) -> PortraitEntry:
        """Put one into the gallery before the window opens."""
        self.kept.append(PortraitEntry(f"own_{name}", name, Path(f"{name}.png"), bundled=False))
        return self.kept[-1]

    def entries(self) -> list[PortraitEntry]:
        return list(self.kept)

    def take_complaint(self) -> str | None:
        complaint, self.complaint = self.complaint, None
        return complaint

    def look(self, path: Path) -> Portrait:
        with contextlib.suppress(OSError):
            if path.exists():
                return self._look(path.stem, path)
        raise AppError(f"cannot read {path}")

    def look_at(self, rgb: NDArray[np.uint8], name: str) -> Portrait:
        assert rgb.ndim == 3
        return self._look(name, Path("pasted.png"))

    def prepare(self, entry: PortraitEntry) -> Portrait:
        if entry.key in self.unreadable:
            raise AppError(f"cannot read {entry.name}")
        if self.fail is not None:
            raise self.fail
        number = [one.key for one in self.kept].index(entry.key)
        return _portrait(entry, plain(60 + 30 * number, 100, 80), plain(60 + 30 * number, 512, 512), 70 + number)

    def thumbnail(self, entry: PortraitEntry, size_px: int) -> NDArray[np.uint8]:
        raise MediaError(f"cannot read {entry.path} in {size_px} px")

    def reframe(self, portrait: Portrait, box: SquareBox | None, angle_deg: float) -> Portrait:
        found = box is None or box.side >= self.faceless
        return replace(
            portrait,
            entry=replace(portrait.entry, box=box, angle_deg=angle_deg),
            box=box or _AUTOMATIC,
            landmarks_px=np.zeros((468, 3), np.float32) if found else None,
        )

    def keep(self, portrait: Portrait) -> Portrait:
        if portrait.refusal:
            raise AppError(portrait.refusal)
        entry = portrait.entry
        if entry.bundled:
            return portrait
        known = {one.key: one for one in self.kept}
        row = replace(known.get(entry.key, entry), box=entry.box, angle_deg=entry.angle_deg)
        self.kept = list((known | {entry.key: row}).values())
        return replace(portrait, entry=row)

    def remove(self, entry: PortraitEntry) -> PortraitEntry:
        stood = next(one for one in self.kept if one.key == entry.key)
        self.kept = [one for one in self.kept if one.key != entry.key]
        self.aside.append(stood)
        return stood

    def rename(self, entry: PortraitEntry, name: str) -> None:
        self.kept = [replace(one, name=name) if one.key == entry.key else one for one in self.kept]

    def restore(self, entry: PortraitEntry) -> None:
        self.aside.remove(entry)
        self.kept.append(entry)

    def forget_removed(self) -> None:
        self.aside.clear()

    def forget_leftovers(self) -> None:
        """There was no run before."""

    def _look(self, name: str, path: Path) -> Portrait:
        entry = PortraitEntry(f"own_{name}", name, path, bundled=False)
        if entry.key in self.own:
            return self.prepare(entry)
        return _portrait(entry, plain(200, 100, 80), plain(200, 512, 512), 70)


def _portrait(entry: PortraitEntry, rgb: NDArray[np.uint8], square: NDArray[np.uint8], score: int) -> Portrait:
    landmarks = np.zeros((468, 3), np.float32)
    return Portrait(entry, rgb, entry.box or _AUTOMATIC, square, landmarks, score, (phrase("the head is tilted"),))


@dataclass
class World:
    """What the fakes answer, and what they were asked; a test changes it before the session asks."""

    folder: Path
    cameras: list[CameraInfo] = field(default_factory=lambda: [CameraInfo("Fake Cam", "0"), CameraInfo("Other", "1")])
    report: VirtualCameraReport = READY
    pipewire_report: VirtualCameraReport = PIPEWIRE_READY
    tell_trouble: Callable[[str], None] = print
    pipelines: list[FakePipeline] = field(default_factory=list)
    recordings: list[Path] = field(default_factory=list)
    sounds: list[SoundFeed | None] = field(default_factory=list)
    microphones: list[str] | Exception = field(default_factory=lambda: ["headset", "webcam"])
    call_microphones: "list[FakeCallMicrophone]" = field(default_factory=list)
    ears: "list[FakeEar]" = field(default_factory=list)
    sink_error: Exception | None = None
    sound_trouble: str = ""
    disclosed: list[tuple[Path, Generated, SigningFiles]] = field(default_factory=list)
    disclosure_trouble: str = ""
    disclose: Disclose | None = None
    measure_error: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    measured_with: list[tuple[str, str, str]] = field(default_factory=list)
    cards: dict[str, ModelCard] = field(default_factory=dict)
    model_errors: dict[str, Exception] = field(default_factory=dict)
    stamps: dict[str, tuple[int, ...]] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    looked_at: list[str] = field(default_factory=list)
    inspectors: "list[FakeInspector]" = field(default_factory=list)
    listeners: "list[FakeKeyListener]" = field(default_factory=list)
    listed: int = 0
    examined: int = 0

    def __post_init__(self) -> None:
        self.store = FakeStore(self.folder)
        self.access = Access(self.folder / "control")
        self.cards["starter"] = card(Path("starter.safetensors"), bundled=True)

    @property
    def pipeline(self) -> FakePipeline:
        return self.pipelines[-1]

    def parts(self) -> Parts:
        return Parts(
            open_store=lambda: cast(PortraitStore, self.store),
            list_cameras=self._list,
            parse_camera=_parse,
            list_devices=lambda: (("cuda:0", "GPU 0: a fake one"),),
            make_pipeline=self._make_pipeline,
            measure=self._measure,
            examine_model=self._examine_model,
            read_card=lambda model: self.cards.get(model),
            model_stamp=lambda model: self.stamps.get(model),
            examine_virtual_camera=self._examine,
            make_virtual_camera=self._make_virtual_camera,
            make_recorder=self._record,
            begin_disclosing=self._begin_disclosing,
            list_microphones=self._list_microphones,
            open_microphone=self._open_microphone,
            make_call_microphone=self._make_call_microphone,
            make_inspector=self._make_inspector,
            listen_for=self._listen_for,
            make_control=self._make_control,
        )

    def _list(self) -> list[CameraInfo]:
        self.listed += 1
        return list(self.cameras)

    def _examine(self, kind: VirtualCameraKind) -> VirtualCameraReport:
        self.examined += 1
        return self.pipewire_report if kind == "pipewire" else self.report

    def _make_virtual_camera(self, kind: VirtualCameraKind, tell: Callable[[str], None]) -> Sink:
        self.tell_trouble = tell
        return self._sink("pipewire" if kind == "pipewire" else "virtualcam")

    def _make_pipeline(
        self,
        settings: AppSettings,
        on_event: Callable[[Event], None],
        on_picture: Callable[[], None],
    ) -> Pipeline:
        self.pipelines.append(FakePipeline(settings, on_event, on_picture))
        return cast(Pipeline, self.pipelines[-1])

    def _measure(self, settings: AppSettings, tell: Callable[[MeasuringProgress], None]) -> Measured:
        self.measured_with.append((settings.model, settings.device, settings.precision))
        if self.measure_error is not None:
            raise self.measure_error
        tell(MeasuringProgress(0.5, GPU_WAY))
        self.gate.wait(5)
        return measured(1.5)

    def _examine_model(self, settings: AppSettings, like: Tier | None) -> ModelReport:
        model = settings.model
        self.looked_at.append(model)
        if model in self.model_errors:
            raise self.model_errors[model]
        card = self.cards.get(model)
        warnings = ("It is a stranger.",) if card is None else tuple(card.warnings())
        assert like is None or isinstance(like, Tier)
        return ModelReport(model, card, warnings, self.speeds.get(model), self.stamps.get(model, ()), _no_engine)

    def _make_call_microphone(
        self, key: str, name: str, tell: Callable[[MicrophoneStanding], None]
    ) -> PipeWireMicrophone:
        self.call_microphones.append(FakeCallMicrophone(key, name, tell))
        return cast(PipeWireMicrophone, self.call_microphones[-1])

    def _make_inspector(self, model: str) -> InspectorProcess:
        self.inspectors.append(FakeInspector(model))
        return cast(InspectorProcess, self.inspectors[-1])

    def _listen_for(
        self, text: str, pressed: Callable[[], None], tell: Callable[[Standing], None]
    ) -> "FakeKeyListener":
        self.listeners.append(FakeKeyListener(parse_key(text), pressed, tell))
        return self.listeners[-1]

    def _make_control(self, operator: Operator, state: AppState, origins: Sequence[str]) -> ControlServer:
        return ControlServer(operator, self.access, state, origins)

    def _sink(self, name: str) -> "FakeSink":
        if self.sink_error is not None:
            raise self.sink_error
        return FakeSink(name)

    def _list_microphones(self) -> list[tuple[str, str]]:
        if isinstance(self.microphones, Exception):
            raise self.microphones
        return [(key, key.capitalize()) for key in self.microphones]

    def _open_microphone(self, key: str) -> "FakeEar":
        if isinstance(self.microphones, Exception):
            raise self.microphones
        if (key or "usual") not in (*self.microphones, "usual"):
            raise AppError("the microphone is not there: plug it in")
        self.ears.append(FakeEar(key or "usual"))
        return self.ears[-1]

    def _begin_disclosing(
        self, path: Path, said: Generated, files: SigningFiles, tell: Callable[[Path, str], None]
    ) -> threading.Thread:
        self.disclosed.append((path, said, files))
        tell(path, self.disclosure_trouble)
        return threading.Thread()

    def _record(self, path: Path, sound: SoundFeed | None, disclose: Disclose) -> "FakeSink":
        self.recordings.append(path)
        self.disclose = disclose
        self.sounds.append(sound)
        sink = self._sink("recorder")
        sink.detail, sink.sound_trouble = str(path), self.sound_trouble
        return sink


def lose_virtual_camera(session: Session, world: World, qtbot: QtBot, *, fails: bool) -> None:
    """By its driver, or as it is switched off."""
    if fails:
        world.pipeline.tell(SinkFailed("virtualcam", "the device is gone"))
    else:
        session.virtual_camera.switch(False)
    qtbot.waitUntil(lambda: not session.virtual_camera.wanted)


class FakeCallMicrophone:
    """Notes what it is told."""

    def __init__(self, key: str, name: str, tell: Callable[[MicrophoneStanding], None]) -> None:
        self.key, self.name, self.tell = key, name, tell
        self.followed: list[tuple[float, bool]] = []
        self.stopped = False

    def follow(self, delay_s: float, *, muted: bool) -> None:
        self.followed.append((delay_s, muted))

    def stop(self) -> None:
        self.stopped = True

    def ended(self, timeout_s: float) -> bool:
        return self.stopped


class FakeEar:
    """A microphone that hums.

    Attributes:
        level: how loud, 0 to 1.
        fail: what reading raises, if anything.
        dumb: it gives nothing.
        closed: how often it was closed.
    """

    rate_hz = 8000

    def __init__(self, name: str) -> None:
        self.name = name
        self.level = 0.5
        self.fail: Exception | None = None
        self.dumb = False
        self.closed = 0

    def read(self) -> NDArray[np.float32]:
        if self.fail is not None:
            raise self.fail
        return np.full(0 if self.dumb else 160, self.level, np.float32)

    def close(self) -> None:
        self.closed += 1


def _no_engine() -> Engine:
    raise AssertionError("the fake pipeline makes no engine")


def card(path: Path, *, bundled: bool = False, good: bool = True, **training: object) -> ModelCard:
    """A card of a tiny model, with figures and a licence or, where it is not good, without."""
    return ModelCard(
        path,
        path.stem,
        "0" * 64,
        McnetConfig.named("tiny"),
        123_456,
        training,
        "CC BY 4.0" if good else "",
        Evaluation({"l1_of_copying": 0.593, "akd_of_copying": 0.11}, "test", 20, 15) if good else None,
        bundled=bundled,
    )


class FakeInspector:
    """Draws plain pictures, of the sizes that the real one's have.

    Attributes:
        asked: requests so far.
        error: what drawing raises.
        closed: whether it was.
        gate: drawing waits for it.
        weights_differ: whether the model's file has others than the frames were made by.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.weights_differ = False
        self.asked: list[Request] = []
        self.error: Exception | None = None
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()

    def draw(self, request: Request) -> Drawn:
        self.asked.append(request)
        self.gate.wait(5)
        if self.error is not None:
            raise self.error
        if self.weights_differ:
            return Drawn([], 0.0)
        size_px = request.size_px
        wide = [2 if view in ("features", "attention") else 1 for view in request.views]
        pictures = [plain(60 + 40 * place, times * size_px, size_px) for place, times in enumerate(wide)]
        return Drawn(pictures, 0.2)

    def close(self) -> None:
        self.closed = True
        self.gate.set()


class FakeKeyListener(KeyListener):
    """Hears its key when a test says so."""

    def __init__(self, key: KeyCombination, pressed: Callable[[], None], tell: Callable[[Standing], None]) -> None:
        super().__init__(key, pressed, tell)
        self.taken = threading.Event()

    @classmethod
    def check(cls) -> None: ...

    def listen(self) -> None:
        self.taken.set()
        self.tell(Standing(True, str(self.key)))
        self.stopping.wait()
        self.taken.clear()

    def wake(self) -> None: ...


class FakeSink(NullSink):
    """Bears a name of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.output: OutputFormat | None = None
        self.sound_trouble = ""


def _parse(text: str) -> CameraSpec:
    if text == "nonsense":
        raise CameraError("got 'nonsense', expected a camera")
    if is_address(text):
        return parse_camera(text)
    number, _, size = text.partition("@")
    if number.isdecimal():
        width, height = map(int, size.split("x")) if size else (640, 480)
        return CameraSpec("device", int(number), width_px=width, height_px=height)
    return CameraSpec("file", path=Path(text))


def posed_of() -> Posed:
    """The avatar at rest."""
    points, jacobians = np.array([[0.0, 0.0], [0.5, -0.5]]), np.stack((np.eye(2), np.eye(2)))
    return Posed(plain(90, 64, 64), points, jacobians, points, jacobians, measured=True, fingerprint="fake/fp32")


def performer_view_of(*, found: bool = True) -> PerformerView:
    """A frame of the performer, 64 x 48, with a face or without."""
    frame = CameraFrame(1, time.monotonic(), plain(200, 64, 48))
    if not found:
        return PerformerView(frame, None, None, None)
    points = np.stack([np.linspace(20, 44, 468), np.linspace(10, 40, 468), np.zeros(468)], axis=1).astype(np.float32)
    keypoints = np.array([[0.0, 0.0], [0.5, -0.5]], np.float32)
    return PerformerView(frame, SquareBox(32.0, 24.0, 30.0), points, keypoints, posed_of())
