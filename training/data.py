"""The data that `fit` reads, and which pairs of it a step learns from.

A packed dataset is a folder:

    dataset.json    {"format": "mcnet-frames/1", "size_px", "clips": [{"file", "identity", "split", "frames"}, ...]}
    frames.u8       all frames of all clips in that order: (N, size_px, size_px, 3) uint8 RGB, nothing else
    landmarks.npz   points (P,): the mesh points that are kept; landmarks (N, P, 2) float16 xy in [0, 1] of the
                    picture's width and height; valid (N,) bool: whether a face was found

A folder of clips is its portable form, 200 times smaller, and is decoded into the above where it is used:

    clips.json      {"format": "mcnet-clips/1", "size_px", "clips": as above}, `file` relative to the folder
    landmarks.npz   as above

A clip of one frame is a still.
"""

import dataclasses
import hashlib
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcnet.errors import UserError
from training.draws import Draws
from training.landmarks import EYE_OPENINGS, MESH_SIZE, MOUTH_OPENINGS, TRAINING_POINTS, Opening

PACKED_FORMAT = "mcnet-frames/1"
CLIPS_FORMAT = "mcnet-clips/1"
_log = logging.getLogger(__name__)


class DataError(UserError, ValueError):
    """Data that cannot be learned from; the message says what was found, what was expected and what to do."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of one person."""

    file: str
    """Where it came from; in a folder of clips, the file itself, relative to the folder."""
    identity: str
    """Who is seen; clips of one person share it."""
    split: str
    """`train`, `test` or another; splits share no identities."""
    frames: int


class Landmarks(NamedTuple):
    """Face landmarks of every frame.

    Attributes:
        points: (P,) int64, mesh points, in rising order.
        landmarks: (N, P, 2) float16 xy in [0, 1] of the picture's width and height.
        valid: (N,) bool.
    """

    points: NDArray[np.int64]
    landmarks: NDArray[np.float16]
    valid: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A packed dataset, opened."""

    folder: Path
    size_px: int
    clips: tuple[Clip, ...]
    frames: NDArray[np.uint8]
    """(N, size_px, size_px, 3) RGB, mapped from the file."""
    landmarks: Landmarks

    @property
    def starts(self) -> NDArray[np.int64]:
        """Each clip's first frame."""
        return np.cumsum([0, *(clip.frames for clip in self.clips[:-1])])

    @property
    def fingerprint(self) -> str:
        """Tells datasets apart by their clips, wherever they lie."""
        table = [dataclasses.astuple(clip) for clip in self.clips]
        return hashlib.sha256(json.dumps([self.size_px, table]).encode()).hexdigest()[:16]


class ClipTable(NamedTuple):
    """What `dataset.json` and `clips.json` hold."""

    size_px: int
    clips: tuple[Clip, ...]


def open_dataset(folder: Path) -> Dataset:
    """Open a packed dataset.

    Raises:
        DataError: the folder holds none, or its files contradict one another.
    """
    table = read_table(folder / "dataset.json", PACKED_FORMAT)
    total = sum(clip.frames for clip in table.clips)
    shape = (total, table.size_px, table.size_px, 3)
    path = folder / "frames.u8"
    size = path.stat().st_size if path.is_file() else 0
    if size != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path}: got {size} bytes, expected {np.prod(shape)} for {total} frames; pack it again")
    frames = np.memmap(path, np.uint8, "r", shape=shape)
    landmarks = read_landmarks(folder / "landmarks.npz")
    if len(landmarks.valid) != total:
        raise DataError(
            f"{folder / 'landmarks.npz'}: got {len(landmarks.valid)} rows, expected {total}, one a frame; pack it again"
        )
    return Dataset(folder, table.size_px, table.clips, frames, landmarks)


def read_table(path: Path, expected_format: str) -> ClipTable:
    """Read `dataset.json` or `clips.json`.

    Raises:
        DataError: it is missing, no JSON, of another format, or lacks something.
    """
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path.parent} holds no {path.name}: expected a dataset, see training/data.py") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != expected_format:
        raise DataError(f"{path}: got format {found!r}, expected {expected_format!r}")
    try:
        clips = tuple(
            Clip(str(row["file"]), str(row["identity"]), str(row["split"]), int(row["frames"]))
            for row in values["clips"]
        )
        table = ClipTable(int(values["size_px"]), clips)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} lacks {error}, or has something else in its place") from error
    if not clips:
        raise DataError(f"{path} lists no clips: there is nothing to learn from")
    if short := [clip.file for clip in clips if clip.frames < 1]:
        raise DataError(f"{path}: clip {short[0]} has no frames, expected at least one")
    return table


def write_table(path: Path, format_name: str, table: ClipTable) -> None:
    """Write `dataset.json` or `clips.json`."""
    rows = [dataclasses.asdict(clip) for clip in table.clips]
    path.write_text(json.dumps({"format": format_name, "size_px": table.size_px, "clips": rows}, indent=1) + "\n")


def read_landmarks(path: Path) -> Landmarks:
    """Read `landmarks.npz`.

    Raises:
        DataError: it is missing, damaged, or its arrays do not fit one another.
    """
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            points, landmarks, valid = file["points"], file["landmarks"], file["valid"]
    except FileNotFoundError:
        raise DataError(f"{path.parent} holds no {path.name}: landmarks are part of a dataset") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({error}): it may be truncated") from error
    expected = (len(valid), len(points), 2)
    if landmarks.shape != expected or points.ndim != 1 or valid.ndim != 1:
        raise DataError(f"{path}: got landmarks of shape {landmarks.shape}, expected {expected}")
    return Landmarks(points.astype(np.int64), landmarks.astype(np.float16), valid.astype(bool))


def write_landmarks(path: Path, landmarks: Landmarks) -> None:
    """Write `landmarks.npz`, compressed."""
    np.savez_compressed(path, points=landmarks.points, landmarks=landmarks.landmarks, valid=landmarks.valid)


def decode(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video or a picture, (H, W, 3) uint8 RGB each.

    PyAV reads them, or OpenCV where only that is installed (GPU machines on which nothing can be added).

    Raises:
        DataError: it cannot be read, or neither library is there.
    """
    try:
        import av
    except ImportError:
        yield from _decode_with_opencv(path)
        return
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError(f"{path} cannot be decoded ({error}): it may be truncated, or no video") from error


def _decode_with_opencv(path: Path) -> Iterator[NDArray[np.uint8]]:
    try:
        import cv2
    except ImportError:
        raise DataError(f"{path} cannot be decoded: neither PyAV (pip install av) nor OpenCV is installed") from None
    picture = cv2.imread(str(path))
    if picture is not None:
        yield np.ascontiguousarray(picture[:, :, ::-1], np.uint8)
        return
    capture = cv2.VideoCapture(str(path))
    try:
        seen = False
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            seen = True
            yield np.ascontiguousarray(frame[:, :, ::-1], np.uint8)
        if not seen:
            raise DataError(f"{path} cannot be decoded: it may be truncated, or no video")
    finally:
        capture.release()


class PackReport(NamedTuple):
    """What `pack` did.

    Attributes:
        clips: that were packed.
        frames: of them.
        skipped: a line for each clip that was left out, with the reason.
    """

    clips: int
    frames: int
    skipped: tuple[str, ...]


def pack(folder: Path, out: Path) -> PackReport:
    """Decode a folder of clips into a packed dataset.

    Args:
        folder: with `clips.json` and `landmarks.npz`.
        out: a folder that is made; an earlier dataset in it is replaced.

    Returns:
        What was packed. Clips that cannot be decoded, or are not what the table says, are left out and listed.

    Raises:
        DataError: the folder holds no clips, or none of them can be used, or the disk is full.
    """
    table = read_table(folder / "clips.json", CLIPS_FORMAT)
    landmarks = read_landmarks(folder / "landmarks.npz")
    total = sum(clip.frames for clip in table.clips)
    if len(landmarks.valid) != total:
        raise DataError(f"{folder / 'landmarks.npz'}: got {len(landmarks.valid)} rows, expected {total}, one a frame")
    out.mkdir(parents=True, exist_ok=True)
    # The table is what makes it a dataset: removed first and written last, so that half of one is never opened.
    (out / "dataset.json").unlink(missing_ok=True)
    needed, free = total * table.size_px**2 * 3, shutil.disk_usage(out).free
    if needed > free:
        raise DataError(f"cannot pack into {out}: {needed >> 20} MiB are needed, {free >> 20} MiB are free")
    packed: list[Clip] = []
    kept: list[NDArray[np.int64]] = []
    skipped: list[str] = []
    first = 0
    with (out / "frames.u8").open("wb") as file:
        for clip in table.clips:
            rows = np.arange(first, first + clip.frames)
            first += clip.frames
            try:
                frames = np.stack(list(_decode_checked(folder / clip.file, clip.frames, table.size_px)))
            except DataError as error:
                skipped.append(str(error))
                _log.warning("left out: %s", error)
                continue
            file.write(frames.tobytes())
            packed.append(clip)
            kept.append(rows)
    if not packed:
        raise DataError(f"none of the {len(table.clips)} clips of {folder} can be used; the first: {skipped[0]}")
    rows = np.concatenate(kept)
    write_landmarks(
        out / "landmarks.npz", Landmarks(landmarks.points, landmarks.landmarks[rows], landmarks.valid[rows])
    )
    write_table(out / "dataset.json", PACKED_FORMAT, ClipTable(table.size_px, tuple(packed)))
    return PackReport(len(packed), len(rows), tuple(skipped))


def _decode_checked(path: Path, frames: int, size_px: int) -> Iterator[NDArray[np.uint8]]:
    count = 0
    for frame in decode(path):
        if frame.shape != (size_px, size_px, 3):
            raise DataError(f"{path}: got frames of {frame.shape[1]}x{frame.shape[0]}, expected {size_px}x{size_px}")
        count += 1
        yield frame
    if count != frames:
        raise DataError(f"{path}: got {count} frames, expected {frames} as its table says; it may be truncated")


def open_or_pack(path: Path, cache: Path) -> Dataset:
    """Open a packed dataset, or pack a folder of clips into `cache` (unless that was done before) and open it.

    Raises:
        DataError: there is neither, or it cannot be used.
    """
    if (path / "dataset.json").is_file():
        return open_dataset(path)
    if not (path / "clips.json").is_file():
        raise DataError(f"{path} is no dataset: got neither dataset.json nor clips.json, expected one of them")
    stamp = hashlib.sha256((path / "clips.json").read_bytes() + (path / "landmarks.npz").read_bytes()).hexdigest()
    mark = cache / "packed_from"
    if not (mark.is_file() and mark.read_text() == stamp and (cache / "dataset.json").is_file()):
        report = pack(path, cache)
        _log.info("packed %d clips, %d frames into %s", report.clips, report.frames, cache)
        mark.write_text(stamp)
    return open_dataset(cache)


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

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """What lies nearest: (n, S, S, 3) uint8, on the device if all frames are there, else on the host."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(self._device)]
        return torch.from_numpy(np.take(self._frames, rows, axis=0))

    def to_pictures(self, frames: Tensor) -> Tensor:
        """What `read` gave -> (n, 3, S, S) float32 RGB in [0, 1] on the device."""
        return frames.to(self._device, non_blocking=True).permute(0, 3, 1, 2).float() / 255


class LandmarkStore:
    """Landmarks of the points that training uses, on the training device, in the network's coordinates.

    Args:
        dataset: where they come from.
        device: where they are needed.

    Raises:
        DataError: the dataset keeps too few points.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        points, landmarks, valid = dataset.landmarks
        missing = sorted(set(TRAINING_POINTS) - set(points.tolist()))
        if missing:
            raise DataError(
                f"{dataset.folder / 'landmarks.npz'} lacks mesh points {missing[:5]}: expected all {MESH_SIZE} of the "
                "mesh, or at least training.landmarks.TRAINING_POINTS"
            )
        columns = np.searchsorted(points, TRAINING_POINTS)
        chosen = torch.from_numpy(landmarks[:, columns].astype(np.float32))
        usable = valid & np.isfinite(landmarks).all((1, 2))
        self._places = to_coordinates(torch.nan_to_num(chosen), dataset.size_px).to(device)
        self._valid = torch.from_numpy(usable).to(device)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(n, P, 2) xy in [-1, 1] of TRAINING_POINTS, and (n,) whether they can be trusted."""
        index = torch.from_numpy(rows).to(self._places.device)
        return self._places[index], self._valid[index]


def to_coordinates(landmarks: Tensor, size_px: int) -> Tensor:
    """Shares of the picture's side (0 its left edge, 1 its right edge) -> corner-aligned coordinates.

    Pixel i's centre lies at (i + 0.5) / size_px of the side, and at 2 i / (size_px - 1) - 1 in coordinates.
    """
    return (landmarks * size_px - 0.5) * (2 / (size_px - 1)) - 1


class PairPlan(NamedTuple):
    """Which frames a step learns from.

    Attributes:
        source: (B,) rows of the dataset.
        driving: (B,) rows; of the same clip, and another frame unless it is a still.
        still: (B,) whether the pair has to be made from one picture.
        draws: the step's random numbers, for what else is random in it.
    """

    source: NDArray[np.int64]
    driving: NDArray[np.int64]
    still: NDArray[np.bool_]
    draws: Draws


LIVELY_DRAWS = 4
"""Of so many frames a lively pair takes the one with the most different expression."""


def expressions(landmarks: Landmarks) -> NDArray[np.float64]:
    """(N, 2): how far mouth and eyes are open over their widths, in standard deviations; 0 where no face was found."""
    places = landmarks.landmarks.astype(np.float64)
    columns = {int(point): column for column, point in enumerate(landmarks.points)}

    def opening(opening: Opening) -> NDArray[np.float64]:
        upper, lower, right, left = (places[:, columns[point]] for point in opening)
        width = np.linalg.norm(left - right, axis=-1)
        return np.asarray(np.linalg.norm(upper - lower, axis=-1) / np.maximum(width, 1e-3))

    eyes = np.mean([opening(EYE_OPENINGS[0]), opening(EYE_OPENINGS[len(EYE_OPENINGS) // 2])], axis=0)
    both = np.stack((opening(MOUTH_OPENINGS[0]), eyes), axis=-1)
    good = landmarks.valid & np.isfinite(both).all(-1)
    if not good.any():
        return np.zeros_like(both)
    both = np.where(good[:, None], both, 0.0)
    return np.where(good[:, None], (both - both[good].mean(0)) / (both[good].std(0) + 1e-9), 0.0)


class PairSampler:
    """Chooses pairs: first a person, then one of their clips, then two frames of it.

    Args:
        dataset: what there is.
        split: the split to draw from.
        stills_share: share of pairs that are made from stills.
        seed: of the run.
        lively_share: share of the other pairs whose driving frame is chosen for its expression.

    Raises:
        DataError: the split has no clips, or stills are wanted and there are none.
    """

    def __init__(self, dataset: Dataset, split: str, stills_share: float, seed: int, lively_share: float = 0.0) -> None:
        self._seed = seed
        self._lively_share = lively_share
        self._expressions = expressions(dataset.landmarks) if lively_share else None
        starts = dataset.starts
        of_split = [
            (clip, int(start)) for clip, start in zip(dataset.clips, starts, strict=True) if clip.split == split
        ]
        self.clips = _People([pair for pair in of_split if pair[0].frames > 1])
        stills = _People([pair for pair in of_split if pair[0].frames == 1])
        splits = sorted({clip.split for clip in dataset.clips})
        if not len(self.clips) and stills_share < 1:
            raise DataError(
                f"{dataset.folder} has no clip of two frames or more in split {split!r} (its splits: "
                f"{', '.join(splits)}); a pair needs two frames, unless data.stills_share is 1"
            )
        if stills_share > 0 and not len(stills):
            raise DataError(
                f"{dataset.folder} has no stills in split {split!r} (its splits: {', '.join(splits)}), but "
                f"data.stills_share is {stills_share}; set it to 0"
            )
        self.stills = stills
        self._stills_share = stills_share

    def plan(self, step: int, batch: int, rank: int = 0, stills: float = 1.0) -> PairPlan:
        """The pairs of one process in one step: a pure function of its arguments and the seed.

        Args:
            step: of the run.
            batch: pairs.
            rank: of the process.
            stills: share of pairs from stills, as a multiple of the run's.
        """
        draws = Draws(self._seed, step, rank * batch, batch)
        still = draws.chance("still", self._stills_share * stills)
        source = np.zeros(batch, np.int64)
        driving = np.zeros(batch, np.int64)
        who, which = draws.uniform("identity"), draws.uniform("clip")
        a, b = draws.uniform("first frame"), draws.uniform("second frame")
        for chosen, people in ((still, self.stills), (~still, self.clips)):
            if chosen.any():
                start, length = people.choose(who[chosen], which[chosen])
                one = (a[chosen] * length).astype(np.int64)
                other = (one + 1 + (b[chosen] * (length - 1)).astype(np.int64)) % length
                source[chosen], driving[chosen] = start + one, start + other
                if people is self.clips and self._expressions is not None:
                    lively = draws.chance("lively", self._lively_share)[chosen]
                    more = draws.uniform("livelier frames", LIVELY_DRAWS - 1)[chosen]
                    offered = (one[:, None] + 1 + (more * (length[:, None] - 1)).astype(np.int64)) % length[:, None]
                    rows = np.concatenate((driving[chosen][:, None], start[:, None] + offered), axis=1)
                    change = self._expressions[rows] - self._expressions[source[chosen]][:, None]
                    livelier = rows[np.arange(len(rows)), np.abs(change).sum(-1).argmax(1)]
                    driving[chosen] = np.where(lively, livelier, driving[chosen])
        return PairPlan(source, driving, still, draws)


class _People:
    """Clips grouped by identity, for drawing without a loop."""

    def __init__(self, clips: list[tuple[Clip, int]]) -> None:
        clips = sorted(clips, key=lambda pair: (pair[0].identity, pair[1]))
        self._start = np.array([start for _, start in clips], np.int64)
        self._length = np.array([clip.frames for clip, _ in clips], np.int64)
        identities = [clip.identity for clip, _ in clips]
        _, self._first, self._count = np.unique(identities, return_index=True, return_counts=True)

    def __len__(self) -> int:
        """Clips."""
        return len(self._start)

    @property
    def identities(self) -> int:
        """People."""
        return len(self._first)

    def choose(
        self, who: NDArray[np.float64], which: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frames and lengths of clips, for numbers in [0, 1)."""
        person = (who * len(self._first)).astype(np.int64)
        clip = self._first[person] + (which * self._count[person]).astype(np.int64)
        return self._start[clip], self._length[clip]


def held_out_pairs(dataset: Dataset, split: str, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fixed pairs to look at: the first frame of a clip and one further on, clips of different people first.

    Args:
        dataset: what there is.
        split: the split to take; the clips of all splits where it has none.
        count: how many at most.
    """
    rows: list[tuple[Any, ...]] = []
    seen: dict[str, int] = {}
    for clip, start in zip(dataset.clips, dataset.starts, strict=True):
        if clip.frames > 1 and (clip.split == split or not any(c.split == split for c in dataset.clips)):
            seen[clip.identity] = seen.get(clip.identity, 0) + 1
            rows.append((seen[clip.identity], int(start), int(start) + round(0.6 * (clip.frames - 1))))
    rows.sort(key=lambda row: row[0])
    chosen = rows[:count]
    return np.array([row[1] for row in chosen], np.int64), np.array([row[2] for row in chosen], np.int64)
