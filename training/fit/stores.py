"""Frames and landmarks by row, where the training step needs them."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcnet.mesh_points import MESH_SIZE
from mcnet.pictures import to_picture
from training.data import DataError, Dataset
from training.landmarks import EYE_CORNERS, PUPILS, TRAINING_POINTS


class FrameStore:
    """Frames by row, as float pictures on the training device.

    Args:
        dataset: where they come from.
        device: where they are needed.
        where: `memmap` reads them from disk each time; `device` copies all of them to the device now; `auto` does so on
            a GPU with twice the room.
    """

    def __init__(self, dataset: Dataset, device: torch.device, where: str) -> None:
        self._frames = dataset.frames
        self._device = device
        if where == "auto":
            roomy = device.type == "cuda" and torch.cuda.mem_get_info(device)[0] > 2 * dataset.frames.nbytes
            where = "device" if roomy else "memmap"
        self._resident: Tensor | None = None
        if where == "device":
            self._resident = torch.empty(dataset.frames.shape, dtype=torch.uint8, device=device)
            for start in range(0, len(dataset.frames), 256):
                chunk = np.array(dataset.frames[start : start + 256])
                self._resident[start : start + len(chunk)] = torch.from_numpy(chunk)

    @property
    def resident(self) -> bool:
        """Whether all frames lie on the device."""
        return self._resident is not None

    @property
    def rows_on(self) -> torch.device:
        """Where rows are read, and so where they are to be drawn."""
        return self._device if self.resident else torch.device("cpu")

    def read(self, rows: Tensor) -> Tensor:
        """What lies nearest: (n,) int64 rows -> (n, S, S, 3) uint8, on the device if all frames are there, else on the
        host.
        """
        if self._resident is not None:
            return self._resident[rows]
        return torch.from_numpy(np.take(self._frames, rows.numpy(), axis=0))

    def to_pictures(self, frames: Tensor) -> Tensor:
        """What `read` gave -> (n, 3, S, S) float32 RGB in [0, 1] on the device."""
        return to_picture(frames.to(self._device, non_blocking=True))


class LandmarkStore:
    """Landmarks of the points that training uses, on the training device, in the network's coordinates.

    Args:
        dataset: where they come from.
        device: where they are needed.
        wanted: points that are needed besides; only pupils can be lacking where they are not.

    Raises:
        DataError: the dataset keeps too few points.
    """

    def __init__(self, dataset: Dataset, device: torch.device, wanted: Sequence[int] = ()) -> None:
        kept = dataset.landmarks
        lacking = set(TRAINING_POINTS) - set(kept.points.tolist())
        if missing := sorted(lacking - set(PUPILS)):
            raise DataError(
                f"{dataset.folder / 'landmarks.npz'} lacks mesh points {missing[:5]}: expected all {MESH_SIZE} of the "
                "mesh, or at least training.landmarks.TRAINING_POINTS"
            )
        if lacking & set(wanted):
            raise DataError(
                f"{dataset.folder / 'landmarks.npz'} has no pupils, expected them, as they are keypoints or loss.gaze "
                "counts: label the data anew (mcnet-train relabel), or leave the group pupils out of "
                "data.keypoint_points and loss.guidance_points, two out of model.num_keypoints, and loss.gaze at 0"
            )
        chosen = torch.from_numpy(training_points(kept.points, kept.landmarks))
        usable = kept.valid & np.isfinite(kept.landmarks).all((1, 2))
        self._places = to_coordinates(torch.nan_to_num(chosen), dataset.size_px).to(device)
        self._valid = torch.from_numpy(usable).to(device)

    @property
    def trusted(self) -> Tensor:
        """(n, P, 2) of all pictures whose landmarks can be trusted; on a GPU the host waits for their number."""
        return self._places[self._valid]

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) int64 rows on the device -> (n, P, 2) xy in [-1, 1] of TRAINING_POINTS, and (n,) whether they can be
        trusted.
        """
        return self._places[rows], self._valid[rows]


def training_points(points: NDArray[np.int64], places: NDArray[np.float16]) -> NDArray[np.float32]:
    """(N, P, c) places of a table's points -> those of TRAINING_POINTS.

    Where the table has no pupils, the middle of each eye's corners stands for them, so that everything but pupils as
    keypoints works with it.
    """
    if set(PUPILS) <= set(points.tolist()):
        return places[:, np.searchsorted(points, TRAINING_POINTS)].astype(np.float32)
    others = [point for point in TRAINING_POINTS if point not in PUPILS]
    corners = [[int(np.searchsorted(points, point)) for point in pair] for pair in EYE_CORNERS]
    middles = [places[:, pair].astype(np.float32).mean(1, keepdims=True) for pair in corners]
    known = places[:, np.searchsorted(points, others)].astype(np.float32)
    return np.concatenate((known, *middles), axis=1)


def to_coordinates(landmarks: Tensor, size_px: int) -> Tensor:
    """Shares of the picture's side (0 its left edge, 1 its right edge) -> corner-aligned coordinates.

    Pixel i's centre lies at (i + 0.5) / size_px of the side, and at 2 i / (size_px - 1) - 1 in coordinates.
    """
    return (landmarks * size_px - 0.5) * (2 / (size_px - 1)) - 1


@functools.lru_cache(maxsize=128)
def columns_on(columns: tuple[int, ...], device: torch.device) -> Tensor:
    """Indices of landmarks as a tensor on the device: a list would be copied there at each use, and waited for."""
    with torch.inference_mode(mode=False):  # it outlives the call, and is later used where gradients are taken
        return torch.tensor(columns, dtype=torch.int64, device=device)
