"""Some moments of a video, for its contact sheet."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mcnet.arrays import Rgb

SHEET_MOMENTS = 6
"""How many a contact sheet has."""


class Moment(NamedTuple):
    """One frame for the contact sheet."""

    time_s: float
    performer: "Rgb"
    result: "Rgb"


class Moments:
    """Some frames of a video of unknown length, spread evenly: every n-th, n doubled whenever there are too many."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._every = 1
        self._kept: list[Moment] = []

    def offer(self, index: int, moment: Moment) -> None:
        """Take frame `index` into consideration; every frame is to be offered, in order."""
        if index % self._every:
            return
        self._kept.append(moment)
        if len(self._kept) > 4 * self._wanted:
            self._kept = self._kept[::2]
            self._every *= 2

    def chosen(self) -> list[Moment]:
        """As many as wanted, or all there are."""
        last = len(self._kept) - 1
        places = {round(step * last / max(1, self._wanted - 1)) for step in range(self._wanted)}
        return [self._kept[place] for place in sorted(places) if place >= 0]


def write_sheet(path: Path, source: "Rgb", moments: Sequence[Moment]) -> None:
    """The portrait, then performer above result at each moment."""
    from mcnet.disclosure.words import words_of_animation
    from mcnet.media.contact_sheet import contact_sheet
    from mcnet.media.images import write_rgb

    rows: list[list[Rgb | None]] = [
        [source, *(moment.performer for moment in moments)],
        [None, *(moment.result for moment in moments)],
    ]
    times = (f"{moment.time_s:.1f} s" for moment in moments)
    sheet = contact_sheet(rows, column_labels=("source", *times), row_labels=("driving", "animated"))
    write_rgb(path, sheet, words_of_animation(beside=True, behind=False))
