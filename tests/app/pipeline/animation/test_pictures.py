"""Which pictures are made of the portrait, and which are shown again."""

import dataclasses

from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from mcnet.media.faces import Face
from tests.app.pipeline.animation.stage import Stage


def test_another_portrait_while_the_face_is_lost_shows_at_once(face: Face, woman: Portrait) -> None:
    stage = Stage(face, woman)
    stage.until(State.LIVE)
    stage.finder.face = None
    stage.until(State.HOLD)
    stage.animator.set_portrait(dataclasses.replace(woman, square=woman.square[:, ::-1].copy()))
    for _ in range(20):
        output = stage.step().output
        assert output is not None
        assert output.avatar is not None
