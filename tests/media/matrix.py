"""What videos are read, and what becomes of their sound: makes small ones of all kinds and writes `docs/media.md`.

Usage: python -m tests.media.matrix [FILE], from the repository's root; without FILE the table is printed.

Each case is a file of FFmpeg's test pattern or of a frame of the bundled clip. It is read and written as
`mcnet animate` does, and what was written is measured; a case that is not right raises AssertionError.
"""

import dataclasses
import itertools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mcnet.media.video import open_driving
from tests.media.clips import Clip, Tone, carried, is_copied, joined, measure, turned
from tests.media.videos import GRID, make_video

SYNC_S = 0.04
OUTPUTS = (".mp4", ".webm")

_INTRODUCTION = """\
# Videos that are read, and their sound

Made by `python -m tests.media.matrix docs/media.md`, which makes each of these files, reads and writes it as
`mcnet animate` does, and measures what was written; `tests/media/test_matrix.py` does the same and compares this page.
Every flash of the picture and the beep that belongs to it begin within 40 ms of each other in what is written, sound
and picture end within one frame of sound (or the sound where it ended in the file), and no picture is lost unless it
says so. "Copied" is the sound as it was, "encoded" is AAC in MP4 and Opus in WebM.

The rules:

- **Sound.** Every piece is placed by its own time stamp, relative to the first picture that can be decoded. Gaps become
  silence, overlaps are cut, time stamps that restart go on after what was, and changes of layout or rate are resampled.
  It is copied where that is exact: the format takes the codec, it begins with the first picture or later, and nothing
  in it is missing, edited, damaged or restarts. A track that cannot be decoded, such as the spatial audio of an iPhone,
  is passed over with a warning, and the next one is taken; of several the one that is marked as the default.
- **Rate.** What the time stamps say, whatever the header declares: of the median and the averages of their differences,
  and of the rates near them, the one that loses and doubles the fewest pictures. Where they are uneven, pictures come
  up to 30 ms (at low rates half a frame) early or late so that none is lost for which there is room, and a warning
  tells how many are.
- **Fields.** Frames that say that they are interlaced, as of camcorders, capture cards and DVDs, lose their combs
  (bwdif), at the frame rate of the file. It takes 1.5 ms per frame of 1920 x 1080; other frames pass as they are.
- **Orientation.** The eight ways to turn and mirror a picture.
- **Colours.** HDR (PQ and HLG) is mapped to a plain screen by ITU-R BT.2390, for a peak of 1,000 nits and a white of
  203 nits (ITU-R BT.2408); what is darker than 88 nits stays as it is. Wide colours (BT.2020) become those of BT.709.
  Files that do not tell their matrix are read by BT.601 up to 1024 x 576 pixels, by BT.709 beyond. Dolby Vision without
  a base layer (profile 5) is not supported.

DTS is decoded, and then takes the way of AC-3; PyAV has no encoder for it, so it is not in the table.
"""


@dataclass(frozen=True, eq=False)
class Case:
    """One row.

    Attributes:
        section: of the table.
        name: what it is, in words; the first cells.
        examine: given an empty folder, makes and reads it, and returns the other cells.
    """

    section: str
    name: tuple[str, ...]
    examine: Callable[[Path], tuple[str, ...]]


_HEADS = {
    "Containers and codecs": ("Container", "Pictures", "Sound", "Into MP4", "Into WebM"),
    "Sounds": ("Sound", "File", "Into MP4", "Into WebM"),
    "Rates": ("Time stamps", "File", "Read as", "Pictures lost", "Shown longer"),
    "Orientation": ("Stored", "Display matrix", "Shown"),
    "Colours": ("Material", "File", "Shown"),
}
_CODECS = {
    "libx264": "H.264", "libx265": "HEVC", "libsvtav1": "AV1", "libvpx": "VP8", "libvpx-vp9": "VP9", "mpeg4": "MPEG-4",
    "mpeg2video": "MPEG-2", "mpeg1video": "MPEG-1", "prores_ks": "ProRes", "mjpeg": "MJPEG", "ffv1": "FFV1",
    "flv": "Sorenson", "aac": "AAC", "libopus": "Opus", "vorbis": "Vorbis", "ac3": "AC-3", "eac3": "E-AC-3",
    "libmp3lame": "MP3", "mp2": "MP2", "alac": "ALAC", "flac": "FLAC", "pcm_s16le": "PCM", "pcm_s24le": "PCM, 24 bit",
    "pcm_f32le": "PCM, float",
}  # fmt: skip
_PIXELS = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}
_CONTAINERS = [
    ("mp4", "libx264", "aac"), ("mp4", "libx265", "aac"), ("mp4", "libsvtav1", "libopus"),
    ("mp4", "mpeg4", "libmp3lame"), ("mp4", "libx264", "ac3"), ("mp4", "libx264", "eac3"),
    ("mp4", "libx264", "flac"), ("m4v", "libx264", "alac"),
    ("3gp", "libx264", "aac"), ("mov", "libx264", "pcm_s16le"), ("mov", "prores_ks", "pcm_s24le"),
    ("mkv", "libx264", "aac"), ("mkv", "libx264", "vorbis"), ("mkv", "libx265", "flac"), ("mkv", "libx264", "eac3"),
    ("mkv", "ffv1", "pcm_f32le"), ("webm", "libvpx", "vorbis"), ("webm", "libvpx-vp9", "libopus"),
    ("webm", "libsvtav1", "libopus"), ("ts", "libx264", "aac"), ("ts", "libx265", "ac3"), ("ts", "libx264", "libopus"),
    ("m2ts", "libx264", "eac3"), ("mpg", "mpeg2video", "mp2"), ("vob", "mpeg2video", "ac3"),
    ("mpg", "mpeg1video", "mp2"), ("avi", "libx264", "ac3"), ("avi", "mjpeg", "pcm_s16le"), ("flv", "libx264", "aac"),
    ("ogv", "libvpx", "vorbis"), ("mxf", "mpeg2video", "pcm_s16le"),
]  # fmt: skip


def cases() -> Iterator[Case]:
    """All rows, in the table's order."""
    for suffix, pictures, sound in _CONTAINERS:
        clip = Clip(f".{suffix}", pictures, tones=(Tone(sound, 48_000),), pixels=_PIXELS.get(pictures, "yuv420p"))
        names = (suffix.upper(), _CODECS[pictures], _CODECS[sound])
        yield Case("Containers and codecs", names, _Carried(clip))
    yield from _sounds()
    yield from _rates()
    yield from _orientations()
    yield from _colours()


@dataclass(frozen=True)
class _Carried:
    """Both outputs of a clip, or of transport streams that are joined.

    Attributes:
        clip: what is made.
        then: what is joined to it.
        change: what is done to the file.
        flashes_s: when it is to flash, if not as the clip.
        sound_until_s: when the sound is to end, if not with the picture.
    """

    clip: Clip
    then: tuple[Clip, ...] = ()
    change: Callable[[Path], Path] | None = None
    flashes_s: tuple[float, ...] = ()
    sound_until_s: float | None = None

    def __call__(self, folder: Path) -> tuple[str, ...]:
        parts = [clip.make(folder / f"{place}{clip.suffix}") for place, clip in enumerate((self.clip, *self.then))]
        source = parts[0] if len(parts) == 1 else joined(folder / f"all{self.clip.suffix}", parts)
        if self.change is not None:
            source = self.change(source)
        shown_s = [float(clip.shown_s[-1] + 1 / clip.fps) for clip in (self.clip, *self.then)]
        starts_s = [0.0, *itertools.accumulate(shown_s)]
        flashes_s = self.flashes_s or tuple(
            start_s + flash_s
            for start_s, clip in zip(starts_s, (self.clip, *self.then), strict=False)
            for flash_s in clip.seen_flashes_s
        )
        return tuple(self._written(source, folder / f"out{suffix}", flashes_s) for suffix in OUTPUTS)

    def _written(self, source: Path, target: Path, flashes_s: tuple[float, ...]) -> str:
        carried(source, target)
        got = measure(target)
        wanted = np.array(flashes_s)
        assert len(got.flashes_s) == len(got.beeps_s) == len(wanted), got
        assert np.abs(np.array(got.flashes_s) - wanted).max() < 1e-3 + 0.5 / 25, (got, wanted)
        assert np.abs(np.array(got.beeps_s) - np.array(got.flashes_s)).max() < SYNC_S, got
        copied = is_copied(source, target)
        with av.open(target) as container:
            sound = container.streams.audio[0].codec_context
            frame_s = max(sound.frame_size, 1024) / sound.sample_rate
        until_s = min(got.picture_s, self.sound_until_s or got.picture_s)
        assert abs(got.sound_s - until_s) < frame_s + 0.002, (got, until_s, frame_s)
        return "copied" if copied else "encoded"


def _sounds() -> Iterator[Case]:
    transport = Clip(".ts", tones=(Tone("ac3", 48_000),))
    spatial = Clip(tones=(Tone(volume=0.0), Tone(volume=1.0)))
    second = Clip(".mkv", tones=(Tone(volume=0.0, language="eng", default=False), Tone(language="fra", default=True)))

    def with_tone(clip: Clip = Clip(), **tone: object) -> Clip:  # noqa: B008 - it is frozen
        return dataclasses.replace(clip, tones=(dataclasses.replace(clip.tones[0], **tone),))  # type: ignore[arg-type]

    flac, mov = Clip(".mkv", tones=(Tone("flac", 48_000),)), Clip(".mov", tones=(Tone("pcm_s16le"),))
    webm = Clip(".webm", "libvpx", tones=(Tone("libopus", 48_000),))
    named: list[tuple[str, _Carried]] = [
        ("one channel", _Carried(with_tone(layout="mono"))),
        ("5.1", _Carried(with_tone(flac, layout="5.1"))),
        ("7.1", _Carried(with_tone(flac, layout="7.1"))),
        ("8 kHz", _Carried(with_tone(rate_hz=8000, layout="mono"))),
        ("11.025 kHz", _Carried(with_tone(mov, rate_hz=11_025))),
        ("96 kHz", _Carried(with_tone(mov, rate_hz=96_000))),
        ("begins 0.3 s after the picture", _Carried(with_tone(stretches=((0.3, 1.2),)))),
        ("the same", _Carried(with_tone(webm, stretches=((0.3, 1.2),)))),
        ("begins 0.3 s before the picture", _Carried(with_tone(Clip(".mkv"), stretches=((-0.3, 1.2),)))),
        ("the same", _Carried(with_tone(webm, stretches=((-0.3, 1.2),)))),
        ("the same", _Carried(with_tone(transport, stretches=((-0.3, 1.2),)))),
        ("ends 0.25 s before the picture", _Carried(with_tone(stretches=((0.0, 0.95),)), sound_until_s=0.95)),
        ("ends 0.8 s after the picture", _Carried(with_tone(stretches=((0.0, 2.0),)))),
        ("0.2 s are missing in the middle", _Carried(with_tone(stretches=((0.0, 0.55), (0.75, 1.2))))),
        ("the same", _Carried(with_tone(webm, stretches=((0.0, 0.55), (0.75, 1.2))))),
        ("the same", _Carried(with_tone(transport, stretches=((0.0, 0.55), (0.75, 1.2))))),
        ("the first picture at 10 s", _Carried(dataclasses.replace(Clip(".mkv"), starts_s=10.0))),
        ("an edit list that cuts 0.4 s off", _Carried(
            with_tone(Clip(starts_s=-0.4, seconds=1.6, flashes_s=(0.8, 1.2)), stretches=((0.0, 1.6),)),
            flashes_s=(0.4, 0.8),
        )),
        ("time stamps run over (33 bits)", _Carried(dataclasses.replace(transport, starts_s=2**33 / 90_000 - 0.6))),
        ("cut between key frames", _Carried(transport, change=_cut, flashes_s=(0.8 - 12 / 25,))),
        ("joined: time stamps restart", _Carried(transport, (transport, transport))),
        ("joined: they restart, sound of other lengths", _Carried(
            with_tone(transport, stretches=((-0.2, 0.95),)), (with_tone(transport, stretches=((0.3, 1.5),)),)
        )),
        ("joined: they jump 500 s ahead", _Carried(transport, (dataclasses.replace(transport, starts_s=500.0),))),
        ("joined: stereo, 5.1, one channel", _Carried(
            transport, (with_tone(transport, layout="5.1"), with_tone(transport, layout="mono"))
        )),
        ("joined: 44.1 kHz in one channel, 48 kHz in two", _Carried(
            with_tone(transport, codec="aac", rate_hz=44_100, layout="mono"), (with_tone(transport, codec="aac"),)
        )),
        ("joined: 48 kHz in two channels, 32 kHz in one", _Carried(
            with_tone(transport, codec="aac"), (with_tone(transport, codec="aac", rate_hz=32_000, layout="mono"),)
        )),
        ("the first track cannot be decoded", _Carried(spatial, change=unknown_first_sound)),
        ("two languages, the second is the default", _Carried(second)),
    ]  # fmt: skip
    for name, examine in named:
        container = examine.clip.suffix[1:].upper()
        yield Case("Sounds", (name, f"{container}, {_CODECS[examine.clip.tones[0].codec]}"), examine)


def _cut(path: Path) -> Path:
    """Leave off the beginning of a transport stream, up to behind its first key frame."""
    content = path.read_bytes()
    with av.open(path) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None and packet.size]
    path.write_bytes(content[places[3] :])
    return path


def unknown_first_sound(path: Path) -> Path:
    """Make the first sound track one of Apple's spatial audio, which FFmpeg does not decode."""
    content = path.read_bytes()
    place = content.index(b"mp4a", content.rindex(b"moov"))
    content = content[:place] + content[place:].replace(b"mp4a", b"apac", 1).replace(b"esds", b"free", 1)
    path.write_bytes(content)
    return path


def _rates() -> Iterator[Case]:
    declared = [Fraction(24_000, 1001), *map(Fraction, (24, 25)), Fraction(30_000, 1001), *map(Fraction, (30, 50))]
    declared += [Fraction(60_000, 1001), *map(Fraction, (60, 120, 15, 10))]
    for fps in declared:
        yield Case("Rates", (f"{float(fps):.5g} frames/s", "MP4"), _Rated(Clip(fps=fps, tones=()), fps))
    for fps in (declared[0], declared[3], declared[6]):
        clip = Clip(".webm", "libvpx", fps=fps, tones=())
        yield Case("Rates", (f"{float(fps):.5g} frames/s, stamps in ms", "WebM"), _Rated(clip, fps))
    rng = np.random.default_rng(0)
    jitter = np.arange(40) / 30 + rng.uniform(-0.012, 0.012, 40)
    browser = Clip(".webm", "libvpx", Fraction(1000), times_s=_ms(jitter - jitter[0]), tones=())
    yield Case("Rates", ("30 frames/s and jitter of 12 ms, declared 1000", "WebM"), _Rated(browser, Fraction(30), 2))
    phone = np.cumsum([0, *[1 / 30] * 30, *[1 / 24] * 12, *[1 / 30] * 20])
    yield Case(
        "Rates",
        ("30 frames/s, for 0.5 s in the dark 24", "MP4"),
        _Rated(Clip(times_s=_ms(phone), tones=()), Fraction(30)),
    )
    pulldown = np.cumsum([0, *[2 / 59.94, 3 / 59.94] * 20])
    yield Case(
        "Rates",
        ("2:3 pull-down by flags", "MKV"),
        _Rated(Clip(".mkv", times_s=_ms(pulldown), tones=()), Fraction(24), 0.1),
    )
    screen = np.cumsum([0, *([1 / 60] * 12 + [0.5]) * 3])
    yield Case(
        "Rates",
        ("a screen: still, then 60 frames/s", "MKV"),
        _Rated(Clip(".mkv", times_s=_ms(screen), tones=()), Fraction(60)),
    )


def _ms(times_s: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(np.maximum.accumulate(np.round(times_s, 3)).tolist())


@dataclass(frozen=True)
class _Rated:
    clip: Clip
    wanted: Fraction
    within: float = 1e-3

    def __call__(self, folder: Path) -> tuple[str, ...]:
        video = open_driving(self.clip.make(folder / f"a{self.clip.suffix}"))
        assert abs(video.fps - float(self.wanted)) <= self.within, video.fps
        shown = list(video)
        fresh = [True, *(not np.array_equal(before, after) for before, after in itertools.pairwise(shown))]
        starts = [*np.flatnonzero(fresh).tolist(), len(shown)]
        lost = len(self.clip.shown_s) - sum(fresh)
        longer = sum(after - before > 1 for before, after in itertools.pairwise(starts))
        length_s = self.clip.shown_s[-1] + 1 / video.fps
        assert abs(len(shown) / video.fps - length_s) < 1.5 / video.fps, (len(shown), length_s)
        assert not lost, f"{lost} of {len(self.clip.shown_s)} pictures are lost at {video.fps} frames/s"
        return f"{video.fps:.5g}", str(lost), str(longer)


_EIGHT = {
    "upright": (1, 0, 0, 1),
    "turned left": (0, 1, -1, 0),
    "upside down": (-1, 0, 0, -1),
    "turned right": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "mirrored, turned left": (0, 1, 1, 0),
    "mirrored, upside down": (1, 0, 0, -1),
    "mirrored, turned right": (0, -1, -1, 0),
}


def _orientations() -> Iterator[Case]:
    for name, matrix in _EIGHT.items():
        yield Case("Orientation", (name, " ".join(map(str, matrix))), _Turned(matrix))


@dataclass(frozen=True)
class _Turned:
    matrix: tuple[int, int, int, int]

    def __call__(self, folder: Path) -> tuple[str, ...]:
        face = bundled_frame()
        path = turned(make_video(folder / "a.mp4", [stored_for(face, self.matrix)] * 2), self.matrix)
        video = open_driving(path)
        shown = next(iter(video))
        assert video.frame_size_px == (face.shape[1], face.shape[0])
        assert np.abs(shown.astype(int) - face).mean() < 6
        return ("upright",)


def bundled_frame() -> NDArray[np.uint8]:
    """The first frame of the bundled clip, cut so that it has no symmetry: (256, 320, 3)."""
    return np.ascontiguousarray(next(iter(open_driving(GRID)))[:256, :320])


def stored_for(rgb: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The picture that a display matrix makes upright, pixel by pixel by its definition."""
    a, b, c, d = matrix
    height, width = rgb.shape[:2]
    x, y = np.meshgrid(np.arange(width if a else height), np.arange(height if a else width))
    shown_x, shown_y = a * x + c * y, b * x + d * y
    return np.ascontiguousarray(rgb[shown_y - shown_y.min(), shown_x - shown_x.min()])


def _colours() -> Iterator[Case]:
    sd, hd = (96, 64), (1280, 720)
    for name, frame_size_px, matrix, tagged in (
        ("SD, untagged: BT.601", sd, Colorspace.ITU601, None),
        ("HD, untagged: BT.709", hd, Colorspace.ITU709, None),
        ("HD, tagged BT.601", hd, Colorspace.ITU601, 5),
        ("SD, tagged BT.709", sd, Colorspace.ITU709, 1),
    ):
        yield Case("Colours", (name, "MP4, H.264"), _Coloured(frame_size_px, matrix, tagged, full=False))
    yield Case("Colours", ("full range", "MP4, H.264"), _Coloured(sd, Colorspace.ITU709, 1, full=True))
    for name, transfer in (("HDR: PQ", 16), ("HDR: HLG", 18)):
        yield Case("Colours", (name, "MP4, HEVC, 10 bit"), _Hdr(transfer))


@dataclass(frozen=True)
class _Coloured:
    frame_size_px: tuple[int, int]
    matrix: Colorspace
    tag: int | None
    full: bool

    def __call__(self, folder: Path) -> tuple[str, ...]:
        rgb = np.empty((self.frame_size_px[1], self.frame_size_px[0], 3), np.uint8)
        rgb[:] = (190, 60, 40)
        frame = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=self.matrix, dst_color_range=2 if self.full else 1
        )
        path = tagged_video(folder / "a.mp4", frame, "libx264", matrix=self.tag, full=self.full)
        off = np.abs(next(iter(open_driving(path))).astype(int) - rgb).max()
        assert off <= 4, f"colours are off by {off} of 255"
        return ("as made",)


@dataclass(frozen=True)
class _Hdr:
    transfer: int

    def __call__(self, folder: Path) -> tuple[str, ...]:
        face = bundled_frame()
        path = tagged_video(
            folder / "a.mp4", hdr_frame(face, self.transfer), "libx265", matrix=9, transfer=self.transfer, primaries=9
        )
        shown = next(iter(open_driving(path)))
        # The wall, near white, is compressed; the face is what has to stay.
        skin = np.s_[110:190, 120:200]
        off = np.abs(shown[skin].astype(int) - face[skin]).mean()
        assert off < 8, f"the face is off by {off:.1f} of 255"
        return ("the face as made, lights compressed",)


def hdr_frame(rgb: NDArray[np.uint8], transfer: int) -> VideoFrame:
    """A plain picture as HDR video shows it: its white at 203 nits, BT.2020, 10 bits.

    Args:
        rgb: (H, W, 3).
        transfer: 16 is PQ, 18 is HLG.
    """
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    nits = 203 * ((rgb / 255) ** 2.4) @ to_bt2020.T
    if transfer == 16:
        power = (nits / 10_000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        luminance = (nits @ np.array([0.2627, 0.6780, 0.0593]))[..., None] / 1000
        scene = nits / 1000 * np.maximum(luminance, 1e-6) ** (1 / 1.2 - 1)
        above = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-6)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), above)
    stored = np.round(np.clip(signal, 0, 1) * 65535).astype(np.uint16)
    return VideoFrame.from_ndarray(stored, format="rgb48le").reformat(
        format="yuv420p10le", dst_colorspace=Colorspace.BT2020, dst_color_range=1
    )


def tagged_video(
    path: Path,
    frame: VideoFrame,
    codec: str,
    *,
    matrix: int | None,
    transfer: int = 2,
    primaries: int = 2,
    full: bool = False,
) -> Path:
    """Three times a frame; `matrix` and the others as ITU-T H.273 numbers them, 2 is untold."""
    options = {"preset": "ultrafast", "crf": "8", "x265-params": "log-level=none"}
    if codec == "libx264":
        del options["x265-params"]
    with av.open(path, "w") as target:
        stream = target.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
        context = stream.codec_context
        context.colorspace = 2 if matrix is None else matrix
        context.color_trc, context.color_primaries = transfer, primaries
        context.color_range = 2 if full else 1
        for index in range(3):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def page(rows: dict[Case, tuple[str, ...]]) -> str:
    """The document of examined cases."""
    parts = [_INTRODUCTION]
    for section, head in _HEADS.items():
        lines = [(*case.name, *cells) for case, cells in rows.items() if case.section == section]
        table = [head, tuple("---" for _ in head), *lines]
        parts.append(f"## {section}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in table) + "\n")
    return "\n".join(parts)


def examined(case: Case) -> tuple[str, ...]:
    """What a case gives, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return case.examine(Path(folder))


def main() -> None:
    logging.disable(logging.WARNING)
    os.environ["SVT_LOG"] = "1"  # its encoder prints a page for every video
    text = page({case: examined(case) for case in cases()})
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
