"""What is told to those who listen: the app's state and the pipeline's events, ready for JSON.

No picture is ever among it, and of a camera nothing but its name.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from app.control.protocol import GAINS, VERSION
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.events import Event, Measured, MeasuringProgress
from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.settings import LiveSettings
from app.words import measured_words


@dataclass(frozen=True)
class PortraitFact:
    """A portrait of the gallery. `id`: what never changes about it."""

    id: str
    name: str


@dataclass(frozen=True)
class AppState:
    """How the app stands.

    Attributes:
        mode: `window` or `headless`.
        state: what the output shows, as `State` names it.
        shows_avatar: whether that is the avatar; otherwise it is the slate.
        why: the reason, for people, or "".
        slate: whether the user wants the slate.
        live: whether a call may see the avatar now.
        missing: what is missing before going live, for people, or "".
        calibrating: how far the calibration has come, 0 to 1, or None.
        score: of the reference, 0 to 100, or None.
        camera: its name, or "" where none gives frames.
        portrait: the one that is animated.
        portraits: of the gallery.
        recording: the file that is being written, or "".
        gains: by their names in the protocol, 0 to 2.
        preset: the one with these strengths, or "".
        presets: all that can be applied.
        retouch: whether skin, teeth and shut lids are to be drawn, where the motion is in space.
        model, device, backend: what computes; "" before it does.
    """

    mode: Literal["window", "headless"]
    state: State = State.STARTING
    shows_avatar: bool = False
    why: str = ""
    slate: bool = False
    live: bool = False
    missing: str = ""
    calibrating: float | None = None
    score: int | None = None
    camera: str = ""
    portrait: PortraitFact | None = None
    portraits: tuple[PortraitFact, ...] = ()
    recording: str = ""
    gains: Mapping[str, float] = field(default_factory=dict)
    preset: str = ""
    presets: tuple[str, ...] = ()
    retouch: bool = True
    model: str = ""
    device: str = ""
    backend: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the protocol's version."""
        return {"version": VERSION, **dataclasses.asdict(self)}


def gains_of(settings: LiveSettings) -> dict[str, float]:
    """The strengths by their names in the protocol."""
    return {name: getattr(settings, f"{name}_strength") for name in GAINS}


def with_gains(settings: LiveSettings, changes: tuple[tuple[str, float], ...]) -> LiveSettings:
    """The settings with other strengths."""
    named: dict[str, Any] = {f"{name}_strength": value for name, value in changes}
    return dataclasses.replace(settings, **named)


def event_as_json(event: Event) -> dict[str, Any]:
    """An event by its name, as `camera_failed`, with its fields."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    if isinstance(event, Measured):
        fields: dict[str, Any] = {"message": measured_words(event)}
    elif isinstance(event, MeasuringProgress):
        fields = {"share": event.share}
    else:
        fields = {one.name: _plain(getattr(event, one.name)) for one in dataclasses.fields(event)}
    return {"type": "event", "event": name, **fields}


def figures_as_json(stats: Stats) -> dict[str, Any]:
    """How the pipeline does, over the last seconds."""
    return {
        "type": "figures",
        "fps": round(stats.fps, 1),
        "camera_fps": round(stats.camera_fps, 1),
        "age_ms": {"p50": round(stats.age_ms.p50, 1), "p95": round(stats.age_ms.p95, 1)},
        "dropped_share": round(stats.drop_share, 3),
    }


def _plain(value: object) -> object:
    if isinstance(value, CameraSpec):
        return value.name
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    assert value is None or isinstance(value, str | int | float | bool), f"no plain value: {value!r}"
    return value
