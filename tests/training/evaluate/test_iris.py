"""The iris network on the bundled clip, whose speaker blinks twice."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from assets import ROOT as ASSETS
from mcnet.arrays import Rgb
from mcnet.media.errors import MediaError
from mcnet.media.face_mesh import PlainMesh
from mcnet.media.faces import FaceFinder
from mcnet.media.video import open_driving
from training.evaluate.iris import SHUT, Eyes, IrisNetwork

OPEN_FRAME, SHUT_FRAME, ASIDE_FRAME = 0, 43, 41


@pytest.fixture(scope="module")
def network() -> IrisNetwork:
    return IrisNetwork()


@pytest.fixture(scope="module")
def frames() -> list[Rgb]:
    return list(open_driving(ASSETS / "driving" / "grid_bbaf2n.mpg"))


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder(mesh=PlainMesh())


def look(network: IrisNetwork, finder: FaceFinder, rgb: Rgb) -> Eyes:
    return network.look(rgb, finder.find(rgb)[0].landmarks_px)


def test_a_blink_is_seen(network: IrisNetwork, finder: FaceFinder, frames: list[Rgb]) -> None:
    opened, shut = (look(network, finder, frames[number]) for number in (OPEN_FRAME, SHUT_FRAME))
    assert shut.opening < SHUT - 0.05
    assert shut.shut
    assert not shut.open
    assert opened.opening > 0.2
    assert opened.open
    assert not opened.shut


def test_in_a_mirror_the_gaze_turns_round(network: IrisNetwork, finder: FaceFinder, frames: list[Rgb]) -> None:
    """A wrong flip hides well in one picture: each eye alone looks right."""
    rgb = frames[ASIDE_FRAME]
    seen, mirrored = look(network, finder, rgb), look(network, finder, np.ascontiguousarray(rgb[:, ::-1]))
    assert seen.gaze < -0.05
    assert mirrored.gaze == pytest.approx(-seen.gaze, abs=0.02)
    assert mirrored.opening == pytest.approx(seen.opening, abs=0.02)


def test_a_tilted_head_has_the_same_eyes(network: IrisNetwork, finder: FaceFinder, frames: list[Rgb]) -> None:
    rgb = frames[ASIDE_FRAME]
    height, width, _ = rgb.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 25, 1)
    tilted = cv2.warpAffine(rgb, turn, (width, height), flags=cv2.INTER_CUBIC).astype(np.uint8)
    assert look(network, finder, tilted) == pytest.approx(look(network, finder, rgb), abs=0.03)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "iris.tflite").write_bytes(b"something else")
    with pytest.raises(MediaError, match="is not the bundled one: got SHA-256"):
        IrisNetwork(tmp_path / "iris.tflite")
    with pytest.raises(MediaError, match="cannot read the bundled network"):
        IrisNetwork(tmp_path / "nowhere.tflite")
