import numpy as np

from app.pipeline.calibration import Calibration, score_pose
from app.pipeline.motion import Pose
from app.pipeline.portraits import Portrait
from mcnet.media.expressions import Mesh
from mcnet.media.faces import Face

POSE = Pose(np.zeros((5, 2)), np.tile(np.eye(2), (5, 1, 1)))


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


def test_the_best_frame_of_the_time_is_taken(face: Face) -> None:
    mesh = face.landmarks_px
    calibration = Calibration(1.0, mesh)
    assert calibration.share(50.0) == 0.0
    assert calibration.hint == "show your face to the camera"
    best = Pose(np.ones((5, 2)), POSE.jacobian)
    calibration.offer(100.0, turned(mesh, 20), POSE)
    assert calibration.hint == "turn your head as in the portrait"
    calibration.offer(100.4, mesh, best)
    assert calibration.result(100.5) is None
    assert 0.3 < calibration.share(100.4) < 0.5
    calibration.offer(100.8, with_mouth(mesh, 0.4), POSE)
    result = calibration.result(101.1)
    assert result is not None
    assert result[0].score == 100
    assert result[1] is best


def test_few_frames_are_waited_for_and_no_time_means_at_once(face: Face, woman: Portrait) -> None:
    slow = Calibration(1.0, woman.landmarks_px)
    slow.offer(0.0, face.landmarks_px, POSE)
    slow.offer(5.0, face.landmarks_px, POSE)
    assert slow.result(5.0) is None
    slow.offer(10.0, face.landmarks_px, POSE)
    assert slow.result(10.0) is not None
    at_once = Calibration(0.0, None)
    assert at_once.result(0.0) is None
    at_once.offer(0.0, face.landmarks_px, POSE)
    assert at_once.result(0.0) is not None
