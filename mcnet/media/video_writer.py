"""What `mcnet` writes: videos with their sound, GIFs, and folders of pictures."""

import contextlib
import errno
import itertools
import logging
import math
import os
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import av
import av.error
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mcnet.files import cause_and_remedy, free_name, real_place, replacing, scratch_beside, take_place, try_beside
from mcnet.media.errors import MediaError
from mcnet.media.images import encoded
from mcnet.media.muxer import Muxer
from mcnet.media.numbered import picture_name, pictures_to_be, stamp_of_pictures
from mcnet.media.picture_words import with_words
from mcnet.media.sound import Sound, carry_sound
from mcnet.media.video import open_container, plays

if TYPE_CHECKING:
    from mcnet.disclosure.words import Words

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".webm", ".gif")
ALPHA_SUFFIXES = (".webm",)
_GIF_MAX_FPS = 50  # browsers slow down anything faster
_GIF_BEGIN_BYTES = 1024  # more than header, colours and loop
# MP4: the index to the front, so that it plays while it loads. WebM: how much is lost, in ms, when the disk is full.
_MUXER_OPTIONS = {".mp4": {"movflags": "+faststart"}, ".webm": {"cluster_time_limit": "2000"}}
_BT709 = 1
_TV_RANGE = 1


class VideoWriter:
    """Writes a video, or numbered pictures, frame by frame; a context manager.

    By the path: `.mp4` (H.264, 4:2:0, crf 18), `.webm` (VP9), `.gif` (a palette for the clip, at most 50 frames per
    second, silent), or a folder (no suffix, or ending in a slash) of `000000.png` and so on. The first two need even
    sizes: an odd width or height grows by one pixel, its last column or row repeated.

    Nothing is touched at `path` until the end: a partial file beside it takes its place when the `with` block is left,
    also by an exception or Ctrl-C, then holding the frames written so far. Left before the first frame, it leaves
    things as they were. An existing folder must be empty, or hold what `replaces` names.

    When the disk is full or gone, what can still be played of the frames so far is kept too, but beside an older file,
    under a free name; so is a folder where such pictures came into the empty one meanwhile. Nothing else stays. A link
    stays, and what it leads to is written.

    Args:
        path: where to write; its folder exists.
        fps: frames per second.
        frame_size_px: (width, height) of the frames.
        audio_from: a video whose sound is carried over, from its first picture up to the length of what is written:
            copied where that is exact, else as AAC or Opus. A video without sound, or a folder, is fine.
        alpha: the frames have a straight alpha channel, which `.webm` (VP9 with alpha) and a folder of PNGs keep.
        words: what the file, or each picture of a folder, says of itself in its metadata; None: nothing. `.mp4` and
            `.webm` have no place for IPTC's term alone: it is in the text.
        replaces: of a folder, the `stamp_of_pictures` that were written before and make way at the end; "": none do.

    Attributes:
        frame_count: frames written so far.
        written: where what was written lies, also after a failure; None while nothing does.
        has_sound: after the end, whether any sound was carried over.

    Raises:
        MediaError: the suffix is unknown or cannot have alpha, the place cannot be written, or `audio_from` cannot be
            read; raised when the writer is made or entered, before any frame.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        frame_size_px: tuple[int, int],
        audio_from: str | Path | None = None,
        *,
        alpha: bool = False,
        words: "Words | None" = None,
        replaces: str = "",
    ) -> None:
        as_folder = str(path).endswith(("/", os.sep)) or Path(path).is_dir()
        self.path = Path(path).absolute()  # FFmpeg takes a relative name with a colon for an address
        self.frame_count = 0
        self.written: Path | None = None
        self.has_sound = False
        self._suffix = "" if as_folder else self.path.suffix.lower()
        self._fps = Fraction(fps).limit_denominator(1001)
        self._frame_size_px = frame_size_px
        self._alpha = alpha
        self._words = words
        self._replaces = replaces
        self._audio_from = None if audio_from is None or Path(audio_from).is_dir() else Path(audio_from).absolute()
        self._sink: _Sink | None = None
        self._place = real_place(self.path)
        # Within a folder that is there: it may be mounted, or somebody may stand in it, so that it has to stay itself.
        within = not self._suffix and self._place.is_dir()
        self._partial = scratch_beside(pictures_to_be(self._place) if within else self._place, self._suffix)
        self._check()

    def _check(self) -> None:
        if self._suffix and self._suffix not in VIDEO_SUFFIXES:
            raise MediaError(
                f"cannot write {self.path}: got suffix {self.path.suffix!r}, expected {', '.join(VIDEO_SUFFIXES)}, "
                "or none for a folder of PNGs"
            )
        if self._alpha and self._suffix not in ("", *ALPHA_SUFFIXES):
            raise MediaError(
                f"cannot write {self.path} with a transparent background: got {self._suffix}, which has no alpha "
                f"channel here, expected {', '.join(ALPHA_SUFFIXES)}, or none for a folder of PNGs"
            )
        if self._fps <= 0 or min(self._frame_size_px) < 1:
            raise MediaError(f"cannot write {self.path}: got {self._fps} frames/s of {self._frame_size_px} pixels")
        parent = self._partial.parent
        if not parent.is_dir():
            raise MediaError(f"cannot write {self.path}: there is no folder {parent}; make it first")
        if not os.access(parent, os.W_OK):
            raise MediaError(f"cannot write {self.path}: the folder {parent} is not writable; choose another place")
        try:
            try_beside(self._partial)
        except OSError as error:
            raise MediaError(f"cannot write {self.path}: {cause_and_remedy(error)}") from error
        if not self._suffix and self.path.exists():
            if not self.path.is_dir():
                raise MediaError(f"cannot write the folder {self.path}: got a file of that name; choose another")
            if any(self.path.iterdir()) and not self._may_replace():
                raise MediaError(f"cannot write the folder {self.path}: it is not empty; empty it or choose another")
        if self._audio_from is not None:
            if self._suffix and self.path.exists() and self.path.samefile(self._audio_from):
                raise MediaError(f"cannot write {self.path}: it is the driving video itself; choose another name")
            open_container(self._audio_from).close()

    def __enter__(self) -> "VideoWriter":
        try:
            self._sink = self._make_sink()
        except (av.error.FFmpegError, OSError) as error:
            self._discard()
            raise MediaError(f"cannot write {self.path}: {cause_and_remedy(error)}") from error
        except BaseException:
            self._discard()
            raise
        return self

    def _make_sink(self) -> "_Sink":
        if not self._suffix:
            return _PictureSink(self._partial, self._words)
        if self._suffix == ".gif":
            return _GifSink(self._partial, self._fps, self._frame_size_px, self._words)
        return _VideoSink(
            self._partial,
            self._suffix,
            self._fps,
            self._frame_size_px,
            self._audio_from,
            alpha=self._alpha,
            words=self._words,
        )

    def write(self, rgb: NDArray[np.uint8]) -> None:
        """Append a frame.

        Args:
            rgb: (H, W, 3) uint8 of the size given at the start; (H, W, 4) where there is alpha.

        Raises:
            MediaError: another shape or type, the writer is not open, or the disk is full or gone; after the last of
                these the writer is closed.
        """
        width, height = self._frame_size_px
        expected = (height, width, 4 if self._alpha else 3)
        if rgb.shape != expected or rgb.dtype != np.uint8:
            raise MediaError(f"cannot write a frame: got {rgb.dtype} {rgb.shape}, expected uint8 {expected}")
        if self._sink is None:
            raise MediaError(f"cannot write to {self.path}: the writer is not open; use it in a with block")
        try:
            self._sink.write(rgb, self.frame_count)
        except (av.error.FFmpegError, OSError) as error:
            raise self._given_up("cannot go on writing", error) from error
        self.frame_count += 1

    def close(self) -> None:
        """Complete the file and put it in its place; without a frame, leave nothing. Harmless when called again.

        Raises:
            MediaError: it cannot be completed.
        """
        if self._sink is None:
            return
        try:
            if self.frame_count:
                self._sink.finish()
                self._put_at(self._place)
        except (av.error.FFmpegError, OSError) as error:
            raise self._given_up("cannot complete", error) from error
        finally:
            self._discard()

    def _put_at(self, place: Path) -> None:
        if not self._suffix and place.is_dir():
            pictures = sorted(self._partial.iterdir())
            older = {entry.name for entry in place.iterdir()} - {self._partial.name}
            if not self._may_replace():  # asked after `older` was listed: what comes later is not taken away
                if self._is_taken():
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                older = set()
            for picture in pictures:
                picture.replace(place / picture.name)
            for name in older - {picture.name for picture in pictures}:
                (place / name).unlink()
        else:
            take_place(self._partial, place)
        self.written = self.path if place == self._place else place
        self.has_sound = isinstance(self._sink, _VideoSink) and self._sink.has_sound

    def _may_replace(self) -> bool:
        """Whether the folder holds the pictures that are to make way, as they were left, and nothing else."""
        return bool(self._replaces) and stamp_of_pictures(self._place, self._partial.name) == self._replaces

    def _is_taken(self) -> bool:
        """Whether pictures of the same names came into the folder meanwhile."""
        return any((self._place / picture.name).exists() for picture in self._partial.iterdir())

    def _given_up(self, what: str, error: Exception) -> MediaError:
        """End after a failure, with what plays of the frames so far; returns what to tell."""
        assert self._sink is not None
        self._sink.close()
        kept = "nothing of it could be kept"
        if plays(self._partial):
            with contextlib.suppress(OSError):
                place = free_name(self._place) if self._suffix or self._is_taken() else self._place
                self._put_at(place)
                kept = f"what was written before is kept as {place}"
        self._discard()
        return MediaError(f"{what} {self.path}: {cause_and_remedy(error)}; {kept}")

    def _discard(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None
        if self._partial.is_dir():
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        for left in (self._partial, _kept_beside(self._partial)):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except MediaError as failure:
            if error is None:
                raise
            logger.warning("%s", failure)  # the first trouble is the one to be told


class _Sink(Protocol):
    """Where frames go."""

    def write(self, rgb: NDArray[np.uint8], index: int) -> None: ...

    def finish(self) -> None:
        """Complete what was written: one frame at least."""

    def close(self) -> None:
        """Let go of it, finished or not. Harmless when called again."""


class _PictureSink:
    def __init__(self, folder: Path, words: "Words | None") -> None:
        self._folder = folder
        self._words = words
        folder.mkdir()

    def write(self, rgb: NDArray[np.uint8], index: int) -> None:
        with replacing(self._folder / picture_name(index), lasting=False) as partial:
            partial.write_bytes(encoded(rgb, ".png", self._words))

    def finish(self) -> None:
        """Each picture is complete already."""

    def close(self) -> None:
        """Each picture is closed already."""


class _VideoSink:
    """H.264 or VP9 with sound; the sound is fed along, so that both lie beside each other in the file."""

    def __init__(
        self,
        path: Path,
        suffix: str,
        fps: Fraction,
        frame_size_px: tuple[int, int],
        audio_from: Path | None,
        *,
        alpha: bool,
        words: "Words | None",
    ) -> None:
        codec = "libx264" if suffix == ".mp4" else "libvpx-vp9"
        options = (
            {"crf": "18", "preset": "medium"}
            if suffix == ".mp4"
            else {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}
        )
        if alpha:
            options["auto-alt-ref"] = "0"  # libvpx refuses alpha with it
        self._given, self._stored = ("rgba", "yuva420p") if alpha else ("rgb24", "yuv420p")
        self._reformatter = VideoReformatter()  # a frame's own has threads of its own, for as long as the frame lives
        self._fps = fps
        self._odd = (frame_size_px[0] % 2, frame_size_px[1] % 2)
        self._end_s = 0.0
        self._sound: Sound | None = None
        self._muxer = Muxer(path, suffix[1:], _MUXER_OPTIONS[suffix])
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            if words is not None:
                self._muxer.container.metadata.update({"comment": words.text, "description": words.text})
            even_frame_size_px = (frame_size_px[0] + self._odd[0], frame_size_px[1] + self._odd[1])
            self._stream = _add_pictures(self._muxer, codec, fps, even_frame_size_px, self._stored, options)
            context = self._stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _TV_RANGE
            self._sound = None if audio_from is None else carry_sound(audio_from, self._muxer, suffix)
            self._muxer.start()
            on_failure.pop_all()

    def write(self, rgb: NDArray[np.uint8], index: int) -> None:
        if any(self._odd):
            rgb = np.pad(rgb, ((0, self._odd[1]), (0, self._odd[0]), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format=self._given)
        frame = self._reformatter.reformat(frame, format=self._stored, dst_colorspace=_BT709)
        frame.pts, frame.time_base = index, 1 / self._fps
        self._muxer.mux(self._stream.encode(frame))
        self._end_s = float((index + 1) / self._fps)
        if self._sound is not None:
            self._sound.advance(self._end_s)

    @property
    def has_sound(self) -> bool:
        return self._sound is not None and self._sound.heard

    def finish(self) -> None:
        self._muxer.mux(self._stream.encode(None))
        if self._sound is not None:
            self._sound.finish(self._end_s)
        self._muxer.finish()

    def close(self) -> None:
        self._muxer.close()
        if self._sound is not None:
            self._sound.close()


class _GifSink:
    """Keeps the frames losslessly in a file until all are known, for the palette is made from all of them."""

    def __init__(self, path: Path, fps: Fraction, frame_size_px: tuple[int, int], words: "Words | None") -> None:
        self._path = path
        self._words = words
        self._reformatter = VideoReformatter()  # as above
        self._step = max(Fraction(1), fps / _GIF_MAX_FPS)  # in frames
        self._fps = fps / self._step
        self._kept_path = _kept_beside(path)
        self._last_slot = -1
        self._kept = Muxer(self._kept_path, "matroska")
        self._stream = _add_pictures(self._kept, "ffv1", self._fps, frame_size_px, "bgr0")
        self._kept.start()

    def write(self, rgb: NDArray[np.uint8], index: int) -> None:
        slot = math.floor(index / self._step)
        if slot == self._last_slot:
            return
        self._last_slot = slot
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = self._reformatter.reformat(frame, format="bgr0")
        frame.pts, frame.time_base = slot, 1 / self._fps
        self._kept.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._kept.mux(self._stream.encode(None))
        self._kept.finish()
        self._convert()
        if self._words is not None:  # FFmpeg's muxer writes none
            with replacing(self._path) as partial, self._path.open("rb") as plain, partial.open("wb") as said:
                said.write(with_words(plain.read(_GIF_BEGIN_BYTES), ".gif", self._words))
                shutil.copyfileobj(plain, said)

    def close(self) -> None:
        self._kept.close()

    def _convert(self) -> None:
        with contextlib.closing(Muxer(self._path, "gif")) as target:
            stream = _add_pictures(target, "gif", self._fps, (self._stream.width, self._stream.height), "pal8")
            palette = self._palette()
            graph = Graph()
            frames_in, palette_in = (
                self._buffer(graph),
                graph.add_buffer(
                    width=palette.width, height=palette.height, format=palette.format, time_base=1 / self._fps
                ),
            )
            use, out = graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle"), graph.add("buffersink")
            frames_in.link_to(use, 0, 0)
            palette_in.link_to(use, 0, 1)
            use.link_to(out)
            graph.configure()
            palette_in.push(palette)
            palette_in.push(None)
            for frame in itertools.chain(self._frames(), (None,)):
                frames_in.push(frame)
                for mapped in _pulled(out):
                    target.mux(stream.encode(mapped))
            target.mux(stream.encode(None))
            target.finish()

    def _palette(self) -> VideoFrame:
        graph = Graph()
        frames_in, make, out = self._buffer(graph), graph.add("palettegen"), graph.add("buffersink")
        frames_in.link_to(make)
        make.link_to(out)
        graph.configure()
        for frame in self._frames():
            frames_in.push(frame)
        frames_in.push(None)
        return next(_pulled(out))

    def _frames(self) -> Iterator[VideoFrame]:
        with av.open(self._kept_path) as kept:
            for frame in kept.decode(video=0):
                frame.pts, frame.time_base = round((frame.time or 0) * self._fps), 1 / self._fps
                yield frame

    def _buffer(self, graph: Graph) -> FilterContext:
        return graph.add_buffer(
            width=self._stream.width, height=self._stream.height, format=VideoFormat("bgr0"), time_base=1 / self._fps
        )


def _kept_beside(path: Path) -> Path:
    return path.with_suffix(".mkv")


def _add_pictures(
    muxer: Muxer,
    codec: str,
    fps: Fraction,
    frame_size_px: tuple[int, int],
    pixels: str,
    options: dict[str, str] | None = None,
) -> VideoStream:
    stream = muxer.container.add_stream(codec, rate=fps, options=options)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = frame_size_px
    stream.pix_fmt = pixels
    return stream


def _pulled(sink: FilterContext) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, VideoFrame)
        yield frame
