"""What `mcnet-train evaluate` is asked for."""

import dataclasses
from typing import TYPE_CHECKING

from mcnet.errors import UserError

if TYPE_CHECKING:  # `--help` shall not wait for torch
    from mcnet.engine import Precision

REFERENCES = ("first", "neutral", "turned", "speaking")
"""Kinds of reference frames. `first`: the clip's first frame, whatever it shows. Among some frames of the clip,
`neutral`: the most neutral expression, which the app and `mcnet animate` look for; `turned`: the head turned farthest
to a side; `speaking`: the mouth open widest."""


class EvaluateError(UserError, ValueError):
    """A model, data or place that cannot be used; the message says what was found and what was expected."""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate, and how much of it."""

    split: str = "test"
    """Clips of this split; nobody in it may be in the training data."""
    frames_per_clip: int | None = 5
    """Driving frames of each clip, evenly from after the first to the last; None: every frame, the first included."""
    max_clips: int | None = None
    """At most so many clips, different people first; None: all."""
    cross_pairs: int | None = None
    """Pairs of different people; None: as many as clips; 0: none."""
    references: tuple[str, ...] = ("first",)
    """Kinds of frames from which the performer's motion starts in cross-identity; each kind gives figures of its
    own."""
    seed: int = 0
    """Of the cross-identity pairs and of the still performer's noise."""
    device: str = "auto"
    precision: "Precision" = "auto"
    paper_landmarks: bool = False
    """Whether to measure AKD by face-alignment too."""
