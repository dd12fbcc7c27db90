"""How a performer's frames move the portrait in `mcnet animate`: in the picture's plane, or in space."""

import abc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Array, Flow, Keypoints, Rgb
from mcnet.errors import sentence
from mcnet.media.crop import SquareBox, crop
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face
from mcnet.media.fine_detail import FineDetail
from mcnet.media.head_motion import Head, PortraitInSpace, mesh_in_square, places_on
from mcnet.media.retouch import Retouch, Retouching
from mcnet.pose import adapted_scale, relative_keypoints

if TYPE_CHECKING:
    from mcnet.engine import Engine

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of a face.

    Attributes:
        rgb: (H, W, 3) uint8, the whole picture.
        face: found in it; None where nobody looked for it.
        box: where the square lies that the model may see.
        size_px: side of that square for the model.
        known: the model's keypoints, batch 1, where they were found before, as in a motion file.
        performer: who is seen, where a film shows several; the first one is 0.
    """

    rgb: Rgb
    face: Face | None
    box: SquareBox
    size_px: int
    known: Keypoints[Array] | None = None
    performer: int = 0

    @cached_property
    def square(self) -> Rgb:
        """(size_px, size_px, 3) uint8 RGB, as the model sees it; cut out when it is first asked for."""
        return crop(self.rgb, self.box, self.size_px)

    def mesh(self) -> NDArray[np.float64]:
        """The face's mesh in the square's coordinates."""
        assert self.face is not None
        return mesh_in_square(self.face.mesh_px, self.box, self.size_px)

    def places(self, points: Sequence[int]) -> NDArray[np.float64]:
        """(n, 2): where some points of the face's mesh are in the square's coordinates."""
        return places_on(self.mesh(), points)


def split(batch: Keypoints[Array]) -> list[Keypoints[Array]]:
    """Keypoints of several frames as batches of one."""
    return [Keypoints(batch.value[row : row + 1], batch.jacobian[row : row + 1]) for row in range(len(batch.value))]


class Drive(Protocol):
    """Animates the engine's source.

    Attributes:
        name: for people.
        measures: whether it needs the face of every frame.
    """

    name: str
    measures: bool

    def pictures(self, shots: Sequence[Shot]) -> Rgb:
        """One (S, S, 3) uint8 RGB picture per driving frame, stacked."""
        ...


class Unretouched(NamedTuple):
    """What could not be drawn into pictures.

    Attributes:
        frames: how many are as the network makes them, though they were to be retouched.
        reason: why the first of them could not be, for people.
    """

    frames: int = 0
    reason: str = ""


class KeypointDrive(abc.ABC):
    """A `Drive` by keypoints.

    Args:
        engine: of the model.
        larger: the portrait in the size that its pictures are to get; None: as the model makes them.

    Attributes:
        unretouched: what could not be drawn so far.
    """

    name: str
    measures: bool

    def __init__(self, engine: "Engine", source: Shot, larger: Rgb | None) -> None:
        self._engine = engine
        self._detail = None if larger is None else FineDetail(source.square, larger)
        self.unretouched = Unretouched()

    def lacks(self, shot: Shot) -> bool:
        """Whether a frame has nothing to be driven by: the picture before it is to be held."""
        return self.measures and shot.face is None

    def found(self, shots: Sequence[Shot]) -> Keypoints[Array]:
        """The performer's own, one set per driving frame, as a motion file keeps them."""
        engine = self._engine
        places = [shot.places(engine.keypoint_landmarks) for shot in shots] if self.measures else None
        squares = None if self.measures and engine.places_suffice else [shot.square for shot in shots]
        return engine.drive(squares, places, relative=False)

    @abc.abstractmethod
    def keypoints(self, shots: Sequence[Shot]) -> Keypoints[Array]:
        """Those that the source takes, one set per driving frame."""

    def pictures(self, shots: Sequence[Shot]) -> Rgb:
        """See `Drive`."""
        return self._made(self.keypoints(shots))

    def pictures_with_flow(self, shots: Sequence[Shot]) -> tuple[Rgb, Flow]:
        """As `pictures`, with what moved the portrait."""
        return self._made_with_flow(self.keypoints(shots))

    def _made(self, keypoints: Keypoints[Array]) -> Rgb:
        """The network's pictures, in the size that is wanted."""
        return self._engine.render_batch(keypoints) if self._detail is None else self._made_with_flow(keypoints)[0]

    def _made_with_flow(self, keypoints: Keypoints[Array]) -> tuple[Rgb, Flow]:
        made, flow = self._engine.render_with_flow(keypoints)
        if self._detail is not None:
            made = np.stack([self._detail.added(*frame) for frame in zip(made, flow.deformation, strict=True)])
        return made, flow


class PlaneDrive(KeypointDrive):
    """Relative motion in the picture's plane, or absolute keypoints.

    Args:
        engine: gets its source and its reference pose here.
        source: the portrait.
        reference: the performer's reference pose; None: absolute keypoints.
        measured: whether keypoints' places come from the shots' faces.
        adapt_scale: see `Engine.animate`.
        larger: see `KeypointDrive`.
    """

    def __init__(
        self,
        engine: "Engine",
        source: Shot,
        reference: Shot | None,
        *,
        measured: bool,
        adapt_scale: bool,
        larger: Rgb | None = None,
    ) -> None:
        super().__init__(engine, source, larger)
        self.measures = measured
        self._adapt_scale = adapt_scale
        self._relative = reference is not None
        self._crops = not (measured and engine.places_suffice)
        engine.set_source(source.square, self._places(source))
        if reference is not None:
            engine.calibrate(reference.square if self._crops else None, self._places(reference))
        kind = "in the plane" if self._relative else "absolute"
        self.name = f"motion {kind}, keypoints {'measured' if measured else 'detected'}"

    def keypoints(self, shots: Sequence[Shot]) -> Keypoints[Array]:
        places = [self._places(shot) for shot in shots]
        return self._engine.drive(
            [shot.square for shot in shots] if self._crops else None,
            [place for place in places if place is not None] or None,
            relative=self._relative,
            adapt_scale=self._adapt_scale,
        )

    def _places(self, shot: Shot) -> NDArray[np.float64] | None:
        return shot.places(self._engine.keypoint_landmarks) if self.measures else None


class KnownDrive(KeypointDrive):
    """Relative motion in the plane, or absolute keypoints, by keypoints that were found before and no pictures.

    Args:
        engine: gets its source here.
        source: the portrait.
        reference: the performer's reference pose; None: absolute keypoints.
        measured: whether keypoints' places were measured.
        adapt_scale: see `Engine.animate`.
        larger: see `KeypointDrive`.

    Raises:
        MediaError: the reference spans no area.
    """

    def __init__(
        self,
        engine: "Engine",
        source: Shot,
        reference: Shot | None,
        *,
        measured: bool,
        adapt_scale: bool,
        larger: Rgb | None = None,
    ) -> None:
        super().__init__(engine, source, larger)
        self.measures = measured
        places = source.places(engine.keypoint_landmarks) if measured else None
        self._source = engine.set_source(source.square, places).keypoints
        self._reference = None if reference is None else reference.known
        self._scale = 1.0
        if self._reference is not None and adapt_scale:
            try:
                self._scale = adapted_scale(self._source, self._reference)
            except ValueError as error:
                raise MediaError(f"{error}; take a motion file with another reference") from error
        kind = "absolute" if reference is None else "in the plane"
        self.name = f"motion {kind}, keypoints of the motion file"

    def lacks(self, shot: Shot) -> bool:
        return super().lacks(shot) or shot.known is None

    def keypoints(self, shots: Sequence[Shot]) -> Keypoints[Array]:
        known = [shot.known for shot in shots if shot.known is not None]
        driving: Keypoints[Array] = Keypoints(*(np.concatenate(parts) for parts in zip(*known, strict=True)))
        if self._reference is None:
            return driving
        return relative_keypoints(self._source, driving, self._reference, self._scale)


class SpaceDrive(KeypointDrive):
    """The portrait's own shape, the performer's change of expression and the pose of the performer's head.

    Args:
        engine: gets its source here.
        source: the portrait, with its face.
        reference: the performer with a neutral expression, in any pose.
        others: likewise of the other performers, in the square's coordinates.
        retouch: whether what the network cannot show is drawn into its pictures (`Retouch`). Frames that are made at
            once and in one of which that fails are all as the network makes them.
        larger: see `KeypointDrive`.
    """

    name = "motion in space, keypoints measured"
    measures = True

    def __init__(
        self,
        engine: "Engine",
        source: Shot,
        reference: Shot,
        others: Sequence[Head] = (),
        *,
        retouch: bool = True,
        larger: Rgb | None = None,
    ) -> None:
        super().__init__(engine, source, larger)
        self._portrait = PortraitInSpace(source.mesh(), engine.keypoint_landmarks, linear=engine.linear_jacobians)
        self._references = [Head.of(reference.mesh()), *others]
        self._source = engine.set_source(source.square, self._portrait.places).keypoints
        own = Retouch(source.square if larger is None else larger, self._portrait.head)
        self._retouching = Retouching(own, self._refused) if retouch else None

    def keypoints(self, shots: Sequence[Shot]) -> Keypoints[Array]:
        heads = self._heads(shots)
        return self._posed_by(heads if self._retouching is None else [self._retouching.posed(head) for head in heads])

    def pictures(self, shots: Sequence[Shot]) -> Rgb:
        return self._shown(shots, lambda keypoints: (self._made(keypoints), None))[0]

    def pictures_with_flow(self, shots: Sequence[Shot]) -> tuple[Rgb, Flow]:
        return self._shown(shots, self._made_with_flow)

    def _shown(self, shots: Sequence[Shot], render: Callable[[Keypoints[Array]], tuple[Rgb, T]]) -> tuple[Rgb, T]:
        """The pictures, retouched where they are to be, and what `render` tells beside them."""
        heads, retouching = self._heads(shots), self._retouching
        if retouching is not None:
            retouching.try_again()  # a video is long: these frames may be well where those before them were not
            posed = [retouching.posed(head) for head in heads]
            if not retouching.failed:
                made, beside = render(self._posed_by(posed))
                drawn = [retouching.applied(rgb, head) for rgb, head in zip(made, heads, strict=True)]
                if not retouching.failed:
                    return np.stack(drawn), beside
            self.unretouched = self.unretouched._replace(frames=self.unretouched.frames + len(heads))
        return render(self._posed_by(heads))  # what was posed for the drawing would leave lids half open without it

    def _refused(self, error: Exception) -> None:
        if not self.unretouched.reason:
            logger.info("a frame cannot be retouched", exc_info=error)
            self.unretouched = self.unretouched._replace(reason=sentence(error))

    def _heads(self, shots: Sequence[Shot]) -> list[Head]:
        """The portrait's, as it is to be shown."""
        return [self._portrait.follow(Head.of(shot.mesh()), self._references[shot.performer]) for shot in shots]

    def _posed_by(self, heads: Sequence[Head]) -> Keypoints[Array]:
        """The keypoints by which the network poses the portrait so."""
        return self._portrait.keypoints(heads, self._source)
