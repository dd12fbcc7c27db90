"""Which points of the face mesh training uses, and what it uses them for.

Numbers are indices into MediaPipe's 468-point mesh. Left and right are the person's own; in a picture that is not
mirrored, the person's left eye (386) is on the picture's right.
"""

MESH_SIZE = 468

GUIDANCE_POINTS = (334, 105, 386, 374, 159, 145, 1, 291, 61, 13, 14, 152, 454, 234, 10)
"""Where the 15 keypoints are pulled: brows, lids (upper and lower, left then right), nose tip, mouth corners, inner
lips, chin, sides of the face, forehead."""

MOUTH_POINTS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
"""The outer lips, as a ring from the right corner along the lower lip to the left one and back."""
LEFT_EYE_POINTS = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_EYE_POINTS = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
"""The eyes, as rings in the same order: the n-th point of one mirrors the n-th of the other."""

TRAINING_POINTS = tuple(sorted({*GUIDANCE_POINTS, *MOUTH_POINTS, *LEFT_EYE_POINTS, *RIGHT_EYE_POINTS}))
"""All points that `fit` can use: enough to store where space is short (a dataset may hold the whole mesh)."""


def _mirror() -> dict[int, int]:
    across = dict(zip(LEFT_EYE_POINTS, RIGHT_EYE_POINTS, strict=True)) | {334: 105, 454: 234}
    across |= {point: MOUTH_POINTS[(10 - place) % 20] for place, point in enumerate(MOUTH_POINTS)}
    across |= {right: left for left, right in across.items()}
    return {point: across.get(point, point) for point in TRAINING_POINTS}


MIRROR = _mirror()
"""What each training point becomes when the picture is mirrored; points of the midline stay themselves."""
