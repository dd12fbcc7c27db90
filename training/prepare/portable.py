"""Makes a folder of clips: what travels to a machine that trains, and what `pack` decodes there.

It copies clips that are already cut (square, of the training size, one person each), crops stills around their face,
and finds landmarks in all of them. Cutting clips out of raw videos comes before this.
"""

import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcnet.media.crop import crop, frame_face
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face
from mcnet.media.images import read_rgb
from training.data import (
    CLIPS_FORMAT,
    Clip,
    ClipTable,
    DataError,
    Landmarks,
    PackReport,
    decode,
    write_landmarks,
    write_table,
)
from training.landmarks import TRAINING_POINTS

_log = logging.getLogger(__name__)

Finder = Callable[[NDArray[np.uint8]], Face | None]
"""(H, W, 3) uint8 RGB -> the face, or None where there is none."""

_JPEG_QUALITY = 2


class Entry(NamedTuple):
    """A clip or still to take.

    Attributes:
        path: a video, or a picture.
        identity: who is seen.
        split: `train`, `test` or another.
        still: whether it is a picture, to be cropped.
    """

    path: Path
    identity: str
    split: str
    still: bool


def build_clips_folder(
    entries: Iterable[Entry],
    out: Path,
    finder: Finder,
    *,
    size_px: int = 256,
    points: tuple[int, ...] = TRAINING_POINTS,
) -> PackReport:
    """Copy, crop, find landmarks, and write the tables.

    Args:
        entries: what to take.
        out: a folder that is made.
        finder: finds the face of one picture.
        size_px: side of all pictures.
        points: the mesh points to keep.

    Returns:
        What was taken; files that cannot be used are left out and listed with the reason.

    Raises:
        DataError: nothing can be used.
    """
    (out / "clips").mkdir(parents=True, exist_ok=True)
    columns = np.array(sorted(points), np.int64)
    clips: list[Clip] = []
    found: list[NDArray[np.float16]] = []  # in space
    valid: list[bool] = []
    skipped: list[str] = []
    for entry in entries:
        try:
            if entry.still:
                frames = [crop_still(read_rgb(entry.path), finder, size_px, entry.path)]
            else:
                frames = list(decode(entry.path))
            if frames[0].shape != (size_px, size_px, 3):
                height, width, _ = frames[0].shape
                raise DataError(f"{entry.path}: got {width}x{height}, expected clips cut to {size_px}x{size_px}")
            name = entry.path.with_suffix(".jpg").name if entry.still else entry.path.name
            file = out / "clips" / f"{entry.identity}__{name}"
            if entry.still:
                write_jpeg(file, frames[0])
            else:
                shutil.copyfile(entry.path, file)
        except (DataError, MediaError) as error:
            skipped.append(str(error))
            _log.warning("left out: %s", error)
            continue
        clips.append(Clip(str(file.relative_to(out)), entry.identity, entry.split, len(frames)))
        for frame in frames:
            face = finder(frame)
            valid.append(face is not None)
            row = np.zeros((len(columns), 3), np.float16)
            if face is not None:
                row[:] = face.mesh_px[columns] / size_px
            found.append(row)
    if not clips:
        raise DataError(f"nothing can be used; the first reason: {skipped[0] if skipped else 'no files were given'}")
    places = np.stack(found)
    write_landmarks(out / "landmarks.npz", Landmarks(columns, places[..., :2], np.array(valid), places[..., 2]))
    write_table(out / "clips.json", CLIPS_FORMAT, ClipTable(size_px, tuple(clips)))
    return PackReport(len(clips), len(valid), tuple(skipped))


def crop_still(
    picture: NDArray[np.uint8], finder: Finder, size_px: int, where: Path | str = "the picture"
) -> NDArray[np.uint8]:
    """Frame a still's face as the app and the command frame theirs.

    Args:
        picture: (H, W, 3) uint8 RGB.
        finder: finds its face.
        size_px: side of the result.
        where: the picture's name for messages.

    Returns:
        (size_px, size_px, 3) uint8; the square may leave the picture, whose border is repeated there.

    Raises:
        DataError: there is no face.
    """
    face = finder(picture)
    if face is None:
        raise DataError(f"{where}: no face is found in this still")
    return crop(picture, frame_face(face), size_px)


def write_jpeg(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 RGB as JPEG without colour subsampling, through PyAV."""
    import av

    codec = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.height, codec.width, codec.pix_fmt = rgb.shape[0], rgb.shape[1], "yuvj444p"
    codec.time_base = 1  # type: ignore[assignment] # any will do for one picture
    codec.qmin = codec.qmax = _JPEG_QUALITY
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuvj444p")
    path.write_bytes(b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)]))
