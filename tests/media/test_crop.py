import dataclasses
import itertools
import math
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.media.crop import (
    DEAD_ZONE,
    CropSmoother,
    SquareBox,
    best_reference_frame,
    crop,
    face_size_px,
    find_shots,
    frame_face,
    plan_crops,
    turned,
    turned_box,
    turned_size,
)
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.images import read_rgb
from mcnet.media.video import open_driving
from tests.media.videos import GRID


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    return read_rgb(ASSETS / "portraits" / "woman_1.jpg")


@pytest.fixture(scope="module")
def face(portrait: NDArray[np.uint8]) -> Face:
    with FaceFinder() as finder:
        return finder.find(portrait)[0]


@pytest.fixture(scope="module")
def talker() -> list[Face]:
    with FaceFinder(tracking=True) as finder:
        return [finder.find(rgb)[0] for rgb in open_driving(GRID)]


def _moved(face: Face, x: float = 0, y: float = 0, scale: float = 1) -> Face:
    return Face((face.landmarks_px * scale + (x, y, 0)).astype(np.float32), face.presence)


def _turned(face: Face, degrees: float) -> Face:
    """The head turned to its side, in space."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]])
    middle = face.landmarks_px.mean(axis=0)
    return Face(((face.landmarks_px - middle) @ turn.T + middle).astype(np.float32), face.presence)


def test_the_frame_shows_faces_as_the_training_clips_do() -> None:
    """Their medians: mesh 0.479 wide and 0.574 high, its centre at 0.501 and 0.533; here for the bundled portraits."""
    shares = []
    with FaceFinder() as finder:
        for path in sorted((ASSETS / "portraits").glob("*.jpg")):
            rgb = read_rgb(path)
            cut = crop(rgb, frame_face(finder.find(rgb)[0]), 256)
            box = finder.find(cut)[0].box
            shares.append([box.right - box.left, box.bottom - box.top, box.left + box.right, box.top + box.bottom])
    width, height, middle_x, middle_y = np.median(np.array(shares) / (256, 256, 512, 512), axis=0)
    assert width == pytest.approx(0.479, abs=0.02)
    assert height == pytest.approx(0.574, abs=0.03)
    assert middle_x == pytest.approx(0.5, abs=0.02)
    assert middle_y == pytest.approx(0.533, abs=0.03)


def test_the_frame_moves_and_grows_with_the_face(face: Face) -> None:
    box, moved = frame_face(face), frame_face(_moved(face, 30, -20, 2))
    assert moved.center_x == pytest.approx(2 * box.center_x + 30, rel=1e-4)
    assert moved.center_y == pytest.approx(2 * box.center_y - 20, rel=1e-4)
    assert moved.side == pytest.approx(2 * box.side, rel=1e-4)


def test_the_size_ignores_turning_and_the_mouth(face: Face, talker: list[Face]) -> None:
    assert face_size_px(_turned(face, 40)) == pytest.approx(face_size_px(face), rel=1e-4)
    sizes = np.array([face_size_px(each) for each in talker])
    heights = np.array([each.box.bottom - each.box.top for each in talker])
    assert sizes.std() / sizes.mean() < 0.01
    assert sizes.std() / sizes.mean() < heights.std() / heights.mean()


def test_a_crop_of_the_whole_is_the_whole(portrait: NDArray[np.uint8]) -> None:
    assert np.array_equal(crop(portrait, SquareBox(256, 256, 512), 512), portrait)
    half = crop(portrait, SquareBox(256, 256, 512), 256)
    assert np.abs(half.astype(int) - cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)).max() <= 1
    double = crop(portrait, SquareBox(256, 256, 512), 1024)
    assert np.abs(double.astype(int) - cv2.resize(portrait, (1024, 1024), interpolation=cv2.INTER_CUBIC)).mean() < 0.5


@pytest.mark.parametrize("side", [48, 64, 96, 150])
@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_a_crop_is_right_to_fractions_of_a_pixel(side: float, shift: float) -> None:
    def wave(x: NDArray[np.floating]) -> NDArray[np.float64]:
        level: NDArray[np.float64] = 128 + 100 * np.sin(2 * np.pi * x / 40)
        return level

    row = wave(np.arange(256) + 0.5)
    picture = np.rint(np.broadcast_to(row[None, :, None], (256, 256, 3))).astype(np.uint8)
    cut = crop(picture, SquareBox(128 + shift, 128, side), 64)
    expected = wave(128 + shift - side / 2 + (np.arange(64) + 0.5) * side / 64)
    assert np.abs(cut[32, :, 0] - expected).max() < 3, "a quarter of a pixel would change it by 3.9"


def test_fine_patterns_do_not_alias() -> None:
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = crop(stripes, SquareBox(512.3, 511.6, 1000), 256)
    assert shrunk[8:-8, 8:-8].std() < 8
    assert shrunk.mean() == pytest.approx(127, abs=4)


@pytest.mark.parametrize("center", [(0, 0), (512, 256), (256, 512), (-80, 256), (512, 512)])
def test_beyond_the_border_its_last_pixels_are_repeated(
    portrait: NDArray[np.uint8], center: tuple[float, float]
) -> None:
    cut = crop(portrait, SquareBox(*center, 200), 200)
    y, x = np.mgrid[:200, :200] - 100 + np.array(center[::-1])[:, None, None]
    expected = portrait[np.clip(y, 0, 511).astype(int), np.clip(x, 0, 511).astype(int)]
    assert np.array_equal(cut, expected)


def test_what_is_no_picture_is_not_cropped(portrait: NDArray[np.uint8]) -> None:
    box = SquareBox(256, 256, 200)
    strange: list[Any] = [portrait[..., 0], portrait[:0], portrait / 255, np.dstack((portrait, portrait[..., 0]))]
    for one in strange:
        with pytest.raises(MediaError, match=r"cannot crop: got .* of shape .*, expected uint8 of shape"):
            crop(one, box, 64)
    for size_px in (0, -1):
        with pytest.raises(MediaError, match=f"cannot crop to {size_px} px: expected 1 at least"):
            crop(portrait, box, size_px)


@pytest.mark.parametrize("box", [SquareBox(-200, 256, 300), SquareBox(256, 256, 0), SquareBox(256, 256, math.nan)])
def test_a_square_beside_the_picture_is_refused(portrait: NDArray[np.uint8], box: SquareBox) -> None:
    with pytest.raises(MediaError, match="expected a square that touches"):
        crop(portrait, box, 256)


def test_the_smoother_lets_no_jitter_through() -> None:
    rng = np.random.default_rng(1)
    smoother = CropSmoother()
    boxes = [
        SquareBox(320 + rng.normal(0, 1.5), 240 + rng.normal(0, 1.5), 200 * math.exp(rng.normal(0, 0.008)))
        for _ in range(300)
    ]
    answers = [smoother.update(box, 1 / 30) for box in boxes]
    moved = np.array([(a.center_x, a.center_y, a.side) for a in answers if a is not None])
    assert len(moved) == 300
    jitter_in = np.diff([box.center_x for box in boxes]).std()
    jitter_out = np.diff(moved[:, 0]).std()
    assert jitter_in > 2
    assert jitter_out < 0.01 * jitter_in, (jitter_in, jitter_out)
    assert np.ptp(moved[:, 2]) < 2


def test_the_smoother_follows_a_move_without_overshoot() -> None:
    smoother = CropSmoother()
    smoother.update(SquareBox(300, 200, 200), 0)
    path = [smoother.update(SquareBox(400, 200, 260), 1 / 30) for _ in range(90)]
    assert all(box is not None for box in path)
    centers = np.array([box.center_x for box in path if box])
    sides = np.array([box.side for box in path if box])
    assert (np.diff(centers) >= -1e-9).all()
    assert centers[int(0.95 * 30)] > 300 + 0.85 * (100 - DEAD_ZONE * 200)
    assert 400 - centers[-1] == pytest.approx(DEAD_ZONE * 200, abs=4), "it rests with the face at the dead zone's edge"
    assert sides[-1] == pytest.approx(260 / (1 + DEAD_ZONE), rel=0.01)


def test_the_smoother_does_not_depend_on_the_rate() -> None:
    ends = []
    for steps in (6, 30):
        smoother = CropSmoother()
        smoother.update(SquareBox(300, 200, 200), 0)
        for _ in range(steps):
            box = smoother.update(SquareBox(400, 200, 200), 0.6 / steps)
        assert box is not None
        ends.append(box.center_x)
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)
    slow = smoother.update(SquareBox(400, 200, 200), 1e6)
    assert slow is not None
    assert math.isfinite(slow.center_x)


def test_the_smoother_holds_while_there_is_no_face() -> None:
    smoother = CropSmoother()
    assert smoother.update(None, 1 / 30) is None
    smoother.update(SquareBox(300, 200, 200), 1 / 30)
    for _ in range(10):
        moving = smoother.update(SquareBox(400, 200, 200), 1 / 30)
    assert [smoother.update(None, 1 / 30) for _ in range(50)] == [moving] * 50
    smoother.reset()
    assert smoother.update(None, 1 / 30) is None
    afresh = smoother.update(SquareBox(90, 80, 1), 1 / 30)
    assert afresh == SquareBox(90, 80, 1)


def test_a_quiet_video_gets_one_square(talker: list[Face]) -> None:
    squares = plan_crops(talker, 25)
    assert len(squares) == 75
    first = squares[0]
    for square in squares:
        assert square.center_x == pytest.approx(first.center_x, abs=1e-6)
        assert square.side == pytest.approx(first.side, abs=1e-6)
    measured = np.median([frame_face(each).side for each in talker])
    assert first.side == pytest.approx(measured, rel=0.01)


def test_a_plan_follows_smoothly_and_the_same_way_backwards(face: Face) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([np.zeros(50), np.linspace(0, 250, 50), np.full(50, 250.0)]) + rng.normal(0, 1, 150)
    faces = [_moved(face, each) for each in x]
    squares = plan_crops(faces, 25)
    centers = np.array([square.center_x for square in squares])
    off = np.array([frame_face(each).center_x for each in faces]) - centers
    side = squares[0].side
    assert np.abs(off).max() < (DEAD_ZONE + 0.05) * side
    assert np.abs(np.diff(centers, n=2)).max() < 0.6
    assert np.diff(centers[:30]).std() < 0.1 * np.diff(x[:30]).std()
    backwards = plan_crops(faces[::-1], 25)
    assert np.allclose([square.center_x for square in backwards[::-1]], centers)


def test_a_plan_bridges_missing_faces_and_ignores_a_stray_one(face: Face) -> None:
    faces: list[Face | None] = [face] * 60
    faces[30] = _moved(face, 300, 100, 2)
    faces[:5] = [None] * 5
    faces[40:50] = [None] * 10
    faces[59] = _moved(face, -200, 0, 0.5)
    squares = plan_crops(faces, 25)
    assert len(squares) == len(faces)
    assert np.ptp([square.center_x for square in squares]) < 1e-6
    assert plan_crops([None, face], 25)[0].side == pytest.approx(frame_face(face).side)
    with pytest.raises(MediaError, match="no face in any of 3 frames"):
        plan_crops([None] * 3, 25)


@pytest.mark.parametrize("gap", [0, 20])
@pytest.mark.parametrize(("x", "y", "scale"), [(200, 0, 1), (0, -220, 1), (-40, -40, 1.35), (30, 30, 0.6)])
def test_a_plan_begins_anew_where_a_head_cannot_have_come_from(
    face: Face, x: float, y: float, scale: float, gap: int
) -> None:
    """A cut in a film: a square that glided there would throw the avatar across the picture and draw it back."""
    side = frame_face(face).side
    before = [_moved(face, 0.001 * side * index) for index in range(40)]
    after = [_moved(each, x, y, scale) for each in before]
    faces: list[Face | None] = [*before, *after, *[None] * gap, *before]
    for face_now, square in zip(faces, plan_crops(faces, 25), strict=True):
        if face_now is not None:
            there = frame_face(face_now)
            assert math.hypot(there.center_x - square.center_x, there.center_y - square.center_y) < 0.03 * square.side
            assert square.side == pytest.approx(there.side, rel=0.03)


@pytest.mark.parametrize("fps", [5, 25, 60])
def test_a_plan_takes_no_quick_head_for_a_cut(face: Face, fps: int) -> None:
    """Three sides of the square per second, as the quickest of the training clips: its move stays in the animation."""
    side = frame_face(face).side
    x = np.concatenate([np.zeros(2 * fps), np.arange(0, 0.9, 3 / fps), np.full(2 * fps, 0.9)]) * side
    squares = plan_crops([_moved(face, each) for each in x], fps)
    assert np.abs(np.diff([square.center_x for square in squares])).max() < 0.75 * side / fps


@pytest.mark.parametrize("fps", [1, 2, 5, 25])
@pytest.mark.parametrize("away", [0.3, 0.7, 1.5])
@pytest.mark.parametrize("lengths", [(15, 15), (1, 20), (2, 20), (20, 1), (10, 1, 10), (10, 2, 10), (1, 1, 1, 1)])
def test_another_scene_begins_anew_at_any_frame_rate_and_however_short(
    face: Face, fps: int, away: float, lengths: tuple[int, ...]
) -> None:
    """At 5 frames per second a head may move by 0.8 sides of its square from one to the next: only the scene tells."""
    there = _moved(face, away * frame_face(face).side)
    faces = [there if shot % 2 else face for shot, length in enumerate(lengths) for _ in range(length)]
    begins = [0, *np.cumsum(lengths).tolist()]
    shots = find_shots(faces, fps, [frame in begins[1:] for frame in range(len(faces))])
    assert [(shot.start, shot.stop) for shot in shots] == list(itertools.pairwise(begins))
    for each, square in zip(faces, plan_crops(faces, fps, shots), strict=True):
        assert dataclasses.astuple(square) == pytest.approx(dataclasses.astuple(frame_face(each)))


def test_a_scene_that_looks_otherwise_around_the_same_head_moves_no_square(face: Face) -> None:
    """A flash of light, or somebody who walks through the picture."""
    faces = [_moved(face, 0.04 * frame_face(face).side * math.sin(index)) for index in range(30)]
    shots = find_shots(faces, 25, [index in (9, 10, 20) for index in range(30)])
    assert shots == [range(9), range(9, 10), range(10, 20), range(20, 30)]
    assert plan_crops(faces, 25, shots) == plan_crops(faces, 25)


def test_frames_without_a_face_belong_to_the_shot_before_them(face: Face) -> None:
    there = _moved(face, 0.5 * frame_face(face).side)
    faces = [None, None, *[face] * 5, None, None, *[there] * 5, None]
    assert find_shots(faces, 5, [index == 9 for index in range(len(faces))]) == [range(9), range(9, 15)]
    assert find_shots([None] * 4, 5) == [range(4)]


@pytest.mark.parametrize("fps", [1, 4])
def test_what_is_seen_for_a_quarter_of_a_second_is_no_stray_mesh(face: Face, fps: int) -> None:
    """In few frames per second, who is elsewhere in a single one was there for long."""
    away = frame_face(face).side
    squares = plan_crops([face] * 8 + [_moved(face, away)] + [face] * 8, fps)
    assert squares[8].center_x - squares[0].center_x > (0.5 if fps == 1 else 0.1) * away


def test_the_best_reference_is_posed_alike(face: Face, talker: list[Face]) -> None:
    driving = [_moved(_turned(face, angle), 40, 20, 1.7) for angle in (-30, -15, 3, 20)]
    assert best_reference_frame(face, [None, *driving]) == 3
    assert best_reference_frame(_turned(face, -14), driving) == 1
    assert best_reference_frame(talker[33], talker) == 33
    with pytest.raises(MediaError, match="no face in any of 2 driving frames"):
        best_reference_frame(face, [None, None])


def test_the_best_reference_for_a_closed_mouth_has_a_closed_mouth(face: Face, talker: list[Face]) -> None:
    def gap(each: Face) -> float:
        return float(each.landmarks_px[14, 1] - each.landmarks_px[13, 1])

    chosen = talker[best_reference_frame(face, talker)]
    assert gap(chosen) <= np.quantile([gap(each) for each in talker], 0.5)


@pytest.mark.parametrize("angle_deg", [0.0, 90.0, 180.0, 270.0, -90.0, 30.0, 135.5, 359.0])
def test_a_turned_picture_shows_all_of_it_and_squares_turn_along(angle_deg: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (14, 21, 3), np.uint8)
    picture = cv2.resize(noise, (300, 200), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    shown = turned(picture, angle_deg)
    assert shown.shape == (*turned_size((300, 200), angle_deg)[::-1], 3)
    box = SquareBox(90.0, 120.0, 60.0)
    there = turned_box(box, (300, 200), 0.0, angle_deg)
    # The square around the same place, cut from the turned picture and turned back, shows the same.
    around = crop(picture, SquareBox(box.center_x, box.center_y, 30.0), 30)
    back = turned(crop(shown, there, 60), -angle_deg)
    middle = tuple(side // 2 for side in back.shape[:2])
    seen = back[middle[0] - 15 : middle[0] + 15, middle[1] - 15 : middle[1] + 15]
    assert np.abs(seen.astype(float) - around).mean() < 8
    home = turned_box(there, (300, 200), angle_deg, 0.0)
    assert (home.center_x, home.center_y, home.side) == pytest.approx((90, 120, 60))


def test_quarter_turns_move_whole_pixels_clockwise() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(turned(picture, 90.0), np.rot90(picture, -1))
    np.testing.assert_array_equal(turned(picture, -90.0), np.rot90(picture))
    np.testing.assert_array_equal(turned(turned(picture, 270.0), 90.0), picture)
