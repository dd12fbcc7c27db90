"""Sample sheets: what the network makes of a few pairs, as one PNG."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcnet.arrays import Keypoints
from mcnet.generator import Inspection, Mcnet
from mcnet.geometry import resize_aligned
from training.fit.measured import Measured

COLUMNS = ("source", "driving", "warped", "prediction", "occlusion", "keypoints")


def write_png(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB.

    OpenCV alone does it, since training has to run where few libraries are.

    Raises:
        OSError: it cannot be written.
    """
    import cv2  # here: a run without sheets needs no OpenCV

    _, coded = cv2.imencode(".png", rgb[:, :, ::-1])
    path.write_bytes(coded.tobytes())


class Seen(NamedTuple):
    """What a model makes of a pair.

    Attributes:
        inspection: of the driving frame.
        driving: keypoints of the driving frame.
    """

    inspection: Inspection
    driving: Keypoints


class HeldOut(NamedTuple):
    """Pairs that are looked at again and again, never changed and, where the data has a test split, never learned from.

    Attributes:
        source: (n, 3, S, S) float32 RGB in [0, 1].
        driving: likewise.
        measured: the keypoints of those that were measured; None where all are detected.
    """

    source: Tensor
    driving: Tensor
    measured: Measured | None = None

    def seen_by(self, model: Mcnet) -> Iterator[Seen]:
        """What a model makes of each pair, batch 1."""
        for index, (source, driving) in enumerate(zip(self.source[:, None], self.driving[:, None], strict=True)):
            of_source, of_driving = model.keypoint_detector(source), model.keypoint_detector(driving)
            if self.measured is not None:
                of_source, of_driving = self.measured.pair(index).keypoints(of_source, of_driving)
            cache = model.generator.encode_source(source, of_source)
            yield Seen(model.generator.inspect(cache, of_driving), of_driving)


@torch.inference_mode()
def sample_sheet(model: Mcnet, pairs: HeldOut, *, decoded: bool) -> NDArray[np.uint8]:
    """Source, driving, warped, prediction, occlusion and keypoints of some pairs, a row each.

    Args:
        model: in evaluation mode.
        pairs: to show.
        decoded: false while the decoder has learned nothing: the prediction's place then shows the warped source where
            the occlusion map trusts it, on grey.

    Returns:
        (n S, 6 S, 3) uint8 RGB.
    """
    rows = []
    for one, other, (seen, keypoints) in zip(pairs.source, pairs.driving, pairs.seen_by(model), strict=True):
        trusted = seen.warped.picture * seen.warped.occlusion + 0.5 * (1 - seen.warped.occlusion)
        occlusion = resize_aligned(seen.motion.occlusion, one.shape[-1]).expand(-1, 3, -1, -1)
        shown = seen.prediction if decoded else trusted
        dotted = draw_points(other, keypoints.value[0])
        rows.append(torch.cat((one, other, seen.warped.picture[0], shown[0], occlusion[0], dotted), dim=2))
    sheet = torch.cat(rows, dim=1).clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(sheet.permute(1, 2, 0).cpu().numpy())


def draw_points(picture: Tensor, points: Tensor, radius_px: float = 3.5) -> Tensor:
    """A (3, S, S) picture with a coloured dot at each of (K, 2) points; hues go round the circle in order."""
    size_px = picture.shape[-1]
    line = torch.linspace(-1, 1, size_px, device=picture.device)
    reach = radius_px * 2 / size_px
    drawn = picture.clone()
    for number, point in enumerate(points):
        inside = (line[None, :] - point[0]) ** 2 + (line[:, None] - point[1]) ** 2 <= reach**2
        hue = 2 * np.pi * number / len(points)
        colour = [0.5 + 0.5 * np.cos(hue + turn) for turn in (0.0, -2 * np.pi / 3, 2 * np.pi / 3)]
        drawn = torch.where(inside, drawn.new_tensor(colour)[:, None, None], drawn)
    return drawn
