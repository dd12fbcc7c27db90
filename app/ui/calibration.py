"""From where the performer's motion counts, on the window's side."""

from dataclasses import replace
from typing import TYPE_CHECKING

from app.pipeline.events import (
    Calibrated,
    CalibrationMissed,
    CalibrationProgress,
    EngineReady,
    MotionRefused,
    ReferenceImproved,
    SourceReady,
)
from app.settings import LiveSettings
from app.space import Space
from app.ui.chain import Chain, Link
from mcnet.phrases import listed, phrase

if TYPE_CHECKING:
    from app.pipeline.pipeline import Pipeline


class Calibration:
    """Asks for calibrations, and follows what they find. Lives on the GUI thread.

    It owns how far a calibration has come, what is known of the reference, and whether the avatar moves in space with
    it. The reference itself is the pipeline's, and what the output shows meanwhile `OutputState`'s.

    Attributes:
        pipeline: calibrates; None before it is there.
        share: how far the calibration has come, 0 to 1, or None.
        link: how the reference stands.
        score: of the reference that was found last, 0 to 100; None before.
        space: whether the avatar can be moved in space.
    """

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None
        self.share: float | None = None
        self.link = self._found_link = Chain().calibration
        self.score: int | None = None
        self.space = Space()

    def take(self, *, now: bool) -> None:
        """Take the reference: from this very frame, or hands-free from the best of the next ones."""
        if self.pipeline is not None:
            self.pipeline.calibrate(now=now)

    def follow(self, before: LiveSettings, live: LiveSettings) -> bool:
        """Take another reference where the one that there is does not do for these settings.

        Returns:
            Whether the chain asks for a calibration now and did not before, or for another one in space than in the
            plane; or the other way round.
        """
        in_space = self.space.moves(before)
        if self.space.needs_calibration(live):
            self.space = replace(self.space, reference=False)
            self.take(now=False)
        return live.relative != before.relative or self.space.moves(live) != in_space

    def hear(
        self,
        event: EngineReady
        | SourceReady
        | CalibrationProgress
        | CalibrationMissed
        | MotionRefused
        | Calibrated
        | ReferenceImproved,
    ) -> None:
        """Take a fact about the reference, or about what it is a reference for."""
        match event:
            case EngineReady():
                kept = event.keeps_reference and self.space.reference
                self.space = Space(model=event.measures, detects=event.detects, reference=kept)
            case SourceReady():
                self.space = replace(self.space, portrait=event.measured)
            case CalibrationProgress():
                self.share = event.share
                self.link = Link(text=phrase("the calibration is under way"))
            case CalibrationMissed() | MotionRefused():
                self.share, self.link = None, self._found_link
            case Calibrated():
                self.share = None
                self.space = replace(self.space, reference=event.in_space)
                self._found(event)
            case ReferenceImproved():
                if self.link.done:  # another calibration may be under way
                    self._found(event)

    def interrupt(self) -> None:
        """No frames arrive that could be calibrated by."""
        self.share = None

    def miss(self) -> None:
        """The pipeline has no reference any more, and looks for one."""
        self._found_link = Chain().calibration
        if self.link.done:
            self.link = self._found_link

    def begin_anew(self) -> None:
        """The pipeline is started anew, without a reference."""
        self.share = None
        self.link = self._found_link = Chain().calibration

    def forget(self) -> None:
        """Another pipeline is made: likewise, and nothing is known of its model and portrait."""
        self.begin_anew()
        self.space = Space()

    def _found(self, event: Calibrated | ReferenceImproved) -> None:
        self.link = self._found_link = Link(True, _score_words(event))
        self.score = event.score


def _score_words(event: Calibrated | ReferenceImproved) -> str:
    if isinstance(event, Calibrated) and event.kept:
        score = phrase("{score} of 100, as calibrated before", score=event.score)
    else:
        score = phrase("{score} of 100", score=event.score)
    return phrase("{score}: {remarks}", score=score, remarks=listed(event.remarks)) if event.remarks else score
