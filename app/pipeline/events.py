"""Facts that the pipeline tells; frames travel in slots instead. Each is told once, on the thread that found it out."""

from dataclasses import dataclass

from app.pipeline.state import State


@dataclass(frozen=True)
class EngineReady:
    """The model runs. `reason`: device, precision and why, one sentence. `load_s`: seconds it took. `backend`: what
    computes, and `backend_reason`: why. `measures`: whether its keypoints are points of the face, which a face mesh can
    measure.
    """

    model: str
    reason: str
    load_s: float
    backend: str = "torch"
    backend_reason: str = ""
    measures: bool = False


@dataclass(frozen=True)
class BackendChanged:
    """Something else computes from now on: what was made ready in the background, or torch where that failed. `reason`:
    why, for people.
    """

    backend: str
    reason: str = ""


@dataclass(frozen=True)
class SourceReady:
    """The portrait of that key is animated from now on. `from_cache`: nothing had to be computed. `measured`: whether
    its keypoints were measured, as motion in space needs it.
    """

    key: str
    from_cache: bool
    measured: bool = False


@dataclass(frozen=True)
class SourceFailed:
    """The portrait cannot be used; the one before stays."""

    key: str
    message: str


@dataclass(frozen=True)
class CameraOpened:
    """Frames arrive. `fps_hz` is measured over the first frames where the camera is a device."""

    camera: str
    width_px: int
    height_px: int
    fps_hz: float
    remark: str = ""


@dataclass(frozen=True)
class CameraFailed:
    """The camera cannot be opened, stalls, or is gone. `kept`: name of the camera that goes on in its place, or "".
    `retry_s`: seconds until it is tried again, or None where it is not.
    """

    camera: str
    message: str
    kept: str = ""
    retry_s: float | None = None


@dataclass(frozen=True)
class CalibrationProgress:
    """The hands-free calibration looks at the performer.

    `share`: of its time, 0 to 1. `hint`: what to do better, or "".
    """

    share: float
    hint: str = ""


@dataclass(frozen=True)
class Calibrated:
    """The reference was taken. `score` 0 to 100: how well it serves; `remarks`: what speaks against it. `in_space`: a
    neutral expression was looked for; otherwise the portrait's pose too.
    """

    score: int
    remarks: tuple[str, ...] = ()
    in_space: bool = False


@dataclass(frozen=True)
class StateChanged:
    """The output shows something else now. `message`: why, for people, or ""."""

    state: State
    message: str = ""


@dataclass(frozen=True)
class SinkOpened:
    """A sink takes pictures. `detail`: the device or file."""

    sink: str
    detail: str = ""


@dataclass(frozen=True)
class SinkFailed:
    """A sink could not be opened or written, and was taken out."""

    sink: str
    message: str


@dataclass(frozen=True)
class SinkClosed:
    """A sink takes no pictures any more. `asked`: it was taken out; otherwise the whole pipeline was stopped, and the
    next start opens it again.
    """

    sink: str
    detail: str = ""
    asked: bool = True


@dataclass(frozen=True)
class SettingRefused:
    """A setting cannot be used; its default is in force instead. `setting`: its name."""

    setting: str
    message: str


@dataclass(frozen=True)
class StageFailed:
    """A stage met an error that nobody expected; the output shows the slate. `stage`: its name."""

    stage: str
    message: str


@dataclass(frozen=True)
class StageRecovered:
    """A stage that had failed is well again; the output goes on where the user wants it to."""

    stage: str


Event = (
    EngineReady
    | BackendChanged
    | SourceReady
    | SourceFailed
    | CameraOpened
    | CameraFailed
    | CalibrationProgress
    | Calibrated
    | StateChanged
    | SinkOpened
    | SinkFailed
    | SinkClosed
    | SettingRefused
    | StageFailed
    | StageRecovered
)
