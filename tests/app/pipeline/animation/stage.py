"""An animator with fakes, on which tests step."""

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.animator import Animator, Step
from app.pipeline.animation.idle_motion import IdleMotion
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import (
    Event,
)
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.arrays import Rgb
from mcnet.media.faces import Face
from tests.app.fakes import FakeEngine, FakeFinder, marked_picture

SETTINGS = LiveSettings(calibration_s=0.2, hold_s=0.5, ease_s=0.5, idle_s=1.0, smoothing=0.0, fine_detail=False)


DT_S = 0.04


POINTS = (33, 263, 13, 14, 152)


class Stage:
    """An animator with fakes, and a clock that goes on by a frame's time at each step.

    Args:
        face: what the finder finds.
        portrait: who is animated.
        points: which points of the face the keypoints are; empty: they are detected.
        store: of encoded portraits and mattes.

    Attributes:
        timed: the parts of the steps, in order.
    """

    def __init__(
        self,
        face: Face | None,
        portrait: Portrait | None,
        points: tuple[int, ...] = (),
        store: SourceStore | None = None,
    ) -> None:
        self.engine = FakeEngine()
        self.engine.keypoint_landmarks = points
        self.finder = FakeFinder(face)
        self.events: list[Event] = []
        self.timed: list[str] = []
        self.animator = Animator(
            self.engine, self.events.append, lambda name, _: self.timed.append(name), finder=self.finder, store=store
        )
        self.now_s = 100.0
        self.frames = 0
        if portrait is not None:
            self.animator.set_portrait(portrait)

    def step(self, settings: LiveSettings = SETTINGS, *, camera: str = "one", frame: bool = True) -> Step:
        if not frame:
            self.now_s += DT_S
            return self.animator.step(None, self.now_s, settings)
        step = self.only_step(settings, camera=camera)
        return step if step.view is None else step._replace(view=self.animator.follow(step.view))

    def only_step(self, settings: LiveSettings = SETTINGS, *, camera: str = "one", rgb: Rgb | None = None) -> Step:
        """As `step`, without what comes after the picture was handed on."""
        self.now_s += DT_S
        self.frames += 1
        picture = marked_picture() if rgb is None else rgb
        return self.animator.step(CameraFrame(self.frames, self.now_s, picture, camera), self.now_s, settings)

    def idle_motion(self, settings: LiveSettings) -> IdleMotion | None:
        """After one more step; None while it is being read."""
        self.step(settings)
        return self.animator._idling.motion

    def until(self, state: State, settings: LiveSettings = SETTINGS, *, frame: bool = True) -> Step:
        for _ in range(200):
            step = self.step(settings, frame=frame)
            if step.output is not None and step.output.state is state:
                return step
        raise AssertionError(f"never {state}")


def turned(face: Face, yaw_deg: float) -> Face:
    angle = np.radians(yaw_deg)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]], np.float32)
    centre = face.landmarks_px.mean(axis=0)
    return Face((face.landmarks_px - centre) @ rotation.T + centre, 1.0)


def shown_head(stage: Stage) -> NDArray[np.float32]:
    places: NDArray[np.float32] = stage.engine.rendered[-1].value[0]
    return places
