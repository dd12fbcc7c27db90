"""The dataset formats that `fit` and `evaluate` read.

A packed dataset is a folder:

    dataset.json    {"format": "mcnet-frames/2", "size_px",
                     "clips": [{"file", "identity", "split", "frames", "kind", "licence"}, ...],
                     "left_out": ["why", ...], of clips that could not be read: told whenever it is opened}
    frames.u8       all frames of all clips in that order: (N, size_px, size_px, 3) uint8 RGB, nothing else
    landmarks.npz   points (P,): the mesh points that are kept; landmarks (N, P, 2) float16 xy in [0, 1] of the
                    picture's width and height; depth (N, P) float16, their third coordinate in the same unit;
                    valid (N,) bool: whether a face was found

A folder of clips is its portable form, 200 times smaller, and is decoded into the above where it is used:

    clips.json      {"format": "mcnet-clips/2", "size_px", "clips": as above}, `file` relative to the folder
    landmarks.npz   as above

A clip of one frame is a still. Tables of version 1 are read as well: they have no kinds and no licences, and their
landmarks no depth, which only what needs landmarks in space asks for.

Where every byte counts, landmarks.npz holds `differences` in place of `landmarks` and `depth`: (2, P, 2 or 3, N) uint8,
the low and the high bytes of each coordinate's change from the frame before, in 1/8192 of the picture's side.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.errors import UserError
from mcnet.files import alone_in, replacing
from mcnet.mesh_points import MESH_SIZE

PACKED_FORMAT = "mcnet-frames/2"
CLIPS_FORMAT = "mcnet-clips/2"
_READ_AS_WELL = {PACKED_FORMAT: "mcnet-frames/1", CLIPS_FORMAT: "mcnet-clips/1"}
FILES = ("dataset.json", "clips.json", "frames.u8", "landmarks.npz")
"""What a dataset or a folder of clips has, besides the clips."""
PNG_PATTERN = "%06d.png"
"""The name of a clip that is a folder of PNGs, behind that folder: what FFmpeg and OpenCV take for its frames."""
CLIP, PHOTOS = "clip", "photos"
"""The kinds of clips: consecutive frames (or one still), and photographs of one person, in no order, cut by one box."""
NO_LICENCE = "not stated"
"""What a model's card calls the licence of clips that have none."""
_LEFT_OUT_TOLD = 3
_EXPECTED = "expected a dataset: mcnet-train prepare makes one of videos and photographs"
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
    kind: str = CLIP
    """`clip` or `photos`."""
    licence: str = ""
    """Under which the data may be used, in the user's words; empty where nobody stated it."""


class Landmarks(NamedTuple):
    """Face landmarks of every frame.

    Attributes:
        points: (P,) int64, mesh points, in rising order.
        landmarks: (N, P, 2) float16 xy in [0, 1] of the picture's width and height.
        valid: (N,) bool.
        depth: (N, P) float16, away from the camera, in the unit of x (shares of the picture's width); only differences
            within a face mean something. None where it was prepared before tables had it.
    """

    points: NDArray[np.int64]
    landmarks: NDArray[np.float16]
    valid: NDArray[np.bool_]
    depth: NDArray[np.float16] | None = None

    @property
    def in_space(self) -> NDArray[np.float16]:
        """(N, P, 3) float16: x, y, and z in their unit.

        Raises:
            DataError: the dataset has no depth.
        """
        if self.depth is None:
            raise DataError(
                "the dataset has landmarks in the picture's plane, expected landmarks in space: it was prepared by an "
                "older version; prepare it anew (mcnet-train prepare --redo)"
            )
        return np.concatenate((self.landmarks, self.depth[..., None]), axis=-1)

    def rows(self, chosen: NDArray[np.int64]) -> "Landmarks":
        """Those of some frames."""
        depth = None if self.depth is None else self.depth[chosen]
        return Landmarks(self.points, self.landmarks[chosen], self.valid[chosen], depth)


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
        """Tells datasets apart by their clips, wherever they lie; what is stated about a clip is no part of it."""
        table = [(clip.file, clip.identity, clip.split, clip.frames) for clip in self.clips]
        return hashlib.sha256(json.dumps([self.size_px, table]).encode()).hexdigest()[:16]


class ClipTable(NamedTuple):
    """What `dataset.json` and `clips.json` hold.

    Attributes:
        size_px: side of the pictures.
        clips: in the order of their frames.
        left_out: a line for each clip that is not in it, though it was to be.
    """

    size_px: int
    clips: tuple[Clip, ...]
    left_out: tuple[str, ...] = ()


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
    _tell_of_mixed_splits(folder / "dataset.json", table.clips)
    if table.left_out:
        _log.warning(
            "%s lacks %d of %d clips, which could not be read: %s; mend or remove them, and pack again",
            folder / "dataset.json",
            len(table.left_out),
            len(table.left_out) + len(table.clips),
            "; ".join(table.left_out[:_LEFT_OUT_TOLD]) + (", ..." if len(table.left_out) > _LEFT_OUT_TOLD else ""),
        )
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
    accepted = (expected_format, _READ_AS_WELL[expected_format])
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.parent} holds no {path.name}, {_EXPECTED}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found not in accepted:
        raise DataError(f"{path}: got format {found!r}, expected {' or '.join(map(repr, accepted))}")
    try:
        clips = tuple(clip_of(row) for row in values["clips"])
        table = ClipTable(int(values["size_px"]), clips, tuple(map(str, values.get("left_out", ()))))
    except KeyError as error:
        raise DataError(f"{path} lacks {error}, expected what {expected_format} has: see training/data.py") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path} has something else in a value's place ({error}), expected what {expected_format} has: see "
            "training/data.py"
        ) from error
    if table.size_px < 1:
        raise DataError(f"{path}: got pictures of {table.size_px} px, expected at least 1")
    if not clips:
        raise DataError(f"{path} lists no clips: there is nothing to learn from")
    if strange := [clip for clip in clips if clip.kind not in {CLIP, PHOTOS}]:
        raise DataError(f"{path}: clip {strange[0].file} is of kind {strange[0].kind!r}, expected {CLIP} or {PHOTOS}")
    if short := [clip.file for clip in clips if clip.frames < 1]:
        raise DataError(f"{path}: clip {short[0]} has no frames, expected at least one")
    if expected_format == CLIPS_FORMAT:
        listed = Counter(clip.file for clip in clips)
        if twice := [file for file, count in listed.items() if count > 1]:
            raise DataError(f"{path}: the clip {twice[0]} is listed twice, expected each once")
        if elsewhere := [file for file in listed if not _is_below(file)]:
            raise DataError(f"{path} lists the clip {elsewhere[0]!r}, expected paths below its folder")
    return table


def _is_below(file: str) -> bool:
    """Whether a path that others wrote leads to a file below the folder that it is relative to."""
    path = Path(file)
    return bool(path.parts) and "\0" not in file and not path.anchor and ".." not in path.parts


def _tell_of_mixed_splits(path: Path, clips: Iterable[Clip]) -> None:
    """Tell of people who are learned from and held out as well."""
    splits: dict[str, set[str]] = {}
    for clip in clips:
        splits.setdefault(clip.identity, set()).add(clip.split)
    if mixed := [identity for identity, of in splits.items() if len(of) > 1]:
        _log.warning(
            "%s has people in several splits, such as %s in %s: what is measured of them tells nothing of new faces",
            path,
            mixed[0],
            " and ".join(sorted(splits[mixed[0]])),
        )


def clip_of(row: Mapping[str, Any]) -> Clip:
    """A clip as the tables list it; one of version 1 has no kind and no licence.

    Raises:
        KeyError, TypeError, ValueError: something is missing, or is something else.
    """
    kind, licence = str(row.get("kind", CLIP)), str(row.get("licence", ""))
    return Clip(str(row["file"]), str(row["identity"]), str(row["split"]), int(row["frames"]), kind, licence)


def write_table(path: Path, format_name: str, table: ClipTable) -> None:
    """Write `dataset.json` or `clips.json`."""
    rows = [dataclasses.asdict(clip) for clip in table.clips]
    values = {"format": format_name, "size_px": table.size_px, "clips": rows}
    if table.left_out:
        values["left_out"] = list(table.left_out)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def has_depth(folder: Path) -> bool:
    """Whether a dataset's landmarks lie in space; True where they cannot be read, which whoever reads them tells."""
    try:
        with (folder / "landmarks.npz").open("rb") as opened, np.load(opened) as file:
            return "depth" in file.files or ("differences" in file.files and file["differences"].shape[2] > 2)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile):
        return True


def read_landmarks(path: Path) -> Landmarks:
    """Read `landmarks.npz`.

    Raises:
        DataError: it is missing, damaged, or its arrays do not fit one another.
    """
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            points, valid = file["points"], file["valid"]
            if "differences" in file.files:
                landmarks, depth = _added_up(file["differences"])
            else:
                landmarks = file["landmarks"]
                depth = file["depth"].astype(np.float16) if "depth" in file.files else None
    except FileNotFoundError:
        raise DataError(f"{path.parent} holds no {path.name}: landmarks are part of a dataset") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:  # TypeError: no archive
        raise DataError(f"{path} cannot be read ({error}): it may be truncated") from error
    expected = (valid.size, points.size, 2)
    if landmarks.shape != expected or points.ndim != 1 or valid.ndim != 1:
        raise DataError(f"{path}: got landmarks of shape {landmarks.shape}, expected {expected}")
    if depth is not None and depth.shape != expected[:2]:
        raise DataError(f"{path}: got depths of shape {depth.shape}, expected {expected[:2]}")
    points, valid = points.astype(np.int64), valid.astype(bool)
    if len(points) and not (points[0] >= 0 and points[-1] < MESH_SIZE and (np.diff(points) > 0).all()):
        raise DataError(f"{path}: got the mesh points {points[:5].tolist()}..., expected some of {MESH_SIZE}, rising")
    looked_at = np.abs(landmarks[valid][:_LOOKED_AT].astype(np.float32))
    if (middle := float(np.median(looked_at)) if looked_at.size else 0.0) > _FARTHEST:
        raise DataError(
            f"{path}: got landmarks at {middle:.0f}, expected shares of the picture's width and height, from 0 to 1: "
            "divide them by its size"
        )
    return Landmarks(points, landmarks.astype(np.float16), valid, depth)


def write_landmarks(path: Path, landmarks: Landmarks, *, small: bool = False) -> None:
    """Write `landmarks.npz`, compressed.

    Args:
        path: of the file.
        landmarks: what to write.
        small: write differences, to 1/8192 of the picture's side: two thirds of the size. Frames whose landmarks are no
            numbers become frames without.
    """
    arrays = {name: array for name, array in landmarks._asdict().items() if array is not None}
    if small:
        del arrays["landmarks"]
        arrays.pop("depth", None)
        arrays["differences"], arrays["valid"] = _differences(landmarks)
    np.savez_compressed(path, **arrays)


_LOOKED_AT = 1000
"""Frames whose landmarks are looked at for their unit."""
_FARTHEST = 4.0
"""Where half of a face's landmarks cannot lie, in the picture's side."""
_UNITS = 8192
"""Of differences, in the picture's side: a thirtieth of a pixel of 256."""


def _differences(landmarks: Landmarks) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(N, P, 2) or, with depth, (N, P, 3) landmarks -> (2, P, 2 or 3, N), and which frames have any: others are 0."""
    places = (landmarks.landmarks if landmarks.depth is None else landmarks.in_space).astype(np.float32)
    valid = landmarks.valid & np.isfinite(places).all((1, 2))
    places = np.where(valid[:, None, None], places, 0)
    units = np.clip(np.round(places * _UNITS), -(2**15), 2**15 - 1).astype(np.int16)
    changes = np.diff(units, axis=0, prepend=np.zeros_like(units[:1])).astype(np.uint16).transpose(1, 2, 0)
    return np.stack((changes & 0xFF, changes >> 8)).astype(np.uint8), valid


def _added_up(differences: NDArray[np.uint8]) -> tuple[NDArray[np.float16], NDArray[np.float16] | None]:
    """What `_differences` gave -> (N, P, 2) landmarks, and (N, P) their depth if it is there."""
    low, high = differences.astype(np.uint16)
    units = np.cumsum(low | high << 8, axis=-1, dtype=np.uint16).astype(np.int16)
    places = (units.transpose(2, 0, 1).astype(np.float32) / _UNITS).astype(np.float16)
    return places[..., :2], places[..., 2] if places.shape[-1] > 2 else None


def decode(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video or a picture, (H, W, 3) uint8 RGB each.

    PyAV reads them, or OpenCV where only that is installed (GPU machines on which nothing can be added).

    Raises:
        DataError: it cannot be read, or neither library is there.
    """
    with contextlib.suppress(OSError):  # a name that is too long, say: whoever opens it tells
        if path.exists() and not path.is_file():
            raise DataError(f"{path} cannot be decoded: it is a folder, a device or a pipe, expected a file")
    try:
        import av
        from av.video.reformatter import VideoReformatter
    except ImportError:
        yield from _decode_with_opencv(path)
        return
    reformatter = VideoReformatter()  # a frame's own has threads of its own, for as long as the frame lives
    try:
        with av.open(path.absolute()) as container:  # FFmpeg takes a relative name with a colon for an address
            for frame in container.decode(video=0):
                yield np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray(), np.uint8)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError(f"{path} cannot be decoded ({error}): it may be truncated, or no video") from error


def _decode_with_opencv(path: Path) -> Iterator[NDArray[np.uint8]]:
    try:
        import cv2
    except ImportError:
        raise DataError(f"{path} cannot be decoded: neither PyAV (pip install av) nor OpenCV is installed") from None
    place = str(path.absolute())
    if place.encode(errors="ignore").decode() != place:  # with such a name it ends the process
        raise DataError(f"{path} cannot be decoded by OpenCV: its name is no text; rename it, or pip install av")
    picture = cv2.imread(place)
    if picture is not None:
        yield np.ascontiguousarray(picture[:, :, ::-1], np.uint8)
        return
    capture = cv2.VideoCapture(place)
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


def files_of(folder: Path, name: str) -> list[str]:
    """What a clip of a table consists of: a file, or the pictures in a folder that its name is a pattern of."""
    if Path(name).name != PNG_PATTERN:
        return [name]
    return [str(picture.relative_to(folder)) for picture in sorted((folder / name).parent.glob("*.png"))]


def state_of_files(folder: Path, names: Iterable[str]) -> str:
    """Tells by their sizes and times whether pictures have changed, which are too many to read.

    Args:
        folder: of the data.
        names: of files in it, or of a table's clips.
    """
    digest = hashlib.sha256()
    for name in names:
        for file in files_of(folder, name):
            try:
                status = (folder / file).stat()
                state = f"{status.st_size} {status.st_mtime_ns}"
            except (OSError, ValueError):  # ValueError: its name is no text; whoever reads it tells
                state = "away"
            digest.update(f"{file} {state}\n".encode(errors="backslashreplace"))
    return digest.hexdigest()


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
        DataError: the folder holds no clips, or none of them can be used, or the disk is full; or `out` is itself a
            folder of clips, whose landmarks would be lost.
    """
    _check_place(out)
    table = read_table(folder / "clips.json", CLIPS_FORMAT)
    landmarks = read_landmarks(folder / "landmarks.npz")
    total = sum(clip.frames for clip in table.clips)
    if len(landmarks.valid) != total:
        raise DataError(f"{folder / 'landmarks.npz'}: got {len(landmarks.valid)} rows, expected {total}, one per frame")
    out.mkdir(parents=True, exist_ok=True)
    before = out / "frames.u8"
    needed, free = total * table.size_px**2 * 3, shutil.disk_usage(out).free
    free += before.stat().st_size if before.is_file() else 0
    if needed > free:
        raise DataError(f"cannot pack into {out}: {needed >> 20} MiB are needed, {free >> 20} MiB are free")
    # The table is what makes it a dataset: removed first and written last, so that half of one is never opened.
    (out / "dataset.json").unlink(missing_ok=True)
    before.unlink(missing_ok=True)  # not written over: whoever still learns from it keeps what it opened
    packed: list[Clip] = []
    kept: list[NDArray[np.int64]] = []
    skipped: list[str] = []
    first = 0
    try:
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
        write_landmarks(out / "landmarks.npz", landmarks.rows(rows))
        write_table(out / "dataset.json", PACKED_FORMAT, ClipTable(table.size_px, tuple(packed), tuple(skipped)))
    except BaseException:  # they are large, and nobody reads them without their table
        (out / "frames.u8").unlink(missing_ok=True)
        (out / "dataset.json").unlink(missing_ok=True)
        raise
    return PackReport(len(packed), len(rows), tuple(skipped))


def _check_place(out: Path) -> None:
    """See that nothing but an earlier dataset is lost where one is packed.

    Raises:
        DataError: it is a file, or a folder of clips.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"cannot pack into {out}: it is a file, expected an empty folder, or a new name")
    if (out / "clips.json").exists():
        raise DataError(f"cannot pack into {out}: it is a folder of clips; choose an empty folder, or a new name")


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


def table_of(path: Path) -> ClipTable:
    """The table of a packed dataset or of a folder of clips.

    Raises:
        DataError: it is neither, or its table cannot be used.
    """
    if is_packed(path):
        return read_table(path / "dataset.json", PACKED_FORMAT)
    return read_table(path / "clips.json", CLIPS_FORMAT)


def is_packed(path: Path) -> bool:
    """Whether a folder is a packed dataset; if not, it is a folder of clips.

    Raises:
        DataError: it is neither.
    """
    if (path / "dataset.json").is_file():
        return True
    if (path / "clips.json").is_file():
        return False
    raise DataError(f"{path} is no dataset: got neither dataset.json nor clips.json, {_EXPECTED}")


def open_or_pack(path: Path, cache: Path) -> Dataset:
    """Open a packed dataset, or pack a folder of clips into `cache` (unless that was done before, of the files as they
    are now) and open it.

    Clips that are away count as unchanged, and what was packed before stays until a whole one can take its place.

    Raises:
        DataError: there is neither, or it cannot be used; or the cache is a dataset that was packed for itself; or it
            would lose clips that the table still lists.
    """
    if is_packed(path):
        return open_dataset(path)
    files = [clip.file for clip in read_table(path / "clips.json", CLIPS_FORMAT).clips]
    tables = hashlib.sha256((path / "clips.json").read_bytes() + (path / "landmarks.npz").read_bytes()).hexdigest()
    mark, packed = cache / "packed_from", cache / "dataset.json"
    _check_place(cache)
    cache.mkdir(parents=True, exist_ok=True)
    with alone_in(cache):  # another run may have the same cache: it waits, and finds what was packed
        if packed.is_file() and not mark.is_file():
            raise DataError(
                f"cannot unpack {path} into {cache}: it holds a packed dataset, which would be lost; choose another "
                "folder, or give that one as the data"
            )
        before, had = _read_mark(mark), _clips_in(packed)
        there = {file: state for file in files if (state := _state_of_clip(path, file)) is not None}
        now = _PackedFrom(tables, there)
        if packed.is_file() and before.tables == tables:
            # Versions before noted no states: what they packed counts as unchanged, what they left out does not.
            changed = [
                file for file in there if before.clips.get(file, there[file] if file in had else "") != there[file]
            ]
            away = [file for file in files if file in had and file not in there]
            if away:
                _log.warning(
                    "%d of %d clips of %s are away, such as %s: what was unpacked of them before into %s is used",
                    len(away),
                    len(files),
                    path,
                    away[0],
                    cache,
                )
            if away or not changed:  # packed anew, it would lose those that are away
                noted = {file: state for file, state in there.items() if file not in changed}
                _write_mark(mark, _PackedFrom(tables, {**before.clips, **noted}))
                return open_dataset(cache)
        _pack_over(path, cache, had.intersection(files))
        _write_mark(mark, now)
        return open_dataset(cache)


class _PackedFrom(NamedTuple):
    """What a cache was unpacked from.

    Attributes:
        tables: tells the tables of clips and landmarks apart.
        clips: tells the files of each clip apart that was there.
    """

    tables: str
    clips: Mapping[str, str]


def _read_mark(mark: Path) -> _PackedFrom:
    text = mark.read_text(encoding="utf-8") if mark.is_file() else ""
    try:
        values = json.loads(text)
        return _PackedFrom(str(values["tables"]), {str(file): str(state) for file, state in values["clips"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return _PackedFrom(text.strip(), {})  # versions before noted the tables alone


def _write_mark(mark: Path, packed_from: _PackedFrom) -> None:
    text = json.dumps(packed_from._asdict())
    if not mark.is_file() or mark.read_text(encoding="utf-8") != text:
        with replacing(mark) as partial:
            partial.write_text(text, encoding="utf-8")


def _clips_in(packed: Path) -> set[str]:
    """The clips of a packed dataset; none where there is no such dataset that can be read."""
    try:
        return {clip.file for clip in read_table(packed, PACKED_FORMAT).clips}
    except DataError:
        return set()


def _state_of_clip(folder: Path, name: str) -> str | None:
    """Tells whether a clip has changed; None where it, or a picture of it, is away."""
    files = files_of(folder, name)
    with contextlib.suppress(OSError, ValueError):  # no name that a file can have
        if files and all((folder / file).exists() for file in files):
            return state_of_files(folder, [name])
    return None


def _pack_over(path: Path, cache: Path, keep: Set[str]) -> None:
    """Pack a folder of clips into a cache, whose earlier dataset stays until the new one is whole.

    Args:
        path: of the folder of clips.
        cache: its place.
        keep: clips that the earlier dataset has, and that the new one must have.

    Raises:
        DataError: as `pack`, or the new one would lack some of those.
    """
    if not (cache / "dataset.json").is_file():
        (cache / "packed_from").touch()  # first, so that it is known for a cache however this ends
        report = pack(path, cache)
    else:
        anew = cache / "anew"
        try:
            report = pack(path, anew)
            if lost := sorted(keep - _clips_in(anew / "dataset.json")):
                raise DataError(
                    f"cannot unpack {path} anew: of the clips that {cache} has, {len(lost)} cannot be read now, such "
                    f"as {lost[0]}; bring them back, or remove {cache} to go on without them"
                )
            (cache / "dataset.json").unlink()  # it makes a dataset, so that half of one is never opened
            for name in ("frames.u8", "landmarks.npz", "dataset.json"):
                (anew / name).replace(cache / name)
        finally:
            shutil.rmtree(anew, ignore_errors=True)
    _log.info("packed %d clips, %d frames into %s", report.clips, report.frames, cache)
