import threading
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from app.pipeline.animation.look_ahead import LookAhead
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face
from tests.app.fakes import FakeFinder, marked_picture, wait_until

Rgb = NDArray[np.uint8]


class Recorder(FakeFinder):
    """A fake that notes which pictures it was given, and every thread that called it."""

    def __init__(self, face: Face | None) -> None:
        super().__init__(face)
        self.pictures: list[Rgb] = []
        self.calls: list[str] = []

    def find(self, rgb: Rgb) -> list[Face]:
        self.pictures.append(rgb)
        self.calls.append(threading.current_thread().name)
        return super().find(rgb)

    def forget(self) -> None:
        self.calls.append(threading.current_thread().name)

    def close(self) -> None:
        self.calls.append(threading.current_thread().name)

    def has_seen(self, rgb: Rgb) -> bool:
        return any(one is rgb for one in self.pictures)


@pytest.fixture
def finder(face: Face) -> Recorder:
    return Recorder(face)


@pytest.fixture
def ahead(finder: Recorder) -> Iterator[LookAhead]:
    before = set(threading.enumerate())
    ahead = LookAhead(lambda: finder)
    yield ahead
    finder.go_on.set()
    ahead.close()
    # Threads of earlier tests may have ended meanwhile; of this one none is left.
    assert set(threading.enumerate()) == {thread for thread in before if thread.is_alive()}


def follow(ahead: LookAhead, frames: int) -> None:
    """So many frames, each asked for before the next one comes."""
    for _ in range(frames):
        rgb = marked_picture()
        ahead.offer(rgb)
        ahead.find(rgb)


def hang_in(finder: Recorder, ahead: LookAhead) -> Rgb:
    """A frame that is being searched ahead, and is not done before `go_on`."""
    finder.go_on.clear()
    rgb = marked_picture()
    ahead.offer(rgb)
    wait_until(lambda: finder.hangs, "it is being searched")
    return rgb


def test_whoever_asks_for_every_frame_has_the_next_one_searched_before_he_asks(
    ahead: LookAhead, finder: Recorder, face: Face
) -> None:
    follow(ahead, 2)
    rgb = marked_picture()
    ahead.offer(rgb)
    wait_until(lambda: finder.has_seen(rgb), "it is searched")
    assert ahead.find(rgb) == [face]
    assert finder.searched == 3  # and not once more


def test_frames_that_nobody_asks_for_are_not_searched(ahead: LookAhead, finder: Recorder) -> None:
    follow(ahead, 3)
    skipped = [marked_picture() for _ in range(4)]
    for rgb in skipped:
        ahead.offer(rgb)
    ahead.find(skipped[-1])  # a model that is too slow for the camera: it takes the newest
    searched = finder.searched
    for _ in range(5):
        ahead.offer(marked_picture())
    assert ahead.find(marked_picture()) != []
    assert finder.searched == searched + 1


def test_a_search_that_has_not_begun_gives_way_to_that_of_a_newer_frame(
    ahead: LookAhead, finder: Recorder, face: Face
) -> None:
    follow(ahead, 2)
    hang_in(finder, ahead)
    older, newest = marked_picture(), marked_picture()
    ahead.offer(older)
    ahead.offer(newest)
    finder.go_on.set()
    assert ahead.find(newest) == [face]
    assert not finder.has_seen(older)
    assert ahead.find(older) == [face]  # asked for all the same


def test_a_search_that_is_waited_for_is_not_given_up_for_a_newer_frame(
    ahead: LookAhead, finder: Recorder, face: Face
) -> None:
    follow(ahead, 2)
    hang_in(finder, ahead)
    rgb = marked_picture()
    ahead.offer(rgb)
    found: list[list[Face]] = []
    asker = threading.Thread(target=lambda: found.append(ahead.find(rgb)))
    asker.start()
    wait_until(lambda: all(one.rgb is not rgb for one in ahead._offers), "it is asked for")
    ahead.offer(marked_picture())
    finder.go_on.set()
    asker.join(5.0)
    assert found == [[face]]


def test_what_was_found_ahead_is_forgotten_with_the_followed_face(ahead: LookAhead, finder: Recorder) -> None:
    follow(ahead, 2)
    rgb = marked_picture()
    ahead.offer(rgb)
    wait_until(lambda: finder.has_seen(rgb), "it is searched")
    ahead.forget()
    ahead.find(rgb)
    assert [one is rgb for one in finder.pictures[-2:]] == [True, True]


def test_a_search_ahead_that_fails_says_so_when_it_is_asked_for(ahead: LookAhead, finder: Recorder, face: Face) -> None:
    follow(ahead, 2)
    finder.fail = RuntimeError("out of memory")
    rgb = marked_picture()
    ahead.offer(rgb)
    wait_until(lambda: finder.has_seen(rgb), "it is searched")
    with pytest.raises(RuntimeError, match="out of memory"):
        ahead.find(rgb)
    finder.fail = None
    assert ahead.find(rgb) == [face]


def test_everything_happens_on_one_thread_which_ends_with_it(finder: Recorder) -> None:
    made: list[str] = []

    def make() -> Recorder:
        made.append(threading.current_thread().name)
        return finder

    before = set(threading.enumerate())
    ahead = LookAhead(make)
    follow(ahead, 3)
    ahead.forget()
    ahead.close()
    ahead.close()
    assert len(finder.calls) == 5
    assert set(finder.calls) == set(made)
    assert threading.current_thread().name not in made
    # Threads of earlier tests may have ended meanwhile; of this one none is left.
    assert set(threading.enumerate()) == {thread for thread in before if thread.is_alive()}
    ahead.offer(marked_picture())  # a camera may outlive it
    ahead.forget()
    assert not ahead._offers
    with pytest.raises(MediaError, match="this finder was closed"):
        ahead.find(marked_picture())


def test_a_finder_that_cannot_be_made() -> None:
    def make() -> FakeFinder:
        raise MediaError("the face model is missing")

    before = set(threading.enumerate())
    with pytest.raises(MediaError, match="the face model is missing"):
        LookAhead(make)
    # Threads of earlier tests may have ended meanwhile; of this one none is left.
    assert set(threading.enumerate()) == {thread for thread in before if thread.is_alive()}
