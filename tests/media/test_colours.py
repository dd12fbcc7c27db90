import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mcnet.media.colours import as_srgb
from mcnet.media.images import read_rgb

# From linear light in the primaries to linear sRGB (CSS Color 4's constants).
FROM_P3 = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
FROM_BT2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
SKIN = (200, 120, 90)
TEAL = (40, 130, 140)


def _linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _coded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 0) ** (1 / 2.4) - 0.055)


def _in(matrix: NDArray[np.float64], srgb: tuple[int, int, int]) -> tuple[int, ...]:
    """What a picture with other primaries stores for a colour of sRGB."""
    other = np.linalg.inv(matrix) @ _linear(np.array(srgb) / 255)
    return tuple(int(value) for value in np.rint(255 * _coded(other)))


def _profile(name: str) -> bytes:
    """A profile as cameras write it: made by hand, of the primaries' published values under D50."""
    primaries, gamma = {
        "Display P3": (((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)), 0.0),
        "Adobe RGB": (((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)), 2.19921875),
    }[name]

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))

    if gamma:
        curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(256 * gamma))
    else:
        curve = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags = [(f"{letter}XYZ", b"XYZ \0\0\0\0" + fixed(*xyz)) for letter, xyz in zip("rgb", primaries, strict=True)]
    tags += [(f"{letter}TRC", curve) for letter in "rgb"] + [("wtpt", b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249))]
    start, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, data in tags:
        table += struct.pack(">4sII", tag.encode(), start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (head.ljust(68, b"\0") + fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + table + body


def _two_colours(first: tuple[int, ...], second: tuple[int, ...]) -> Image.Image:
    rgb = np.zeros((80, 80, 3), np.uint8)
    rgb[:40], rgb[40:] = first, second
    return Image.fromarray(rgb)


def _read(path: Path) -> NDArray[np.int64]:
    rgb = read_rgb(path).astype(int)
    return np.stack([rgb[20, 40], rgb[60, 40]])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_display_p3_becomes_srgb_in_every_container(tmp_path: Path, kind: str) -> None:
    pillow_heif.register_heif_opener()
    stored = _two_colours(_in(FROM_P3, SKIN), _in(FROM_P3, TEAL))
    assert np.abs(np.array(_in(FROM_P3, SKIN)) - SKIN).max() > 8  # else the test would say nothing
    stored.save(tmp_path / "a.bin", kind, icc_profile=_profile("Display P3"), quality=95)
    assert np.abs(_read(tmp_path / "a.bin") - (SKIN, TEAL)).max() <= 5


def test_adobe_rgb_becomes_srgb(tmp_path: Path) -> None:
    to_srgb = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), _opened(_profile("Adobe RGB")), "RGB", "RGB"
    )  # the way back, to have what a camera stores
    stored = ImageCms.applyTransform(_two_colours(SKIN, TEAL), to_srgb)
    assert stored is not None
    assert np.abs(np.asarray(stored)[60, 40].astype(int) - TEAL).max() > 8
    stored.save(tmp_path / "a.jpg", icc_profile=_profile("Adobe RGB"), quality=95)
    assert np.abs(_read(tmp_path / "a.jpg") - (SKIN, TEAL)).max() <= 5


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize(("primaries", "matrix"), [(12, FROM_P3), (9, FROM_BT2020)])
def test_colours_that_a_file_names_by_numbers_become_srgb(
    tmp_path: Path, kind: str, primaries: int, matrix: NDArray[np.float64]
) -> None:
    pillow_heif.register_heif_opener()
    stored = _two_colours(_in(matrix, SKIN), _in(matrix, TEAL))
    stored.save(tmp_path / "a.bin", kind, quality=95)
    _renumber(tmp_path / "a.bin", primaries, 13)
    assert np.abs(_read(tmp_path / "a.bin") - (SKIN, TEAL)).max() <= 6


def test_a_png_may_name_its_colours_by_numbers_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    _two_colours(_in(FROM_P3, SKIN), _in(FROM_P3, TEAL)).save(path)
    content = path.read_bytes()
    chunk = b"cICP" + bytes([12, 13, 0, 1])
    at = content.index(b"IDAT") - 4
    path.write_bytes(content[:at] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[at:])
    assert np.abs(_read(path) - (SKIN, TEAL)).max() <= 3


def _renumber(path: Path, primaries: int, transfer: int) -> None:
    content = path.read_bytes()
    at = content.index(b"colrnclx") + 8
    numbers = primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big")
    path.write_bytes(content[:at] + numbers + content[at + 4 :])


@pytest.mark.parametrize(("transfer", "code_of_white"), [(16, 0.581), (18, 0.75)])
def test_a_high_dynamic_range_is_brought_into_the_usual_one(
    tmp_path: Path, transfer: int, code_of_white: float
) -> None:
    """White of 203 cd/m2 is 58 % of PQ and 75 % of HLG (ITU-R BT.2408): it becomes light, and a highlight lighter."""
    pillow_heif.register_heif_opener()
    white, peak, dark = (round(255 * code) for code in (code_of_white, 0.8 if transfer == 16 else 1.0, 0.1))
    _two_colours((white,) * 3, (peak,) * 3).save(tmp_path / "a.heic", quality=95)
    _renumber(tmp_path / "a.heic", 9, transfer)
    shown_white, shown_peak = _read(tmp_path / "a.heic").mean(axis=1)
    assert 175 < shown_white < 215
    assert shown_peak > 245
    _two_colours((dark,) * 3, (0,) * 3).save(tmp_path / "a.heic", quality=95)
    _renumber(tmp_path / "a.heic", 9, transfer)
    shown_dark, shown_black = _read(tmp_path / "a.heic").mean(axis=1)
    assert shown_black < 3 < shown_dark < 60


def test_a_profile_that_does_not_fit_or_is_damaged_loses_no_picture(tmp_path: Path) -> None:
    _two_colours(SKIN, TEAL).save(tmp_path / "a.png", icc_profile=b"nonsense")
    assert (_read(tmp_path / "a.png") == (SKIN, TEAL)).all()
    Image.new("L", (80, 80), 90).save(tmp_path / "grey.png", icc_profile=_profile("Display P3"))
    assert np.abs(_read(tmp_path / "grey.png") - 90).max() <= 1
    Image.new("CMYK", (80, 80)).save(tmp_path / "ink.jpg", icc_profile=_profile("Display P3"))
    assert (_read(tmp_path / "ink.jpg") > 250).all()


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (80, 80), (0, 255, 255, 0)).save(tmp_path / "ink.jpg")
    Image.new("CMYK", (80, 80), (0, 255, 255, 0)).save(tmp_path / "ink.tif")
    Image.new("1", (80, 80), 1).save(tmp_path / "bits.png")
    Image.new("LA", (80, 80), (200, 255)).save(tmp_path / "grey.png")
    Image.new("I;16", (80, 80), 32896).save(tmp_path / "deep.tif")
    Image.new("LAB", (80, 80), (255, 128, 128)).save(tmp_path / "lab.tif")
    Image.new("YCbCr", (80, 80), (128, 128, 128)).save(tmp_path / "chroma.tif")
    palette = Image.new("P", (80, 80))
    palette.putpalette([250, 10, 20])
    palette.save(tmp_path / "clear.png", transparency=0)
    for name, expected in (
        ("ink.jpg", (255, 0, 0)),
        ("ink.tif", (255, 0, 0)),
        ("bits.png", (255, 255, 255)),
        ("grey.png", (200, 200, 200)),
        ("deep.tif", (128, 128, 128)),
        ("chroma.tif", (128, 128, 128)),
        ("clear.png", (128, 128, 128)),
    ):
        assert np.abs(_read(tmp_path / name) - expected).max() <= 3, name
    assert _read(tmp_path / "lab.tif").min() > 245


def keyed_png(path: Path, colour: tuple[int, ...], key: tuple[int, ...], bits: int) -> Path:
    """A PNG of one colour, grey or RGB, with a colour that is transparent."""
    side = 80
    row = b"\0" + np.tile(np.array(colour, ">u2" if bits == 16 else ">u1"), side).tobytes()
    header = struct.pack(">IIBBBBB", side, side, bits, 0 if len(colour) == 1 else 2, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"tRNS", np.array(key, ">u2").tobytes()),
        (b"IDAT", zlib.compress(row * side)),
        (b"IEND", b""),
    )
    told = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(told))
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("bits", "colour", "key", "shown"),
    [(8, 100, 100, 128), (8, 100, 101, 100), (16, 40000, 40000, 128), (16, 25700, 100, 100), (16, 25700, 25701, 100)],
)
def test_a_transparent_colour_is_that_of_all_its_bits(
    tmp_path: Path, channels: int, bits: int, colour: int, key: int, shown: int
) -> None:
    path = keyed_png(tmp_path / "a.png", (colour,) * channels, (key,) * channels, bits)
    assert np.abs(_read(path) - shown).max() == 0


def test_transparency_stays_when_colours_are_converted() -> None:
    image = Image.new("RGBA", (4, 4), (*_in(FROM_P3, SKIN), 0))
    image.paste((*_in(FROM_P3, SKIN), 255), (0, 0, 2, 4))
    image.info["icc_profile"] = _profile("Display P3")
    shown = np.asarray(as_srgb(image)).astype(int)
    assert np.abs(shown[0, 0] - SKIN).max() <= 3
    assert (shown[0, 3] == 128).all()
