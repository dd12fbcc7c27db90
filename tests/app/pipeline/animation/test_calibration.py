import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from app.pipeline.animation.calibration import Calibration, score_expression, score_pose
from app.pipeline.animation.motion import Pose, Reference
from mcnet.media.expressions import Mesh, openings
from mcnet.media.faces import Face

POSE = Reference(
    Pose(np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]]), np.tile(np.eye(2), (5, 1, 1)))
)


def turned(mesh: Mesh, yaw_deg: float) -> Mesh:
    angle = np.radians(yaw_deg)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]], np.float32)
    centre = mesh.mean(axis=0)
    return np.asarray((mesh - centre) @ rotation.T + centre, np.float32)


def with_mouth(mesh: Mesh, opening: float) -> Mesh:
    """The lower inner lip, so far below the upper one (of the mouth's width)."""
    moved = mesh.copy()
    width = np.linalg.norm(mesh[78] - mesh[308])
    moved[14] = moved[13] + np.array([0, opening * width, 0], np.float32)
    return moved


def test_the_portraits_own_pose_scores_best(face: Face) -> None:
    mesh = face.landmarks_px
    assert score_pose(mesh, mesh).score == 100
    assert score_pose(mesh, mesh).remarks == ()


def test_a_turned_head_and_an_open_mouth_score_low_and_say_so(face: Face) -> None:
    mesh = face.landmarks_px
    aside = score_pose(turned(mesh, 25), mesh)
    talking = score_pose(with_mouth(mesh, 0.5), mesh)
    assert aside.score < 40
    assert aside.remarks == ("turn your head as in the portrait",)
    assert talking.score < 40
    assert "close your mouth" in talking.remarks
    assert score_pose(turned(mesh, 5), mesh).score > aside.score


def test_without_a_portraits_mesh_a_straight_and_closed_face_is_wanted(face: Face) -> None:
    straight = with_mouth(face.landmarks_px, 0.01)
    assert score_pose(straight, None).score > 80
    assert "look straight into the camera" in score_pose(turned(straight, 30), None).remarks


def looked(calibration: Calibration, mesh: Mesh, start_s: float, seconds: float, pose: Reference = POSE) -> None:
    for step in range(round(seconds * 10) + 1):
        calibration.offer(start_s + step / 10, mesh, pose)


def test_the_best_frame_of_the_time_is_taken(face: Face) -> None:
    mesh = face.landmarks_px
    calibration = Calibration(1.0, mesh)
    assert calibration.share == 0.0
    assert calibration.hint == "show your face to the camera"
    best = Reference(Pose(POSE.pose.value * 1.1, POSE.pose.jacobian))
    looked(calibration, turned(mesh, 20), 100.0, 0.2)
    assert calibration.hint == "turn your head as in the portrait"
    calibration.offer(100.3, turned(mesh, 8), best)
    looked(calibration, with_mouth(mesh, 0.4), 100.4, 0.4)
    assert calibration.result() is None
    assert 0.7 < calibration.share < 0.9
    looked(calibration, with_mouth(mesh, 0.4), 100.9, 0.2)
    result = calibration.result()
    assert result is not None
    assert 75 < result[0].score < 90
    assert result[1] is best


def test_once_the_best_is_good_half_the_time_will_do(face: Face) -> None:
    mesh = face.landmarks_px
    calibration = Calibration(2.0, mesh)
    looked(calibration, turned(mesh, 20), 0.0, 0.3)
    looked(calibration, mesh, 0.4, 0.5)
    assert calibration.result() is None
    calibration.offer(1.05, turned(mesh, 20), POSE)
    result = calibration.result()
    assert result is not None
    assert result[0].score == 100


def test_time_without_a_face_does_not_count(face: Face) -> None:
    calibration = Calibration(2.0, face.landmarks_px)
    looked(calibration, turned(face.landmarks_px, 8), 0.0, 0.4)
    looked(calibration, turned(face.landmarks_px, 8), 30.0, 0.1)
    assert calibration.result() is None
    assert calibration.share < 0.6


def test_while_the_best_is_poor_the_looking_goes_on_and_ends_all_the_same(face: Face) -> None:
    mesh = face.landmarks_px
    calibration = Calibration(1.0, mesh)
    looked(calibration, turned(mesh, 30), 0.0, 2.0)
    assert calibration.result() is None
    looked(calibration, turned(mesh, 30), 2.0, 1.1)
    result = calibration.result()
    assert result is not None
    assert result[0].score < 50


def test_hints_can_be_read(face: Face) -> None:
    mesh = face.landmarks_px
    calibration = Calibration(5.0, mesh)
    hints = []
    for step in range(30):
        calibration.offer(step / 30, turned(mesh, 20) if step % 2 else mesh, POSE)
        hints.append(calibration.hint)
    assert sum(one != other for one, other in itertools.pairwise(hints)) <= 2


@pytest.mark.parametrize("value", [np.full((5, 2), np.nan), np.zeros((5, 2))])
def test_keypoints_that_are_no_face_are_not_taken(face: Face, value: NDArray[np.float64]) -> None:
    calibration = Calibration(0.0, None)
    calibration.offer(0.0, face.landmarks_px, Reference(Pose(value, POSE.pose.jacobian)))
    assert calibration.result() is None


def test_few_frames_are_waited_for_and_no_time_means_at_once(face: Face) -> None:
    slow = Calibration(0.5, face.landmarks_px)
    slow.offer(0.0, face.landmarks_px, POSE)
    slow.offer(5.0, face.landmarks_px, POSE)
    assert slow.result() is None
    slow.offer(10.0, face.landmarks_px, POSE)
    assert slow.result() is not None
    at_once = Calibration(0.0, None)
    assert at_once.result() is None
    at_once.offer(0.0, turned(face.landmarks_px, 40), POSE)
    assert at_once.result() is not None


def test_in_space_the_expression_alone_counts(face: Face) -> None:
    mesh = face.landmarks_px
    neutral = with_mouth(mesh, 0.0)
    assert score_expression(openings(turned(neutral, 40), in_space=True)).score > 80
    calibration = Calibration(0.0, mesh)
    calibration.offer(0.0, turned(neutral, 40), POSE, in_space=True)
    result = calibration.result()
    assert result is not None
    assert result[0].score > 80
    assert result[0].remarks == ()


def test_a_mouth_in_the_middle_of_a_word_and_shut_eyes_are_no_neutral_expression(face: Face) -> None:
    rest = openings(face.landmarks_px, in_space=True)
    talking = score_expression(rest._replace(mouth=0.3))
    blinking = score_expression(rest._replace(left_eye=0.02, right_eye=0.02))
    assert talking.score < 10
    assert talking.remarks == ("close your mouth",)
    assert blinking.score < 30
    assert blinking.remarks == ("open your eyes",)


def test_scores_of_pose_and_of_expression_are_not_compared(face: Face) -> None:
    """Whoever changes to the plane in the middle is not left with a head that looks aside."""
    mesh = face.landmarks_px
    calibration = Calibration(1.0, mesh)
    aside = Reference(Pose(POSE.pose.value * 1.1, POSE.pose.jacobian))
    for step in range(5):
        calibration.offer(step / 10, turned(mesh, 40), aside, in_space=True)
    for step in range(5, 20):
        calibration.offer(step / 10, turned(mesh, 12), POSE)
    result = calibration.result()
    assert result is not None
    assert result[1] is POSE
