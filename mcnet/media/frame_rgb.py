"""A decoded frame as it is meant to be seen: upright, with square pixels, in the colours of a plain screen."""

import functools
import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple, cast

import cv2
import numpy as np
from av.buffer import Buffer
from av.filter import Graph
from av.filter.context import FilterContext
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from mcnet.media.colours import opaque

# Code points of ITU-T H.273, as frames carry them.
_PRIMARIES_BT709, _PRIMARIES_BT2020 = 1, 9
_TRANSFER_PQ, _TRANSFER_HLG = 16, 18
_MATRIX_BT2020_CONSTANT = 10
_KNOWN_MATRICES = frozenset({0, 1, 4, 5, 6, 7, 9})  # those that FFmpeg converts by; it refuses frames with others
_UNSPECIFIED = 2
# What is larger was made for HD, as DVDs and DV of 720 x 576 pixels at most were not.
_SD_LARGEST_PX = (1024, 576)

_LONGEST_PIXEL = 8  # 2 where half the width is stored; a damaged file says anything

_WHITE_NITS = 203.0  # HDR reference white, ITU-R BT.2408
_PEAK_NITS = 1000.0  # what films are graded for, and the display of HLG in ITU-R BT.2100
_PQ_PEAK_NITS = 10_000.0
_SCREEN_GAMMA = 2.4  # ITU-R BT.1886
_HLG_SYSTEM_GAMMA = 1.2  # at 1000 nits
_LUMA_BT2020 = np.array([0.2627, 0.6780, 0.0593])
_BT2020_TO_BT709 = np.array(  # ITU-R BT.2407, 2.2
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
_CLUT_LEVEL = 8  # 64 colours along each axis; between them FFmpeg interpolates


class Orientation(NamedTuple):
    """One of the eight ways in which a stored picture may be turned and mirrored.

    Attributes:
        transposed: rows are columns; comes first.
        flipped_x: mirrored left to right, after that.
        flipped_y: mirrored top to bottom, after that.
    """

    transposed: bool
    flipped_x: bool
    flipped_y: bool

    @classmethod
    def of(cls, frame: VideoFrame) -> "Orientation":
        """What a frame's display matrix asks for; the nearest of the eight, where it asks for another angle."""
        _know_all_side_data()
        # A container of our own: `frame.side_data` would keep one in the frame that refers back to it, and such a pair,
        # with all of the picture's memory, waits for Python's cyclic collector. (PyAV's type knows one key only.)
        side_data = cast("Mapping[Type, Buffer]", SideDataContainer(frame))  # type: ignore[call-arg]  # as it has it
        try:
            values = np.frombuffer(bytes(side_data[Type.DISPLAYMATRIX]), np.int32)
        except KeyError:
            return cls(False, False, False)
        # It brings a stored x, y to a x + c y, b x + d y.
        a, b, c, d = (int(values[place]) for place in (0, 1, 3, 4))
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def upright(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Set a stored (H, W, 3) picture upright."""
        if self.transposed:
            rgb = rgb.transpose(1, 0, 2)
        return rgb[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1]


@functools.cache
def _know_all_side_data() -> None:
    """Have PyAV take side data that FFmpeg has and it does not know, such as the EXIF of a camera's JPEGs.

    It would fail with `ValueError` for the whole frame, whatever else there is.
    """

    def unknown(cls: type[Type], number: int) -> Type:
        made: Type = object.__new__(cls)
        made._name_ = f"UNKNOWN_{number}"
        made._value_ = number  # type: ignore[assignment]  # as of every member
        return made

    Type._missing_ = classmethod(unknown)  # type: ignore[method-assign,assignment]


def shown_frame_size_px(frame: VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) upright and with square pixels; `aspect` is a stored pixel's width over its height, if told.

    What no pixel is like is damage, and taken for square.
    """
    width = frame.width
    if aspect is not None and 1 / _LONGEST_PIXEL <= aspect <= _LONGEST_PIXEL and abs(aspect - 1) > Fraction(1, 100):
        width = max(1, round(width * aspect))
    return (frame.height, width) if Orientation.of(frame).transposed else (width, frame.height)


class RgbConverter:
    """Makes RGB pictures of one size of a video's frames.

    High dynamic range (PQ and HLG) is mapped to a plain screen's by ITU-R BT.2390 for a peak of 1,000 nits and a white
    of 203 nits: what is darker than 88 nits, as faces are, stays as it is, lights are compressed. The colours of
    BT.2020 become those of BT.709. A frame that does not tell its matrix is read by BT.601 up to 1024 x 576 pixels, by
    BT.709 beyond.

    What is transparent is blended over mid-grey (128), as in still pictures. A video that changes its form midway, as
    one of a phone that is turned, goes on between black bars.

    Args:
        frame_size_px: (width, height) of the pictures, upright.
        aspect: a stored pixel's width over its height; None: square.
    """

    def __init__(self, frame_size_px: tuple[int, int], aspect: Fraction | None = None) -> None:
        self._frame_size_px = frame_size_px
        self._aspect = aspect
        self._mapping: _ColourMapping | None = None
        # One for all frames: a frame's own has threads of its own, for as long as the frame lives.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, upright and of the size."""
        rgb = Orientation.of(frame).upright(self._stored(frame))
        if (rgb.shape[1], rgb.shape[0]) != self._frame_size_px:
            rgb = _fitted(rgb, shown_frame_size_px(frame, self._aspect), self._frame_size_px)
        return np.ascontiguousarray(rgb)

    def _stored(self, frame: VideoFrame) -> NDArray[np.uint8]:
        wide = frame.color_primaries == _PRIMARIES_BT2020
        if frame.color_trc not in (_TRANSFER_PQ, _TRANSFER_HLG) and not wide:
            has_alpha = frame.format.has_palette or any(one.is_alpha for one in frame.format.components)
            # Not rgba: of 4:2:0 FFmpeg leaves out the last pixels of each row there, in every fourth width.
            kept = "gbrap" if has_alpha else "rgb24"
            shown = self._reformatter.reformat(frame, format=kept, src_colorspace=_matrix(frame))
            pixels = shown.to_ndarray().astype(np.uint8, copy=False)
            return opaque(pixels) if has_alpha else pixels
        kind = (frame.color_trc, frame.color_primaries != _PRIMARIES_BT709, frame.width, frame.height)
        if self._mapping is None or self._mapping.kind != kind:
            self._mapping = _ColourMapping(kind)
        return self._mapping(self._reformatter.reformat(frame, format="rgb48le", src_colorspace=_matrix(frame)))


def _fitted(rgb: NDArray[np.uint8], shown_px: tuple[int, int], frame_size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture that is to be seen in one size, within another one: between black bars where their forms differ."""
    scale = min(whole / part for part, whole in zip(shown_px, frame_size_px, strict=True))
    # To a pixel it is the same form: sizes are rounded.
    width, height = (
        whole if abs(part * scale - whole) < 1 else max(1, round(part * scale))
        for part, whole in zip(shown_px, frame_size_px, strict=True)
    )
    scaled = cv2.resize(np.ascontiguousarray(rgb), (width, height), interpolation=cv2.INTER_AREA)
    if (width, height) == frame_size_px:
        return scaled.astype(np.uint8, copy=False)
    fitted = np.zeros((frame_size_px[1], frame_size_px[0], 3), np.uint8)
    top, left = (frame_size_px[1] - height) // 2, (frame_size_px[0] - width) // 2
    fitted[top : top + height, left : left + width] = scaled
    return fitted


def _matrix(frame: VideoFrame) -> int | None:
    """By what luma and colour differences become red, green and blue; None: as the frame says."""
    if frame.colorspace in _KNOWN_MATRICES:
        return None
    if (
        frame.colorspace == _MATRIX_BT2020_CONSTANT
        or frame.color_trc in (_TRANSFER_PQ, _TRANSFER_HLG)
        or frame.color_primaries == _PRIMARIES_BT2020
    ):
        return Colorspace.BT2020
    is_sd = max(frame.width, frame.height) <= _SD_LARGEST_PX[0] and min(frame.width, frame.height) <= _SD_LARGEST_PX[1]
    return Colorspace.ITU601 if is_sd else Colorspace.ITU709


class _ColourMapping:
    """Maps the colours of frames of one kind by a table, which FFmpeg looks up."""

    def __init__(self, kind: tuple[int, bool, int, int]) -> None:
        self.kind = kind
        transfer, wide, width, height = kind
        table = VideoFrame.from_ndarray(_hald_table(transfer, wide=wide), format="rgb48le")
        self._graph = Graph()
        self._frames_in = self._graph.add_buffer(
            width=width, height=height, format=VideoFrame(16, 16, "rgb48le").format, time_base=Fraction(1)
        )
        table_in = self._graph.add_buffer(
            width=table.width, height=table.height, format=table.format, time_base=Fraction(1)
        )
        look_up, to_bytes = self._graph.add("haldclut"), self._graph.add("format", "rgb24")
        self._out: FilterContext = self._graph.add("buffersink")
        self._frames_in.link_to(look_up, 0, 0)
        table_in.link_to(look_up, 0, 1)
        look_up.link_to(to_bytes)
        to_bytes.link_to(self._out)
        self._graph.configure()
        table.pts, table.time_base = 0, Fraction(1)
        table_in.push(table)
        table_in.push(None)
        self._count = itertools.count()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 of a frame of 16 bits per colour."""
        frame.pts, frame.time_base = next(self._count), Fraction(1)
        frame.color_trc = frame.color_primaries = _UNSPECIFIED  # they are in the table; FFmpeg refuses some
        self._frames_in.push(frame)
        mapped = self._out.pull()
        assert isinstance(mapped, VideoFrame)
        return mapped.to_ndarray().astype(np.uint8, copy=False)


@functools.cache  # a video that loops asks for it every time
def _hald_table(transfer: int, *, wide: bool) -> NDArray[np.uint16]:
    """The colours of a screen for those of a frame, as a picture in which red runs fastest, then green, then blue."""
    along = np.linspace(0, 1, _CLUT_LEVEL**2)
    blue, green, red = np.meshgrid(along, along, along, indexing="ij")
    shown = to_screen(np.stack([red, green, blue], axis=-1), transfer, wide=wide)
    side = _CLUT_LEVEL**3
    return np.round(shown * 65535).astype(np.uint16).reshape(side, side, 3)


def to_screen(rgb: NDArray[np.float64], transfer: int, *, wide: bool) -> NDArray[np.float64]:
    """Signals of a plain screen for those of a video of high dynamic range or of wide colours.

    Args:
        rgb: (..., 3) in [0, 1], as stored.
        transfer: as H.273 numbers it: 16 is PQ, 18 is HLG (both ITU-R BT.2100), any other is a plain screen's.
        wide: whether the colours are those of BT.2020, or BT.709's.

    Returns:
        (..., 3) in [0, 1], BT.709 for a screen of BT.1886.
    """
    if transfer == _TRANSFER_PQ:
        nits = _pq_to_nits(rgb)
    elif transfer == _TRANSFER_HLG:
        scene = np.where(rgb <= 0.5, rgb**2 / 3, (np.exp((rgb - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        luminance = (scene @ _LUMA_BT2020)[..., None]
        nits = _PEAK_NITS * luminance ** (_HLG_SYSTEM_GAMMA - 1) * scene
    else:
        nits = _WHITE_NITS * rgb**_SCREEN_GAMMA
    if wide:
        nits = np.maximum(nits @ _BT2020_TO_BT709.T, 0)
    if transfer in (_TRANSFER_PQ, _TRANSFER_HLG):
        # By the brightest of the three, all alike: the hue stays.
        brightest = np.max(nits, axis=-1, keepdims=True)
        nits = nits * _compressed(brightest) / np.maximum(brightest, 1e-6)
    return np.asarray(np.clip(nits / _WHITE_NITS, 0, 1) ** (1 / _SCREEN_GAMMA), np.float64)


def _compressed(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring what is up to `_PEAK_NITS` bright below `_WHITE_NITS`: ITU-R BT.2390, 5.4.1, with black at 0."""
    peak = _nits_to_pq(np.array(_PEAK_NITS))
    level = np.minimum(_nits_to_pq(nits) / peak, 1)
    top = _nits_to_pq(np.array(_WHITE_NITS)) / peak
    knee = 1.5 * top - 0.5
    t = np.maximum(level - knee, 0) / (1 - knee)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    return _pq_to_nits(np.where(level < knee, level, bent) * peak)


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # SMPTE ST 2084


def _pq_to_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    root = np.asarray(signal, np.float64) ** (1 / _M2)
    return np.asarray(_PQ_PEAK_NITS * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1), np.float64)


def _nits_to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (np.asarray(nits, np.float64) / _PQ_PEAK_NITS) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2, np.float64)
