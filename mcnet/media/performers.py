"""Who is seen in the shots of a film, told apart by the face, and the frame from which each one's motion counts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.mean_head import RIGID_POINTS
from mcnet.media.expressions import Mesh
from mcnet.media.head_motion import Head, most_neutral

_RIGID = list(RIGID_POINTS)
_LOOKED_AT = 50
"""So many frames of a shot tell its face's shape."""
_ALIKE = 0.025
"""In face sizes, root mean square over the rigid points. Between two parts of a clip, of 2 seconds each, it is less in
9 of 10 clips of talking heads, between clips of two persons in 1 of 16; those are so much alike that one's neutral face
does for the other."""
_OWN_FRAMES, _OWN_S = 4, 1.0
"""A shorter shot has no neutral face to speak of."""


class Performers(NamedTuple):
    """Who is seen in a film.

    Attributes:
        of_frames: of each frame, which one.
        references: of each one, the frame with the most neutral expression.
    """

    of_frames: list[int]
    references: list[int]


def tell_apart(meshes: Sequence[Mesh | None], shots: Sequence[range], fps: float) -> Performers:
    """Tell the performers of a film apart.

    An expression is a difference from a neutral face: from another person's it would carry the difference of the two
    faces into the portrait. Of two persons' clips of 2 seconds, the most neutral frame of both is off by 0.054 face
    sizes from one's own neutral face (median), each one's own by 0.022. Shots of one person share a reference, so that
    a smile throughout a shot stays a smile.

    Args:
        meshes: of each frame, in any coordinates; None where no face was found. At least one is a mesh.
        shots: of the film, all of its frames.
        fps: frames per second.
    """
    seen = [[index for index in shot if meshes[index] is not None] for shot in shots]
    shapes: list[NDArray[np.float64]] = []
    frames: list[list[int]] = []
    of_shots = [0] * len(shots)
    for shot in sorted(range(len(shots)), key=lambda shot: -len(seen[shot])):
        if not seen[shot]:
            continue
        shape = _rigid_shape([meshes[index] for index in seen[shot]])
        away = [float(np.sqrt(np.square(shape - other).sum(axis=1).mean())) for other in shapes]
        has_own = len(seen[shot]) >= max(_OWN_FRAMES, _OWN_S * fps)
        if not away or (has_own and min(away) > _ALIKE):
            of_shots[shot] = len(shapes)
            shapes.append(shape)
            frames.append(list(seen[shot]))
        else:
            of_shots[shot] = int(np.argmin(away))
            frames[of_shots[shot]] += seen[shot]
    references = []
    for each in frames:
        each.sort()
        references.append(each[most_neutral([meshes[index] for index in each])])
    return Performers([who for who, shot in zip(of_shots, shots, strict=True) for _ in shot], references)


def _rigid_shape(meshes: Sequence[Mesh | None]) -> NDArray[np.float64]:
    """(20, 2): the median, where the head's rigid points are on a face that looks straight ahead."""
    some = [mesh for mesh in meshes[:: 1 + len(meshes) // _LOOKED_AT] if mesh is not None]
    shapes = np.array([Head.of(np.asarray(mesh, np.float64)).shape[_RIGID, :2] for mesh in some])
    answer: NDArray[np.float64] = np.median(shapes, axis=0)
    return answer
