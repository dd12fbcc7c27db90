"""Who is seen in the shots of a film, and from where each one's motion counts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.media.faces import FaceFinder
from mcnet.media.head_motion import Head
from mcnet.media.images import read_rgb
from mcnet.media.performers import Performers, tell_apart
from tests.media.heads import with_eyes_at, with_jaw_down

Mesh = NDArray[np.float64]
FPS = 10


def _shots(*lengths: int) -> list[range]:
    ends = np.cumsum(lengths).tolist()
    return [range(end - length, end) for length, end in zip(lengths, ends, strict=True)]


@pytest.fixture(scope="module")
def people() -> list[Head]:
    """Two of them, their mouths closed."""
    with FaceFinder() as finder:
        faces = [finder.find(read_rgb(ASSETS / "portraits" / f"{name}.jpg"))[0] for name in ("woman_1", "man_2")]
    return [Head.of(face.landmarks_px.astype(np.float64)).with_mouth_closed() for face in faces]


def _talking(head: Head, frames: int, *, closed_at: int | None = None) -> list[Mesh | None]:
    """Their mouth is open but for one frame, and they blink."""
    return [
        head.mesh if frame == closed_at else with_eyes_at(with_jaw_down(head, 0.3), 0.3 + 0.7 * (frame % 5 > 0)).mesh
        for frame in range(frames)
    ]


def test_each_of_two_people_counts_from_their_own_neutral_face(people: list[Head]) -> None:
    one, other = people
    meshes = _talking(one, 12, closed_at=7) + _talking(other, 15, closed_at=3) + _talking(one, 10)
    told = tell_apart(meshes, _shots(12, 15, 10), FPS)
    assert told == Performers([1] * 12 + [0] * 15 + [1] * 10, [15, 7])


def test_shots_of_one_person_have_one_reference(people: list[Head]) -> None:
    """Who smiles or speaks throughout a shot does so against the neutral face of another one."""
    meshes = _talking(people[0], 20) + [None] * 3 + _talking(people[0], 12, closed_at=8)
    assert tell_apart(meshes, _shots(20, 15), FPS) == Performers([0] * 35, [31])


def test_a_video_of_one_shot_has_one_performer(people: list[Head]) -> None:
    meshes = _talking(people[0], 5, closed_at=2) + _talking(people[1], 20)
    assert tell_apart(meshes, _shots(25), FPS).of_frames == [0] * 25
    assert tell_apart(meshes[2:3], _shots(1), FPS) == Performers([0], [0])


@pytest.mark.parametrize(("frames", "fps", "own"), [(9, 10, False), (10, 10, True), (3, 1, False), (4, 1, True)])
def test_a_shot_of_less_than_a_second_or_four_frames_is_of_who_is_most_like(
    people: list[Head], frames: int, fps: int, own: bool
) -> None:
    one, other = people
    meshes = _talking(one, 30, closed_at=2) + _talking(other, frames, closed_at=1) + _talking(one, 2)
    told = tell_apart(meshes, _shots(30, frames, 2), fps)
    assert told == Performers([0] * 30 + [int(own)] * frames + [0] * 2, [2, 31] if own else [2])


def test_a_shot_without_a_face_is_of_nobody_in_particular(people: list[Head]) -> None:
    meshes = [None] * 5 + _talking(people[0], 10, closed_at=4)
    assert tell_apart(meshes, _shots(5, 10), FPS) == Performers([0] * 15, [9])
