from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from assets import ROOT as ASSETS
from mcnet.arrays import Rgb
from mcnet.media.crop import frame_face
from mcnet.media.faces import FaceFinder
from mcnet.media.images import read_rgb
from mcnet.media.suitability import POOR_SCORE, suitability

PORTRAITS = sorted((ASSETS / "portraits").glob("*.jpg"))


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def _judged(finder: FaceFinder, rgb: Rgb) -> tuple[int, tuple[str, ...]]:
    face = finder.find(rgb)[0]
    return suitability(face, frame_face(face), rgb, several=False)


def _overexposed(rgb: Rgb) -> Rgb:
    return np.clip(1.7 * 255 * (rgb / 255) ** 0.55, 0, 255).astype(np.uint8)


def _cut_off(rgb: Rgb) -> Rgb:
    box = FaceFinder().find(rgb)[0].box
    return np.ascontiguousarray(rgb[:, int(box.left + 0.3 * (box.right - box.left)) :])


def _small(rgb: Rgb) -> Rgb:
    return cv2.resize(rgb, (80, 80), interpolation=cv2.INTER_AREA).astype(np.uint8)


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
def test_bundled_portraits_are_good_ones(finder: FaceFinder, path: Path) -> None:
    score, remarks = _judged(finder, read_rgb(path))
    assert score >= 95
    assert remarks in [(), ("the picture is soft",)]


@pytest.mark.parametrize(
    ("spoilt", "remark"),
    [
        (lambda rgb: (rgb // 12).astype(np.uint8), "the face is dark: take a picture in more light"),
        (_overexposed, "the face is over-exposed: take a picture in less light"),
        (_cut_off, "part of the face is cut off"),
        (_small, "the face is small: use a larger picture"),
    ],
    ids=["dark", "over-exposed", "cut off", "small"],
)
@pytest.mark.parametrize("path", [PORTRAITS[0], PORTRAITS[4], PORTRAITS[7]], ids=lambda path: path.stem)
def test_what_spoils_a_portrait_is_named(
    finder: FaceFinder, path: Path, spoilt: Callable[[Rgb], Rgb], remark: str
) -> None:
    score, remarks = _judged(finder, spoilt(read_rgb(path)))
    assert remark in remarks
    assert score < POOR_SCORE
