"""The state in words, and the status line."""

import unicodedata
from dataclasses import dataclass

from PyQt6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout

from app.pipeline.state import State
from app.pipeline.stats import Stats
from app.ui.languages import spoken, tr
from app.ui.theme import Tone
from app.ui.widgets import ElidedLabel, button, label, restyle, set_tip
from mcnet.phrases import phrase

_MICROPHONE_STEP_MS = 10


@dataclass(frozen=True)
class Words:
    """A state for people.

    Attributes:
        state: one or two words, in capitals.
        tone: their colour.
        more: what it means or what to do; may be "".
    """

    state: str
    tone: Tone
    more: str = ""


_WORDS = {
    State.STARTING: Words(phrase("STARTING"), "quiet", phrase("the model is loading")),
    State.CALIBRATING: Words(phrase("CALIBRATING"), "info", phrase("look as the portrait does")),
    State.LIVE: Words(phrase("LIVE"), "live", ""),
    State.HOLD: Words(phrase("HOLD"), "warning", phrase("face lost: the last picture stays")),
    State.EASING: Words(phrase("HOLD"), "warning", phrase("face lost: returning to rest")),
    State.IDLE: Words(phrase("IDLE"), "warning", phrase("no face: the avatar rests")),
    State.NO_FACE: Words(phrase("NO FACE"), "warning", phrase("slate until your face is back")),
    State.NO_CAMERA: Words(phrase("NO CAMERA"), "error", phrase("slate until the camera is back")),
    State.SLATE: Words(phrase("SLATE"), "error", phrase("no face is shown")),
    State.FAULT: Words(phrase("FAULT"), "error", phrase("the model gives no pictures: wait, or press Start again")),
}


_CALIBRATING_IN_SPACE = phrase("neutral face, any direction")


def calibration_request(*, in_space: bool) -> str:
    """What a calibration asks the user for: in space for the expression alone, otherwise for the pose too."""
    if in_space:
        return tr("Look as you do at rest: mouth closed, eyes open; any direction will do.")
    return tr("Look as the portrait does: the head turned alike, mouth and eyes as far open.")


def words_for(state: State, *, on_air: bool, in_space: bool, more: str = "") -> Words:
    """What to say about the output.

    Args:
        state: of the picture that is shown.
        on_air: whether a virtual camera takes the pictures; otherwise nobody but the user sees them.
        in_space: whether the avatar moves in space, for which a calibration asks for less.
        more: a reason from the pipeline, in place of the usual words.
    """
    words = _WORDS[state]
    if state is State.LIVE and not on_air:
        return Words(tr("PREVIEW"), "info", spoken(more) or tr("only you see this"))
    if state is State.SLATE and on_air:
        return Words(tr("STANDBY"), "warning", spoken(more) or tr("the call sees the slate"))
    if state is State.CALIBRATING and in_space:
        more = more or _CALIBRATING_IN_SPACE
    return Words(spoken(words.state), words.tone, spoken(more or words.more))


def microphone_delay_ms(stats: Stats) -> int:
    """How late the picture reaches the call program, to a step that a hand can set; 0 where nothing flows."""
    return round(stats.age_ms.p50 / _MICROPHONE_STEP_MS) * _MICROPHONE_STEP_MS


def status_text(words: Words, stats: Stats, device: str) -> str:
    """The status line: `LIVE | 31 fps | 62 ms in app (p95 88) | dropped 3 % | cuda:0`.

    Where something is wrong, what it is and what to do come first.
    """
    parts = [f"{words.state}: {words.more}" if words.tone in ("error", "warning") and words.more else words.state]
    if stats.frames_out:
        parts += [
            tr("{fps:.0f} fps", fps=stats.fps),
            tr("{p50:.0f} ms in app (p95 {p95:.0f})", p50=stats.age_ms.p50, p95=stats.age_ms.p95),
            tr("dropped {percent:.0f} %", percent=100 * stats.drop_share),
        ]
    if device:
        parts.append(device)
    return " | ".join(parts)


def statistics_text(stats: Stats, runs_on: str) -> str:
    """Everything that is measured, a line each.

    Args:
        stats: what was measured.
        runs_on: device and what computes there.
    """
    age = stats.age_ms
    rows = [
        (tr("runs on"), runs_on or tr("nothing yet")),
        (
            tr("camera"),
            tr(
                "{fps:5.1f} fps   {n} frames", one="{fps:5.1f} fps   {n} frame", fps=stats.camera_fps, n=stats.frames_in
            ),
        ),
        (
            tr("avatar"),
            tr("{fps:5.1f} fps   {n} frames", one="{fps:5.1f} fps   {n} frame", fps=stats.fps, n=stats.frames_out),
        ),
        (
            tr("output"),
            tr(
                "{fps:5.1f} fps   {n} pictures",
                one="{fps:5.1f} fps   {n} picture",
                fps=stats.sink_fps,
                n=stats.pictures_out,
            ),
        ),
        (tr("ms"), "   p50    p95    p99"),
        (tr("age"), _figures(age.p50, age.p95, age.p99)),
        *((spoken(STAGES.get(name, name)), _figures(ms.p50, ms.p95)) for name, ms in stats.stage_ms.items()),
        *(
            (tr("dropped"), tr("{number} from {hop}", number=count, hop=_HOPS.get(hop, hop)))
            for hop, count in stats.dropped.items()
        ),
    ]
    width = 2 + max(_cells(name) for name, _ in rows)
    return "\n".join(f"{name}{' ' * (width - _cells(name))}{figures}" for name, figures in rows)


STAGES = {
    "encode": phrase("encode"),
    "detect": phrase("detect"),
    "face": phrase("face"),
    "crop": phrase("crop"),
    "render": phrase("render"),
    "detail": phrase("fine detail"),
    "retouch": phrase("retouch"),
    "surround": phrase("surroundings"),
    "matte": phrase("matte"),
    "cut out": phrase("cut out"),
    "compose": phrase("compose"),
    "send": phrase("send"),
}
_HOPS = {"camera to model": phrase("camera to model"), "model to sinks": phrase("model to sinks")}


def _figures(*values: float) -> str:
    """Figures below each other."""
    return " ".join(spoken(phrase("{value:6.1f}", value=value)) for value in values)


def _cells(text: str) -> int:
    """How many places of a fixed-width font a text takes: Chinese and Japanese characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


class StatisticsPanel(QFrame):
    """The figures, in a place of their own: they cover neither the avatar nor the user's own picture."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "panel")
        self.setAccessibleName(tr("Statistics"))
        self._figures = label("", wrap=True)
        self._figures.setObjectName("Statistics")
        self._figures.setAccessibleName(tr("Figures"))
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 8, 12, 8)
        column.addWidget(self._figures)
        self.hide()

    @property
    def text(self) -> str:
        """The figures as they stand."""
        return self._figures.text()

    def set_text(self, text: str) -> None:
        """Write the figures."""
        self._figures.setText(text)


class StatusLine(QFrame):
    """One line at the window's foot: the figures, the hint for the microphone, and a way to the keys.

    Attributes:
        text: the figures.
        hint: what to do about the sound; "" unless live.
        help_button: shows the keys.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("Status")
        self._dot = QLabel("●")
        self._figures = ElidedLabel("text")
        self._figures.setAccessibleName(tr("Status"))
        self._hint = ElidedLabel(takes_room=True)
        self._busy = ElidedLabel(takes_room=True)
        self.help_button = button(tr("Keys"), tip=tr("List all keys (?)"), icon_name="help", kind="flat")
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 3, 8, 3)
        row.setSpacing(10)
        row.addWidget(self._dot)
        row.addWidget(self._figures, 1)
        row.addWidget(self._busy)
        row.addWidget(self._hint)
        row.addWidget(self.help_button)

    @property
    def text(self) -> str:
        """The figures as they stand."""
        return self._figures.text()

    @property
    def hint(self) -> str:
        """The hint as it stands."""
        return self._hint.text()

    @property
    def busy(self) -> str:
        """What is under way in the background, or ""."""
        return self._busy.text()

    def set_words(self, words: Words) -> None:
        """Colour the dot."""
        restyle(self._dot, "tone", words.tone)

    def set_figures(self, text: str, *, delay_ms: int, tooltip: str) -> None:
        """Write the line; a delay of 0 means that there is none to speak of."""
        self._figures.setText(text)
        set_tip(self._figures, tooltip or text)
        self._hint.setText(tr("delay your microphone by {delay_ms} ms", delay_ms=delay_ms) if delay_ms else "")
        set_tip(
            self._hint,
            tr(
                "The picture is that late. Set this delay for your microphone (OBS: Advanced audio properties, sync "
                "offset) and lips and sound agree."
            ),
        )

    def set_busy(self, text: str) -> None:
        """Say what is under way in the background, or ""."""
        self._busy.setText(text)
