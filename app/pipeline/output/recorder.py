"""Recordings of the output: H.264 in MP4, with the sound of a microphone as AAC where that is wanted; or, with what is
transparent, VP9 and Opus in WebM.

`mcnet.media.video_writer.VideoWriter` makes the better file of a finished clip, at six times the work per frame and
with nothing to show for it before its end; a recording must not starve the model, and must survive a full disk or a
crash.
"""

import contextlib
import datetime
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, cast

import av.error
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.frame import PictureType, VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from app.errors import SinkError
from app.pipeline.output.discloser import Disclose
from app.pipeline.output.output_frame import Composed
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.output.sound import RATE_HZ, Shown, SoundFeed, SoundTrack
from app.pipeline.state import State
from mcnet.disclosure.words import LIVE
from mcnet.errors import log_failure, sentence
from mcnet.files import cause_and_remedy, free_name
from mcnet.media.errors import MediaError
from mcnet.media.muxer import Muxer
from mcnet.media.sound import SoundEncoder
from mcnet.media.video import open_driving
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

_PENDING_PICTURES = 8
# That one picture is shown: a computer that slept, or an output that stood still, is no film. The greater one holds.
_LONGEST_S = 1.0
_LONGEST_TICKS = 4
_THREADS = 2
_KEYFRAME_S = 2  # also what a crash may cost, and the picture that ends it
_BT709 = 1
_TV_RANGE = 1


class _Kind(NamedTuple):
    """Of a file.

    Attributes:
        suffix: of its name.
        codec: of its pictures, by FFmpeg's name.
        pixels: likewise.
        options: of the codec.
        container_options: of the container; until it is finished, the file plays.
        has_alpha: whether it keeps what is transparent.
    """

    suffix: str
    codec: str
    pixels: str
    options: dict[str, str]
    container_options: dict[str, str]
    has_alpha: bool


# 8 to 10 ms of processor time per picture of 1280x720, of which 2 for the colours; superfast takes 12, veryfast 15 for
# less than half the bytes. The model needs the time more than the disk needs the room (20 MB per minute).
_MP4 = _Kind(
    ".mp4",
    "libx264",
    "yuv420p",
    {"preset": "ultrafast", "crf": "20"},
    {"movflags": "+hybrid_fragmented"},
    has_alpha=False,
)
# VP9 is the one codec of browsers that has alpha: a second stream of pictures, each coded as the first; libvpx refuses
# its alternate reference frames with it. Its lag serves those only, and 25 pictures that wait in it die with the app.
_WEBM = _Kind(
    ".webm",
    "libvpx-vp9",
    "yuva420p",
    {
        "crf": "30",
        "b": "0",
        "deadline": "realtime",
        "cpu-used": "8",
        "row-mt": "1",
        "auto-alt-ref": "0",
        "lag-in-frames": "0",
    },
    {"cluster_time_limit": "2000"},
    has_alpha=True,
)
_KINDS = {kind.suffix: kind for kind in (_MP4, _WEBM)}
RECORDED_SUFFIXES = tuple(_KINDS)


class RecorderSink:
    """Writes pictures to a video file on a thread of its own; see `Sink`.

    A picture has the tick of a constant rate at which it was sent, and of two for one tick the second has the next.
    Where the output cannot keep its rate, or the encoder cannot follow, a picture is seen for longer, so that the time
    stays true. The encoder never stops the stage: the oldest picture that waits is dropped and counted. Until it is
    finished the file is written in fragments: what is there when the disk is full or the app dies, can be
    played.

    While the user wants the slate, nothing is heard either. What goes wrong with the sound costs no picture.

    Args:
        path: ends in `.mp4` or `.webm`, and its folder exists. A file that is there already stays: the recording then
            becomes `name-2.mp4` and so on.
        sound: a microphone, or None for a recording without a sound track.
        disclose: called with the file once it is whole, and whether one of its pictures is composite, on the
            recording's own thread; or None.
        clock: seconds, as `time.monotonic`.

    Attributes:
        name: `file:` and the path.
        detail: the file that is really written, once open.
        sent: pictures taken.
        dropped: those of them that the encoder had no time for.
        sound_trouble: why the sound that was wanted is not, or not all, in the file, for people, or "".
    """

    def __init__(
        self,
        path: Path,
        sound: SoundFeed | None = None,
        disclose: Disclose | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = f"file:{path}"
        self.detail = ""
        self.sent = 0
        self.dropped = 0
        self.sound_trouble = ""
        self._path = path
        self._sound = sound
        self._disclose = disclose
        self._clock = clock
        self._rate_hz = 0.0
        self._tick = -1
        self._began_s = 0.0
        self._recording: _Recording | None = None
        self._ended: _Recording | None = None

    def open(self, output: OutputFormat) -> None:
        """Create the file.

        Raises:
            SinkError: another suffix, the place cannot be written, or it is open already.
        """
        if self._recording is not None:
            raise SinkError(phrase("the recording {detail} is going on already; stop it first", detail=self.detail))
        self.sound_trouble = ""
        encoder = _Encoder(self._path, output, self._sound, self._lose_sound)
        self._recording = _Recording(encoder, output, self._disclose)
        self.detail = str(encoder.path)
        self.sent = self.dropped = 0
        self._rate_hz, self._tick = output.fps_hz, -1

    def send(self, picture: Composed) -> None:
        """Hand a picture to the encoder; never waits for it.

        Raises:
            SinkError: the file cannot be written any more, the picture has another size, or the sink is not open.
        """
        if self._recording is None:
            raise SinkError(phrase("the recording is not open; open it first"))
        now_s = self._clock()
        self._tick = self._tick_at(now_s)
        self.dropped += self._recording.put(self._tick, now_s, picture)
        self.sent += 1

    def close(self) -> None:
        """Begin to finish the file; without a picture, leave none. Harmless when called again."""
        recording, self._recording = self._recording, None
        if recording is None:
            return
        if self.dropped:
            logger.warning("%s: %d of %d pictures were too many for the encoder", self.detail, self.dropped, self.sent)
        recording.end()
        self._ended = recording

    def finished(self) -> bool:
        """Whether the file is finished.

        Raises:
            SinkError: it could not be finished; what was written so far stays. Not told twice.
        """
        ended = self._ended
        if ended is None:
            return True
        if not ended.over():
            return False
        self._ended = None
        ended.require_good()
        return True

    def _tick_at(self, now_s: float) -> int:
        """Which one a picture has that is sent now."""
        following = self._tick + 1
        longest = self._tick + max(_LONGEST_TICKS, round(_LONGEST_S * self._rate_hz))
        if following == 0:
            self._began_s = now_s
        tick = round((now_s - self._began_s) * self._rate_hz)
        if tick > longest:
            tick, self._began_s = longest, now_s - longest / self._rate_hz
        return max(following, tick)

    def _lose_sound(self, trouble: str) -> None:
        self.sound_trouble = trouble


class _Recording:
    """One file, with the thread that writes it and the pictures that wait for that."""

    def __init__(self, encoder: "_Encoder", output: OutputFormat, disclose: Disclose | None) -> None:
        self._disclose = disclose
        self._shape = (output.height_px, output.width_px, 3)
        self._encoder = encoder
        self._pending: deque[tuple[int, float, Composed]] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._failure = ""
        self._told = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def put(self, tick: int, sent_s: float, picture: Composed) -> int:
        """Leave a picture that was sent at that time; returns how many had to go for it.

        Raises:
            SinkError: the writing failed, or the picture has another size.
        """
        if picture.rgb.shape != self._shape:
            got = picture.rgb.shape
            raise SinkError(
                phrase(
                    "recording {path}: got a picture of {got}, expected {shape}",
                    path=self._encoder.path,
                    got=got,
                    shape=self._shape,
                )
            )
        with self._changed:
            if self._failure:
                self._told = True
                raise SinkError(self._failure)
            too_many = len(self._pending) >= _PENDING_PICTURES
            if too_many:
                self._pending.popleft()
            self._pending.append((tick, sent_s, picture))
            self._changed.notify()
        return int(too_many)

    def end(self) -> None:
        """Write what waits, and end; does not wait for it."""
        with self._changed:
            self._ending = True
            self._changed.notify()

    def over(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def require_good(self) -> None:
        """Raise a SinkError if the writing failed and `put` has not told."""
        if self._failure and not self._told:
            raise SinkError(self._failure)

    def _run(self) -> None:
        """The thread's body."""
        path = self._encoder.path
        try:
            composite = False
            while (item := self._next()) is not None:
                tick, sent_s, picture = item
                composite = composite or picture.composite
                self._encoder.write(tick, picture)
                self._encoder.write_sound(tick, sent_s, picture)
            self._encoder.finish()
            if self._disclose is not None and self._encoder.written:
                self._disclose(path, composite)
        except (av.error.FFmpegError, OSError) as error:
            kept = self._encoder.give_up()
            self._fail(
                phrase(
                    "the recording {path} cannot go on: {cause}; {kept}",
                    path=path,
                    cause=cause_and_remedy(error),
                    kept=kept,
                )
            )
        except Exception as error:  # told to the sink stage, which is another thread
            log_failure(logger, f"recording {path}", error)
            self._fail(
                phrase(
                    "the recording {path} failed: {reason}; {kept}",
                    path=path,
                    reason=sentence(error),
                    kept=self._encoder.give_up(),
                )
            )

    def _next(self) -> tuple[int, float, Composed] | None:
        with self._changed:
            while not self._pending and not self._ending:
                self._changed.wait()
            return self._pending.popleft() if self._pending else None

    def _fail(self, message: str) -> None:
        with self._changed:
            self._failure = message
            self._pending.clear()


class _Encoder:
    """A file that is being written. After an error of `write` or `finish` only `give_up` is left to call.

    Attributes:
        path: of the file.
        written: pictures so far.

    Args:
        path: as `RecorderSink` takes it.
        output: of the pictures.
        sound: likewise.
        lose_sound: called with why there is no sound from now on.

    Raises:
        SinkError: the file cannot be made.
    """

    def __init__(
        self, path: Path, output: OutputFormat, sound: SoundFeed | None, lose_sound: Callable[[str], None]
    ) -> None:
        self.written = 0
        self._ticks = 0
        self._sound: SoundTrack | None = None
        self._lose_sound = lose_sound
        self._reformatter = VideoReformatter()  # a frame's own has threads of its own, for as long as the frame lives
        self._rate = Fraction(output.fps_hz).limit_denominator(1001)
        self._key_ticks = max(1, round(_KEYFRAME_S * self._rate))
        self._key_tick: int | None = None  # of the last picture that needs none before it
        self._begin(path, output)
        if sound is not None:
            try:
                self._sound = SoundTrack(sound, self._add_sound())
            except Exception as error:
                logger.exception("there is no sound for %s; its pictures go on", self.path)
                lose_sound(
                    phrase(
                        "The recording has no sound, since its encoder cannot be opened ({error}). Install the app "
                        "again.",
                        error=error,
                    )
                )
                self.give_up()  # a track cannot be taken out of a file again
                self._begin(path, output)
        # The header waits for the first picture: a file without pictures is not kept.
        self._muxer.container.metadata.update(_metadata())

    def _begin(self, path: Path, output: OutputFormat) -> None:
        self._muxer, self.path = _claimed(path)
        self._kind = _KINDS[self.path.suffix.lower()]
        try:
            self._stream = self._add_stream(output)
        except (av.error.FFmpegError, UnknownCodecError, OSError) as error:
            self.give_up()
            raise SinkError(
                phrase(
                    "cannot record to {path}: the encoder {codec} cannot be opened for {width_px} x {height_px} "
                    "({cause}); choose another size, or install the app again",
                    path=path,
                    codec=self._kind.codec,
                    width_px=output.width_px,
                    height_px=output.height_px,
                    cause=getattr(error, "strerror", None) or error,
                )
            ) from error
        except BaseException:
            self.give_up()
            raise

    def _add_sound(self) -> SoundEncoder:
        encoder = SoundEncoder(self._muxer, self._kind.suffix, RATE_HZ, channels=1)
        self._muxer.container.streams.audio[0].codec_context.open()  # here, where a failure costs no picture
        return encoder

    def _add_stream(self, output: OutputFormat) -> VideoStream:
        options = self._kind.options | {"g": str(self._key_ticks)}
        stream = self._muxer.container.add_stream(self._kind.codec, rate=self._rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = output.width_px, output.height_px, self._kind.pixels
        context = stream.codec_context
        context.thread_count = _THREADS
        context.time_base = 1 / self._rate
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _TV_RANGE
        context.open()  # here, where a failure can be told as one of opening
        return stream

    def write(self, tick: int, picture: Composed) -> None:
        rgb = picture.colours() if self._kind.has_alpha else picture.rgb
        frame = VideoFrame.from_ndarray(rgb, format="rgb24")
        frame = self._reformatter.reformat(frame, format="yuv420p", dst_colorspace=_BT709)
        if self._kind.has_alpha:
            frame = _with_alpha(frame, picture.alpha)
        frame.pts, frame.time_base = tick, 1 / self._rate
        if self._key_tick is None or tick - self._key_tick >= self._key_ticks:
            # The encoder's own count is of pictures, and some ticks may have none.
            frame.pict_type, self._key_tick = PictureType.I, tick
        self._muxer.mux(self._stream.encode(frame))
        self.written += 1
        self._ticks = tick + 1

    def write_sound(self, tick: int, sent_s: float, picture: Composed) -> None:
        """Write the sound that belongs beside the pictures so far, if it is recorded."""
        seen_s = picture.captured_s if picture.fresh else None
        shown = Shown(float(tick / self._rate), sent_s, seen_s, muted=picture.state is State.SLATE)
        self._with_sound(lambda sound: sound.follow(shown))

    def _with_sound(self, write: Callable[[SoundTrack], None]) -> None:
        if self._sound is None:
            return
        try:
            write(self._sound)
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
                raise  # of the file, which is the pictures' too; the encoder's own are FFmpeg's
            logger.exception("the sound of %s ends here; its pictures go on", self.path)
            self._lose_sound(
                phrase(
                    "The recording goes on without sound, which failed ({error}). For sound, begin another one.",
                    error=error,
                )
            )
            self._sound = None

    def finish(self) -> None:
        """Complete the file; without a picture, leave none."""
        if not self.written:
            self._muxer.close()
            self.path.unlink(missing_ok=True)
            return
        self._muxer.mux(self._stream.encode(None))
        self._with_sound(lambda sound: sound.finish(float(self._ticks / self._rate)))
        self._muxer.finish()
        if not self.path.exists():  # one may remove what is open
            raise OSError(phrase("it was removed meanwhile"))

    def give_up(self) -> str:
        """Keep what plays and nothing else; returns what to tell of it."""
        self._muxer.close()
        try:
            video = open_driving(self.path)
        except MediaError:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            return phrase("nothing of it could be kept")
        return phrase("its first {value:g} s are kept", value=round((video.frame_count or 1) / video.fps, 1))


def _with_alpha(opaque: VideoFrame, alpha: NDArray[np.uint8] | None) -> VideoFrame:
    """A yuv420p frame with an alpha plane, (height, width); None: not transparent.

    FFmpeg's own way from RGBA to it takes 11 ms of processor time for 1280x720, from RGB to yuv420p 2.
    """
    frame = VideoFrame(opaque.width, opaque.height, "yuva420p")
    for plane, given in zip(frame.planes, opaque.planes, strict=False):
        _pixels(plane)[:] = _pixels(given)
    _pixels(frame.planes[3])[:] = 255 if alpha is None else alpha
    frame.colorspace, frame.color_range = opaque.colorspace, opaque.color_range
    return frame


def _pixels(plane: VideoPlane) -> NDArray[np.uint8]:
    """Those of a plane, (height, width), to be read and written; its rows may be longer."""
    memory = memoryview(cast(Any, plane))  # PyAV does not type what it is
    return np.frombuffer(memory, np.uint8).reshape(plane.height, -1)[:, : plane.width]


def _metadata() -> dict[str, str]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"title": "Avatar recording", "comment": LIVE, "description": LIVE, "creation_time": now}


def _claimed(path: Path) -> tuple[Muxer, Path]:
    """A muxer on a new file at the path, or beside it where one is there already.

    Raises:
        SinkError: it cannot be created.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise SinkError(
            phrase(
                "cannot record to {path}: got suffix {suffix}, expected .mp4 or .webm",
                path=path,
                suffix=repr(path.suffix),
            )
        )
    while True:
        try:
            free = free_name(path)
            return Muxer(free, kind.suffix[1:], kind.container_options, new=True), free
        except FileExistsError:  # somebody was quicker
            continue
        except FileNotFoundError as error:
            raise SinkError(
                phrase(
                    "cannot record to {path}: there is no folder {parent}; make it first", path=path, parent=path.parent
                )
            ) from error
        except OSError as error:
            raise SinkError(
                phrase("cannot record to {path}: {cause}", path=path, cause=cause_and_remedy(error))
            ) from error
