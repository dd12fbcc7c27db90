"""Pictures of the avatar, finished and not yet."""

import threading
import time

import numpy as np
import pytest

from app.pipeline.output.output_frame import AvatarPicture, UnfinishedPicture


def test_a_picture_is_finished_once_whoever_wants_it() -> None:
    made = []

    def finish() -> AvatarPicture:
        time.sleep(0.01)
        made.append(AvatarPicture(np.zeros((8, 8, 3), np.uint8)))
        return made[-1]

    picture = UnfinishedPicture(finish)
    got: list[AvatarPicture] = []
    threads = [threading.Thread(target=lambda: got.append(picture.finished)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all(one is made[0] for one in got)


def test_what_cannot_be_finished_is_tried_once() -> None:
    tried = []

    def finish() -> AvatarPicture:
        tried.append(1)
        raise MemoryError("no room")

    picture = UnfinishedPicture(finish)
    for _ in range(3):
        with pytest.raises(MemoryError, match="no room"):
            _ = picture.finished
    assert len(tried) == 1
