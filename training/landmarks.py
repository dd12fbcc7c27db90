"""Which points of the face mesh training uses, and what it uses them for.

Numbers are indices into MediaPipe's mesh of 468 points, and of ten more on the irises. Left and right are the person's
own; in a picture that is not mirrored, the person's left eye (386) is on the picture's right.
"""

from typing import NamedTuple

from mcnet.mesh_points import (
    INNER_LIPS,
    LEFT_EYE_CORNERS,
    LEFT_EYE_RING,
    LEFT_IRIS,
    MOUTH_CORNERS,
    RIGHT_EYE_CORNERS,
    RIGHT_EYE_RING,
    RIGHT_IRIS,
)

GUIDANCE_POINTS = (334, 105, 386, 374, 159, 145, 1, 291, 61, 13, 14, 152, 454, 234, 10)
"""Where the 15 keypoints are pulled: brows, lids (upper and lower, left then right), nose tip, mouth corners, inner
lips, chin, sides of the face, forehead."""

MOUTH_POINTS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""The outer lips, as a ring from the right corner along the lower lip to the left one and back."""
LEFT_FACE_POINTS = (
    *(276, 283, 282, 295, 285, 300, 293, 334, 296, 336, 327, 326, 358, 294, 278, 275, 280, 425, 411, 330),
    *(347, 352, 376, 427, 436, 423, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(338, 297, 332, 284, 251, 389, 356),
)
RIGHT_FACE_POINTS = (
    *(46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 98, 97, 129, 64, 48, 45, 50, 205, 187, 101),
    *(118, 123, 147, 207, 216, 203, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148),
    *(109, 67, 103, 54, 21, 162, 127),
)
"""Brows, nostrils, cheeks and the face's outline: the n-th point of one mirrors the n-th of the other."""
MIDDLE_FACE_POINTS = (10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 19, 94, 2, 164, 18, 200, 199, 175, 152)
"""The midline from forehead to chin, the lips left out."""

PUPILS = (RIGHT_IRIS.start, LEFT_IRIS.start)
"""The centres of the right and the left iris. Tables that were labelled by a mesh without irises lack them."""

TRAINING_POINTS = tuple(
    sorted(
        {
            *GUIDANCE_POINTS,
            *PUPILS,
            *(*MOUTH_POINTS, *INNER_LIPS, *LEFT_EYE_RING, *RIGHT_EYE_RING),
            *(*LEFT_FACE_POINTS, *RIGHT_FACE_POINTS, *MIDDLE_FACE_POINTS),
        }
    )
)
"""All points that `fit` can use: enough to store where space is short (a dataset may hold the whole mesh)."""

KEYPOINT_GROUPS = {
    "face": GUIDANCE_POINTS,
    "pupils": PUPILS,
    "lids": (388, 385, 390, 380, 161, 158, 163, 153),
    "lips": (37, 267, 91, 321, 82, 312, 87, 317),
    "brows": (276, 285, 46, 55),
    "jaw": (397, 172, 288, 58),
    "rigid": (263, 33, 327, 98, 168),
}
"""Groups of keypoints by name, as configurations name them. `face` are the 15 that every guided model has; the others
go well with them: where lids are at a third of their length (upper and lower, from the outer corner inwards, left eye
first), the ring of the lips between corners and middle (outer, then inner), both ends of the brows, and the jaw.
`rigid` (outer corners of the eyes, nose) tells the head's rotation together with `face`."""


class Opening(NamedTuple):
    """Two points that face each other across mouth or eye, and the corners between which it opens."""

    upper: int
    lower: int
    right: int
    left: int


_LEFT_EYE_CORNERS = LEFT_EYE_CORNERS[::-1]
EYE_CORNERS = (RIGHT_EYE_CORNERS, _LEFT_EYE_CORNERS)
"""In the order of PUPILS, each from the right to the left."""
OPEN_EYE = 0.12
"""Pupils are seen of eyes that are open so far, as a share of the distance of their corners; behind lids a mesh guesses
them. It finds 0.02 of shut eyes, 0.14 of half open ones and 0.21 of open ones."""
MOUTH_OPENINGS = tuple(
    Opening(*pair, *MOUTH_CORNERS)
    for pair in ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318))
)
EYE_OPENINGS = (
    *(Opening(*pair, *_LEFT_EYE_CORNERS) for pair in ((386, 374), (385, 380), (387, 373), (384, 381), (388, 390))),
    *(Opening(*pair, *RIGHT_EYE_CORNERS) for pair in ((159, 145), (158, 153), (160, 144), (157, 154), (161, 163))),
)
"""What makes an expression: how far these pairs are apart. The first of each mouth and eye is its middle."""


def _mirror() -> dict[int, int]:
    across = dict(zip(LEFT_EYE_RING, RIGHT_EYE_RING, strict=True))
    across |= dict(zip(LEFT_FACE_POINTS, RIGHT_FACE_POINTS, strict=True))
    across |= dict([PUPILS])
    for ring in (MOUTH_POINTS, INNER_LIPS):
        across |= {point: ring[(10 - place) % 20] for place, point in enumerate(ring)}
    across |= {right: left for left, right in across.items()}
    return {point: across.get(point, point) for point in TRAINING_POINTS}


MIRROR = _mirror()
"""What each training point becomes when the picture is mirrored; points of the midline stay themselves."""
