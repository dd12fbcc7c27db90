"""The sound of a driving video, carried into the video that is written.

Every piece of sound is placed by its own time stamp, relative to the first picture that is shown. `_Survey` reads a
track once: whether it can be copied as it is, and where its time stamps restart. What cannot be copied is decoded,
brought to one layout and rate piece by piece, and encoded anew.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mcnet.media.errors import MediaError
from mcnet.media.muxer import Muxer
from mcnet.media.timing import LONGEST_HOLD_S, PictureClock
from mcnet.media.video import first_picture_s, open_container, packets_of, picture_track, placed_packets

logger = logging.getLogger(__name__)

# What every player of the format plays; FFmpeg would also put MP2 into MP4, which hardly any plays.
_COPIED = {".mp4": {"aac", "mp3"}, ".webm": {"opus", "vorbis"}}
_COPIED_AAC_PROFILES = {"LC", "HE-AAC", "HE-AACv2"}
_ENCODER = {".mp4": "aac", ".webm": "libopus"}
_BITS_PER_S_PER_CHANNEL = 96_000
_OPUS_RATE_HZ = 48_000
_AAC_RATES_HZ = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
# Time stamps are rounded, to a millisecond in WebM and to a packet by some recorders: what is off by less follows what
# was before, without a click. What has added up to more is a gap or an overlap.
_JITTER_S = 0.02
# To copy, less is asked for: a packet is where its stamp is, in the copy as in the original.
_ROUNDING_S = 0.0021
_MISJUDGED = 0.02  # a packet's duration is rounded, by less
_LONGEST_OVERLAP_S = 1.0  # stamps that go back further restart
_LONGEST_GAP_S = 1.0  # a longer one may be a restart
_BESIDE_S = 5.0  # in a file, sound lies so near to the pictures of its time
# What a decoder starts up with lies before the first picture and is not heard; Opus asks for most, 80 ms.
_START_UP_S = 0.1
_TRIED_PACKETS = 200
_BLOCK = 4096

Wave = NDArray[np.float32]


class Sound(Protocol):
    """A sound track on its way from one video into another. Times count from the driving video's first picture."""

    @property
    def heard(self) -> bool:
        """Whether any of it was written: it may begin after the video's end."""
        ...

    def advance(self, until_s: float) -> None:
        """Write what is to be heard before a time."""

    def finish(self, end_s: float) -> None:
        """Write the rest up to the end of the video."""

    def close(self) -> None:
        """Let go of the driving video; harmless when called again."""


def carry_sound(source: Path, target: Muxer, suffix: str) -> Sound | None:
    """Add a sound track to a video that is to be written, before its first packet.

    The first track that is marked as the default is taken, else the first; one that cannot be decoded is passed over
    with a warning. It is copied where that is exact: the format takes its codec, it begins with the first picture or
    later, nothing in it is missing, edited, damaged or restarts. Else it is encoded as AAC or Opus.

    Args:
        source: the driving video; it opens.
        target: the video to be written.
        suffix: `.mp4` or `.webm`.

    Returns:
        None when the driving video has no sound that can be decoded.

    Raises:
        MediaError: the file cannot be opened any more.
    """
    index = _decodable_track(source)
    if index is None:
        return None
    survey = _Survey.of(source, index)
    container = open_container(source)
    stream = container.streams[index]
    assert isinstance(stream, AudioStream)
    if survey.exact and _may_be_copied(stream, suffix):
        return _CopiedSound(container, stream, target, survey)
    return _EncodedSound(container, stream, target, suffix, survey)


def _may_be_copied(stream: AudioStream, suffix: str) -> bool:
    codec = stream.codec_context.codec.canonical_name
    return codec in _COPIED[suffix] and (codec != "aac" or stream.codec_context.profile in _COPIED_AAC_PROFILES)


def _decodable_track(source: Path) -> int | None:
    """The index of the track to take, after warnings of those that are passed over."""
    passed: list[str] = []
    taken: int | None = None
    with open_container(source) as container:
        tracks = sorted(container.streams.audio, key=lambda track: not track.disposition & Disposition.default)
        names = {track.index: f"sound track {number}" for number, track in enumerate(container.streams.audio, 1)}
        indices = [track.index for track in tracks]
    for index in indices:
        lacks = _why_undecodable(source, index)
        if lacks is None:
            taken = index
            break
        passed.append(f"{names[index]} {lacks}")
    if passed:
        then = "the video will be silent" if taken is None else f"{names[taken]} is taken"
        logger.warning("%s: %s; %s", source, ", ".join(passed), then)
    return taken


def _why_undecodable(source: Path, index: int) -> str | None:
    with open_container(source) as container:
        stream = container.streams[index]
        if not isinstance(stream, AudioStream) or stream.codec_context is None:
            return "has a codec that cannot be decoded"
        packets = 0
        for packet in _whole(packets_of(container, stream)):
            try:
                frame = next(iter(stream.decode(packet)), None)
            except av.error.FFmpegError:
                frame = None
            if frame is not None:
                return None if _can_be_mixed(frame) else f"has {frame.layout.nb_channels} channels without known places"
            packets += 1
            if packets == _TRIED_PACKETS:
                break
        return "is damaged or encrypted" if packets > 1 else "is empty"


def _can_be_mixed(frame: AudioFrame) -> bool:
    """Whether FFmpeg knows how its channels become two."""
    try:
        AudioResampler(format="fltp", layout="stereo", rate=frame.sample_rate).resample(frame)
    except av.error.FFmpegError:
        return False
    return True


@dataclass
class _Survey:
    """What reading a sound track once tells.

    Attributes:
        origin_s: when the first picture is shown, on the clock of the pictures.
        exact: nothing is lost or moved when its packets are copied.
        shifts: what is added to the time stamps of packets, in seconds, from the n-th of the track on.
        rate_hz: of the first piece.
        channels: likewise.
    """

    origin_s: float
    exact: bool = True
    shifts: list[tuple[int, Fraction]] = field(default_factory=lambda: [(0, Fraction(0))])
    rate_hz: int = 0
    channels: int = 0

    @classmethod
    def of(cls, source: Path, index: int) -> "_Survey":
        """Read a track that can be decoded."""
        try:
            survey = cls(first_picture_s(source))
        except MediaError:
            survey = cls(0.0)  # a song
        survey._place_runs(source, index)
        survey._decode(source, index)
        return survey

    def _place_runs(self, source: Path, index: int) -> None:
        """Find where time stamps restart.

        Pictures and sound restart together, but may begin and end at different times. A sound's time stamps belong with
        those of the pictures next to it in the file.
        """
        runs, shifts = _runs(source, index)
        previous = Fraction(0)
        end: Fraction | None = None
        step = 0
        for run in runs:
            # The pictures' shifts from the one in use on; sound and pictures may be told to restart in either order.
            candidates = [(abs(run.start + shift - run.beside), place) for place, shift in enumerate(shifts)][step:]
            distance, nearest = min(candidates, default=(Fraction(0), 0))
            shift = previous
            goes_back = end is not None and run.start + previous - end < -_LONGEST_OVERLAP_S
            if distance < _BESIDE_S and (nearest > step or not goes_back):
                step, shift = nearest, shifts[nearest]
            elif end is not None and (goes_back or run.start + previous - end > LONGEST_HOLD_S):
                shift = end - run.start
            if shift != previous:
                self.shifts.append((run.first, shift))
                self.exact = False
            previous = shift
            end = run.end + shift

    def _decode(self, source: Path, index: int) -> None:
        """See whether it is all of one kind and without gaps."""
        kind: tuple[str, str, int] | None = None
        expected_s = 0.0
        with open_container(source) as container:
            stream = container.streams[index]
            assert isinstance(stream, AudioStream)
            pieces = _Pieces(container, stream, self)
            for frame, time_s in pieces:
                if kind is None:
                    kind = _kind_of(frame)
                    self.rate_hz, self.channels = frame.sample_rate, frame.layout.nb_channels
                    fits = time_s is not None and time_s > -_ROUNDING_S
                else:
                    fits = kind == _kind_of(frame) and (time_s is None or abs(time_s - expected_s) < _ROUNDING_S)
                self.exact = self.exact and fits
                if not self.exact:
                    return
                expected_s = (expected_s if time_s is None else time_s) + frame.samples / frame.sample_rate
            self.exact = self.exact and not pieces.errors


class _Run(NamedTuple):
    """A stretch of a sound track over which its time stamps go on; times as stored, in seconds.

    Attributes:
        first: which packet of the track it begins with.
        start: of its first packet.
        end: of its last packet.
        beside: when the picture is shown, on its `PictureClock`, that lies before it in the file.
    """

    first: int
    start: Fraction
    end: Fraction
    beside: Fraction


def _runs(source: Path, index: int) -> tuple[list[_Run], list[Fraction]]:
    """The runs of a sound track, and by how much the pictures' time stamps were shifted, in the file's order."""
    runs: list[_Run] = []
    shifts = [Fraction(0)]
    picture_s: Fraction | None = None
    with open_container(source) as container:
        stream = container.streams[index]
        assert isinstance(stream, AudioStream)
        clock: PictureClock | None = None
        packets = _whole(packets_of(container, stream))
        with contextlib.suppress(MediaError):  # a song
            pictures = picture_track(container, source)
            clock = PictureClock(pictures.time_base or Fraction(1, av.time_base))
            packets = _whole(placed_packets(container, pictures, clock))
        count = -1
        for packet in packets:
            if packet.stream.index == index:
                count += 1
                _go_on(runs, packet, count, picture_s)
            elif isinstance(packet.stream, VideoStream) and clock is not None and packet.pts is not None:
                picture_s = packet.pts * packet.time_base
                shift = clock.shift * packet.time_base
                if shift != shifts[-1]:
                    shifts.append(shift)
    return runs, shifts


def _go_on(runs: list[_Run], packet: "Packet[Any]", count: int, picture_s: Fraction | None) -> None:
    if packet.pts is None:
        return
    start = packet.pts * packet.time_base
    end = start + (packet.duration or 0) * packet.time_base
    if runs and -_JITTER_S < start - runs[-1].end < _LONGEST_GAP_S:
        runs[-1] = runs[-1]._replace(end=end)
    else:
        runs.append(_Run(count, start, end, start if picture_s is None else picture_s))


def _whole(packets: "Iterator[Packet[Any]]") -> "Iterator[Packet[Any]]":
    """Up to the first damage to the container itself."""
    with contextlib.suppress(av.error.FFmpegError):
        yield from packets


def _kind_of(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


class _Pieces:
    """Decoded sound with its time from the first picture on, where it has a stamp, over restarts and damage.

    Attributes:
        errors: packets so far that could not be decoded.
    """

    def __init__(self, container: InputContainer, stream: AudioStream, survey: _Survey) -> None:
        self.errors = 0
        self._container = container
        self._stream = stream
        self._survey = survey

    def __iter__(self) -> Iterator[tuple[AudioFrame, float | None]]:
        follows: int | None = None  # the stamp of a packet that only follows the one before it
        misjudged = False
        for packet in _placed(self._container, self._stream, self._survey):
            # Transport streams stamp one packet of several; FFmpeg makes up the others by the rate that it found at the
            # beginning, which is wrong after a change. What is made up so is no stamp.
            made_up = misjudged and packet.pts == follows
            follows = None if packet.pts is None or not packet.duration else packet.pts + packet.duration
            try:
                frames = self._stream.decode(packet)
            except av.error.FFmpegError:
                self.errors += 1
                continue
            for frame in frames:
                time_s = None if frame.time is None or made_up else frame.time - self._survey.origin_s
                yield frame, time_s
            if frames and packet.duration:
                lasts_s = sum(frame.samples / frame.sample_rate for frame in frames)
                misjudged = abs(float(packet.duration * packet.time_base) / lasts_s - 1) > _MISJUDGED


def _placed(container: InputContainer, stream: AudioStream, survey: _Survey) -> "Iterator[Packet[AudioStream]]":
    """A track's packets, their time stamps on the clock of the pictures."""
    shifts = list(reversed(survey.shifts))
    _, shift = shifts.pop()
    for count, packet in enumerate(_whole(packets_of(container, stream))):
        if shifts and count >= shifts[-1][0]:
            _, shift = shifts.pop()
        if shift and packet.time_base:
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        yield packet


class _CopiedSound:
    """Packets as they are; its length is right to one packet, some 20 ms."""

    def __init__(self, container: InputContainer, stream: AudioStream, target: Muxer, survey: _Survey) -> None:
        self._container = container
        self._target = target
        self._stream = target.container.add_stream_from_template(stream)
        self._origin_s = survey.origin_s
        self._packets = _placed(container, stream, survey)
        self._next: Packet[AudioStream] | None = None
        self.heard = False

    def advance(self, until_s: float) -> None:
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = None
            if packet.pts is None or not packet.size:
                continue
            start_s = float(packet.pts * packet.time_base) - self._origin_s
            if start_s + float((packet.duration or 0) * packet.time_base) / 2 > until_s:
                self._next = packet
                return
            if start_s < -_START_UP_S:
                continue
            shift = round(self._origin_s / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = self._stream
            self._target.mux(packet)
            self.heard = True

    def finish(self, end_s: float) -> None:
        self.advance(end_s)

    def close(self) -> None:
        self._container.close()


class SoundEncoder:
    """Writes sound beside the pictures of a video, as AAC into MP4 and as Opus into WebM, from time 0 on.

    Args:
        target: takes the sound's track; before its first packet.
        suffix: `.mp4` or `.webm`.
        rate_hz: samples per second. A rate that the codec does not take becomes 48,000.
        channels: 1 or 2.

    Attributes:
        rate_hz: samples per second that `write` takes.
        channels: as told.
        layout: `mono` or `stereo`.
        written: samples so far, which is also the time of the next one.
    """

    def __init__(self, target: Muxer, suffix: str, rate_hz: int, channels: int) -> None:
        encoder = _ENCODER[suffix]
        fits = encoder != "libopus" and rate_hz in _AAC_RATES_HZ
        self.rate_hz = rate_hz if fits else _OPUS_RATE_HZ
        self.channels, self.layout = channels, "mono" if channels == 1 else "stereo"
        self.written = 0
        self._target = target
        added = target.container.add_stream(encoder, rate=self.rate_hz, layout=self.layout)
        assert isinstance(added, AudioStream)
        added.bit_rate = _BITS_PER_S_PER_CHANNEL * channels
        self._stream = added

    def write(self, wave: Wave) -> None:
        """Append samples, (channels, N) float32 in [-1, 1].

        Raises:
            OSError: the file cannot be written.
        """
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=self.layout)
        frame.sample_rate = self.rate_hz
        frame.pts, frame.time_base = self.written, Fraction(1, self.rate_hz)
        self.written += frame.samples
        self._target.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds.

        Raises:
            OSError: the file cannot be written.
        """
        self._target.mux(self._stream.encode(None))


class _EncodedSound:
    """Decoded and encoded anew; its length is right to the sample."""

    def __init__(
        self, container: InputContainer, stream: AudioStream, target: Muxer, suffix: str, survey: _Survey
    ) -> None:
        self._container = container
        self._encoder = SoundEncoder(target, suffix, survey.rate_hz, 1 if survey.channels == 1 else 2)
        self._pieces = _Pieces(container, stream, survey)
        self._waves = _continuous(self._pieces, self._encoder.layout, self._encoder.rate_hz)
        self._waiting = np.zeros((self._encoder.channels, 0), np.float32)

    @property
    def heard(self) -> bool:
        return self._encoder.written > 0

    def advance(self, until_s: float) -> None:
        limit = round(until_s * self._encoder.rate_hz)
        while self._encoder.written < limit:
            if not self._waiting.shape[1]:
                wave = next(self._waves, None)
                if wave is None:
                    return
                self._waiting = wave
            now, self._waiting = np.split(self._waiting, [limit - self._encoder.written], axis=1)
            self._encoder.write(now)

    def finish(self, end_s: float) -> None:
        self.advance(end_s)
        self._encoder.finish()
        if errors := self._pieces.errors:
            logger.warning(
                "the sound of %s is damaged: %d of its packets cannot be decoded and are silent",
                self._container.name,
                errors,
            )

    def close(self) -> None:
        self._container.close()


def _continuous(pieces: _Pieces, layout: str, rate_hz: int) -> Iterator[Wave]:
    """Sound from time 0 on without gaps or overlaps, in one layout and rate.

    A piece follows the one before it where its time stamp allows; else silence comes between them, or its beginning is
    cut off.

    Args:
        pieces: with their times in seconds.
        layout: `mono` or `stereo`.
        rate_hz: samples per second.

    Yields:
        (channels, samples) float32 in [-1, 1]: one after another.
    """
    position = 0  # of the next sample
    for start, wave in _resampled(pieces, layout, rate_hz):
        while start > position:
            silence = np.zeros((wave.shape[0], min(_BLOCK, start - position)), np.float32)
            position += silence.shape[1]
            yield silence
        rest = wave[:, position - start :]
        if rest.shape[1]:
            position += rest.shape[1]
            yield rest


def _resampled(pieces: _Pieces, layout: str, rate_hz: int) -> Iterator[tuple[int, Wave]]:
    """Pieces with the sample at which each begins; a stretch of one kind without gaps is resampled as one."""
    resampler: AudioResampler | None = None
    kind: tuple[str, str, int] | None = None
    expected_s = 0.0
    place = 0
    for frame, time_s in pieces:
        apart = time_s is not None and abs(time_s - expected_s) > _JITTER_S
        if resampler is None or apart or kind != _kind_of(frame):
            if resampler is not None:
                yield from _waves(resampler, None, place)
            kind = _kind_of(frame)
            resampler = AudioResampler(format="fltp", layout=layout, rate=rate_hz)
            expected_s = time_s if apart and time_s is not None else expected_s
            place = round(expected_s * rate_hz)
        expected_s += frame.samples / frame.sample_rate
        for start, wave in _waves(resampler, frame, place):
            place = start + wave.shape[1]
            yield start, wave
    if resampler is not None:
        yield from _waves(resampler, None, place)


def _waves(resampler: AudioResampler, frame: AudioFrame | None, place: int) -> Iterator[tuple[int, Wave]]:
    if frame is not None:
        frame.pts = None
    for part in resampler.resample(frame):
        if part is not None:  # what needs no conversion comes back, also the None at the end
            wave = part.to_ndarray().astype(np.float32, copy=False)
            yield place, wave
            place += wave.shape[1]
