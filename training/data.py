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

Where every byte counts, landmarks.npz holds `differences` in place of `landmarks`: (2, P, 2, N) uint8, the low and the
high bytes of each coordinate's change from the frame before, in 1/8192 of the picture's side.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.errors import UserError

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
            f"{folder / 'landmarks.npz'}: got {len(landmarks.valid)} rows, expected {total}, one per frame: pack again"
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
            points, valid = file["points"], file["valid"]
            landmarks = _added_up(file["differences"]) if "differences" in file else file["landmarks"]
    except FileNotFoundError:
        raise DataError(f"{path.parent} holds no {path.name}: landmarks are part of a dataset") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({error}): it may be truncated") from error
    expected = (len(valid), len(points), 2)
    if landmarks.shape != expected or points.ndim != 1 or valid.ndim != 1:
        raise DataError(f"{path}: got landmarks of shape {landmarks.shape}, expected {expected}")
    return Landmarks(points.astype(np.int64), landmarks.astype(np.float16), valid.astype(bool))


def write_landmarks(path: Path, landmarks: Landmarks, *, small: bool = False) -> None:
    """Write `landmarks.npz`, compressed.

    Args:
        path: of the file.
        landmarks: what to write.
        small: write differences, to 1/8192 of the picture's side: two thirds of the size.
    """
    if small:
        landmarks = landmarks._replace(valid=landmarks.valid & np.isfinite(landmarks.landmarks).all((1, 2)))
    places = {"differences": _differences(landmarks)} if small else {"landmarks": landmarks.landmarks}
    np.savez_compressed(path, points=landmarks.points, valid=landmarks.valid, **places)


_UNITS = 8192
"""Of differences, in the picture's side: a thirtieth of a pixel of 256."""


def _differences(landmarks: Landmarks) -> NDArray[np.uint8]:
    """(N, P, 2) landmarks -> (2, P, 2, N); of frames that are not valid, zeros."""
    places = np.where(landmarks.valid[:, None, None], landmarks.landmarks.astype(np.float32), 0)
    units = np.clip(np.round(places * _UNITS), -(2**15), 2**15 - 1).astype(np.int16)
    changes = np.diff(units, axis=0, prepend=np.zeros_like(units[:1])).astype(np.uint16).transpose(1, 2, 0)
    return np.stack((changes & 0xFF, changes >> 8)).astype(np.uint8)


def _added_up(differences: NDArray[np.uint8]) -> NDArray[np.float16]:
    """What `_differences` gave -> (N, P, 2) landmarks."""
    low, high = differences.astype(np.uint16)
    units = np.cumsum(low | high << 8, axis=-1, dtype=np.uint16).astype(np.int16)
    return (units.transpose(2, 0, 1).astype(np.float32) / _UNITS).astype(np.float16)


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
        raise DataError(f"{folder / 'landmarks.npz'}: got {len(landmarks.valid)} rows, expected {total}, one per frame")
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
        for clip, frames in _decoded(folder, table):
            rows = np.arange(first, first + clip.frames)
            first += clip.frames
            if isinstance(frames, DataError):
                skipped.append(str(frames))
                _log.warning("left out: %s", frames)
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


def _decoded(folder: Path, table: ClipTable) -> Iterator[tuple[Clip, NDArray[np.uint8] | DataError]]:
    """The clips in order, each with its frames or why it cannot be used; decoded side by side on all cores."""

    def decoded(clip: Clip) -> NDArray[np.uint8] | DataError:
        try:
            return np.stack(list(_decode_checked(folder / clip.file, clip.frames, table.size_px)))
        except DataError as error:
            return error

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="decoder") as pool:
        ahead: deque[tuple[Clip, Future[NDArray[np.uint8] | DataError]]] = deque()
        try:
            for clip in table.clips:
                ahead.append((clip, pool.submit(decoded, clip)))
                if len(ahead) > 2 * workers:  # so few, since they wait in memory
                    first, frames = ahead.popleft()
                    yield first, frames.result()
            for first, frames in ahead:
                yield first, frames.result()
        finally:
            pool.shutdown(cancel_futures=True)


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
