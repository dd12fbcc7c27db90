import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mcnet.media.errors import MediaError
from mcnet.media.images import read_rgb, write_rgb


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """80 x 100, four quarters of different colour: every turn and mirror looks different."""
    rgb = np.zeros((80, 100, 3), np.uint8)
    rgb[:40, :50] = (250, 10, 20)
    rgb[:40, 50:] = (20, 240, 30)
    rgb[40:, :50] = (10, 30, 230)
    rgb[40:, 50:] = (200, 200, 40)
    return rgb


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_png_survives_a_round_trip_under_a_name_beyond_ascii(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    path = tmp_path / "Bär 画像.png"
    write_rgb(path, picture)
    assert np.array_equal(read_rgb(path), picture)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_jpeg_keeps_the_colours_in_their_order(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    write_rgb(tmp_path / "a.jpg", picture)
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - picture).mean() < 2


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: x.transpose(1, 0, 2)[:, ::-1]),
        (7, lambda x: x[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda x: x.transpose(1, 0, 2)[::-1]),
        (99, lambda x: x),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, picture: NDArray[np.uint8], orientation: int, undo) -> None:  # type: ignore[no-untyped-def]
    _, jpeg = cv2.imencode(".jpg", picture[:, :, ::-1])
    (tmp_path / "a.jpg").write_bytes(_with_orientation(jpeg.tobytes(), orientation))
    read = read_rgb(tmp_path / "a.jpg")
    expected = undo(picture)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).mean() < 3


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
    (tmp_path / "text.png").write_text("not a picture")
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((80, 63, 3), np.uint8))
    for name, message in (
        ("missing.png", "no picture at"),
        ("empty.png", "empty file"),
        ("text.png", "expected PNG, JPEG"),
        ("small.png", "63 x 80, expected at least 64"),
        (".", "got a folder"),
    ):
        with pytest.raises(MediaError, match=message):
            read_rgb(tmp_path / name)


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
