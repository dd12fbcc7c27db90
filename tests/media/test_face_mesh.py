import importlib.util
import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from assets import ROOT as ASSETS
from mcnet.arrays import Rgb
from mcnet.media import mesh_networks
from mcnet.media.errors import MediaError
from mcnet.media.expressions import openings
from mcnet.media.face_mesh import (
    ATTENTION_FOLDER,
    BUNDLE,
    LANDMARK_COUNT,
    LEFT_EYE_POINTS,
    LIPS_POINTS,
    RIGHT_EYE_POINTS,
    AttentionMesh,
    Face,
    FaceMesh,
    PlainMesh,
    Region,
    _resample,
)
from mcnet.media.faces import FaceFinder
from mcnet.media.images import read_rgb
from mcnet.media.mesh_networks import OpenCvNetwork, OpenVinoNetwork, loader_of
from mcnet.media.sampling import sample_square
from mcnet.media.video import open_driving
from tests.media.videos import GRID

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
PORTRAITS = sorted((ASSETS / "portraits").glob("*.jpg"))
HEADS = (RIGHT_EYE_POINTS, LEFT_EYE_POINTS, LIPS_POINTS)
NEUTRAL, SPEAKING, BLINKING = 0, 36, 43  # frames of the clip


@pytest.fixture(scope="module")
def mesh() -> AttentionMesh:
    return AttentionMesh(runtime="opencv")


@pytest.fixture(scope="module")
def found() -> list[tuple[Rgb, Face]]:
    """Every portrait with its face."""
    pictures = [read_rgb(path) for path in PORTRAITS]
    with FaceFinder() as finder:
        return [(rgb, finder.find(rgb)[0]) for rgb in pictures]


@pytest.fixture(scope="module")
def clip() -> list[tuple[Rgb, Face]]:
    """Every frame of the bundled clip with its face."""
    with FaceFinder(tracking=True, mesh=AttentionMesh(runtime="opencv")) as finder:
        return [(rgb, finder.find(rgb)[0]) for rgb in open_driving(GRID)]


def _off_px(one: Face, other: Face) -> float:
    """The largest distance, in space, of any landmark or iris point."""
    assert one.irises_px is not None
    assert other.irises_px is not None
    return float(
        max(
            np.linalg.norm(one.landmarks_px - other.landmarks_px, axis=1).max(),
            np.linalg.norm(one.irises_px - other.irises_px, axis=2).max(),
        )
    )


@pytest.mark.parametrize("shape", [(480, 640), (480, 640, 1), (480, 640, 4)])
def test_what_is_no_colour_picture_is_not_sampled(shape: tuple[int, ...]) -> None:
    for side in (100.0, 400.0):
        with pytest.raises(ValueError, match=r"got a picture of shape \(480, 640.*, expected \(height, width, 3\)"):
            sample_square(np.zeros(shape, np.uint8), (300, 200), side, 192)


def test_the_lists_name_each_point_once() -> None:
    assert [len(points) for points in HEADS] == [71, 71, 80]
    every = [point for points in HEADS for point in points]
    assert len(set(every)) == len(every)
    assert max(every) < LANDMARK_COUNT


def test_shapes_and_ranges(found: list[tuple[Rgb, Face]]) -> None:
    for _, face in found:
        assert face.landmarks_px.shape == (LANDMARK_COUNT, 3)
        assert face.landmarks_px.dtype == np.float32
        assert face.irises_px is not None
        assert face.irises_px.shape == (2, 5, 2)
        assert face.irises_px.dtype == np.float32
        assert 0.99 < face.presence <= 1


def test_each_refined_point_lies_where_another_network_sees_the_point_of_that_number(
    found: list[tuple[Rgb, Face]],
) -> None:
    """A list in another order would send points to other places of eye or mouth; pupils would hardly tell."""
    plain = PlainMesh()
    offsets = []
    for rgb, face in found:
        other = plain.measure(rgb, Region.around(face.landmarks_px))
        width = face.box.right - face.box.left
        offsets.append((face.landmarks_px - other.landmarks_px)[:, :2] / width)
    mean = np.linalg.norm(np.mean(offsets, axis=0), axis=1)
    for points in HEADS:
        assert mean[list(points)].max() < 0.04, "of all portraits, so that a single look or smile does not count"


def test_lids_and_lips_are_rings_in_order(found: list[tuple[Rgb, Face]]) -> None:
    """Each row of a list goes from corner to corner, and the upper rows lie above the lower ones."""
    for _, face in found:
        turn = Region.around(face.landmarks_px).angle_rad
        level = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        places = face.landmarks_px[:, :2] @ level
        for points, along in ((RIGHT_EYE_POINTS, 1), (LEFT_EYE_POINTS, -1)):
            lower, upper = places[list(points[:9])], places[list(points[9:16])]
            assert (np.diff(lower[:, 0] * along) > 0).all()
            assert (np.diff(upper[:, 0] * along) > 0).all()
            assert (lower[1:8, 1] > upper[:, 1]).all(), "the portraits' eyes are open"
        for ring in (LIPS_POINTS[:20], LIPS_POINTS[20:40], LIPS_POINTS[40:60], LIPS_POINTS[60:]):
            lower, upper = places[list(ring[:11])], places[list(ring[11:])]
            assert (np.diff(lower[:, 0]) > 0).all()
            assert (np.diff(upper[:, 0]) > 0).all()
        outer, inner = (places[list(ring)] for ring in (LIPS_POINTS[:20], LIPS_POINTS[20:40]))
        assert outer[:11, 1].max() > inner[:, 1].max()
        assert outer[11:, 1].min() < inner[:, 1].min()


def test_irises_lie_between_the_corners_and_are_round(found: list[tuple[Rgb, Face]]) -> None:
    for _, face in found:
        assert face.irises_px is not None
        for iris, corners in zip(face.irises_px, ((33, 133), (263, 362)), strict=True):
            one, other = face.landmarks_px[list(corners), :2]
            along = other - one
            width = float(np.hypot(*along))
            assert 0.25 < float((iris[0] - one) @ along) / width**2 < 0.75
            assert np.linalg.norm(iris[1:].mean(axis=0) - iris[0]) < 0.05 * width
            radii = np.linalg.norm(iris[1:] - iris[0], axis=1) / width
            assert ((radii > 0.1) & (radii < 0.35)).all(), "an iris is two fifths as wide as its eye"


def test_irises_are_darker_than_the_cheeks(found: list[tuple[Rgb, Face]]) -> None:
    for rgb, face in found:
        assert face.irises_px is not None
        for iris, cheek in zip(face.irises_px, (50, 280), strict=True):
            eye, below = (point.round().astype(int) for point in (iris[0], face.landmarks_px[cheek, :2]))
            assert rgb[eye[1], eye[0]].mean() < 0.6 * rgb[below[1], below[0]].mean()


def test_a_blink_and_a_word_are_measured(clip: list[tuple[Rgb, Face]]) -> None:
    neutral, speaking, blinking = (openings(clip[index][1].landmarks_px) for index in (NEUTRAL, SPEAKING, BLINKING))
    assert min(neutral.left_eye, neutral.right_eye) > 0.17
    assert max(blinking.left_eye, blinking.right_eye) < 0.08
    assert neutral.mouth < 0.02
    assert speaking.mouth > 0.12


def test_the_plain_mesh_measures_the_same_face(clip: list[tuple[Rgb, Face]]) -> None:
    plain = PlainMesh()
    rgb, face = clip[NEUTRAL]
    other = plain.measure(rgb, Region.around(face.landmarks_px))
    assert other.irises_px is None
    assert other.presence > 0.99
    width = face.box.right - face.box.left
    assert np.abs(other.landmarks_px - face.landmarks_px)[:, :2].mean() < 0.02 * width


@pytest.mark.skipif(not HAS_OPENVINO, reason="the extra `openvino` is not installed")
def test_both_runtimes_agree_to_a_hundredth_of_a_pixel_of_the_region(
    mesh: AttentionMesh, found: list[tuple[Rgb, Face]], clip: list[tuple[Rgb, Face]]
) -> None:
    """Measured: 0.0002 px. Float32 rounds by 0.00001 px; the rest is room for another processor's order of sums."""
    other = AttentionMesh(runtime="openvino")
    for rgb, face in [*found, *clip[::15], clip[BLINKING]]:
        region = Region.around(face.landmarks_px)
        one, two = mesh.measure(rgb, region), other.measure(rgb, region)
        assert _off_px(one, two) < 0.01 * max(1.0, region.side / 192)
        assert abs(one.presence - two.presence) < 1e-3


@pytest.mark.parametrize(
    "runtime",
    [
        "opencv",
        pytest.param(
            "openvino", marks=pytest.mark.skipif(not HAS_OPENVINO, reason="the extra `openvino` is not installed")
        ),
    ],
)
def test_the_answer_depends_on_the_picture_alone(runtime: mesh_networks.Runtime, clip: list[tuple[Rgb, Face]]) -> None:
    """Nothing remains of the picture before, and an answer is not overwritten by the next one."""
    measuring = AttentionMesh(runtime=runtime)
    (one, face), (other, _) = clip[NEUTRAL], clip[SPEAKING]
    region = Region.around(face.landmarks_px)
    first = measuring.measure(one, region)
    kept = first.landmarks_px.copy()
    measuring.measure(other, region)
    np.testing.assert_array_equal(first.landmarks_px, kept)
    assert _off_px(measuring.measure(one, region), first) == 0


@pytest.mark.skipif(not HAS_OPENVINO, reason="the extra `openvino` is not installed")
def test_meshes_of_several_threads_keep_out_of_each_others_way(clip: list[tuple[Rgb, Face]]) -> None:
    """They share what was compiled, and nothing else."""
    shown = [clip[index] for index in (NEUTRAL, SPEAKING)]
    meshes = [AttentionMesh(runtime="openvino") for _ in shown]
    alone = [
        mesh.measure(rgb, Region.around(face.landmarks_px)) for mesh, (rgb, face) in zip(meshes, shown, strict=True)
    ]

    def measured(index: int) -> list[Face]:
        rgb, face = shown[index]
        return [meshes[index].measure(rgb, Region.around(face.landmarks_px)) for _ in range(8)]

    with ThreadPoolExecutor(len(meshes)) as threads:
        together = list(threads.map(measured, range(len(meshes))))
    for expected, faces in zip(alone, together, strict=True):
        assert all(_off_px(face, expected) == 0 for face in faces)
    meshes[0].close()
    rgb, face = shown[1]
    assert _off_px(meshes[1].measure(rgb, Region.around(face.landmarks_px)), alone[1]) == 0


def test_no_face_has_no_presence(mesh: AttentionMesh) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    soft = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (320, 240)).astype(np.uint8)
    for rgb in (noise, soft, np.zeros_like(noise), np.full_like(noise, 255)):
        face = mesh.measure(rgb, Region(160, 120, 200, 0.3))
        assert 0 <= face.presence < 0.5
        assert np.isfinite(face.landmarks_px).all()


@pytest.mark.parametrize(("right", "down", "larger", "turned"), [(0.1, 0, 1, 0), (0, -0.1, 1, 0), (0, 0, 1.2, 0.15)])
def test_the_region_of_the_frame_before_will_do(
    mesh: AttentionMesh,
    clip: list[tuple[Rgb, Face]],
    right: float,
    down: float,
    larger: float,
    turned: float,
) -> None:
    """Following: a head that moved by a tenth of the region, or nearer, is measured where it is, without a search."""
    rgb, face = clip[NEUTRAL]
    at = Region.around(face.landmarks_px)
    shifted = Region(
        at.center_x + right * at.side, at.center_y + down * at.side, at.side * larger, at.angle_rad + turned
    )
    width = face.box.right - face.box.left
    moved = mesh.measure(rgb, shifted)
    assert moved.presence > 0.99
    assert np.abs(moved.landmarks_px - face.landmarks_px)[:, :2].mean() < 0.03 * width
    again = mesh.measure(rgb, Region.around(moved.landmarks_px))
    assert np.abs(again.landmarks_px - face.landmarks_px)[:, :2].mean() < 0.01 * width


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.25, -0.75), (-0.6, 0.3)])
def test_the_networks_see_fractions_of_a_pixel(
    mesh: AttentionMesh, found: list[tuple[Rgb, Face]], shift: tuple[float, float]
) -> None:
    """The picture moves and the region does not. A network is not exactly equivariant, so the mean of all faces."""
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    seen = []
    for rgb, face in found:
        region = Region.around(face.landmarks_px)
        moved = cv2.warpAffine(rgb, move, rgb.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        before, after = mesh.measure(rgb, region), mesh.measure(moved.astype(np.uint8), region)
        seen.append((after.landmarks_px - before.landmarks_px)[:, :2])
    assert np.abs(np.mean(seen, axis=(0, 1)) - shift).max() < 0.2
    assert np.abs(np.subtract(seen, shift)).mean() < 0.4, "a region is 400 px wide here: the networks see half of that"


def test_a_picture_cut_elsewhere_gives_the_same_places(mesh: AttentionMesh, clip: list[tuple[Rgb, Face]]) -> None:
    """Region and picture move together, by whole pixels: the networks see the very same square."""
    rgb, face = clip[NEUTRAL]
    at = Region.around(face.landmarks_px)
    cut = mesh.measure(rgb[7:, 13:].copy(), at._replace(center_x=at.center_x - 13, center_y=at.center_y - 7))
    moved_back = cut.landmarks_px + np.array([13, 7, 0])
    np.testing.assert_allclose(moved_back, mesh.measure(rgb, at).landmarks_px, atol=0.05)


@pytest.mark.parametrize(("side", "differs"), [(150.0, False), (300.0, False), (384.0, False), (440.0, True)])
def test_wider_spacing_is_quicker_only_where_that_is_hardly_seen(side: float, differs: bool) -> None:
    rgb = read_rgb(PORTRAITS[0])
    dense, _ = sample_square(rgb, (256, 256), side, 192, angle_rad=0.1)
    sparse, _ = sample_square(rgb, (256, 256), side, 192, angle_rad=0.1, spacing_px=1.25)
    off = np.abs(dense.astype(int) - sparse)
    assert off.any() == differs
    assert off.mean() < 1


@pytest.mark.parametrize("border", [cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE])
@pytest.mark.parametrize(
    "center", [(256.3, 250.8), (30.5, 480.0), (500.0, -20.0), (256.0, 900.0), (-700.0, 100.0), (1e9, -1e9)]
)
def test_a_square_is_cut_as_from_the_whole_picture(center: tuple[float, float], border: int) -> None:
    """What is cut away before sampling is not seen, wherever the square lies."""
    rgb, side, angle = read_rgb(PORTRAITS[0]), 330.0, 0.4
    square, _ = sample_square(rgb, center, side, 192, angle_rad=angle, border=border, spacing_px=1.25)
    cos, sin = math.cos(angle) * side / 384, math.sin(angle) * side / 384
    linear = np.array([[cos, -sin], [sin, cos]])
    shift = np.array(center) - linear @ [192, 192] + linear.sum(axis=1) / 2 - 0.5
    fine = cv2.warpAffine(
        rgb,
        np.column_stack((linear, shift)),
        (384, 384),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
    )
    expected = cv2.resize(fine, (192, 192), interpolation=cv2.INTER_AREA)
    assert square.shape == (192, 192, 3)
    assert np.abs(square.astype(int) - expected).max() <= 1
    assert (square != expected).mean() < 0.01


def test_the_plain_mesh_is_as_sure_without_points(found: list[tuple[Rgb, Face]]) -> None:
    plain = PlainMesh()
    rgb, face = found[0]
    for region in (Region.around(face.landmarks_px), Region(40, 40, 60, 0.0)):
        assert plain.presence(rgb, region) == plain.measure(rgb, region).presence
    plain.close()
    with pytest.raises(MediaError, match="was closed"):
        plain.presence(rgb, region)


def test_heads_see_the_features_bilinearly_and_nothing_outside() -> None:
    features = np.random.default_rng(0).random((48, 48, 3), np.float32)
    maps = np.array([[[1.5, 0.4, 8.2], [-0.3, 1.4, 12.7]], [[2.0, 0.1, 30.0], [0.2, 2.0, -9.0]]])
    seen = _resample(features, maps)
    for number, row, column in ((0, 0, 0), (0, 7, 11), (1, 15, 2), (1, 0, 15), (1, 8, 3)):
        x, y = maps[number] @ (column + 0.5, row + 0.5, 1) - 0.5
        expected = np.zeros(3)
        if 0 <= x <= 47 and 0 <= y <= 47:
            left, top = min(int(x), 46), min(int(y), 46)
            along = (
                features[top : top + 2, left]
                + (x - left) * np.diff(features[top : top + 2, left : left + 2], axis=1)[:, 0]
            )
            expected = along[0] + (y - top) * (along[1] - along[0])
        np.testing.assert_allclose(seen[number, row, column], expected, atol=1e-5)
    assert not seen[1, 0, 0].any()
    assert seen[0].all()


def test_a_region_that_leaves_the_picture_is_measured(mesh: AttentionMesh, found: list[tuple[Rgb, Face]]) -> None:
    rgb, face = found[0]
    box = face.box
    cut = rgb[:, : int((box.left + 3 * box.right) / 4)].copy()
    again = mesh.measure(cut, Region.around(face.landmarks_px))
    assert again.presence > 0.9
    assert np.abs(again.landmarks_px - face.landmarks_px)[:, :2].mean() < 0.05 * (box.right - box.left)


@pytest.mark.parametrize("make", [lambda: AttentionMesh(runtime="opencv"), PlainMesh], ids=["attention", "plain"])
def test_closing_twice_is_harmless_and_use_after_it_is_not(make: type[FaceMesh]) -> None:
    measuring = make()
    measuring.close()
    measuring.close()
    with pytest.raises(MediaError, match="closed"):
        measuring.measure(np.zeros((64, 64, 3), np.uint8), Region(32, 32, 64, 0))


@pytest.mark.parametrize("name", ["trunk", "left_eye", "right_eye", "lips"])
def test_another_network_is_refused(tmp_path: Path, name: str) -> None:
    for path in ATTENTION_FOLDER.glob("*.tflite"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    file = tmp_path / f"{name}.tflite"
    content = bytearray(file.read_bytes())
    content[100_000] ^= 1
    file.write_bytes(content)
    with pytest.raises(MediaError, match=rf"{name}.tflite is not the bundled one"):
        AttentionMesh(folder=tmp_path)
    file.unlink()
    with pytest.raises(MediaError, match="reinstall"):
        AttentionMesh(folder=tmp_path)


def test_another_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.task").write_bytes(BUNDLE.read_bytes()[:-1])
    with pytest.raises(MediaError, match="not the bundled one"):
        PlainMesh(bundle=tmp_path / "other.task")


def test_opencv_steps_in_where_openvino_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clip: list[tuple[Rgb, Face]]
) -> None:
    def broken(path: Path, outputs: Sequence[str]) -> OpenVinoNetwork:
        raise RuntimeError(f"no plugin for {path.name} and {len(outputs)} outputs")

    monkeypatch.setattr(mesh_networks, "_has_fast_openvino", lambda: True)
    monkeypatch.setattr(mesh_networks, "OpenVinoNetwork", broken)
    with caplog.at_level(logging.WARNING):
        measuring = AttentionMesh()
    assert "OpenVINO does not load trunk.tflite (no plugin" in caplog.text
    rgb, face = clip[NEUTRAL]
    assert measuring.measure(rgb, Region.around(face.landmarks_px)).presence > 0.99
    with pytest.raises(RuntimeError, match="no plugin"):
        AttentionMesh(runtime="openvino")


def test_without_openvino_opencv_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert loader_of("auto") is OpenCvNetwork


def test_a_region_rests_until_the_face_leaves_it_and_then_goes_along() -> None:
    here = Region(100.0, 80.0, 50.0, 0.1)
    trembling = Region(100.6, 79.5, 51.0, 0.12)
    assert here.following(trembling) == here
    there = Region(140.0, 80.0, 60.0, -3.0)
    moved = here.following(there)
    assert moved.center_x == pytest.approx(139.0)  # 2 % of the side short of it
    assert moved.center_y == pytest.approx(80.0)
    assert moved.side == pytest.approx(60 / 1.04)
    assert math.remainder(moved.angle_rad - there.angle_rad, 2 * math.pi) == pytest.approx(math.radians(2))
