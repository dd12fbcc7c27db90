"""Driving videos, read by PyAV with their true timing."""

import itertools
import logging
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mcnet.media.errors import MediaError
from mcnet.media.images import IMAGE_SUFFIXES, read_rgb

logger = logging.getLogger(__name__)

FOLDER_FPS = 25.0
_PLAUSIBLE_FPS = (0.5, 1000.0)
_LONGEST_HOLD_S = 60.0  # a longer gap between two frames is a break in the time stamps, not a still picture
_LONGEST_STEP_BACK_S = 1.0
# Time stamps are rounded, and taken unevenly: by so many frames before its time a frame may be shown. Less where a
# video is thinned out, so that it is always the same one of several that is kept.
_EARLY_BY_FRAMES = 0.4
_EARLY_BY_FRAMES_THINNED = 0.07


class DrivingVideo:
    """A video, or a folder of pictures, as RGB frames at a constant rate. Made by `open_driving`.

    Iterating reads it from the start, as often as wanted; each iteration opens the file for itself. Frames with uneven
    time stamps are dropped or repeated so that frame `i` shows what is to be seen at `i / fps` seconds and the picture
    stays in step with the sound.

    Attributes:
        path: the file or folder.
        fps: frames a second as they are yielded.
        frame_count: how many frames are to be expected; None where the file does not tell.
        size_px: (width, height) as yielded: turned upright, pixels square.
        has_audio: whether a `mcnet.media.video_writer.VideoWriter` will find sound in it.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: float,
        frame_count: int | None,
        size_px: tuple[int, int],
        has_audio: bool,
        pictures: tuple[Path, ...] = (),
    ) -> None:
        self.path = path
        self.fps = fps
        self.frame_count = frame_count
        self.size_px = size_px
        self.has_audio = has_audio
        self._pictures = pictures
        self._warned = False

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self._iterate_pictures() if self._pictures else self._iterate_video()

    def _iterate_pictures(self) -> Iterator[NDArray[np.uint8]]:
        for picture in self._pictures:
            rgb = read_rgb(picture)
            if (rgb.shape[1], rgb.shape[0]) != self.size_px:
                raise MediaError(
                    f"the pictures of {self.path} differ in size: got {rgb.shape[1]} x {rgb.shape[0]} in "
                    f"{picture.name}, expected {self.size_px[0]} x {self.size_px[1]} as in {self._pictures[0].name}"
                )
            yield rgb

    def _iterate_video(self) -> Iterator[NDArray[np.uint8]]:
        """Show each frame from the first slot of the constant rate at its time up to the next frame's."""
        shown: VideoFrame | None = None
        slot = count = 0
        with open_container(self.path) as container:
            stream = _video_stream(container, self.path)
            thinned = self.fps < 0.7 * _average_fps(stream)
            early = _EARLY_BY_FRAMES_THINNED if thinned else _EARLY_BY_FRAMES
            decoder = _Decoder(container, stream, self.fps)
            for frame, time_s in decoder:
                due = max(slot, math.ceil(time_s * self.fps - early))
                if shown is not None and due > slot:
                    yield from itertools.repeat(_to_rgb(shown, self.size_px), due - slot)
                shown, slot = frame, due
            if shown is not None:
                count = max(slot, round(decoder.end_s * self.fps), 1)
                yield from itertools.repeat(_to_rgb(shown, self.size_px), count - slot)
        self._warn_if_cut_short(decoder, count)

    def _warn_if_cut_short(self, decoder: "_Decoder", count: int) -> None:
        promised = decoder.stream.frames
        # Nine tenths, for an edit list may leave out frames that the file counts.
        if self._warned or not (decoder.errors or decoder.decoded < 0.9 * promised):
            return
        self._warned = True
        promise = f" of {promised} promised" if promised else ""
        logger.warning(
            "%s is damaged or cut short: %d frames%s could be decoded, %d are used",
            self.path,
            decoder.decoded,
            promise,
            count,
        )


def open_driving(path: str | Path, *, max_fps: float | None = None, folder_fps: float = FOLDER_FPS) -> DrivingVideo:
    """Open a driving video or a folder of pictures (in natural order: 2 before 10).

    Phones' rotation is applied, unless it is not a quarter turn. A video keeps its average rate.

    Args:
        path: any video that FFmpeg reads, or a folder of PNG, JPEG, WebP, BMP or TIFF pictures of one size.
        max_fps: a faster video is thinned out to this rate; None keeps its own.
        folder_fps: the rate of a folder's pictures.

    Returns:
        What to iterate. A damaged video yields what can be decoded and then logs one warning.

    Raises:
        MediaError: nothing there, empty, unreadable, without a picture track (sound only), not one frame decodes, or a
            rate is not above 0.
    """
    path = Path(path)
    if folder_fps <= 0 or (max_fps is not None and max_fps <= 0):
        raise MediaError(f"cannot open {path} at {max_fps or folder_fps} frames/s: expected more than 0")
    if path.is_dir():
        return _open_folder(path, folder_fps)
    with open_container(path) as container:
        stream = _video_stream(container, path)
        fps = _average_fps(stream)
        if max_fps is not None:
            fps = min(fps, max_fps)
        first = next((frame for frame, _ in _Decoder(container, stream, fps)), None)
        if first is None:
            raise MediaError(f"no frame of {path} can be decoded: it is damaged or cut short; export it again")
        duration_s = _duration_s(container, stream)
        return DrivingVideo(
            path,
            fps=fps,
            frame_count=None if duration_s is None else max(1, round(duration_s * fps)),
            size_px=_shown_size_px(first, stream.sample_aspect_ratio),
            has_audio=bool(container.streams.audio),
        )


def plays(path: Path) -> bool:
    """Whether there is a video, or a folder of pictures, of which at least one frame can be shown."""
    try:
        open_driving(path)
    except MediaError:
        return False
    return True


def _open_folder(path: Path, fps: float) -> DrivingVideo:
    pictures = sorted(
        (
            entry
            for entry in path.iterdir()
            if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
        ),
        key=_natural,
    )
    if not pictures:
        raise MediaError(f"the folder {path} holds no picture: expected PNG, JPEG, WebP, BMP or TIFF files")
    height, width = read_rgb(pictures[0]).shape[:2]
    return DrivingVideo(
        path,
        fps=fps,
        frame_count=len(pictures),
        size_px=(width, height),
        has_audio=False,
        pictures=tuple(pictures),
    )


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def open_container(path: Path) -> InputContainer:
    """Open what FFmpeg can read.

    Raises:
        MediaError: nothing there, empty or unreadable.
    """
    try:
        if path.stat().st_size == 0:
            raise MediaError(f"cannot read the video {path}: got an empty file; export or download it again")
        return av.open(path.absolute())  # FFmpeg takes a relative name with a colon for an address
    except FileNotFoundError as error:
        raise MediaError(f"no video at {path}: check the path") from error
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, MediaError):
            raise
        said = getattr(error, "strerror", None) or error
        raise MediaError(f"cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:  # the cover of a song is no video
            stream.thread_type = "AUTO"
            return stream
    what = "only sound" if container.streams.audio else "no picture track"
    raise MediaError(f"cannot use {path} as a video: got {what}, expected a video with pictures")


def _average_fps(stream: VideoStream) -> float:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and _PLAUSIBLE_FPS[0] <= rate <= _PLAUSIBLE_FPS[1]:
            return float(rate)
    return FOLDER_FPS


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return float(container.duration / av.time_base)
    return None


class _Decoder:
    """Frames with their time since the first one, over damage and breaks in the time stamps.

    Attributes:
        stream: the picture track.
        decoded: frames so far.
        errors: damaged packets so far.
        end_s: when the last frame so far stops being seen.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, fps: float) -> None:
        self.stream = stream
        self.decoded = 0
        self.errors = 0
        self.end_s = 0.0
        self._container = container
        self._step_s = 1 / fps

    def __iter__(self) -> Iterator[tuple[VideoFrame, float]]:
        origin_s: float | None = None
        time_s = -self._step_s
        for frame in self._frames():
            expected_s = time_s + self._step_s
            stamped_s = expected_s if frame.time is None or origin_s is None else frame.time - origin_s
            if -_LONGEST_STEP_BACK_S < stamped_s - expected_s < _LONGEST_HOLD_S:
                time_s = stamped_s
            else:
                time_s, origin_s = expected_s, None
            if origin_s is None and frame.time is not None:
                origin_s = frame.time - time_s
            lasts_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else self._step_s
            self.end_s = time_s + min(lasts_s, _LONGEST_HOLD_S)
            self.decoded += 1
            yield frame, time_s

    def _frames(self) -> Iterator[VideoFrame]:
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self.errors += 1
                return
            if packet is None:
                return
            try:
                yield from self.stream.decode(packet)
            except av.error.FFmpegError:
                self.errors += 1


def _turns(frame: VideoFrame) -> int:
    """Quarter turns, counter-clockwise, that set a frame upright."""
    return round(frame.rotation / 90) % 4


def _shown_size_px(frame: VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) upright and with square pixels; `aspect` is a stored pixel's width over its height."""
    width = round(frame.width * aspect) if aspect and abs(aspect - 1) > Fraction(1, 100) else frame.width
    return (frame.height, width) if _turns(frame) % 2 else (width, frame.height)


def _to_rgb(frame: VideoFrame, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    rgb = np.rot90(frame.to_ndarray(format="rgb24"), _turns(frame)).astype(np.uint8, copy=False)
    if (rgb.shape[1], rgb.shape[0]) != size_px:  # square pixels, or a video that changes its size midway
        rgb = cv2.resize(rgb, size_px, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return np.ascontiguousarray(rgb)
