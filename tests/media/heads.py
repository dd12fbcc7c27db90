"""Heads that open their mouths and shut their eyes."""

from mcnet.media.head_motion import Head
from mcnet.mesh_points import LEFT_LID_PAIRS, RIGHT_LID_PAIRS

JAW = (14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377)
"""Points of the lower lip and the chin."""
LIDS = (386, 374, 159, 145)
"""The middles of the lids, upper and lower, the person's left eye first."""


def with_jaw_down(head: Head, gap: float) -> Head:
    """A head whose mouth is opened by so many face sizes."""
    shape = head.shape.copy()
    shape[list(JAW), 1] += gap
    return head._replace(shape=shape)


def with_eyes_at(head: Head, share: float) -> Head:
    """A head whose eyes are open by that share of their own opening, the upper lid having moved."""
    shape = head.shape.copy()
    for upper, lower in (*zip(*RIGHT_LID_PAIRS, strict=True), *zip(*LEFT_LID_PAIRS, strict=True)):
        shape[upper] = shape[lower] + share * (shape[upper] - shape[lower])
    return head._replace(shape=shape)
