"""The performer's face in the camera's frames: where it is, in which square, and when it is looked for again."""

import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.capture.camera_frame import CameraFrame
from app.settings import LiveSettings
from mcnet.media.crop import CropSmoother, SquareBox, frame_face
from mcnet.media.faces import LEAST_INSIDE, Face
from mcnet.media.light import Light

LOOK_EVERY_S = 0.25
"""Where the model detects the keypoints, the followed face is searched for only this often, since the crop moves
slowly. Once the keypoints have moved by `_MOVED`, it is searched every `LOOK_AGAIN_S`. Measured keypoints need it in
every frame."""
LOOK_AGAIN_S = 0.1
_MOVED = 0.04
"""As a share of the crop's side, or of the keypoints' spread. While somebody only talks, the two stay within 0.01 and
0.03."""
_JUMP = 0.08
"""In sides of the square per frame: heads move by up to 0.03, keypoints that lost the face jump by 0.1 to 0.6."""
_ELSEWHERE = 0.5
"""In sides of the square: no head moves this far, or grows by this share, between two frames."""


class Finder(Protocol):
    """Follows the performer's face; see `mcnet.media.faces.FaceFinder`."""

    def find(self, rgb: NDArray[np.uint8], time_s: float | None = None) -> list[Face]: ...

    def forget(self) -> None: ...

    def choose(self) -> None: ...

    def close(self) -> None: ...


class _Whereabouts(NamedTuple):
    """Where a frame's keypoints lie together, in the camera's pixels; so whether the crop moved makes no difference."""

    center_px: NDArray[np.float64]
    spread_px: float
    side_px: float
    """Of the crop."""

    @classmethod
    def of(cls, value: NDArray[np.float64], box: SquareBox) -> "_Whereabouts":
        """Of keypoints, (K, 2) xy in [-1, 1] of the box."""
        center = value.mean(0)
        spread = float(np.sqrt(np.square(value - center).sum(1).mean()))
        half = box.side / 2
        return cls(np.array((box.center_x, box.center_y)) + center * half, spread * half, box.side)


class FaceTracker:
    """Follows the performer's face from frame to frame, and frames it.

    It owns the finder, the square, and what is known of the frame in which the face was last looked for: where the
    keypoints lay, and in which light. It makes no keypoints, and decides nothing about the avatar.

    Args:
        finder: finds faces; the tracker closes it.
        watch: times the finding.

    Attributes:
        face: found last; None where the last search found none, or nothing was found yet.
    """

    def __init__(self, finder: Finder, watch: Stopwatch) -> None:
        self.face: Face | None = None
        self._finder = finder
        self._watch = watch
        self._smoother = CropSmoother()
        self._gone = True
        self._looked_s = 0.0
        self._looked_at: _Whereabouts | None = None
        self._here: _Whereabouts | None = None
        self._light: Light | None = None
        self._strange = False

    def close(self) -> None:
        """Free the finder; harmless when called again."""
        self._finder.close()

    def forget(self) -> None:
        """Look for the face anew with the next frame; the square stays."""
        self._finder.forget()
        self.face = None

    def reframe(self) -> None:
        """Frame the next face afresh."""
        self._smoother.reset()

    def distrust(self) -> None:
        """What the finder follows is no face: the next frame is searched, and judged, anew."""
        self._finder.forget()

    def choose(self) -> None:
        """The performer may be another one: the largest face of the next frame."""
        self._finder.choose()

    def leave(self) -> None:
        """The performer is away for longer than a blink, and may come back elsewhere."""
        self._gone = True

    def change_model(self) -> None:
        """Keypoints are other ones from now on: nothing is known of where they lay."""
        self._here = self._looked_at = None

    def look(self, frame: CameraFrame) -> bool:
        """Search a frame for the performer's face.

        Returns:
            Whether it cannot have come there from where the last one was, so that it is framed afresh.
        """
        self._looked_s = frame.captured_s
        if frame.played is not None:
            faces = [] if frame.played.face is None else [frame.played.face]
        else:
            with self._watch.timed("face"):
                faces = self._finder.find(frame.rgb, frame.captured_s)
        faces = [face for face in faces if face.box.share_inside(frame.rgb) >= LEAST_INSIDE]
        afresh = bool(faces) and (self._gone or self._is_elsewhere(faces[0]))
        if afresh:
            # Back after more than a blink: perhaps elsewhere, so the crop does not glide there but is there.
            self.reframe()
            self._gone = False
        self.face = faces[0] if faces else None
        return afresh

    def square(self, dt_s: float, settings: LiveSettings) -> SquareBox | None:
        """Where to crop: the training's framing rule, steadied, with the user's zoom and nudge.

        Args:
            dt_s: seconds since it was asked for last.
            settings: the user's.

        Returns:
            The square, in the frame's pixels; None before a face was found.
        """
        box = self._smoother.update(None if self.face is None else frame_face(self.face), dt_s)
        if box is None:
            return None
        return SquareBox(
            box.center_x + settings.nudge_x * box.side,
            box.center_y + settings.nudge_y * box.side,
            box.side / settings.zoom,
        )

    def take_light(self, square: NDArray[np.uint8]) -> None:
        """Remember the light of a frame that was searched.

        Args:
            square: (S, S, 3) uint8, as the model sees it.
        """
        self._light = Light.of(square)

    def take_places(self, places: NDArray[np.float64], box: SquareBox, *, searched: bool) -> None:
        """Remember where a frame's keypoints lie.

        Args:
            places: (K, 2) xy in [-1, 1] of the box.
            box: the square, in the frame's pixels.
            searched: whether the face was looked for in this very frame.
        """
        self._here = _Whereabouts.of(places, box)
        if searched:
            self._looked_at = self._here

    def take_later_look(self) -> None:
        """The last look was for a frame whose keypoints were known already: it is from there that they move."""
        self._looked_at = self._here

    def is_doubtful(
        self,
        square: NDArray[np.uint8],
        places: NDArray[np.float64],
        box: SquareBox,
        captured_s: float,
        *,
        strange: bool,
    ) -> bool:
        """Whether a frame in which no face was looked for may show none: other light, or keypoints as no head moves.

        Args:
            square: (S, S, 3) uint8, as the model sees the frame.
            places: (K, 2) xy in [-1, 1] of the box, the keypoints in it.
            box: the square, in the frame's pixels.
            captured_s: when the frame arrived.
            strange: whether the keypoints are hardly this performer's.
        """
        was_strange, self._strange = self._strange, strange
        if self._light is not None and Light.of(square).differs(self._light):
            return True
        before, now = self._here, _Whereabouts.of(places, box)
        if before is not None and np.hypot(*(now.center_px - before.center_px)) / now.side_px > _JUMP:
            return True
        # A face that stays strange was looked at already, and is again as often as one that moves.
        return strange and (not was_strange or captured_s - self._looked_s >= LOOK_AGAIN_S)

    def is_time(self, captured_s: float) -> bool:
        """Whether it is time to look for the face again, in a frame of that time."""
        rested_s = captured_s - self._looked_s
        here, there = self._here, self._looked_at
        if rested_s >= LOOK_EVERY_S or here is None or there is None:
            return True
        if rested_s < LOOK_AGAIN_S:
            return False
        moved = np.hypot(*(here.center_px - there.center_px)) / here.side_px
        grown = abs(here.spread_px / max(there.spread_px, 1e-6) - 1)
        return bool(max(moved, grown) > _MOVED)

    def _is_elsewhere(self, face: Face) -> bool:
        """Whether a face cannot have come from where the last one was: another person's, or another scene."""
        if self.face is None:
            return False
        before, now = frame_face(self.face), frame_face(face)
        away = math.hypot(now.center_x - before.center_x, now.center_y - before.center_y) / before.side
        return away > _ELSEWHERE or max(now.side / before.side, before.side / now.side) > 1 + _ELSEWHERE
