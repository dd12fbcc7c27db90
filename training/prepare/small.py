"""Makes a folder of clips small enough to travel: HEVC at half the usual frame rate, landmarks as differences."""

import dataclasses
import shutil
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from mcnet.media.muxer import Muxer
from training.data import (
    CLIPS_FORMAT,
    PHOTOS,
    Clip,
    ClipTable,
    DataError,
    PackReport,
    decode,
    read_landmarks,
    read_table,
    write_landmarks,
    write_table,
)
from training.prepare.portable import write_jpeg

RATE_HZ = 12.5
"""Frames per second that are kept: neighbours in 25 differ too little to be worth their bytes."""
_SMALL_CODECS = ("hevc", "av1")
_QUALITY = "24"
"""x265's constant rate factor: faces at 256 px then take 0.2 MB per minute and person, and show no blocks."""
_PICTURES = (".jpg", ".jpeg")


def shrink_clips(folder: Path, out: Path) -> PackReport:
    """Write a folder of clips anew, as small as it can be without harm. What is small already is copied.

    Args:
        folder: a folder of clips.
        out: a folder that is made; an earlier one is replaced.

    Returns:
        What was written; clips that cannot be used are left out and listed with the reason.

    Raises:
        DataError: the folder holds no clips, or none of them can be used, or `out` cannot be written.
    """
    table = read_table(folder / "clips.json", CLIPS_FORMAT)
    landmarks = read_landmarks(folder / "landmarks.npz")
    if len(landmarks.valid) != sum(clip.frames for clip in table.clips):
        raise DataError(
            f"{folder / 'landmarks.npz'}: got {len(landmarks.valid)} rows, expected one for each frame of clips.json"
        )
    clips: list[Clip] = []
    rows: list[NDArray[np.int64]] = []
    skipped: list[str] = []
    first = 0
    try:
        shutil.rmtree(out, ignore_errors=True)
        (out / "clips").mkdir(parents=True)
        for number, clip in enumerate(table.clips):
            name = f"clips/{number:05d}{'.jpg' if clip.frames == 1 else '.mp4'}"
            try:
                step = _write_clip(folder / clip.file, clip, out / name)
            except DataError as error:
                skipped.append(str(error))
            else:
                kept = np.arange(first, first + clip.frames, step)
                clips.append(dataclasses.replace(clip, file=name, frames=len(kept)))
                rows.append(kept)
            first += clip.frames
        if not clips:
            raise DataError(f"none of the {len(table.clips)} clips of {folder} can be used; the first: {skipped[0]}")
        chosen = np.concatenate(rows)
        write_landmarks(out / "landmarks.npz", landmarks.rows(chosen), small=True)
        write_table(out / "clips.json", CLIPS_FORMAT, ClipTable(table.size_px, tuple(clips)))
    except OSError as error:
        raise DataError(f"cannot write the clips to {out}: {error}") from error
    return PackReport(len(clips), len(chosen), tuple(skipped))


def _write_clip(path: Path, clip: Clip, out: Path) -> int:
    """Write one clip or still; returns which of its frames were kept: every one, every second, ...

    Raises:
        DataError: it cannot be read, or is not as long as its table says.
        OSError: it cannot be written.
    """
    if clip.frames == 1:
        if path.suffix.lower() in _PICTURES and path.is_file():
            shutil.copyfile(path, out)
        else:
            write_jpeg(out, next(iter(decode(path))))
        return 1
    codec, rate_hz = _facts(path)
    # A clip keeps two frames at the least; photographs are all different.
    step = 1 if clip.kind == PHOTOS else max(1, min(round(rate_hz / RATE_HZ), clip.frames - 1))
    if step == 1 and codec in _SMALL_CODECS:
        shutil.copyfile(path, out)
        return 1
    frames = list(decode(path))
    if len(frames) != clip.frames:
        raise DataError(f"{path}: got {len(frames)} frames, expected {clip.frames} as its table says")
    _encode(out, [*islice(frames, 0, None, step)], Fraction(rate_hz / step).limit_denominator(1001))
    return step


def _facts(path: Path) -> tuple[str, float]:
    """A video's codec, and its frames per second."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return stream.codec_context.name, float(stream.average_rate or stream.guessed_rate or RATE_HZ)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}): it may be truncated, or no video") from error


def _encode(path: Path, frames: list[NDArray[np.uint8]], rate: Fraction) -> None:
    muxer = Muxer(path, "mp4")
    try:
        # Without B-frames, whose order some decoders' containers of a few frames get wrong.
        options = {"crf": _QUALITY, "preset": "medium", "x265-params": "log-level=none:bframes=0"}
        stream = muxer.container.add_stream("libx265", rate=rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_tag = "hvc1"
        for frame in frames:
            muxer.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        muxer.mux(stream.encode(None))
        muxer.finish()
    finally:
        muxer.close()
