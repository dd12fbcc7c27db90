"""Brightness and contrast of a part of a picture."""

import numpy as np
import pytest

from mcnet.media.light import Light

FACE = np.random.default_rng(3).normal(140, 32, (200, 160, 3)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", ["dark", "flat", "glaring"])
def test_what_no_lamp_does_in_a_frame_is_told(change: str) -> None:
    changed = {"dark": FACE // 50, "flat": np.full_like(FACE, 140), "glaring": FACE // 4 + 190}[change]
    assert Light.of(changed).differs(Light.of(FACE))
    assert Light.of(FACE).differs(Light.of(changed))


@pytest.mark.parametrize("gain", [0.9, 1.0, 1.1])
def test_a_cloud_and_noise_are_not(gain: float) -> None:
    noise = np.random.default_rng(4).normal(0, 3, FACE.shape)
    assert not Light.of((FACE * gain + noise).clip(0, 255).astype(np.uint8)).differs(Light.of(FACE))


def test_nothing_has_no_light() -> None:
    assert Light.of(FACE[:0]) == (0, 0)
