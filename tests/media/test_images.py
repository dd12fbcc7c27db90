import itertools
import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from mcnet.media.errors import MediaError
from mcnet.media.images import (
    KEPT_PIXELS,
    MOST_PIXELS,
    is_picture,
    pictures_in,
    read_rgb,
    usual_endings,
    write_rgb,
)
from mcnet.media.video import open_driving
from tests.media.grids import of_tiles

ORIENTATION = 0x0112


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """80 x 100, four quarters of different colour: every turn and mirror looks different."""
    rgb = np.zeros((80, 100, 3), np.uint8)
    rgb[:40, :50] = (250, 10, 20)
    rgb[:40, 50:] = (20, 240, 30)
    rgb[40:, :50] = (10, 30, 230)
    rgb[40:, 50:] = (200, 200, 40)
    return rgb


def test_png_survives_a_round_trip_under_a_name_beyond_ascii(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    path = tmp_path / "Bär 画像.png"
    write_rgb(path, picture)
    assert np.array_equal(read_rgb(path), picture)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_jpeg_keeps_the_colours_in_their_order(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    write_rgb(tmp_path / "a.jpg", picture)
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - picture).mean() < 2


FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif", "AVIF": "avif", "HEIF": "heic"}
UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: x.transpose(1, 0, 2)[::-1],
    99: lambda x: x,
}


def _saved(path: Path, rgb: NDArray[np.uint8], kind: str, **how: object) -> Path:
    pillow_heif.register_heif_opener()
    Image.fromarray(rgb).save(path, kind, quality=92, **how)
    return path


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", FORMATS)
def test_all_eight_orientations_are_set_upright_once(
    tmp_path: Path, picture: NDArray[np.uint8], kind: str, orientation: int
) -> None:
    """Pillow writes EXIF, and for AVIF and HEIC the container's own turn and mirror."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = _saved(tmp_path / f"a.{FORMATS[kind]}", picture, kind, exif=exif.tobytes())
    if kind in ("AVIF", "HEIF"):
        stored = path.read_bytes()
        assert (b"irot" in stored or b"imir" in stored) == (orientation != 1)
    read, expected = read_rgb(path), UPRIGHT[orientation](picture)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 4


def test_a_heic_is_turned_by_its_container_and_not_by_its_exif_besides(
    tmp_path: Path, picture: NDArray[np.uint8]
) -> None:
    """As an iPhone writes it: `irot` says 90 degrees clockwise, and so does EXIF."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = _saved(tmp_path / "a.heic", picture, "HEIF", exif=exif.tobytes()).read_bytes()
    assert b"irot\x03" in content
    order = "<" if b"Exif\0\0II*\0" in content else ">"
    entry = struct.pack(f"{order}HHI", ORIENTATION, 3, 1)
    place = content.index(entry) + len(entry)
    (tmp_path / "a.heic").write_bytes(content[:place] + struct.pack(f"{order}H", 6) + content[place + 2 :])
    read = read_rgb(tmp_path / "a.heic")
    assert np.abs(read.astype(int) - UPRIGHT[6](picture)).mean() < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_unknown_orientation_or_damaged_exif_changes_nothing(
    tmp_path: Path, picture: NDArray[np.uint8], kind: str
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 99
    path = _saved(tmp_path / "a.bin", picture, kind, exif=exif.tobytes())
    assert np.abs(read_rgb(path).astype(int) - picture).mean() < 4
    if kind != "TIFF":  # whose EXIF is its own directory
        path = _saved(tmp_path / "b.bin", picture, kind, exif=b"Exif\0\0II*\0\xff\xff\xff\x7fnonsense")
        assert np.abs(read_rgb(path).astype(int) - picture).mean() < 4


@pytest.mark.parametrize("avif", [False, True], ids=["HEIC", "AVIF"])
@pytest.mark.parametrize(("turn", "mirror"), [(0, None), (3, None), (1, 1)])
def test_a_picture_of_tiles_is_read_whole(tmp_path: Path, avif: bool, turn: int, mirror: int | None) -> None:
    """As phones write it, with smaller companions that nobody is to take for it."""
    height, width = np.mgrid[:170, :300]
    rgb = np.stack([width * 0.8, height * 1.4, 128 + 0 * width], axis=-1).astype(np.uint8)
    far, bright = np.full((64, 80), 200, np.uint8), np.full((86, 150), 99, np.uint8)
    path = tmp_path / "a.bin"
    path.write_bytes(of_tiles(rgb, avif=avif, turn=turn, mirror=mirror, depth=far, gain_map=bright))
    expected = np.rot90(rgb, turn)
    expected = expected if mirror is None else expected[:, ::-1]
    read = read_rgb(path)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).max() < 12
    (shown,) = open_driving(path)
    assert np.array_equal(shown, read)
    half = np.where(width < 150, 255, 0).astype(np.uint8)
    path.write_bytes(of_tiles(rgb, avif=avif, alpha=half))
    read = read_rgb(path)
    assert np.abs(read[:, :140].astype(int) - rgb[:, :140]).max() < 12
    assert np.abs(read[:, 160:].astype(int) - 128).max() < 6


def test_a_heic_that_lacks_tiles_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = of_tiles(np.full((170, 300, 3), 150, np.uint8), thumbnail=False)
    for content, said in ((whole, False), (whole + b"what a phone puts behind it", False), (whole[:-60], True)):
        (tmp_path / "a.heic").write_bytes(content)
        caplog.clear()
        read = read_rgb(tmp_path / "a.heic")
        assert np.abs(read[:100, :250].astype(int) - 150).max() < 6
        assert (np.abs(read[-10:, -10:].astype(int) - 150).max() > 50) == said
        message = f"the picture {tmp_path / 'a.heic'} is cut short: what is missing of it is green"
        assert [record.message for record in caplog.records] == [message] * said


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_white_of_a_deep_jpeg_2000_is_white(tmp_path: Path, bits: int, channels: int) -> None:
    """Pillow rounds 16 bits to 8 beyond 255, which is 0 then."""
    levels = np.linspace(0, 1, 128)
    rgb = np.stack([np.tile(levels, (96, 1)), np.tile(levels[::-1], (96, 1)), np.full((96, 128), 0.6)], axis=-1)
    stored = np.dstack([rgb, np.ones((96, 128))])[:, :, :channels]
    formats = {8: ("rgb24", "rgba"), 10: ("gbrp10le", "gbrap10le"), 12: ("gbrp12le", "gbrap12le")}
    deep = av.VideoFrame.from_ndarray((stored * 65535).round().astype(np.uint16), ("rgb48le", "rgba64le")[channels - 3])
    frame = deep.reformat(format=formats.get(bits, ("rgb48le", "rgba64le"))[channels - 3])
    frame.pts = 0
    codec = av.VideoCodecContext.create("jpeg2000", "w")
    codec.width, codec.height, codec.pix_fmt = 128, 96, frame.format.name
    codec.time_base, codec.options = Fraction(1, 25), {"pred": "1"}
    (tmp_path / "a.jp2").write_bytes(b"".join(bytes(part) for part in [*codec.encode(frame), *codec.encode(None)]))
    assert np.abs(read_rgb(tmp_path / "a.jp2") - rgb * 255).max() < 2


def _tiff(planes: list[NDArray[Any]], bits: int, photometric: int, orientation: int) -> bytes:
    """Plane by plane, of 96 rows and 128 columns."""
    contents = [plane.tobytes() for plane in planes]
    several = {258: [bits] * len(planes), 273: [0] * len(planes), 279: [len(content) for content in contents]}
    tags = {256: [128], 257: [96], 259: [1], 262: [photometric], 274: [orientation], 277: [len(planes)], 278: [96]}
    tags |= several | {284: [2 if len(planes) > 1 else 1]}
    beside = 8 + 2 + 12 * len(tags) + 4
    starts = itertools.accumulate(several[279], initial=beside + 4 * len(several) * len(planes))
    tags[273] = list(starts)[:-1]
    entries, values = b"", b""
    for tag, numbers in sorted(tags.items()):
        stored = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            entries += struct.pack("<HHII", tag, 4, len(numbers), beside + len(values))
            values += stored
        else:
            entries += struct.pack("<HHI", tag, 4, 1) + stored
    values = values.ljust(4 * len(several) * len(planes), b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values + b"".join(contents)


@pytest.mark.parametrize("orientation", [1, 6])
def test_tiffs_of_every_layout_look_the_same(tmp_path: Path, orientation: int) -> None:
    """Pillow shows noise, a negative and the dark, and what it maps into memory it does not turn."""
    levels = np.tile(np.arange(128) * 32, (96, 1))  # of 12 bits
    deep = np.round(levels / 4095 * 65535).astype("<u2")
    twelve = np.stack([levels[:, ::2] >> 4, levels[:, ::2] << 4 | levels[:, 1::2] >> 8, levels[:, 1::2]], axis=-1)
    grey = np.repeat(np.round(levels[:, :, None] / 4095 * 255).astype(np.uint8), 3, axis=2)
    colour = np.stack([grey[..., 0], grey[:, ::-1, 0], grey[..., 0] // 2], axis=-1)
    for planes, bits, photometric, expected in (
        ([(deep >> 8).astype(np.uint8)], 8, 1, grey),
        ([deep], 16, 1, grey),
        ([65535 - deep], 16, 0, grey),
        ([(twelve & 255).astype(np.uint8)], 12, 1, grey),
        ([deep, deep[:, ::-1], deep // 2], 16, 2, colour),
    ):
        (tmp_path / "a.tif").write_bytes(_tiff(planes, bits, photometric, orientation))
        assert np.abs(read_rgb(tmp_path / "a.tif").astype(int) - UPRIGHT[orientation](expected)).max() <= 2


def test_what_a_picture_is_its_content_says_and_not_its_name(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    for kind in (*FORMATS, "GIF", "BMP", "JPEG2000", "PPM"):
        path = _saved(tmp_path / f"{kind}.txt", picture, kind)
        assert is_picture(path)
        assert read_rgb(path).shape == picture.shape
    (tmp_path / "text.jpg").write_text("not a picture", encoding="utf-8")
    (tmp_path / "empty.png").touch()
    (tmp_path / "video.heic").write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(100))
    for name in ("text.jpg", "empty.png", "video.heic", "missing.png", "."):
        assert not is_picture(tmp_path / name)


def test_heic_and_avif_are_told_apart_where_the_first_brand_names_neither(
    tmp_path: Path, picture: NDArray[np.uint8]
) -> None:
    for kind, brand in (("HEIF", b"heic"), ("AVIF", b"avif")):
        content = _saved(tmp_path / "a.bin", picture, kind).read_bytes()
        size = int.from_bytes(content[:4], "big")
        brands = content[8:size].replace(b"mif1", brand)
        (tmp_path / "a.bin").write_bytes(content[:8] + b"mif1" + brands[4:] + content[size:])
        assert brand in brands[4:]
        assert np.abs(read_rgb(tmp_path / "a.bin").astype(int) - picture).mean() < 4


def test_a_folder_has_its_pictures_by_content_and_what_is_named_as_one(
    tmp_path: Path, picture: NDArray[np.uint8]
) -> None:
    for name, kind in (("10.bin", "PNG"), ("9", "HEIF"), ("2.JPG", "JPEG"), (".hidden.png", "PNG")):
        _saved(tmp_path / name, picture, kind)
    (tmp_path / "3.png").write_bytes(b"damaged")
    (tmp_path / "notes.txt").write_text("not a picture", encoding="utf-8")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["2.JPG", "3.png", "9", "10.bin"]


def test_dialogs_are_given_the_usual_endings() -> None:
    endings = usual_endings()
    assert {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".heic", ".heif", ".hif", ".avif", ".tif", ".gif"} <= {*endings}
    assert not {".mp4", ".pdf", ".eps", ".psd"} & {*endings}


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF", "HEIF", "MPO"])
def test_of_an_animation_or_of_several_pages_the_first_is_read(
    tmp_path: Path, picture: NDArray[np.uint8], kind: str
) -> None:
    pillow_heif.register_heif_opener()
    first, second = Image.fromarray(picture), Image.fromarray(255 - picture)
    first.save(tmp_path / "a.bin", kind, save_all=True, append_images=[second])
    with Image.open(tmp_path / "a.bin") as stored:
        assert getattr(stored, "n_frames", 1) == 2
    assert np.abs(read_rgb(tmp_path / "a.bin").astype(int) - picture).mean() < 8


def test_all_kinds_of_pixels_become_rgb(tmp_path: Path) -> None:
    grey = np.full((70, 70), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((70, 70, 3), (65535, 32896, 0), np.uint16))
    clear = np.zeros((70, 70, 4), np.uint8)
    clear[:, :] = (0, 0, 255, 0)
    clear[:35, :, 3] = 255
    cv2.imwrite(str(tmp_path / "clear.png"), clear)
    assert (read_rgb(tmp_path / "grey.png") == 90).all()
    assert (read_rgb(tmp_path / "deep.png") == (0, 128, 255)).all()
    blended = read_rgb(tmp_path / "clear.png")
    assert (blended[:35] == (255, 0, 0)).all()
    assert (blended[35:] == 128).all()


def test_a_palette_becomes_rgb(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([y % 2] * 64) for y in range(64))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 3, 0, 0, 0))
    png += chunk(b"PLTE", bytes([1, 2, 3, 200, 100, 50])) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "palette.png").write_bytes(png)
    read = read_rgb(tmp_path / "palette.png")
    assert (read[0] == (1, 2, 3)).all()
    assert (read[1] == (200, 100, 50)).all()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture", encoding="utf-8")
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((80, 63, 3), np.uint8))
    whole = _saved(tmp_path / "cut.png", np.random.default_rng(1).integers(0, 256, (80, 80, 3), np.uint8), "PNG")
    whole.write_bytes(whole.read_bytes()[:3000])
    Image.fromarray(np.zeros((80, 80), np.float32)).save(tmp_path / "float.tif")
    version = TiffImagePlugin.ImageFileDirectory_v2()
    version.tagtype[0xC612] = 1  # bytes
    version[0xC612] = b"\1\4\0\0"
    Image.new("RGB", (80, 80)).save(tmp_path / "raw.dng", "TIFF", tiffinfo=version)
    Image.new("RGB", (160, 120)).save(tmp_path / "thumbnail.nef", "TIFF", tiffinfo={0x00FE: 1})
    for name, message in (
        ("missing.png", "no picture at"),
        ("empty.png", "empty file"),
        ("text.png", "expected JPEG, PNG"),
        ("small.png", "63 x 80, expected at least 64"),
        (".", "got a folder"),
        ("cut.png", "damaged, cut short"),
        ("float.tif", "got 32 bits per channel"),
        ("raw.dng", "a camera's raw data"),
        ("thumbnail.nef", "a camera's raw data"),
    ):
        with pytest.raises(MediaError, match=message):
            read_rgb(tmp_path / name)


def test_a_jpeg_without_its_end_is_shown_as_viewers_show_it(
    tmp_path: Path, picture: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    whole = _saved(tmp_path / "a.jpg", picture, "JPEG").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:-2])
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - picture).mean() < 4
    noise = np.random.default_rng(1).integers(0, 256, (96, 80, 3), np.uint8)
    whole = _saved(tmp_path / "b.jpg", noise, "JPEG").read_bytes()
    expected = read_rgb(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    caplog.clear()
    cut = read_rgb(tmp_path / "b.jpg")
    assert np.array_equal(cut[:40], expected[:40])
    assert not np.array_equal(cut[80:], expected[80:])
    assert [record.message for record in caplog.records] == [
        f"the picture {tmp_path / 'b.jpg'} is cut short: what is missing of it is grey"
    ]
    (tmp_path / "c.jpg").write_bytes(whole + b"what a phone puts behind it" * 50)
    assert np.array_equal(read_rgb(tmp_path / "c.jpg"), expected)


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    (tmp_path / "folder.png").mkdir()
    for name, message in (
        ("a.xyz", "expected .png"),
        ("nowhere/a.png", "No such file"),
        ("folder.png", "it is a folder"),
    ):
        with pytest.raises(MediaError, match=message):
            write_rgb(tmp_path / name, picture)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_what_is_no_picture_of_eight_bits_is_named_and_writes_nothing(
    tmp_path: Path, picture: NDArray[np.uint8], suffix: str
) -> None:
    shown = np.zeros((64, 64, 3), np.uint8)
    write_rgb(tmp_path / f"old{suffix}", shown)
    strange: list[Any] = [
        picture / 255,
        picture.astype(np.float32) / 255,
        picture.astype(np.int64),
        picture[..., 0],
        picture[..., :2],
        picture[:0],
        picture[None],
        None,
    ]
    if suffix != ".png":
        strange.append(np.dstack((picture, picture[..., 0])))
    for one in strange:
        with pytest.raises(MediaError, match=rf"for a {suffix} file: got .* of shape .*, expected uint8 of shape"):
            write_rgb(tmp_path / f"old{suffix}", one)
    assert np.array_equal(read_rgb(tmp_path / f"old{suffix}"), shown)
    assert [entry.name for entry in tmp_path.iterdir()] == [f"old{suffix}"]


@pytest.mark.parametrize(("suffix", "most"), [(".png", 1_000_000), (".jpg", 65_500)])
def test_what_a_format_has_no_room_for_is_named(tmp_path: Path, suffix: str, most: int) -> None:
    write_rgb(tmp_path / f"most{suffix}", np.zeros((1, most, 3), np.uint8))
    for shape in ((1, most + 1, 3), (most + 1, 1, 3)):
        with pytest.raises(MediaError, match=f"expected at most {most} pixels per side; make it smaller"):
            write_rgb(tmp_path / f"more{suffix}", np.zeros(shape, np.uint8))
    assert [entry.name for entry in tmp_path.iterdir()] == [f"most{suffix}"]


def _png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    )


def test_a_picture_of_too_many_pixels_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png_header(25_000, MOST_PIXELS // 25_000 + 1))
    with pytest.raises(MediaError, match=r"25000 x 20001, expected at most 500 million pixels; make it smaller"):
        read_rgb(tmp_path / "bomb.png")
    (tmp_path / "most.png").write_bytes(_png_header(25_000, MOST_PIXELS // 25_000))
    with pytest.raises(MediaError, match="damaged, cut short"):  # not for its size
        read_rgb(tmp_path / "most.png")


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "P"), ("TIFF", "RGB")])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_is_scaled_down_to_what_is_kept(tmp_path: Path, kind: str, mode: str, orientation: int) -> None:
    tall = np.zeros((400, 300, 3), np.uint8)
    tall[:200, :, 0] = tall[:, 150:, 2] = 200
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(tall).convert(mode).save(tmp_path / "a.bin", kind, exif=exif)
    read = read_rgb(tmp_path / "a.bin", most_kept=10_000)
    expected = cv2.resize(UPRIGHT[orientation](tall), read.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert read.shape == ((115, 87, 3) if orientation == 1 else (87, 115, 3))
    assert np.abs(read.astype(int) - expected).mean() < 4


def test_a_phone_photograph_of_108_megapixels_is_read_and_its_memory_given_back(tmp_path: Path) -> None:
    """In a process of its own, where the engine has told the C library to keep freed memory."""
    path = tmp_path / "phone.jpg"
    Image.new("RGB", (12_000, 9_000), (200, 120, 60)).save(path, quality=60)
    script = """
import pathlib, sys
from mcnet.allocator import keep_freed_memory
from mcnet.media.images import read_rgb
def resident_mib():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024
read_rgb(sys.argv[2])
keep_freed_memory()
before = resident_mib()
rgb = read_rgb(sys.argv[1])
shape, colour = rgb.shape, rgb[100, 100].tolist()
del rgb
print(*shape, *colour, resident_mib() - before)
"""
    small = _saved(tmp_path / "small.jpg", np.zeros((80, 80, 3), np.uint8), "JPEG")
    run = subprocess.run(
        [sys.executable, "-c", script, path, small],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        encoding="utf-8",
    )
    height, width, _, *colour, grown_mib = map(float, run.stdout.split())
    assert 0.99 * KEPT_PIXELS < width * height < 1.01 * KEPT_PIXELS
    assert np.allclose(colour, (200, 120, 60), atol=4)
    if sys.platform == "linux":
        assert grown_mib < 40  # of the 100 and more that were needed


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such pipes")
@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "HEIF"])
def test_a_picture_may_come_out_of_a_pipe(tmp_path: Path, picture: NDArray[np.uint8], kind: str) -> None:
    """As `--source <(decrypt me.jpg)` gives it."""
    content = _saved(tmp_path / "a.bin", picture, kind).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    assert np.abs(read_rgb(tmp_path / "pipe").astype(int) - picture).mean() < 4
    writer.join()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such devices")
def test_a_device_is_no_picture() -> None:
    with pytest.raises(MediaError, match="got a device, expected a file"):
        read_rgb("/dev/zero")
