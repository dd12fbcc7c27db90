from fractions import Fraction

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from mcnet.media.frame_rgb import RgbConverter, to_screen
from tests.media.matrix import bundled_frame, hdr_frame

PQ, HLG, PLAIN = 16, 18, 1


def pq(nits: float) -> float:
    power = (nits / 10_000) ** (2610 / 16384)
    return float(((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32))


def grey(signal: float, transfer: int) -> float:
    red, green, blue = to_screen(np.full(3, signal), transfer, wide=True)
    assert red == pytest.approx(green, abs=2e-3)
    assert blue == pytest.approx(green, abs=2e-3)
    return float(green)


@pytest.mark.parametrize("nits", [1, 20, 50, 85])
def test_what_is_darker_than_a_white_shirt_stays(nits: float) -> None:
    assert grey(pq(nits), PQ) == pytest.approx((nits / 203) ** (1 / 2.4), rel=0.01)


def test_lights_are_compressed_up_to_the_peak() -> None:
    levels = [grey(pq(nits), PQ) for nits in (100, 203, 400, 700, 1000)]
    assert levels == sorted(levels)
    assert 0.85 < levels[1] < 0.97, "paper white is nearly white"
    assert levels[-1] == pytest.approx(1, abs=0.01)


def test_both_kinds_agree_on_paper_white() -> None:
    """ITU-R BT.2408: 75 % of HLG's signal is 58 % of PQ's."""
    assert grey(0.75, HLG) == pytest.approx(grey(0.58, PQ), abs=0.02)


def test_wide_colours_of_a_plain_video() -> None:
    assert grey(0.5, PLAIN) == pytest.approx(0.5, abs=2e-3)
    red = to_screen(np.array([1.0, 0.0, 0.0]), PLAIN, wide=True)
    assert red.tolist() == [1.0, 0.0, 0.0], "beyond what the screen shows"


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_face_in_hdr_looks_as_the_plain_one(transfer: int) -> None:
    face = bundled_frame()
    frame = hdr_frame(face, transfer)
    frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = 9, 9, transfer, 1
    plain = frame.to_ndarray(format="rgb24")
    shown = RgbConverter((face.shape[1], face.shape[0]))(frame)
    skin = np.s_[110:190, 120:200]
    assert np.abs(shown[skin].astype(int) - face[skin]).mean() < 4
    assert np.abs(plain[skin].astype(int) - face[skin]).mean() > 20, "it was not plain before"


def test_a_video_that_changes_its_size_midway() -> None:
    face = bundled_frame()
    convert = RgbConverter((160, 128))
    for size in (face, face[::2, ::2]):
        frame = hdr_frame(np.ascontiguousarray(size), PQ)
        frame.color_primaries, frame.color_trc = 9, PQ
        assert convert(frame).shape == (128, 160, 3)


@pytest.mark.parametrize("kept", ["rgba", "yuva420p", "gbrap16le"])
def test_what_is_transparent_is_grey_as_in_still_pictures(kept: str) -> None:
    rgba = np.full((64, 96, 4), (250, 0, 0, 255), np.uint8)
    rgba[:, :48] = (0, 250, 0, 0)  # what an editor left there, and nobody is to see
    frame = VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=kept)
    rgb = RgbConverter((96, 64))(frame).astype(int)
    assert np.abs(rgb[:, :44] - 128).max() <= 1
    assert np.abs(rgb[:, 52:] - (250, 0, 0)).max() < 8


@pytest.mark.parametrize("kept", ["yuv420p", "yuva420p", "yuva444p"])
def test_frames_of_any_width_are_shown_to_their_last_pixel(kept: str) -> None:
    for width in range(128, 145):
        frame = VideoFrame.from_ndarray(np.full((32, width, 4), 200, np.uint8), format="rgba").reformat(format="gbrap")
        rgb = RgbConverter((width, 32))(VideoReformatter().reformat(frame, format=kept))
        assert np.ptp(rgb) <= 1, width


@pytest.mark.parametrize(
    ("size_px", "aspect", "shown"),
    [
        ((160, 128), None, (0, 0, 160, 128)),
        ((80, 64), None, (0, 0, 160, 128)),
        ((128, 160), None, (29, 0, 102, 128)),
        ((320, 128), None, (0, 32, 160, 64)),
        ((80, 128), Fraction(2), (0, 0, 160, 128)),
        ((128, 128), Fraction(1, 2), (48, 0, 64, 128)),
        ((80, 64), Fraction(1, 5000), (0, 0, 160, 128)),  # that is damage
        ((80, 64), Fraction(2**31 - 1), (0, 0, 160, 128)),
    ],
)
def test_a_video_that_changes_its_form_midway_is_not_stretched(
    size_px: tuple[int, int], aspect: Fraction | None, shown: tuple[int, int, int, int]
) -> None:
    white = VideoFrame.from_ndarray(np.full((size_px[1], size_px[0], 3), 255, np.uint8), format="rgb24")
    rgb = RgbConverter((160, 128), aspect)(white)
    assert rgb.shape == (128, 160, 3)
    assert cv2.boundingRect((rgb[:, :, 0] > 128).astype(np.uint8)) == shown


@pytest.mark.parametrize("matrix", range(18))
@pytest.mark.parametrize(("transfer", "primaries"), [(1, 1), (0, 9), (3, 9), (16, 22), (18, 3), (19, 0)])
def test_tags_of_any_kind_are_taken(matrix: int, transfer: int, primaries: int) -> None:
    """FFmpeg refuses frames whose tags it does not know."""
    frame = VideoFrame.from_ndarray(np.full((64, 96, 3), 120, np.uint8), format="rgb24").reformat(format="yuv420p")
    frame.colorspace, frame.color_trc, frame.color_primaries = matrix, transfer, primaries
    assert RgbConverter((96, 64))(frame).shape == (64, 96, 3)
