"""Makes the bundled idle motion by formulas: `python -m tests.gentle_motion [assets/motions/gentle.safetensors]`.

A head that sways by a few degrees, breathes, blinks, and smiles a little now and then, over the mesh of a bundled
portrait. Every part but the blinks is a sum of sines of whole numbers of periods, so that the end goes on to the
beginning.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import assets
from mcnet.media.face_mesh import LANDMARK_COUNT
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.head_motion import BROWS, Head
from mcnet.media.images import read_rgb
from mcnet.media.motion_track import MotionTrack, save_track
from mcnet.mesh_points import LEFT_LID_PAIRS, RIGHT_LID_PAIRS

FILE = assets.ROOT / "motions" / "gentle.safetensors"
LENGTH_S, RATE_HZ = 12.0, 20.0
PERIODS = (1, 2, 3, 5)
BLINKS_S = (2.4, 5.3, 9.6)
"""When eyes are shut."""
BLINK_S = ((-0.15, 0.0), (0.0, 1.0), (0.05, 1.0), (0.3, 0.0))
"""How far, from then on: they shut faster than they open."""
UPPER_LID = 0.7
"""Its share in a lid's way."""
MOUTH_CORNERS = ((61, -1), (291, 1))


def sway(seed: int, time_s: float, most: float) -> float:
    """A slow movement to and fro, by no more than `most`, the same again after `LENGTH_S`."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(PERIODS))
    weights = np.array([period**-0.7 for period in PERIODS])
    waves = np.sin(2 * np.pi * np.array(PERIODS) * time_s / LENGTH_S + phases)
    return float(most * (weights * waves).sum() / weights.sum())


def turned(yaw_deg: float, pitch_deg: float, roll_deg: float) -> NDArray[np.float64]:
    (sy, cy), (sp, cp), (sr, cr) = (
        (np.sin(angle), np.cos(angle)) for angle in np.radians((yaw_deg, pitch_deg, roll_deg))
    )
    about_y, about_x = [[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], [[1, 0, 0], [0, cp, -sp], [0, sp, cp]]
    rotation: NDArray[np.float64] = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ about_y @ about_x
    return rotation


def shut(time_s: float) -> float:
    """How far eyes are shut, 0 to 1."""
    times, shares = zip(*BLINK_S, strict=True)
    return max(float(np.interp(time_s - blink_s, times, shares)) for blink_s in BLINKS_S)


def head_at(base: Head, time_s: float) -> Head:
    """The head at a time; lengths in face sizes."""
    breath = float(np.sin(2 * np.pi * 3 * time_s / LENGTH_S))
    shape = base.shape.copy()
    smile = 0.5 + 0.5 * np.sin(2 * np.pi * time_s / LENGTH_S + 2.0)
    for corner, side in MOUTH_CORNERS:
        away = np.linalg.norm(base.shape[:, :2] - base.shape[corner, :2], axis=1)
        shape += smile * np.exp(-np.square(away / 0.35))[:, None] * np.array([side * 0.03, -0.035, 0.0])
    shape[list(BROWS), 1] -= sway(5, time_s, 0.03)
    for upper, lower in (*zip(*LEFT_LID_PAIRS, strict=True), *zip(*RIGHT_LID_PAIRS, strict=True)):
        way = shut(time_s) * (shape[lower] - shape[upper])
        shape[upper] += UPPER_LID * way
        shape[lower] -= (1 - UPPER_LID) * way
    shift = np.array([sway(7, time_s, 0.05), sway(8, time_s, 0.03) + 0.012 * breath, 0.0])
    return Head(
        shape,
        turned(sway(1, time_s, 4.0), sway(2, time_s, 2.2) + 0.5 * breath, sway(3, time_s, 1.8)) @ base.rotation,
        base.scale * (1 + 0.006 * breath),
        base.shift + base.scale * shift,
    )


def gentle_motion() -> MotionTrack:
    """The whole loop."""
    with FaceFinder() as finder:
        rgb = read_rgb(assets.ROOT / "portraits" / "woman_3.jpg")
        mesh = finder.find(rgb)[0].landmarks_px[:LANDMARK_COUNT]
    base = Head.of(mesh.astype(np.float64)).with_mouth_closed()
    times_s = np.arange(round(LENGTH_S * RATE_HZ)) / RATE_HZ
    faces = [Face(head_at(base, float(time_s)).mesh.astype(np.float32), 1.0) for time_s in times_s]
    return MotionTrack(times_s, faces, (rgb.shape[1], rgb.shape[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    save_track(parser.parse_args().file, gentle_motion())


if __name__ == "__main__":
    main()
