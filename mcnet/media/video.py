"""Driving videos, read by PyAV with their true timing."""

import contextlib
import itertools
import logging
import math
import stat
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mcnet.media.errors import MediaError
from mcnet.media.frame_filters import FrameFilters
from mcnet.media.frame_rgb import RgbConverter, shown_frame_size_px
from mcnet.media.images import pictures_in, read_rgb, still_kind
from mcnet.media.timing import LONGEST_HOLD_S, PictureClock, constant_rate, one_a_slot
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

FOLDER_FPS = 25.0
# The cover of a song, and the preview that some cameras store, are no videos.
_NO_VIDEO = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
# A video is thinned out where so few of its pictures are wanted; then it is always the same one of several that is
# kept, although time stamps are rounded: by so many frames before its time it may be shown.
_THINNED_BELOW = 0.7
_EARLY_BY_FRAMES_THINNED = 0.07
# Where it is longer, its rate is taken from so many packets at its beginning: some ten minutes.
_MOST_TIMED_PACKETS = 20_000
_MOST_UNSTAMPED = 250
_MOST_PIXELS = 100_000_000  # beyond all cameras; a GIF of a kilobyte may unfold to any size
# Of the pictures so many may be left out or doubled before a video counts as one of variable rate.
_TOLD_SHARE = 0.02
# By FFmpeg's names: files that hold their pictures themselves. A playlist (concat, HLS, DASH), a session description, a
# script or a numbered name opens what it names, and that may be a camera.
_SELF_CONTAINED = (
    "mov,matroska,webm,avi,flv,asf,mpeg,mpegts,mpegvideo,ogg,mxf,nut,rm,dv,gxf,wtv,swf,ivf,obu,av1,h264,hevc,vvc,m4v,"
    "h263,vc1,mjpeg,yuv4mpegpipe,gif,apng,webp,webp_pipe,avif"
)


class DrivingVideo:
    """A video, or a folder of pictures, as RGB frames at a constant rate. Made by `open_driving`.

    Iterating reads it from the start, as often as wanted; each iteration opens the file for itself. Frame `i` shows
    what is to be seen at `i / fps` seconds after the first picture that can be decoded: where the time stamps are
    uneven, pictures come some milliseconds early or late so that none is lost for which there is room, and are repeated
    where none comes; the log then says how many. Time stamps that restart go on after what was.

    Attributes:
        path: the file or folder.
        fps: frames per second as they are yielded.
        frame_count: how many frames are to be expected; None where the file does not tell.
        frame_size_px: (width, height) as yielded: turned upright, pixels square.
        has_audio: whether a `mcnet.media.video_writer.VideoWriter` will find sound in it.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: float,
        frame_count: int | None,
        frame_size_px: tuple[int, int],
        has_audio: bool,
        own_fps: float | None = None,
        pictures: tuple[Path, ...] = (),
        self_contained: bool = False,
    ) -> None:
        self.path = path
        self.fps = fps
        self._own_fps = own_fps or fps
        self.frame_count = frame_count
        self.frame_size_px = frame_size_px
        self.has_audio = has_audio
        self._pictures = pictures
        self._self_contained = self_contained
        self._warned = False

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self._iterate_pictures() if self._pictures else self._iterate_video()

    def _iterate_pictures(self) -> Iterator[NDArray[np.uint8]]:
        for picture in self._pictures:
            rgb = read_rgb(picture)
            width, height = self.frame_size_px
            if rgb.shape[:2] != (height, width):
                raise MediaError(
                    phrase(
                        "the pictures of {path} differ in size: got {own_width} x {own_height} in {name}, expected "
                        "{width} x {height} as in {first}",
                        path=self.path,
                        own_width=rgb.shape[1],
                        own_height=rgb.shape[0],
                        name=picture.name,
                        width=width,
                        height=height,
                        first=self._pictures[0].name,
                    )
                )
            yield rgb

    def _iterate_video(self) -> Iterator[NDArray[np.uint8]]:
        """Show each picture from its slot up to the next one's."""
        thinned = self.fps < _THINNED_BELOW * self._own_fps
        shown: VideoFrame | None = None
        slot = pictures = doubled = 0
        with open_container(self.path, self_contained=self._self_contained) as container:
            decoder = _Decoder(container, picture_track(container, self.path), 1 / self._own_fps)
            to_rgb = RgbConverter(self.frame_size_px, decoder.stream.sample_aspect_ratio)
            for frame, due in _thinned_out(decoder, self.fps) if thinned else one_a_slot(decoder, self.fps):
                if shown is not None:
                    yield from itertools.repeat(self._converted(shown, to_rgb), due - slot)
                    doubled += due - slot > 1
                shown, slot = frame, due
                pictures += 1
            count = 0
            if shown is not None:
                count = max(slot if thinned else slot + 1, round(decoder.end_s * self.fps), 1)
                yield from itertools.repeat(self._converted(shown, to_rgb), count - slot)
        self._warn_if_cut_short(decoder, count)
        if self.fps == self._own_fps:  # else somebody wanted it so
            self._tell_if_uneven(decoder.decoded, decoder.decoded - pictures, doubled)

    def _converted(self, frame: VideoFrame, to_rgb: RgbConverter) -> NDArray[np.uint8]:
        try:
            return to_rgb(frame)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(
                phrase(
                    "cannot use the pictures of {path}: got {name}, {width} x {height}, which cannot be converted "
                    "({error}); export it again as H.264 in MP4",
                    path=self.path,
                    name=frame.format.name,
                    width=frame.width,
                    height=frame.height,
                    error=error,
                )
            ) from error

    def _tell_if_uneven(self, pictures: int, lost: int, doubled: int) -> None:
        if self._warned or lost + doubled <= 1 + _TOLD_SHARE * pictures:
            return
        self._warned = True
        logger.warning(
            "%s has no constant frame rate: at %.5g frames/s %d of its %d pictures are left out, %d are shown longer",
            self.path,
            self.fps,
            lost,
            pictures,
            doubled,
        )

    def _warn_if_cut_short(self, decoder: "_Decoder", count: int) -> None:
        promised = max(0, decoder.stream.frames - decoder.cut_out)
        # Nine tenths, for what the file counts and what its edit list leaves out need not be told exactly.
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


def open_driving(
    path: str | Path,
    *,
    max_fps: float | None = None,
    folder_fps: float = FOLDER_FPS,
    self_contained: bool = False,
) -> DrivingVideo:
    """Open a driving video or a folder of pictures (in natural order: 2 before 10).

    What phones turn and mirror is set upright. A video has the constant rate that its time stamps fit best, whatever
    its header says.

    Args:
        path: any video that FFmpeg reads, or a folder of pictures of one size (what is one, `mcnet.media.images` says).
        max_fps: a faster video is thinned out to this rate; None keeps its own.
        folder_fps: the rate of a folder's pictures.
        self_contained: as `open_container` takes it.

    Returns:
        What to iterate. A damaged video yields what can be decoded and then logs one warning.

    Raises:
        MediaError: nothing there, empty, unreadable, without a picture track (sound only), not one frame decodes, or a
            rate is not above 0.
    """
    path = Path(path)
    if folder_fps <= 0 or (max_fps is not None and max_fps <= 0):
        raise MediaError(
            phrase(
                "cannot open {path} at {fps_hz} frames/s: expected more than 0",
                path=path,
                fps_hz=max_fps or folder_fps,
            )
        )
    if path.is_dir():
        return _open_folder(path, folder_fps)
    if path.is_file() and _is_still(path, self_contained=self_contained):
        return _of_pictures(path, [path], folder_fps)
    timing = _timing(path, self_contained=self_contained)
    with open_container(path, self_contained=self_contained) as container:
        stream = picture_track(container, path)
        if stream.width * stream.height > _MOST_PIXELS:
            raise MediaError(
                phrase(
                    "the video {path} is too large: got {width} x {height}, expected at most {millions} million "
                    "pixels; make it smaller",
                    path=path,
                    width=stream.width,
                    height=stream.height,
                    millions=_MOST_PIXELS // 10**6,
                )
            )
        first = next((frame for frame, _ in _Decoder(container, stream, 1 / timing.fps)), None)
        if first is None and container.format.name == "webp_pipe":
            raise MediaError(
                phrase(
                    "cannot use {path} as a video: got an animated WebP, whose pictures cannot be decoded; convert it "
                    "to MP4 or GIF",
                    path=path,
                )
            )
        if first is None:
            raise MediaError(
                phrase("no frame of {path} can be decoded: it is damaged or cut short; export it again", path=path)
            )
        fps = timing.fps if max_fps is None else min(timing.fps, max_fps)
        return DrivingVideo(
            path,
            fps=fps,
            frame_count=None if timing.length_s is None else max(1, round(timing.length_s * fps)),
            frame_size_px=shown_frame_size_px(first, stream.sample_aspect_ratio),
            has_audio=any(sound.codec_context is not None for sound in container.streams.audio),
            own_fps=timing.fps,
            self_contained=self_contained,
        )


def looped(video: DrivingVideo) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video that begins anew where it ends; a single picture is read once.

    It ends where the video has no frame, or not any more.

    Raises:
        MediaError: the video cannot be read, or not any more.
    """
    while True:
        first, moves = None, False
        for shown in video:
            first = shown if first is None else first
            moves = moves or shown is not first  # a picture that is held is one array several times
            yield shown
        if first is None:
            return
        if not moves:
            yield from itertools.repeat(first)


def plays(path: Path) -> bool:
    """Whether there is a video, or a folder of pictures, of which at least one frame can be shown."""
    try:
        open_driving(path)
    except MediaError:
        return False
    return True


def _open_folder(path: Path, fps: float) -> DrivingVideo:
    pictures = pictures_in(path)
    if not pictures:
        raise MediaError(
            phrase("the folder {path} holds no picture: expected files such as PNG, JPEG or HEIC", path=path)
        )
    return _of_pictures(path, pictures, fps)


def _is_still(path: Path, *, self_contained: bool) -> bool:
    """Whether a file is one picture, which is shown as `read_rgb` reads it: FFmpeg knows no colour profiles, gets some
    kinds wrong, and takes the tiles of a large HEIC for videos. JPEGs that come one behind the other are a video.
    """
    kind = still_kind(path)
    if kind is None or kind in ("HEIF", "AVIF"):
        return kind is not None
    try:
        return _timing(path, self_contained=self_contained).pictures < 2
    except MediaError:
        return True


def _of_pictures(path: Path, pictures: list[Path], fps: float) -> DrivingVideo:
    height, width = read_rgb(pictures[0]).shape[:2]
    return DrivingVideo(
        path,
        fps=fps,
        frame_count=len(pictures),
        frame_size_px=(width, height),
        has_audio=False,
        pictures=tuple(pictures),
    )


def open_container(path: Path, *, self_contained: bool = False) -> InputContainer:
    """Open what FFmpeg can read.

    Args:
        path: of the file.
        self_contained: take only a kind of file that holds its pictures itself; no other file is opened for it.

    Raises:
        MediaError: nothing there, empty, unreadable, or not self-contained.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(
                phrase(
                    "cannot read the video {path}: got a folder, a device or a pipe, and a video is read more than "
                    "once; save it as a file first",
                    path=path,
                )
            )
        if status.st_size == 0:
            raise MediaError(
                phrase("cannot read the video {path}: got an empty file; export or download it again", path=path)
            )
        # FFmpeg takes a relative name with a colon for an address; titles of old files are in any encoding.
        options = {"format_whitelist": _SELF_CONTAINED, "protocol_whitelist": "file"} if self_contained else {}
        return av.open(path.absolute(), metadata_errors="replace", options=options)
    except FileNotFoundError as error:
        raise MediaError(phrase("no video at {path}: check the path", path=path)) from error
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, MediaError):
            raise
        said = getattr(error, "strerror", None) or error
        raise MediaError(
            phrase(
                "cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM", path=path, said=said
            )
        ) from error


def packets_of(container: InputContainer, *streams: VideoStream | AudioStream) -> "Iterator[Packet[Any]]":
    """The packets of some tracks, in the file's order.

    Raises:
        av.error.FFmpegError: the container itself is damaged; what comes then cannot be read.
    """
    # PyAV fails at the end of a file in which further tracks turn up midway.
    with contextlib.suppress(IndexError):
        yield from container.demux(*streams)


def placed_packets(container: InputContainer, pictures: VideoStream, clock: PictureClock) -> "Iterator[Packet[Any]]":
    """All packets of the pictures, as the clock places them, and of the sound, as stored, in the file's order.

    Raises:
        av.error.FFmpegError: the container itself is damaged; what comes then cannot be read.
    """
    for packet in packets_of(container, pictures, *container.streams.audio):
        if packet.stream.index == pictures.index:
            clock.place(packet)
        elif packet.stream.index == container.streams.audio[0].index:
            clock.hear(packet)
        yield packet


def picture_track(container: InputContainer, path: Path) -> VideoStream:
    """The track that is shown: the first that can be decoded, and no single picture where there is one of more.

    Raises:
        MediaError: there is none.
    """
    tracks = [stream for stream in container.streams.video if not stream.disposition & _NO_VIDEO]
    tracks.sort(key=lambda stream: stream.frames == 1)  # as an animated AVIF has one, for who cannot play it
    for stream in (track for track in tracks if track.codec_context is not None):
        stream.thread_type = "AUTO"
        return stream
    what = phrase("only sound") if container.streams.audio else phrase("no picture track")
    if tracks:
        what = phrase("pictures in a codec that cannot be decoded")
    raise MediaError(
        phrase(
            "cannot use {path} as a video: got {what}, expected a video with pictures, such as H.264 in MP4",
            path=path,
            what=what,
        )
    )


def first_picture_s(path: Path) -> float:
    """When the first picture of a video is shown that can be decoded, on the clock of its `PictureClock`.

    Returns:
        0 where there is none.

    Raises:
        MediaError: the file cannot be opened, or has no picture track.
    """
    with open_container(path) as container:
        decoder = _Decoder(container, picture_track(container, path), 1 / FOLDER_FPS)
        # The first ones may have no time stamps, where those would be negative; a later one then tells theirs.
        next((frame for frame, _ in itertools.islice(decoder, _MOST_UNSTAMPED) if decoder.origin_s is not None), None)
        return decoder.origin_s or 0.0


class _Timing(NamedTuple):
    """What the time stamps of a picture track say.

    Attributes:
        fps: pictures per second.
        length_s: how long they are shown; None where neither they nor the file tell.
        pictures: how many were looked at.
    """

    fps: float
    length_s: float | None
    pictures: int


def _timing(path: Path, *, self_contained: bool) -> _Timing:
    """Read the time stamps of the picture track, without decoding it.

    Raises:
        MediaError: the file cannot be opened, or has no picture track.
    """
    times: list[int] = []
    with open_container(path, self_contained=self_contained) as container:
        stream = picture_track(container, path)
        declared = (stream.average_rate, stream.guessed_rate)
        length_s = _declared_length_s(container, stream)
        tick = stream.time_base or Fraction(1, av.time_base)
        clock = PictureClock(tick)
        packets = pictures = 0
        with contextlib.suppress(av.error.FFmpegError):
            for packet in placed_packets(container, stream, clock):
                if packet.stream.index != stream.index:
                    continue
                packets += 1
                pictures += packet.size > 0
                if packet.pts is not None and packet.size and not packet.is_discard:
                    times.append(packet.pts)
                if length_s is not None and packets >= _MOST_TIMED_PACKETS:
                    break
        if times and clock.end is not None and packets < _MOST_TIMED_PACKETS:
            length_s = float((clock.end - min(times)) * tick)
    # Where the stamps are but a few, as of some program streams, they tell nothing of the rate.
    trusted = sorted(times) if len(times) > packets / 2 else []
    fps = constant_rate([float(time * tick) for time in trusted], declared, float(tick))
    return _Timing(float(fps or FOLDER_FPS), length_s, pictures)


def _declared_length_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return float(container.duration / av.time_base)
    return None


class _Decoder:
    """Frames with their time since the first one, over damage and restarts of the time stamps.

    Args:
        container: read from its beginning.
        stream: its picture track.
        step_s: from one picture to the next, where nothing else is known.

    Attributes:
        stream: the picture track.
        decoded: frames so far.
        errors: damaged packets so far.
        cut_out: packets so far that the file's edit list leaves out.
        origin_s: when the first frame is shown, on the clock of the file; None before it.
        end_s: when the last frame so far stops being seen.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, step_s: float) -> None:
        self.stream = stream
        self.decoded = 0
        self.errors = 0
        self.cut_out = 0
        self.origin_s: float | None = None
        self.end_s = 0.0
        self._container = container
        self._step_s = step_s

    def __iter__(self) -> Iterator[tuple[VideoFrame, float]]:
        time_s = -self._step_s
        for frame in self._filtered():
            if frame.pts is None:
                time_s += self._step_s
            else:
                if self.origin_s is None:
                    self.origin_s = frame.time - (time_s + self._step_s)
                time_s = frame.time - self.origin_s
            lasts_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else self._step_s
            self.end_s = time_s + min(lasts_s, LONGEST_HOLD_S)
            self.decoded += 1
            yield frame, time_s

    def _filtered(self) -> Iterator[VideoFrame]:
        filters = FrameFilters(self.stream.codec_context.name)
        for frame in self._frames():
            yield from filters.taken(frame)
        yield from filters.rest()

    def _frames(self) -> Iterator[VideoFrame]:
        clock = PictureClock(self.stream.time_base or Fraction(1, av.time_base))
        # AVI numbers the packets and knows no order of showing: what FFmpeg makes up for it is wrong with B-frames.
        numbered = self._container.format.name == "avi"
        numbers: deque[int] = deque()
        packets = placed_packets(self._container, self.stream, clock)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self.errors += 1
                return
            if packet is None:
                return
            if packet.stream.index != self.stream.index:
                continue
            self.cut_out += packet.is_discard
            if numbered and packet.dts is not None:
                numbers.append(packet.dts)
            try:
                for frame in self.stream.decode(packet):
                    if numbered:
                        frame.pts = numbers.popleft() if numbers else None
                    yield frame
            except av.error.FFmpegError:
                self.errors += 1


def _thinned_out(decoder: _Decoder, fps: float) -> Iterator[tuple[VideoFrame, int]]:
    """Of a video that is much faster, the picture that is due at each slot."""
    kept: tuple[VideoFrame, int] | None = None
    for frame, time_s in decoder:
        slot = max(0, math.ceil(time_s * fps - _EARLY_BY_FRAMES_THINNED))
        if kept is not None and slot > kept[1]:
            yield kept
        kept = frame, slot if kept is None else max(slot, kept[1])
    if kept is not None:
        yield kept
