"""From which of a performer's frames relative motion starts: the reference."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mcnet.media.expressions import Mesh, head_turn
from mcnet.media.head_motion import Head, most_neutral

_CANDIDATES = 16


def reference_candidates(frames: int, kinds: Sequence[str]) -> list[int]:
    """The frames of a clip, evenly, among which references are chosen; none where no choice is to be made."""
    if set(kinds) <= {"first"}:
        return []
    return sorted({round(float(frame)) for frame in np.linspace(0, frames - 1, _CANDIDATES)})


def choose_reference(kind: str, meshes: dict[int, Mesh | None]) -> int:
    """The number of a clip's reference frame.

    Args:
        kind: one of `training.evaluate.options.REFERENCES`.
        meshes: of the candidates, by frame; None where no face was found.

    Returns:
        0 where no candidate shows a face.
    """
    found = {frame: np.asarray(mesh, np.float64) for frame, mesh in meshes.items() if mesh is not None}
    if kind == "first" or not found:
        return 0
    if kind == "neutral":
        return list(found)[most_neutral(list(found.values()))]
    measure = {"turned": _side_turn_deg, "speaking": _mouth_opening}[kind]
    return max(found, key=lambda frame: measure(found[frame]))


def _side_turn_deg(mesh: NDArray[np.float64]) -> float:
    return abs(head_turn(Head.of(mesh).rotation).yaw)


def _mouth_opening(mesh: NDArray[np.float64]) -> float:
    return Head.of(mesh).openings.mouth
