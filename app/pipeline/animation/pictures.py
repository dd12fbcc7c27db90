"""The avatar's pictures: made by the engine in a stance, and finished as far as that is wished and can be done."""

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.pipeline.animation.finish import Finish, Surrounding, detailed_px
from app.pipeline.animation.mattes import Mattes
from app.pipeline.animation.motion import Pose
from app.pipeline.animation.source import Source
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.inspector import Posed
from app.pipeline.output.output_frame import AvatarPicture, Person, UnfinishedPicture
from app.pipeline.portraits import Portrait
from app.settings import LiveSettings, has_processors_to_spare
from mcnet.arrays import Flow
from mcnet.media.head_motion import Head
from mcnet.media.matte import Matte, cut_frame, resized_matte
from mcnet.media.retouch import Retouching
from mcnet.media.surroundings import NO_MARGINS


class Picture(NamedTuple):
    """A picture of the portrait.

    Attributes:
        avatar: the picture; it gets its finish when it is shown, if it is.
        stance: how the portrait is posed in it.
        posed: how the network was driven to it.
        retouched: whether it has what the network cannot show.
        detailed: whether it has the portrait's own detail.
        cut_out: whether the person is cut out of it.
        surrounded: whether it shows what is around the portrait's square.
    """

    avatar: UnfinishedPicture
    stance: Pose | Head
    posed: Posed
    retouched: bool
    detailed: bool
    cut_out: bool
    surrounded: bool


class _Raw(NamedTuple):
    """What the engine made.

    Attributes:
        rgb: the picture.
        flow: of it, where its finish needs that.
        stance: how the portrait is posed in it.
        drawn: how much of what is drawn is seen.
        posing_s: how long the pose took that leaves something to the drawing.
    """

    rgb: NDArray[np.uint8]
    flow: Flow | None
    stance: Pose | Head
    drawn: float
    posing_s: float


class _Ways(NamedTuple):
    """How a picture is finished.

    Attributes:
        finish: what is to be done to it.
        plain: what is, where the portrait's detail cannot be shown.
        retouching: of `finish`; None: nothing is to be drawn.
        surrounding: likewise; None: the square is seen alone.
        matte: for pictures of that finish; None: nobody is to be cut out.
    """

    finish: Finish
    plain: Finish
    retouching: Retouching | None
    surrounding: Surrounding | None
    matte: Matte | None


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
        self._surrounds = False
        self._tried: tuple[Finish, Retouching | None, Surrounding | None, bool] | None = None

    def begin_anew(self) -> None:
        """Forget the pictures of another portrait or model."""
        self.latest = self._proven = self._tried = None
        self._rests = False

    def renew(self) -> None:
        """Make the picture of the portrait at rest anew when it is shown next: it would look otherwise now."""
        self._rests = False

    def wish_detail(self, *, wished: bool) -> None:
        """Have pictures show the portrait's own detail, or not, from now on."""
        if wished != self._details:
            self._details = wished
            self.renew()

    def wish_surroundings(self, *, wished: bool) -> None:
        """Have pictures show what is around the portrait's square, or not, from now on."""
        if wished != self._surrounds:
            self._surrounds = wished
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

        Where nothing was proven, the latest stays.
        """
        if self._proven is None:
            self.again(source)
            return
        self.latest = self._proven
        self.again(source)
        self._proven = self.latest

    def again(self, source: Source) -> None:
        """Show the latest once more: that of this portrait and model, as it is to look now.

        What is switched meanwhile counts at once. Where there is none, the portrait is at rest.
        """
        if self.latest is None:
            self.rest(source)
        elif not self._is_as_wished(source, self.latest):
            self.make(source, self.latest.stance)

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
        finish, retouching = self.finish_of(source), self._retouching_in(source, stance)
        began_s = time.perf_counter()
        asked = stance if retouching is None or isinstance(stance, Pose) else retouching.posed(stance, drawn)
        posing_s = time.perf_counter() - began_s
        pose = source.pose_of(asked)
        surrounding = self._surrounding_of(finish)
        matte = self._mattes.of(source.portrait, surrounded=surrounding is not None)
        flow = None
        with self._watch.timed("render"):
            if finish.detail is None and matte is None and surrounding is None:
                rgb = source.engine.render(pose.to_keypoints())
            else:
                (rgb,), flow = source.engine.render_with_flow(pose.to_keypoints())
        raw = _Raw(rgb, flow, stance, drawn, posing_s)
        plain = source.finishes.now(detailed=False)
        ways = _Ways(finish, plain, retouching, surrounding, matte)
        avatar = UnfinishedPicture(lambda: self._finished(raw, ways))
        way = finish, retouching, surrounding, matte is not None
        # What fails does so at its first picture, most likely; and without its drawing one that was posed for it is not
        # to be seen. Beside an engine that takes all processors, little work makes pictures later by more than itself.
        apart = finish.detail is not None or has_processors_to_spare()
        if way != self._tried or asked is not stance or not apart:
            self._tried = None
            _ = avatar.finished
            if retouching is not None and retouching.failed and asked is not stance:
                self.make(source, stance)  # what was left to the drawing is the network's after all
                return
            self._tried = way
        self.latest = Picture(
            avatar,
            stance,
            _posed(source, pose),
            retouched=self._retouching_in(source, stance) is not None,
            detailed=self.finish_of(source).detail is not None,
            cut_out=matte is not None,
            surrounded=self._surrounding_of(finish) is not None,
        )
        self._rests = False

    def _finished(self, raw: _Raw, ways: _Ways) -> AvatarPicture:
        """What may go out of what the engine made; on any thread."""
        rgb, flow, finish, retouching = raw.rgb, raw.flow, ways.finish, ways.retouching
        if finish.detail is not None:
            assert flow is not None
            with self._watch.timed("detail"):
                rgb = finish.detail.added(rgb, flow.deformation[0])
        detailed = finish.detail is not None and len(rgb) == finish.size_px
        if finish.detail is not None and not detailed:  # it failed
            retouching = None if retouching is None else ways.plain.retouching
        if retouching is not None and isinstance(raw.stance, Head):
            began_s = time.perf_counter()
            rgb = retouching.applied(rgb, raw.stance, raw.drawn)
            self._watch.done("retouch", raw.posing_s + time.perf_counter() - began_s)
        margins = NO_MARGINS
        if ways.surrounding is not None:
            assert flow is not None
            surrounding = ways.surrounding if len(rgb) == finish.size_px else ways.plain.surrounding
            with self._watch.timed("surround"):
                rgb, margins = surrounding.around(rgb, flow.deformation[0])
        person = None
        if ways.matte is not None:
            assert flow is not None
            matte = ways.matte if any(margins) else ways.matte.of_square()
            if matte.alpha.shape != rgb.shape[:2]:  # without its detail
                matte = resized_matte(matte, margins.side(rgb), margins)
            with self._watch.timed("cut out"):
                person = Person(cut_frame(matte, rgb, flow.deformation[0], flow.occlusion[0]), matte.plate)
        return AvatarPicture(rgb, person, detailed=detailed, margins=margins)

    def _surrounding_of(self, finish: Finish) -> Surrounding | None:
        """What shows what is around the square of its pictures; None where that is not wished, or cannot be."""
        return finish.surrounding if self._surrounds and not finish.surrounding.failed else None

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
        surrounded = self._surrounding_of(self.finish_of(source)) is not None
        matte = self._mattes.of(source.portrait, surrounded=surrounded)
        return wished and picture.surrounded == surrounded and picture.cut_out == (matte is not None)


def _posed(source: Source, pose: Pose) -> Posed:
    return Posed(
        source.portrait.square,
        *source.pose,
        *pose,
        measured=source.cache.measured,
        fingerprint=source.cache.fingerprint,
    )
