"""Which pictures show another scene than the one before."""

import numpy as np
import pytest

from mcnet.arrays import Rgb
from mcnet.media.cuts import SceneFinder


def _scene(seed: int) -> Rgb:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return coarse.repeat(40, 0).repeat(40, 1)


def _changes(*pictures: Rgb) -> list[bool]:
    scenes = SceneFinder()
    return [scenes.is_another(picture) for picture in pictures]


def test_another_scene_is_told_once_and_the_first_one_is_none() -> None:
    assert _changes(_scene(1), _scene(1), _scene(2), _scene(2), _scene(1)) == [False, False, True, False, True]


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_light_and_flat_pictures_change_no_scene(share: float) -> None:
    dimmed = (_scene(1) * share).astype(np.uint8)
    assert _changes(_scene(1), dimmed, _scene(1)) == [False] * 3
    flat = np.full((240, 320, 3), 200, np.uint8)
    assert _changes(flat, (flat * share).astype(np.uint8)) == [False] * 2
