"""How much the animation jitters while the performer does not move."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcnet.arrays import Rgb
from mcnet.commands.drives import Shot
from training.evaluate.methods import MethodRunner
from training.evaluate.metrics import REFERENCE_SIDE_PX
from training.evaluate.scores import Jitter

JITTER_FRAMES = 12
NOISE_LEVELS = 2.0
"""Standard deviation of the still performer's sensor noise, of 255 grey levels: a webcam's in good light."""
SHIFT_PX = 0.25
"""How far the still performer is shifted at most along x and y."""


class StillPerformer:
    """One frame again and again, each time with new noise or another shift.

    Args:
        rgb: (S, S, 3), the frame.
        rng: draws noise and shifts.
    """

    def __init__(self, rgb: Rgb, rng: np.random.Generator) -> None:
        self.noisy = [_with_noise(rgb, rng) for _ in range(JITTER_FRAMES)]
        self.shifts_px = rng.uniform(-SHIFT_PX, SHIFT_PX, (JITTER_FRAMES, 2))
        self.shifted = [_shifted(rgb, shift) for shift in self.shifts_px]


def measure_jitter(
    runner: MethodRunner, method: str, source: Shot, noisy: Sequence[Shot], shifted: Sequence[Shot], shifts_px: Any
) -> Jitter | None:
    """Let a still performer drive, by absolute keypoints.

    Args:
        runner: of the model.
        method: `measured`, `detected` or `model`.
        source: who is animated.
        noisy: the performer with noise.
        shifted: the performer shifted.
        shifts_px: (N, 2) by how much.

    Returns:
        None where keypoints cannot be measured, for want of a face.
    """
    measured = method == "measured"
    if measured and any(shot.face is None for shot in (source, *noisy, *shifted)):
        return None
    half_px = (source.square.shape[0] - 1) / 2
    scale = REFERENCE_SIDE_PX / source.square.shape[0]
    plain = runner.plain
    predictions = [shown.rgb.astype(np.float32) for shown in runner.perform(method, source, None, noisy)]
    cache = plain.encode(source, measured=measured)
    driving = [plain.keypoints(shot, measured=measured) for shot in noisy]
    if measured:
        driving = [plain.as_trained(keypoints, cache) for keypoints in driving]
    deformations = [plain.deformation(cache, keypoints) for keypoints in driving]
    places = np.stack([keypoints.value[0].cpu().numpy() for keypoints in driving])
    moved = np.stack([plain.keypoints(shot, measured=measured).value[0].cpu().numpy() for shot in shifted])
    return Jitter(
        keypoints_px=_restlessness(places * half_px) * scale,
        picture_px=_restlessness(np.stack(deformations) * half_px) * scale,
        flicker_levels=_restlessness(np.stack(predictions)[..., None]),
        shifted_keypoints_px=_restlessness(moved * half_px - np.asarray(shifts_px)[:, None]) * scale,
    )


def mean_jitter(rows: Sequence[Jitter]) -> Jitter:
    """The mean over some clips."""
    return Jitter(*(float(np.mean(column)) for column in zip(*map(dataclasses.astuple, rows), strict=True)))


def _restlessness(places: NDArray[Any]) -> float:
    """(times, ..., D) vectors: root mean square distance from each one's mean over time."""
    away = places - places.mean(axis=0)
    return float(np.sqrt(np.square(away).sum(axis=-1).mean()))


def _with_noise(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    noisy: Rgb = (rgb + rng.normal(0, NOISE_LEVELS, rgb.shape)).round().clip(0, 255).astype(np.uint8)
    return noisy


def _shifted(rgb: Rgb, shift_px: NDArray[np.float64]) -> Rgb:
    """Moved to the right and down by less than a pixel; what comes in repeats the border.

    By Catmull-Rom's cubic. That of OpenCV and torch is steeper (-0.75 in place of -0.5) and does not even keep a ramp
    straight: a shift of 0.25 px would become one of 0.28 px.
    """
    moved = rgb.astype(np.float64)
    for axis, shift in ((1, shift_px[0]), (0, shift_px[1])):
        whole = int(np.floor(-shift))
        t = -shift - whole
        weights = (
            ((2 - t) * t - 1) * t / 2,
            (3 * t - 5) * t * t / 2 + 1,
            ((4 - 3 * t) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        )
        padded = np.pad(moved, [(2, 2) if each == axis else (0, 0) for each in range(3)], mode="edge")
        places = np.arange(moved.shape[axis]) + whole + 1  # of the sample before, counted with the padding
        moved = sum(weight * padded.take(places + step, axis) for step, weight in enumerate(weights))
    shifted: Rgb = moved.round().clip(0, 255).astype(np.uint8)
    return shifted
