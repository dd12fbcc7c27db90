"""Facts that the pipeline tells; frames travel in slots instead. Each is told once, on the thread that found it out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.pipeline.camera_spec import CameraSpec
from app.pipeline.state import State
from mcnet.phrases import phrase

if TYPE_CHECKING:  # the window names events before torch is loaded
    from mcnet.bench.tiers import Tier
    from mcnet.engine import Way


@dataclass(frozen=True)
class MeasuringProgress:
    """The app is measuring which way of running the model is the fastest.

    Attributes:
        share: of the work that is done, 0 to 1.
        way: of running the model that is made ready, or None while all of them are timed.
    """

    share: float
    way: "Way | None"


@dataclass(frozen=True)
class UnusedGpu:
    """A GPU that is there and that the engine cannot use.

    Attributes:
        name: as the system names it.
        lack: why the engine cannot use it, for people.
        usable: whether it would be used with the right torch and driver.
    """

    name: str
    lack: str
    usable: bool = True

    def __str__(self) -> str:
        return phrase("{name} is there, but is not used: {lack}", name=self.name, lack=self.lack)


@dataclass(frozen=True)
class Measured:
    """What runs the model best on this machine is known: it was measured now, or is remembered.

    Attributes:
        tier: what was measured.
        unused_gpus: those that might have been faster; empty where a GPU is used.
    """

    tier: "Tier"
    unused_gpus: tuple[UnusedGpu, ...] = ()


@dataclass(frozen=True)
class EngineReady:
    """The model runs.

    Attributes:
        model: its name.
        device: where it runs, as `cuda:0`.
        reason: device, precision and why, one sentence for people.
        load_s: seconds that it took.
        backend: what computes.
        backend_reason: why, for people.
        measures: whether its keypoints are points of the face, which a face mesh can measure.
        detects: whether it can detect keypoints itself; else they are measured, whatever the settings say.
        asked: the model that was asked for while another one ran, as it was named then; "" at the start of a run.
        keeps_reference: the reference of before still holds.
        content_hash: of the model's weights, as its file has it; "" where it has none.
    """

    model: str
    device: str
    reason: str
    load_s: float
    backend: str = "torch"
    backend_reason: str = ""
    measures: bool = False
    detects: bool = True
    asked: str = ""
    keeps_reference: bool = False
    content_hash: str = ""


@dataclass(frozen=True)
class ModelRefused:
    """Another model was asked for and cannot be used; the one before goes on.

    Attributes:
        model: as it was named.
        message: why, for people.
    """

    model: str
    message: str


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
class PersonCutOut:
    """Cutting the person out of a portrait takes so long that a user notices, or is over now. Until then the scene, or
    the portrait before, goes on.
    """

    under_way: bool


@dataclass(frozen=True)
class CameraOpened:
    """Frames of a camera arrive.

    Attributes:
        spec: the camera, as it was wished for.
        wish: number of the newest wish for a camera that the pipeline had heard of by then, as `Pipeline.set_camera`
            gave it. An event of an older wish than the last one is late: it says nothing about the camera of now.
        camera: the camera's name, for people.
        width_px, height_px: of its frames.
        fps_hz: frames per second; measured over the first frames where the camera is a device.
    """

    spec: CameraSpec
    wish: int
    camera: str
    width_px: int
    height_px: int
    fps_hz: float


@dataclass(frozen=True)
class CameraFailed:
    """A camera cannot be opened, stalls, or is gone.

    Attributes:
        spec, wish, camera: as of `CameraOpened`.
        message: what happened and what to do, for people.
        kept: the camera that goes on in its place, or None.
        kept_name: that one's name, for people; "" where there is none.
        retry_s: seconds until the failed one is tried again, or None where it is not.
    """

    spec: CameraSpec
    wish: int
    camera: str
    message: str
    kept: CameraSpec | None = None
    kept_name: str = ""
    retry_s: float | None = None


@dataclass(frozen=True)
class CameraDark:
    """A camera goes on, but has given one flat colour for long, as behind a closed shutter.

    Attributes:
        spec, wish, camera: as of `CameraOpened`.
    """

    spec: CameraSpec
    wish: int
    camera: str


@dataclass(frozen=True)
class CameraLit:
    """What `CameraDark` told of a camera is over: its pictures change again.

    Attributes:
        spec, wish, camera: as of `CameraOpened`.
    """

    spec: CameraSpec
    wish: int
    camera: str


@dataclass(frozen=True)
class CalibrationProgress:
    """The hands-free calibration looks at the performer.

    `share`: of its time, 0 to 1. `hint`: what to do better, or "".
    """

    share: float
    hint: str = ""


@dataclass(frozen=True)
class CalibrationMissed:
    """This very moment was to be the reference, and no face was seen in it: nothing was calibrated."""


@dataclass(frozen=True)
class Calibrated:
    """The reference was taken. `score` 0 to 100: how well it serves; `remarks`: what speaks against it. `in_space`: a
    neutral expression was looked for; otherwise the portrait's pose too. `kept`: it was taken in an earlier run, or for
    this portrait before, by the same performer before the same camera.
    """

    score: int
    remarks: tuple[str, ...] = ()
    in_space: bool = False
    kept: bool = False


@dataclass(frozen=True)
class ReferenceImproved:
    """A more neutral expression than the calibration's was seen and taken over. `score`, `remarks`: as of `Calibrated`,
    of the reference as it is now.
    """

    score: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class MotionRefused:
    """A motion file cannot move the avatar; the output shows the slate, and nothing is calibrated: it is told once more
    to who calibrates. `in_the_plane`: motion in space could be had, and the settings ask for another; otherwise model
    or portrait have no measured keypoints.
    """

    in_the_plane: bool


@dataclass(frozen=True)
class MotionFollowed:
    """What `MotionRefused` told is over: the motion file moves the avatar, or a camera is used in its place."""


@dataclass(frozen=True)
class StateChanged:
    """The output shows something else now. `message`: why, for people, where no other event tells it; or ""."""

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
class Undisclosed:
    """A file is finished, and could not be given Content Credentials. `message`: why, for people."""

    file: str
    message: str


@dataclass(frozen=True)
class SettingRefused:
    """A setting cannot be used; the picture goes on without it. `setting`: its name."""

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
    MeasuringProgress
    | Measured
    | EngineReady
    | ModelRefused
    | BackendChanged
    | SourceReady
    | SourceFailed
    | PersonCutOut
    | CameraOpened
    | CameraFailed
    | CameraDark
    | CameraLit
    | CalibrationProgress
    | CalibrationMissed
    | Calibrated
    | ReferenceImproved
    | MotionRefused
    | MotionFollowed
    | StateChanged
    | SinkOpened
    | SinkFailed
    | SinkClosed
    | Undisclosed
    | SettingRefused
    | StageFailed
    | StageRecovered
)
