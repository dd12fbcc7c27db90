"""What the sinks show at this moment: the newest picture, a fade, or the slate. The last gate before a call."""

import dataclasses
import logging
from collections.abc import Callable

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
        self._refused: tuple[str, str] | None = None
        self._current: OutputFrame | None = None
        self._received_s = 0.0
        self._avatar: tuple[NDArray[np.uint8], LiveSettings, NDArray[np.uint8]] | None = None
        self._slate_image = ""
        self._shown: NDArray[np.uint8] | None = None
        self._showed_avatar = False
        self._fade_from: NDArray[np.uint8] | None = None
        self._fade_began_s = 0.0
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
        if settings.slate_image != self._slate_image:
            self._take_slate_image(settings.slate_image)
        state = self._state(settings, now_s, fault=fault)
        current = self._current
        shows_avatar = state.shows_avatar and current is not None and current.avatar is not None
        if shows_avatar:
            assert current is not None
            assert current.avatar is not None
            picture = self._composed(current.avatar, settings)
        else:
            picture = self._compositor.slate(state, settings.slate_text)
        rgb = self._faded(picture, now_s, shows_avatar=shows_avatar, at_once=state in _AT_ONCE)
        return Composed(
            frame_id=-1 if current is None else current.frame_id,
            captured_s=now_s if current is None else current.captured_s,
            state=state,
            rgb=rgb,
            fresh=frame is not None and frame.fresh and state is State.LIVE,
            fading=self._fade_from is not None,
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

    def _take_slate_image(self, path: str) -> None:
        self._slate_image = path
        try:
            self._compositor.use_slate_picture(path)
        except AppError as error:
            self._refuse("slate_image", str(error))

    def _composed(self, avatar: NDArray[np.uint8], settings: LiveSettings) -> NDArray[np.uint8]:
        kept = self._avatar
        if kept is None or kept[0] is not avatar or kept[1] is not settings:
            kept = self._avatar = (avatar, settings, self._compose(avatar, settings))
        return kept[2]

    def _compose(self, avatar: NDArray[np.uint8], settings: LiveSettings) -> NDArray[np.uint8]:
        background = (settings.background, settings.background_image)
        if background != self._refused:
            self._refused = None
            try:
                return self._compositor.compose(avatar, settings)
            except AppError as error:
                self._refused = background
                self._refuse("background", str(error))
        return self._compositor.compose(avatar, dataclasses.replace(settings, background="blur"))

    def last_resort(self, now_s: float) -> Composed:
        """The slate of a fault, drawn beforehand: for when `present` itself fails."""
        self._fade_from = None
        self.why = ""  # that it fails is told by the stage
        return Composed(frame_id=-1, captured_s=now_s, state=State.FAULT, rgb=self._slate_of_faults, fresh=False)

    def _faded(
        self, picture: NDArray[np.uint8], now_s: float, *, shows_avatar: bool, at_once: bool
    ) -> NDArray[np.uint8]:
        """Cross-fade between avatar and slate; the panic key and faults do not wait for a fade."""
        if at_once:
            self._fade_from = None
        elif self._shown is not None and shows_avatar != self._showed_avatar:
            self._fade_from, self._fade_began_s = self._shown, now_s
        self._showed_avatar = shows_avatar
        if self._fade_from is not None:
            share = (now_s - self._fade_began_s) / FADE_S
            if share < 1:
                picture = np.asarray(cv2.addWeighted(self._fade_from, 1 - share, picture, share, 0), np.uint8)
            else:
                self._fade_from = None
        self._shown = picture
        return picture
