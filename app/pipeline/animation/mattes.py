"""Which portraits are cut out, in which size, and what becomes of it."""

from collections.abc import Callable

from app.pipeline.animation.cutting_out import Cutter, CuttingOut
from app.pipeline.animation.source_store import SourceStore
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.events import Event, PersonCutOut, SettingRefused
from app.pipeline.portraits import Portrait
from mcnet.media.matte import Matte

_WAIT_S = 1.0
"""Where the model changes, no frame is made for so long at most until the portrait is cut out in the new size."""


class Mattes:
    """The mattes of the portrait that is animated, and of the one that waits to be, as it is to be seen cut out only.

    It owns the cutter, whose work no picture waits for, and tells how that goes. Which portrait is animated is not
    decided here, nor what is made of a matte.

    Args:
        store: of mattes, or None.
        size_of: says how large a portrait's pictures are, or will be once it is animated: their side.
        watch: told how long a matte took.
        emit: told what is under way, and what failed.

    Attributes:
        wished: whether the person is to be cut out.
        current: the cutting out of the portrait that is animated; None before it was wanted.
    """

    def __init__(
        self,
        store: SourceStore | None,
        size_of: Callable[[Portrait], int],
        watch: Stopwatch,
        emit: Callable[[Event], None],
    ) -> None:
        self.wished = False
        self.current: CuttingOut | None = None
        self._awaited: tuple[Portrait, CuttingOut] | None = None
        self._cutter = Cutter(store)
        self._size_of = size_of
        self._watch = watch
        self._emit = emit
        self._heard_of: CuttingOut | None = None
        self._told_under_way = False

    def close(self) -> None:
        """End the cutting out; harmless when called again."""
        self._cutter.close()

    def of(self, portrait: Portrait, *, surrounded: bool) -> Matte | None:
        """The matte of the portrait that is animated, for its pictures as they are; None where there is none (yet).

        Args:
            portrait: that one.
            surrounded: whether its pictures show what is around its square.
        """
        return self._cutting_of(portrait).matte_of(surrounded=surrounded) if self.wished else None

    def failed(self, portrait: Portrait) -> bool:
        """Whether the portrait is to be cut out, and cannot be."""
        current = self.current if self.wished else None
        return current is not None and current.failed and self._serves(current, portrait)

    def serves(self, portrait: Portrait) -> bool:
        """Whether the portrait that is animated is that very one, and cut out, or about to be."""
        return self.current is not None and not self.current.failed and self._serves(self.current, portrait)

    def wait_for(self, portrait: Portrait | None) -> None:
        """Have a portrait cut out that is to be animated after that, in the place of whoever waited; None: nobody."""
        self._awaited = None if portrait is None else (portrait, self._begin(portrait))

    def ready(self) -> tuple[Portrait, CuttingOut] | None:
        """The portrait that waits no more, once, and its cutting out: that is over, or not wished any more."""
        if self._awaited is None:
            return None
        portrait, cutting = self._awaited
        if self.wished and not self._serves(cutting, portrait):  # another model has come meanwhile
            self._awaited = portrait, self._begin(portrait)
            return None
        if self.wished and not cutting.over:
            return None
        self._awaited = None
        return portrait, cutting

    def take(self, portrait: Portrait, waited: CuttingOut | None) -> None:
        """A portrait is animated from now on.

        Args:
            portrait: who.
            waited: what it waited for; None: it did not, and what there is goes on if it is that portrait's.
        """
        cutting = waited or self.current
        self.current = cutting if cutting is not None and self._serves(cutting, portrait) else None

    def hurry(self, portrait: Portrait) -> None:
        """Wait a moment for the matte of the portrait that is animated."""
        if self.wished:
            cutting = self._cutting_of(portrait)
            if cutting.matte is None:
                # What takes longer comes later: the last picture stays, and the window is told.
                cutting.wait(_WAIT_S)

    def try_again(self) -> bool:
        """Have what failed begin once more when it is wanted; whether anything had."""
        failed = self.current is not None and self.current.failed
        if failed:
            self.current = None
        return failed

    def keep_wanted(self) -> None:
        """Do not begin what is not wanted any more."""
        self._cutter.keep_only(*self._wanted)

    def tell(self) -> bool:
        """Tell what is over and what is under way.

        Returns:
            Whether the portrait that is animated has a matte now, or is known to get none.
        """
        done = self.current
        news = done is not None and done.over and done is not self._heard_of
        if done is not None and news:
            self._heard_of = done
            if done.took_s:
                self._watch.done("matte", done.took_s)
            if done.failed and self.wished:
                self._emit(SettingRefused("cut_out", done.failure))
        self.keep_wanted()
        under_way = self.wished and any(one.takes_long for one in self._wanted)
        if under_way != self._told_under_way:
            self._told_under_way = under_way
            self._emit(PersonCutOut(under_way=under_way))
        return news

    def _serves(self, cutting: CuttingOut, portrait: Portrait) -> bool:
        """Whether it is that portrait's, in the size that is shown; one that failed is so for every size."""
        size_px = cutting.size_px if cutting.failed else self._size_of(portrait)
        return cutting.is_for(portrait, size_px)

    def _begin(self, portrait: Portrait) -> CuttingOut:
        return self._cutter.begin(portrait, self._size_of(portrait), before=self.current)

    def _cutting_of(self, portrait: Portrait) -> CuttingOut:
        """Cuts out the portrait that is animated; it begins when it is first wanted, and may be done already."""
        if self.current is None or not self._serves(self.current, portrait):
            self.current = self._begin(portrait)
        return self.current

    @property
    def _wanted(self) -> list[CuttingOut]:
        """That of the portrait that is animated, and of the one that waits."""
        begun = (self.current, None if self._awaited is None else self._awaited[1])
        return [one for one in begun if one is not None]
