"""How the portrait is posed, so that no change of it is a jump."""

import numpy as np
import pytest

from app.pipeline.animation.idle_motion import Idling
from app.pipeline.animation.motion import Pose
from app.pipeline.animation.posing import Posing
from app.pipeline.animation.source import Encoder
from app.pipeline.animation.stopwatch import Stopwatch
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from mcnet.media.faces import Face
from tests.app.fakes import FakeEngine, keypoints
from tests.app.pipeline.animation.stage import DT_S, POINTS, SETTINGS, Stage, shown_head, turned


@pytest.mark.parametrize("references", [1, 2])
def test_another_reference_is_glided_to_and_a_jump_of_the_performer_is_not(woman: Portrait, references: int) -> None:
    source, _ = Encoder(FakeEngine(), None, Stopwatch(lambda *_: None), lambda _: None).take(woman, detected=True)
    posing, now_s, places = Posing(Idling(lambda _: None)), 100.0, []
    for index in range(40):
        now_s += DT_S
        before = index < 20
        target = Pose.of(keypoints(0.3 if before else 0.0))
        stance = posing.follow(target, source, 1 if before else references, now_s, SETTINGS).stance
        assert isinstance(stance, Pose)
        places.append(float(stance.value[4, 0]))
    assert places[19] == pytest.approx(0.3, abs=1e-6)
    assert places[-1] == pytest.approx(0.0, abs=1e-6)
    largest = max(abs(np.diff(places[19:])))
    assert largest < 0.1 if references == 2 else largest == pytest.approx(0.3, abs=1e-6)


def test_a_lost_face_eases_to_the_portraits_own_pose_in_space(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE)
    stage.finder.face = turned(face, 25)
    for _ in range(20):
        stage.step()
    stage.finder.face = None
    stage.until(State.IDLE)
    source = stage.animator._source
    assert source is not None
    assert source.space is not None
    np.testing.assert_allclose(shown_head(stage), source.space.places, atol=1e-5)
