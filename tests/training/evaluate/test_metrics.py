import math

import numpy as np
import pytest
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.mean_head import RIGID_POINTS
from mcnet.media.expressions import Expression, Mesh, expression, head_turn, rotation_between
from mcnet.media.faces import FaceFinder
from mcnet.media.head_motion import Head
from mcnet.media.images import read_rgb
from training.evaluate.metric_networks import Ssim
from training.evaluate.metrics import (
    LANDMARKS_68,
    PSNR_OF_EQUALS,
    REGION_POINTS,
    Moments,
    Regions,
    correlation,
    cosine,
    frechet_distance,
    landmark_distance,
    mesh_distance,
    picture_l1,
    procrustes_residual,
    psnr,
    region_changes,
    region_distances,
    sharpness,
)


def grey(level: int, side_px: int = 32) -> NDArray[np.uint8]:
    return np.full((side_px, side_px, 3), level, np.uint8)


def turn(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> NDArray[np.float64]:
    """Degrees -> roll after yaw after pitch."""
    y, p, r = (math.radians(angle) for angle in (yaw, pitch, roll))
    about_x = np.array([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    about_y = np.array([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    about_z = np.array([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = about_z @ about_y @ about_x
    return rotation


@pytest.fixture(scope="module")
def face() -> Mesh:
    """The mesh of a portrait that looks straight ahead."""
    with FaceFinder() as finder:
        (found,) = finder.find(read_rgb(ASSETS / "portraits" / "woman_1.jpg"))
    return found.landmarks_px


def test_l1_and_psnr_of_known_pictures() -> None:
    assert picture_l1(grey(100), grey(110)) == pytest.approx(10 / 255)
    assert picture_l1(grey(255), grey(0)) == 1
    assert psnr(grey(100), grey(110)) == pytest.approx(20 * math.log10(25.5))
    assert psnr(grey(7), grey(7)) == PSNR_OF_EQUALS


def test_ssim_of_known_pictures() -> None:
    pytest.importorskip("torchmetrics", reason="the eval extra is not installed")
    # Without any structure what is left of SSIM compares the means.
    a, b, small = 100 / 255, 110 / 255, 0.01**2
    ssim = Ssim()
    assert ssim(grey(100), grey(110)) == pytest.approx((2 * a * b + small) / (a * a + b * b + small), abs=1e-5)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert ssim(noise, noise) == pytest.approx(1)
    assert ssim(noise, 255 - noise) < 0


def test_landmark_distance_is_in_pixels_of_256() -> None:
    points = np.zeros((4, 3), np.float32)
    assert landmark_distance(points, points + np.array([3, 4, 12], np.float32), 256) == 5, "depth does not count"
    assert landmark_distance(points, points + np.array([3, 4, 12], np.float32), 512) == 2.5


def test_the_68_points_lie_as_the_papers_do(face: Mesh) -> None:
    assert len(set(LANDMARKS_68)) == 68
    x, y = face[list(LANDMARKS_68), 0], face[list(LANDMARKS_68), 1]
    jaw, brows, bridge, below_nose = slice(0, 17), slice(17, 27), slice(27, 31), slice(31, 36)
    assert np.argmax(y[jaw]) == 8, "the chin is in the middle of the jaw"
    assert (np.diff(x[3:14]) > 0).all(), "the jaw runs from the picture's left to its right"
    assert (np.diff(x[brows]) > 0).all()
    assert (np.diff(y[bridge]) > 0).all()
    assert (np.diff(x[below_nose]) > 0).all()
    for start in (36, 42):  # outer or inner corner, two above, corner, two below
        assert x[start] < x[start + 1] < x[start + 2] < x[start + 3]
        assert y[start + 1 : start + 3].max() < y[start + 4 : start + 6].min()
    assert x[48] < x[60] < x[64] < x[54], "the inner lips lie within the outer ones"
    assert y[51] < y[62] <= y[66] < y[57]
    assert mesh_distance(face, face + np.array([0, 2, 0], np.float32), 256) == pytest.approx(2)


def test_regions_are_where_they_are_called(face: Mesh) -> None:
    assert tuple(REGION_POINTS) == Regions._fields
    counts = {region: len(set(points)) for region, points in REGION_POINTS.items()}
    assert counts == {"mouth": 40, "right_eye": 16, "left_eye": 16, "brows": 20}
    assert all(len(points) == counts[region] for region, points in REGION_POINTS.items()), "no point counts twice"
    places = {region: face[points, :2].mean(axis=0) for region, points in REGION_POINTS.items()}
    assert places["right_eye"][0] < places["mouth"][0] < places["left_eye"][0], "the person's right is our left"
    assert places["brows"][1] < places["right_eye"][1] < places["mouth"][1]


def test_regions_of_the_picture_are_told_apart(face: Mesh) -> None:
    moved = face.copy()
    moved[REGION_POINTS["mouth"]] += np.array([3, 4, 12], np.float32)
    moved[REGION_POINTS["brows"][:10], 1] -= 1
    assert region_distances(face, moved, 512) == pytest.approx(Regions(2.5, 0, 0, 0.25), abs=1e-4)
    assert region_distances(face, face + np.float32(7), 256) == pytest.approx(
        Regions(*[math.hypot(7, 7)] * 4), rel=1e-4
    )


def test_the_error_of_an_expression_does_not_depend_on_the_pose(face: Mesh) -> None:
    """The performer raises the left brows' points by 0.2 face sizes and the picture by half of it, turned and small."""
    head = Head.of(face.astype(np.float64))

    def raised(by: float) -> NDArray[np.float64]:
        shape = head.shape.copy()
        shape[REGION_POINTS["brows"][:10], 1] -= by
        return shape

    def posed(shape: NDArray[np.float64], rotation: NDArray[np.float64], size_px: float) -> Mesh:
        return (size_px * shape @ rotation.T + [90, 80, 3]).astype(np.float32)

    straight, aside = posed(head.shape, np.eye(3), 40), posed(raised(0.1), turn(25, -10, 5), 30)
    performer = posed(raised(0.2), turn(-15), 55)
    assert region_changes(straight, aside, straight, performer) == pytest.approx(Regions(0, 0, 0, 0.05), abs=1e-4)
    # Somebody else, whose brows are higher than the source's from the first: what counts is the change.
    other = posed(raised(0.3), turn(4), 45), posed(raised(0.5), turn(8), 45)
    assert region_changes(straight, aside, *other) == pytest.approx(Regions(0, 0, 0, 0.05), abs=1e-4)


def test_an_edge_that_is_twice_as_wide_is_half_as_sharp() -> None:
    square = np.array([[2, 2], [29, 2], [29, 29], [2, 29]], np.float32)
    hard = grey(50)
    hard[:, 16:] = 150
    soft = hard.copy()
    soft[:, 16] = 100
    # 28 columns count, and one of them is an edge of 100 levels; or two are, of 50.
    assert sharpness(hard, square) == pytest.approx(100**2 / 28)
    assert sharpness(soft, square) == pytest.approx(2 * 50**2 / 28)
    assert sharpness(hard.transpose(1, 0, 2), square) == pytest.approx(100**2 / 28), "whichever way the edge runs"
    assert sharpness(grey(50), square) == 0
    red = np.zeros((32, 32, 3), np.uint8)
    red[:, 16:, 0] = 100
    assert sharpness(red, square) == pytest.approx(29.9**2 / 28, rel=1e-5), "the brightness of red"


def test_only_the_face_counts_as_sharp() -> None:
    rgb = grey(0)
    rgb[::2, 20:] = 255
    assert sharpness(rgb, np.array([[2, 2], [15, 2], [8, 29]], np.float32)) == 0
    assert sharpness(rgb, np.array([[24, 2], [29, 2], [27, 29]], np.float32)) == pytest.approx(255**2)
    assert sharpness(rgb, np.array([[-24, 2], [-9, 2], [-7, 29]], np.float32)) is None


def test_openings_of_mouth_and_eyes() -> None:
    mesh = np.zeros((468, 3), np.float32)
    mesh[[78, 308, 13, 14], :2] = (10, 50), (50, 50), (30, 46), (30, 56)
    mesh[[263, 362, 386, 374], :2] = (60, 20), (40, 20), (50, 18), (50, 24)
    mesh[[33, 133, 159, 145], :2] = (0, 20), (20, 20), (10, 19), (10, 20)
    assert expression(mesh) == pytest.approx((10 / 40, 6 / 20, 1 / 20))
    assert expression(mesh).eyes == pytest.approx(3.5 / 20)
    assert Expression(0.5, 0.3, 0.1).since(Expression(0.2, 0.2, 0.2)) == pytest.approx((0.3, 0.1, -0.1))


def test_in_space_a_turned_eye_is_as_open_as_before(face: Mesh) -> None:
    turned = (face @ turn(yaw=50).T).astype(np.float32)
    straight = expression(face, in_space=True)
    assert expression(turned, in_space=True) == pytest.approx(straight, rel=1e-3)
    assert max(expression(turned)[1:]) > 1.3 * max(expression(face)[1:])


@pytest.mark.parametrize("angles", [(20.0, 0.0, 0.0), (0.0, -15.0, 0.0), (0.0, 0.0, 8.0), (25.0, 10.0, -5.0)])
def test_the_pose_error_of_a_turned_head_is_its_angle(face: Mesh, angles: tuple[float, float, float]) -> None:
    rotation = turn(*angles)
    moved = (1.3 * face @ rotation.T + [5, -7, 2]).astype(np.float32)
    found = head_turn(rotation_between(face, moved))
    assert found[:3] == pytest.approx(angles, abs=1e-3)
    assert found.angle == pytest.approx(math.degrees(math.acos((np.trace(rotation) - 1) / 2)), abs=1e-3)


def test_the_mouth_does_not_turn_the_head(face: Mesh) -> None:
    talking = face.copy()
    lips = [point for point in range(468) if point not in RIGID_POINTS]
    talking[lips, 1] += 20
    assert head_turn(rotation_between(face, talking)).angle < 1e-3


def test_a_face_of_the_same_shape_is_not_distorted(face: Mesh) -> None:
    moved = (0.7 * face @ turn(20, -10, 5).T + [5, -7, 2]).astype(np.float32)
    assert procrustes_residual(face, moved) == pytest.approx(0, abs=1e-9)
    assert procrustes_residual(face, face * np.array([1, 1, -1], np.float32)) > 0.05, "turned inside out"
    wide = face * np.array([1.1, 1, 1], np.float32)
    wider = face * np.array([1.3, 1, 1], np.float32)
    assert 1e-4 < procrustes_residual(face, wide) < procrustes_residual(face, wider) < 0.1


def test_the_residual_is_that_of_procrustes_analysis() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    oblong = square * np.array([3, 1, 1], np.float32)
    # Singular values of the two unit shapes' product: (3 + 1) / (2 sqrt 5); what that explains is its square.
    assert procrustes_residual(square, oblong) == pytest.approx(1 - 16 / 20)


def test_a_rotation_is_no_mirror_image() -> None:
    flat = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    assert np.linalg.det(rotation_between(flat, flat * np.array([-1, 1, 1], np.float32))) == pytest.approx(1)


def test_correlation() -> None:
    values = [0.1, 0.4, -0.2, 0.3]
    assert correlation(values, values) == pytest.approx(1)
    assert correlation(values, [1 - 2 * value for value in values]) == pytest.approx(-1)
    assert correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert correlation([0.0, 0.0, 0.0], values[:3]) is None
    assert correlation(values[:2], values[:2]) is None


def test_frechet_distance() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((500, 3)) * [1, 2, 3]
    one, other, wider = Moments(3), Moments(3), Moments(3)
    for vector in drawn:
        one.add(vector)
        other.add(vector + np.array([3, 0, 4]))
        wider.add(2 * (vector - drawn.mean(0)) + drawn.mean(0))
    assert one.mean == pytest.approx(drawn.mean(0))
    assert one.covariance == pytest.approx(np.cov(drawn.T))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(one, other) == pytest.approx(25)
    # tr(C + 4 C - 2 (4 C C)^(1/2)) = tr(C).
    assert frechet_distance(one, wider) == pytest.approx(np.trace(np.cov(drawn.T)))


def test_cosine() -> None:
    assert cosine(np.array([3.0, 4.0]), np.array([6.0, 8.0])) == pytest.approx(1)
    assert cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(math.sqrt(0.5))
