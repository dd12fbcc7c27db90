"""HEIC and AVIF files as phones make them: a picture of tiles, with its turn, its alpha and its small companions."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

_HIDDEN = 1  # of an item that is a part of another


def of_tiles(
    rgb: NDArray[np.uint8],
    *,
    avif: bool = False,
    tile_px: int = 128,
    turn: int = 0,
    mirror: int | None = None,
    alpha: NDArray[np.uint8] | None = None,
    thumbnail: bool = True,
    depth: NDArray[np.uint8] | None = None,
    gain_map: NDArray[np.uint8] | None = None,
) -> bytes:
    """A file of one picture in square tiles, of which the last ones reach beyond its edges, as an iPhone's photograph.

    Args:
        rgb: (H, W, 3) uint8, as stored.
        avif: AV1 in place of HEVC.
        tile_px: side of a tile.
        turn: how often the picture is to be turned by 90 degrees anticlockwise.
        mirror: 0: top and bottom change places after the turn, 1: left and right; None: neither.
        alpha: (H, W) uint8, as stored, an item of one piece.
        thumbnail: whether there is a small picture too: a grey one, which nobody must take for the picture.
        depth: (h, w) uint8, how far things are.
        gain_map: (h, w) uint8, by how much brighter a display of high dynamic range shows things.
    """
    file = _File(avif=avif)
    height, width = rgb.shape[:2]
    rows, columns = -(-height // tile_px), -(-width // tile_px)
    padded = np.pad(rgb, ((0, rows * tile_px - height), (0, columns * tile_px - width), (0, 0)), mode="edge")
    colours = file.property(b"colr", b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80))
    tiles = []
    for row in range(rows):
        for column in range(columns):
            part = padded[row * tile_px : (row + 1) * tile_px, column * tile_px : (column + 1) * tile_px]
            tiles.append(file.coded(part, hidden=True))
            file.have(tiles[-1], colours)
    grid = file.item(b"grid", struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height))
    file.refer(b"dimg", grid, tiles)
    file.have(grid, file.size(width, height), colours)
    if turn:
        file.have(grid, file.property(b"irot", struct.pack(">B", turn)), essential=True)
    if mirror is not None:
        file.have(grid, file.property(b"imir", struct.pack(">B", mirror)), essential=True)
    if thumbnail:
        small = file.coded(np.full((64, 64, 3), 90, np.uint8))
        file.refer(b"thmb", small, [grid])
    kinds = {
        "urn:mpeg:mpegB:cicp:systems:auxiliary:alpha" if avif else "urn:mpeg:hevc:2015:auxid:1": alpha,
        "urn:mpeg:hevc:2015:auxid:2": depth,
        "urn:com:apple:photo:2020:aux:hdrgainmap": gain_map,
    }
    for name, plane in kinds.items():
        if plane is not None:
            item = file.coded(plane, hidden=True)
            file.have(item, file.property(b"auxC", bytes(4) + name.encode() + b"\0"), essential=True)
            file.refer(b"auxl", item, [grid])
    return file.content(grid)


class _File:
    """Items, what they have, and how they belong together (ISO/IEC 23008-12)."""

    def __init__(self, *, avif: bool) -> None:
        self._avif = avif
        self._items: list[tuple[bytes, bytes, int]] = []
        self._properties: list[bytes] = []
        self._had: dict[int, list[int]] = {}
        self._references: list[bytes] = []

    def item(self, kind: bytes, content: bytes, *, hidden: bool = False) -> int:
        self._items.append((kind, content, hidden * _HIDDEN))
        return len(self._items)

    def coded(self, pixels: NDArray[np.uint8], *, hidden: bool = False) -> int:
        content, settings = _encoded(pixels, avif=self._avif)
        item = self.item(b"av01" if self._avif else b"hvc1", content, hidden=hidden)
        self.have(item, self.property(b"av1C" if self._avif else b"hvcC", settings), essential=True)
        self.have(item, self.size(pixels.shape[1], pixels.shape[0]))
        return item

    def property(self, kind: bytes, content: bytes) -> int:
        box = _box(kind, content)
        if box not in self._properties:
            self._properties.append(box)
        return self._properties.index(box) + 1

    def size(self, width: int, height: int) -> int:
        return self.property(b"ispe", struct.pack(">III", 0, width, height))

    def have(self, item: int, *properties: int, essential: bool = False) -> None:
        self._had.setdefault(item, []).extend(number | 0x80 * essential for number in properties)

    def refer(self, kind: bytes, item: int, others: list[int]) -> None:
        self._references.append(_box(kind, struct.pack(f">HH{len(others)}H", item, len(others), *others)))

    def content(self, primary: int) -> bytes:
        brands = b"avifmif1miaf" if self._avif else b"heicmif1heic"
        start = _box(b"ftyp", brands[:4] + bytes(4) + brands)
        meta = self._meta(primary, 0)
        coded = b"".join(content for kind, content, _ in self._items if kind != b"grid")
        return start + self._meta(primary, len(start) + len(meta) + 8) + _box(b"mdat", coded)

    def _meta(self, primary: int, place: int) -> bytes:
        handler = bytes(8) + b"pict" + bytes(13)
        entries, places, beside = b"", b"", b""
        for number, (kind, content, flags) in enumerate(self._items, start=1):
            entries += _box(b"infe", struct.pack(">IHH4sB", 2 << 24 | flags, number, 0, kind, 0))
            is_grid = kind == b"grid"  # which is kept in this box, and not among the pictures
            start = len(beside) if is_grid else place
            places += struct.pack(">HHHHII", number, is_grid, 0, 1, start, len(content))
            beside += content * is_grid
            place += len(content) * (not is_grid)
        had = b"".join(struct.pack(">HB", item, len(them)) + bytes(them) for item, them in sorted(self._had.items()))
        return _box(
            b"meta",
            bytes(4)
            + _box(b"hdlr", handler)
            + _box(b"pitm", struct.pack(">IH", 0, primary))
            + _box(b"iloc", struct.pack(">IBBH", 1 << 24, 0x44, 0, len(self._items)) + places)
            + _box(b"iinf", struct.pack(">IH", 0, len(self._items)) + entries)
            + _box(b"iref", bytes(4) + b"".join(self._references))
            + _box(
                b"iprp",
                _box(b"ipco", b"".join(self._properties)) + _box(b"ipma", struct.pack(">II", 0, len(self._had)) + had),
            )
            + _box(b"idat", beside),
        )


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _encoded(pixels: NDArray[np.uint8], *, avif: bool) -> tuple[bytes, bytes]:
    """A picture as one frame of a video, and the settings that a decoder wants, as MP4 keeps both."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libsvtav1" if avif else "libx265", rate=Fraction(25))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "yuv420p"
        stream.codec_context.color_range = 2
        if avif:
            stream.options = {"crf": "8", "svtav1-params": "avif=1"}
        else:
            stream.options = {"crf": "8", "preset": "ultrafast", "x265-params": "log-level=none:pools=1:bframes=0"}
        frame = av.VideoFrame.from_ndarray(pixels, format="gray" if pixels.ndim == 2 else "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=6, dst_color_range=2)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    out.seek(0)
    with av.open(out, "r") as container:
        (video,) = container.streams.video
        settings = video.codec_context.extradata
        sample = next(bytes(packet) for packet in container.demux(video) if packet.size)
    assert settings is not None
    return sample, settings
