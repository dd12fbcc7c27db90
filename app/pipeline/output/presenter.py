"""What the sinks show at this moment: the newest picture, a fade, or the slate. The last gate before a call."""

import dataclasses
import logging
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.output.compositor import Compositor
from app.pipeline.output.output_frame import Composed, OutputFrame
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

FADE_S = 0.25

_AT_ONCE = (State.SLATE, State.FAULT)
_BACKGROUND = tuple(
    setting.name for setting in dataclasses.fields(LiveSettings) if setting.name.startswith("background")
)
_SCENE = ("cut_out", *_BACKGROUND)


class _Layers(NamedTuple):
    """A picture, and how far it is not transparent; None: not at all, as the slate."""

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None

    def faded(self, before: "_Layers", share: float) -> "_Layers":
        """This one at share 1, the one before at 0.

        A colour that shows through is mixed like every other, so that picture and alpha stay a pair.
        """
        rgb = np.asarray(cv2.addWeighted(before.rgb, 1 - share, self.rgb, share, 0), np.uint8)
        if self.alpha is None and before.alpha is None:
            return _Layers(rgb)
        whole = np.full(rgb.shape[:2], 255, np.uint8)
        first, second = (whole if layers.alpha is None else layers.alpha for layers in (before, self))
        return _Layers(rgb, np.asarray(cv2.addWeighted(first, 1 - share, second, share, 0), np.uint8))


class Presenter:
    """Decides picture by picture. Fails closed: whatever it does not know to be a fresh avatar becomes the slate.

    Args:
        output: size of the pictures.
        model_timeout_s: an output frame older than this means that the inference stage hangs or is dead: the slate.
        refuse: told once when a setting cannot be used, with its name and a message for people.

    Attributes:
        why: what the last picture's state is due to, for people, where nobody else tells; or "".
    """

    def __init__(
        self, output: OutputFormat, model_timeout_s: float, refuse: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self._compositor = Compositor(output)
        self._slate_of_faults = self._compositor.slate(State.FAULT)
        self._model_timeout_s = model_timeout_s
        self._refuse = refuse
        self._refused: tuple[str, ...] | None = None
        self._current: OutputFrame | None = None
        self._received_s = 0.0
        self._avatar: tuple[OutputFrame, LiveSettings, _Layers] | None = None
        self._slate_image = ""
        self._shown: _Layers | None = None
        self._showed_avatar = False
        self._fade_from: _Layers | None = None
        self._fade_began_s = 0.0
        self._scene: LiveSettings | None = None
        self.why = ""

    def present(self, frame: OutputFrame | None, settings: LiveSettings, now_s: float, *, fault: bool) -> Composed:
        """The picture of this tick.

        Args:
            frame: what the inference stage made since the last tick, or None.
            settings: in force now.
            now_s: of the monotonic clock.
            fault: a stage has failed and has not recovered.
        """
        if frame is not None:
            self._current, self._received_s = frame, now_s
        self._use_slate_image(settings.slate_image)
        scene_wished = self._until_read(settings)  # asked for beside a slate, too: it is read by when it is shown
        state = self._state(settings, now_s, fault=fault)
        current = self._current
        shows_avatar = state.shows_avatar and current is not None and current.picture is not None
        if shows_avatar:
            assert current is not None
            picture = self._composed(current, scene_wished)
        else:
            picture = _Layers(self._compositor.slate(state, settings.slate_text))
        rgb, alpha = self._faded(picture, now_s, shows_avatar=shows_avatar, at_once=state in _AT_ONCE)
        fading = self._fade_from is not None
        scene = self._scene or settings
        has_backdrop = (shows_avatar or fading) and scene.background in ("image", "video")
        around = (shows_avatar or fading) and self._avatar is not None and any(self._avatar[0].margins)
        has_slate = (not shows_avatar or fading) and bool(settings.slate_image)
        return Composed(
            frame_id=-1 if current is None else current.frame_id,
            captured_s=now_s if current is None else current.captured_s,
            state=state,
            rgb=rgb,
            fresh=frame is not None and frame.fresh and state is State.LIVE,
            fading=fading,
            alpha=alpha,
            behind=scene.background_colour,
            composite=has_backdrop or has_slate or around,
        )

    def _state(self, settings: LiveSettings, now_s: float, *, fault: bool) -> State:
        self.why = ""
        if settings.slate:
            return State.SLATE
        if self._current is None:
            return State.FAULT if fault else State.STARTING
        if fault:  # the stage has told why
            return State.FAULT
        if now_s - self._received_s > self._model_timeout_s:
            self.why = phrase(
                "the model has given no picture for {seconds:g} s: wait, or start again",
                seconds=self._model_timeout_s,
            )
            return State.FAULT
        return self._current.state

    def _use_slate_image(self, path: str) -> None:
        if path != self._slate_image:
            self._slate_image = path
            self._compositor.use_slate_picture(path)
        try:
            self._compositor.take_slate_picture()
        except AppError as error:
            self._refuse("slate_image", str(error))

    def _until_read(self, settings: LiveSettings) -> LiveSettings:
        """The settings with the background of before while the picture that is wished for is being read."""
        if not self._compositor.reads_background(settings):
            return settings
        before = self._scene or dataclasses.replace(settings, background="blur")
        waiting = dataclasses.replace(settings, **{name: getattr(before, name) for name in _BACKGROUND})
        return before if waiting == before else waiting

    def _composed(self, frame: OutputFrame, settings: LiveSettings) -> _Layers:
        """The avatar's picture, in the scene of before until the person is cut out for the one that is wished for."""
        if settings.cut_out and frame.person is None and not frame.whole:
            if self._scene is None:  # nothing was shown yet: the portrait as it is, which moves until then
                self._scene = dataclasses.replace(settings, cut_out=False)
            if self._scene.cut_out and self._avatar is not None:
                return self._avatar[2]  # a picture of before it was switched on is held; its background is not wanted
            waiting = dataclasses.replace(settings, **{name: getattr(self._scene, name) for name in _SCENE})
            settings = self._scene if waiting == self._scene else waiting  # the very same, for what was drawn by it
        else:
            self._scene = settings
        kept, moves = self._avatar, self._compositor.shows_video(settings)
        if kept is None or moves or kept[0].avatar is not frame.avatar or kept[1] is not settings:
            kept = self._avatar = (frame, settings, self._compose(frame, settings))
        return kept[2]

    def _compose(self, frame: OutputFrame, settings: LiveSettings) -> _Layers:
        assert frame.avatar is not None
        background = (settings.background, settings.background_image, settings.background_video)
        if background != self._refused:
            self._refused = None
            try:
                return _Layers(
                    *self._compositor.compose_layers(
                        frame.avatar, settings, frame.person, margins=frame.margins, detailed=frame.detailed
                    )
                )
            except AppError as error:
                self._refused = background
                self._refuse("background", str(error))
        usual = dataclasses.replace(settings, background="blur")
        return _Layers(
            *self._compositor.compose_layers(
                frame.avatar, usual, frame.person, margins=frame.margins, detailed=frame.detailed
            )
        )

    def close(self) -> None:
        """End what runs in the background; harmless when called again."""
        self._compositor.close()

    def last_resort(self, now_s: float) -> Composed:
        """The slate of a fault, drawn beforehand: for when `present` itself fails."""
        self._fade_from = None
        self.why = ""  # that it fails is told by the stage
        return Composed(frame_id=-1, captured_s=now_s, state=State.FAULT, rgb=self._slate_of_faults, fresh=False)

    def _faded(self, picture: _Layers, now_s: float, *, shows_avatar: bool, at_once: bool) -> _Layers:
        """Cross-fade between avatar and slate; the panic key and faults do not wait for a fade."""
        if at_once:
            self._fade_from = None
        elif self._shown is not None and shows_avatar != self._showed_avatar:
            self._fade_from, self._fade_began_s = self._shown, now_s
        self._showed_avatar = shows_avatar
        if self._fade_from is not None:
            share = (now_s - self._fade_began_s) / FADE_S
            if share < 1:
                picture = picture.faded(self._fade_from, share)
            else:
                self._fade_from = None
        self._shown = picture
        return picture
