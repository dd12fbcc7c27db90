"""The avatar's pictures: made by the engine in a stance, and finished as far as that is wished and can be done."""

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.finish import Finish, detailed_px
from app.pipeline.animation.mattes import Mattes
from app.pipeline.animation.motion import Pose
from app.pipeline.animation.source import Source
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.inspector import Posed
from app.pipeline.output.output_frame import Person
from app.pipeline.portraits import Portrait
from app.settings import LiveSettings
from mcnet.media.head_motion import Head
from mcnet.media.matte import cut_frame
from mcnet.media.retouch import Retouching


class Picture(NamedTuple):
    """A picture of the portrait.

    Attributes:
        avatar: the picture, in the size that `Finish` gave it.
        person: cut out of it, where that is wanted.
        stance: how the portrait is posed in it.
        posed: how the network was driven to it.
        retouched: whether it has what the network cannot show.
        detailed: whether it has the portrait's own detail.
    """

    avatar: NDArray[np.uint8]
    person: Person | None
    stance: Pose | Head
    posed: Posed
    retouched: bool
    detailed: bool


class Pictures:
    """Makes the portrait's pictures, and keeps those that may be shown again.

    It owns what is wished of a picture's finish, and the latest pictures. Which stance is shown when is not decided
    here, nor when a portrait is cut out.

    Args:
        mattes: cut the person out.
        watch: times the parts of the making.

    Attributes:
        latest: what is shown now; None: nothing was made yet of this portrait by this model.
        retouches: whether what the network cannot show is to be drawn.
    """

    def __init__(self, mattes: Mattes, watch: Stopwatch) -> None:
        self.latest: Picture | None = None
        self.retouches = LiveSettings().retouch
        self._mattes = mattes
        self._watch = watch
        self._proven: Picture | None = None
        self._rests = False
        self._details = False

    def begin_anew(self) -> None:
        """Forget the pictures of another portrait or model."""
        self.latest = self._proven = None
        self._rests = False

    def renew(self) -> None:
        """Make the picture of the portrait at rest anew when it is shown next: it would look otherwise now."""
        self._rests = False

    def wish_detail(self, *, wished: bool) -> None:
        """Have pictures show the portrait's own detail, or not, from now on."""
        if wished != self._details:
            self._details = wished
            self.renew()

    def finish_of(self, source: Source) -> Finish:
        """What is to be done to its pictures now."""
        return source.finishes.now(detailed=self._details)

    def size_px(self, portrait: Portrait, own_px: int) -> int:
        """The side of the pictures that a portrait will have.

        Args:
            portrait: which is not animated yet.
            own_px: the side of the network's pictures.
        """
        return detailed_px(portrait, own_px) if self._details else own_px

    def prove(self) -> None:
        """The latest picture is of a frame that is known to show a face, so that it may be held."""
        self._proven = self.latest

    def hold(self, source: Source) -> None:
        """Show what was proven, as later ones may be of frames that showed no face any more.

        What is switched meanwhile counts at once. Where nothing was proven, the latest stays.
        """
        if self._proven is not None:
            if not self._is_as_wished(source, self._proven):
                self.make(source, self._proven.stance)
                self._proven = self.latest
            self.latest = self._proven
        elif self.latest is None:
            self.rest(source)

    def rest(self, source: Source) -> None:
        """Show the portrait in its own pose; made once, as long as it is not to look otherwise."""
        if self.latest is None or not self._rests:
            self.make(source, source.pose)
            self._rests = True

    def make(self, source: Source, stance: Pose | Head, drawn: float = 1.0) -> None:
        """Make the portrait's picture in a stance, of whose drawing so much is seen.

        Raises:
            EngineError: the model failed on it; the picture before stays.
        """
        retouching = self._retouching_in(source, stance)
        detail = self.finish_of(source).detail
        began_s = time.perf_counter()
        asked = stance if retouching is None or isinstance(stance, Pose) else retouching.posed(stance, drawn)
        posing_s = time.perf_counter() - began_s
        pose = source.pose_of(asked)
        flow = None
        with self._watch.timed("render"):
            if detail is None and self._mattes.of(source.portrait) is None:
                avatar = source.engine.render(pose.to_keypoints())
            else:
                (avatar,), flow = source.engine.render_with_flow(pose.to_keypoints())
        if detail is not None:
            assert flow is not None
            with self._watch.timed("detail"):
                avatar = detail.added(avatar, flow.deformation[0])
            retouching = self._retouching_in(source, stance)  # of another size, where that failed just now
        matte = None if flow is None else self._mattes.of(source.portrait)
        if retouching is not None and isinstance(stance, Head):
            began_s = time.perf_counter()
            avatar = retouching.applied(avatar, stance, drawn)
            self._watch.done("retouch", posing_s + time.perf_counter() - began_s)
            if retouching.failed and asked is not stance:
                self.make(source, stance)  # what was left to the drawing is the network's after all
                return
        person = None
        if matte is not None:
            assert flow is not None
            with self._watch.timed("cut out"):
                person = Person(cut_frame(matte, avatar, flow.deformation[0], flow.occlusion[0]), matte.plate)
        self.latest = Picture(
            avatar,
            person,
            stance,
            _posed(source, pose),
            retouched=self._retouching_in(source, stance) is not None,
            detailed=self.finish_of(source).detail is not None,
        )
        self._rests = False

    def _retouching_in(self, source: Source, stance: Pose | Head) -> Retouching | None:
        """What retouches a picture of the portrait in that stance; None where nothing is to be, or can be."""
        retouching = self.finish_of(source).retouching
        usable = self.retouches and isinstance(stance, Head) and retouching is not None and not retouching.failed
        return retouching if usable else None

    def _is_as_wished(self, source: Source, picture: Picture) -> bool:
        """Whether nothing was switched since it was made that would have it look otherwise."""
        retouched = self._retouching_in(source, picture.stance) is not None
        detailed = self.finish_of(source).detail is not None
        wished = picture.retouched == retouched and picture.detailed == detailed
        return wished and (picture.person is None) == (self._mattes.of(source.portrait) is None)


def _posed(source: Source, pose: Pose) -> Posed:
    return Posed(
        source.portrait.square,
        *source.pose,
        *pose,
        measured=source.cache.measured,
        fingerprint=source.cache.fingerprint,
    )
