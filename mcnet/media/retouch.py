"""What is drawn into a network's picture of a portrait, where its face moves further than the portrait can show."""

from mcnet.arrays import Rgb
from mcnet.media.head_motion import Array, Head
from mcnet.media.lids import DrawnLids
from mcnet.media.mouth import MouthInterior


class Retouch:
    """Retouches pictures of one portrait.

    It needs to know where the face is in space, so it goes with motion in space (`PortraitInSpace`).

    Args:
        square: (S, S, 3), the portrait as the model sees it.
        mesh: (468 or more, 3) of it, in the keypoints' coordinates.
    """

    def __init__(self, square: Rgb, mesh: Array) -> None:
        self._mouth = MouthInterior(square, mesh)
        self._lids = DrawnLids(square, mesh)

    def posed(self, head: Head) -> Head:
        """A head as the network is to pose it, before its picture is retouched: what is drawn is left to the drawing.

        Args:
            head: as it is to be shown.
        """
        return self._lids.opened(head)

    def applied(self, rgb: Rgb, head: Head) -> Rgb:
        """A picture, retouched.

        Args:
            rgb: (S, S, 3), what the network made of the portrait; it stays as it is.
            head: of the portrait, as it is to be shown in that picture.

        Returns:
            (S, S, 3); `rgb` itself where there was nothing to do.
        """
        return self._lids.drawn(self._mouth.drawn(rgb, head), head)
