import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.media.errors import MediaError
from mcnet.media.face_mesh import AttentionMesh, PlainMesh, Region
from mcnet.media.faces import BUNDLE, LANDMARK_COUNT, Face, FaceFinder
from mcnet.media.images import read_rgb
from mcnet.media.video import open_driving
from tests.media.videos import GRID

PORTRAITS = sorted((ASSETS / "portraits").glob("*.jpg"))


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def _assert_plausible(face: Face) -> None:
    """The parts of a face lie where they do on an upright one: what a mesh read in the wrong order would not give."""
    x, y = face.landmarks_px[:, 0], face.landmarks_px[:, 1]
    assert face.landmarks_px.shape == (LANDMARK_COUNT, 3)
    assert face.landmarks_px.dtype == np.float32
    assert y[10] < y[105] < y[33] < y[1] < y[13] < y[152], "forehead, brow, eye, nose, lips, chin"
    assert y[13] < y[14] + 0.005 * (y[152] - y[10]), "lips that touch may cross by a trifle"
    assert x[234] < x[33] < x[133] < x[168] < x[362] < x[263] < x[454], "side, right eye, bridge, left eye, side"
    assert face.landmarks_px[1, 2] < face.landmarks_px[234, 2], "the nose is nearer than the ears"


def test_there_are_portraits() -> None:
    assert len(PORTRAITS) >= 8


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
def test_one_face_in_each_portrait(finder: FaceFinder, path: Path) -> None:
    rgb = read_rgb(path)
    (face,) = finder.find(rgb)
    _assert_plausible(face)
    assert face.presence > 0.9
    box = face.box
    assert 0.25 * rgb.shape[1] < box.right - box.left < 0.75 * rgb.shape[1]
    assert 0 < box.left < box.right < rgb.shape[1]
    assert 0 < box.top < box.bottom < rgb.shape[0]


def test_the_pupils_are_dark_and_between_the_lids(finder: FaceFinder) -> None:
    """The mesh lies on the very pixels: eyes are darker than the cheeks below them."""
    rgb = read_rgb(ASSETS / "portraits" / "woman_1.jpg")
    (face,) = finder.find(rgb)
    for lids, cheek in (((159, 145), 50), ((386, 374), 280)):
        eye = face.landmarks_px[list(lids), :2].mean(axis=0).round().astype(int)
        below = face.landmarks_px[cheek, :2].round().astype(int)
        assert rgb[eye[1], eye[0]].mean() < 0.6 * rgb[below[1], below[0]].mean()


def test_tracking_follows_the_grid_talker_and_agrees_with_searching_anew(finder: FaceFinder) -> None:
    with FaceFinder(tracking=True) as follower:
        for index, rgb in enumerate(open_driving(GRID)):
            (face,) = follower.find(rgb)
            if index % 15 == 0:
                _assert_plausible(face)
                (anew,) = finder.find(rgb)
                width = face.box.right - face.box.left
                assert np.abs(face.landmarks_px - anew.landmarks_px)[:, :2].mean() < 0.03 * width


def test_no_face_where_there_is_none(finder: FaceFinder) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    soft = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (320, 240)).astype(np.uint8)
    for rgb in (noise, soft, np.zeros((64, 64, 3), np.uint8), next(iter(open_driving(GRID)))[:, :60].copy()):
        assert finder.find(rgb) == []


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
def test_the_negative_of_a_face_is_none(finder: FaceFinder, path: Path) -> None:
    """The detector and the attention mesh take most of these ten for faces, the plain mesh none."""
    assert finder.find(255 - read_rgb(path)) == []


def _scene(parts: list[tuple[Path, int, int, int]], size_px: tuple[int, int]) -> NDArray[np.uint8]:
    scene = np.full((size_px[1], size_px[0], 3), 120, np.uint8)
    for path, left, top, side in parts:
        scene[top : top + side, left : left + side] = cv2.resize(
            read_rgb(path), (side, side), interpolation=cv2.INTER_AREA
        )
    return scene


@pytest.mark.parametrize(("left", "top"), [(0, 0), (1180, 620), (600, 300)])
def test_a_small_face_in_a_large_picture(finder: FaceFinder, left: int, top: int) -> None:
    (face,) = finder.find(_scene([(PORTRAITS[0], left, top, 100)], (1280, 720)))
    _assert_plausible(face)
    assert left < (face.box.left + face.box.right) / 2 < left + 100
    assert top < (face.box.top + face.box.bottom) / 2 < top + 100


def test_a_photograph_is_searched_small_and_measured_large(finder: FaceFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    # No side is a multiple of what it is shrunk by, and the face lies at the far end.
    rgb = _scene([(PORTRAITS[0], 3100, 2500, 700)], (3851, 3229))
    looked_at: list[int] = []
    detect = FaceFinder._detect

    def noted(self: FaceFinder, shown: NDArray[np.uint8], window: Region) -> list[Region]:
        looked_at.append(shown.shape[0])
        return detect(self, shown, window)

    monkeypatch.setattr(FaceFinder, "_detect", noted)
    (face,) = finder.search(rgb)
    assert set(looked_at) == {3229 // 3}
    (alone,) = finder.search(np.ascontiguousarray(rgb[2500:3200, 3100:3800]))
    there = alone.landmarks_px[:, :2] + np.array((3100, 2500), np.float32)
    assert np.abs(face.landmarks_px[:, :2] - there).mean() < 0.01 * 700


def test_a_face_that_fills_the_picture(finder: FaceFinder) -> None:
    rgb = read_rgb(PORTRAITS[0])
    box = finder.find(rgb)[0].box
    (face,) = finder.find(rgb[int(box.top) : int(box.bottom), int(box.left) : int(box.right)].copy())
    _assert_plausible(face)


def test_the_largest_comes_first(finder: FaceFinder) -> None:
    parts = [(PORTRAITS[0], 0, 50, 310), (PORTRAITS[1], 310, 10, 400), (PORTRAITS[2], 630, 120, 290)]
    rgb = _scene(parts, (930, 420))
    faces = finder.find(rgb)
    assert [round((face.box.left + face.box.right) / 2) // 300 for face in faces] == [1, 0, 2]
    with FaceFinder(max_faces=1) as alone:
        assert len(alone.find(rgb)) == 1


def test_a_tilted_head(finder: FaceFinder) -> None:
    rgb = read_rgb(PORTRAITS[0])
    (upright,) = finder.find(rgb)
    turn = cv2.getRotationMatrix2D((256, 256), 35, 1)
    (tilted,) = finder.find(cv2.warpAffine(rgb, turn, (512, 512)).astype(np.uint8))
    expected = upright.landmarks_px[:, :2] @ turn[:, :2].T + turn[:, 2]
    assert np.abs(tilted.landmarks_px[:, :2] - expected).mean() < 0.03 * (upright.box.right - upright.box.left)


def test_a_lost_face_is_found_again() -> None:
    frame = next(iter(open_driving(GRID)))
    with FaceFinder(tracking=True) as follower:
        assert len(follower.find(frame)) == 1
        assert follower.find(np.zeros_like(frame)) == []
        assert len(follower.find(frame)) == 1
        follower.forget()
        assert len(follower.find(frame[:, ::-1].copy())) == 1


def _behind_a_hand(rgb: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
    hidden = rgb.copy()
    box = face.box
    center, size = (
        ((box.left + box.right) / 2, (box.top + box.bottom) / 2),
        (box.right - box.left, box.bottom - box.top),
    )
    for finger in range(4):
        at = round(center[0] + (finger - 1.5) * 0.25 * size[0]), round(center[1] - 0.3 * size[1])
        cv2.ellipse(hidden, at, (round(0.11 * size[0]), round(0.45 * size[1])), 0, 0, 360, (205, 150, 125), -1)
    palm = round(0.62 * size[0]), round(0.55 * size[1])
    cv2.ellipse(hidden, (round(center[0]), round(center[1] + 0.3 * size[1])), palm, 0, 0, 360, (210, 155, 130), -1)
    return hidden


@pytest.mark.parametrize("change", ["hand", "dark"])
def test_a_face_that_is_followed_is_lost_when_it_cannot_be_seen(change: str) -> None:
    frames = list(open_driving(GRID))
    with FaceFinder(tracking=True) as follower:
        (face,) = follower.find(frames[0])
        for rgb in frames[1:4]:
            (face,) = follower.find(rgb)
        hidden = _behind_a_hand(frames[4], face) if change == "hand" else (frames[4] // 50)
        assert follower.find(hidden) == []
        assert len(follower.find(frames[5])) == 1


def test_a_face_that_is_followed_is_judged_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = list(open_driving(GRID))[:32]
    judged = []
    with FaceFinder(tracking=True) as follower:
        follower.find(frames[0])
        measure = follower._judge.presence

        def counted(rgb: NDArray[np.uint8], region: Region) -> float:
            judged.append(region)
            return measure(rgb, region)

        monkeypatch.setattr(follower._judge, "presence", counted)
        assert all(follower.find(rgb) for rgb in frames[1:])
    assert len(judged) == 2  # every fifteenth frame: it costs as much as half of following


_BOTH = [(PORTRAITS[0], 0, 40, 380), (PORTRAITS[5], 450, 120, 190)]
"""The performer, and somebody in the background."""


def _followed(follower: FaceFinder, rgb: NDArray[np.uint8], frames: int) -> list[str]:
    """Who drives in so many frames: the performer ("p"), the one in the background ("b") or nobody (".")."""
    return [_who(follower.find(rgb)) for _ in range(frames)]


def _who(found: list[Face]) -> str:
    return "." if not found else "p" if found[0].box.left < 400 else "b"


def _room(size: tuple[int, int]) -> NDArray[np.uint8]:
    """A window and a table."""
    rgb = np.full((size[1], size[0], 3), 30, np.uint8)
    rgb[:300] = np.linspace(20, 240, 300)[:, None, None]
    return rgb


def _with_head(room: NDArray[np.uint8], path: Path, left: int, top: int, side: int) -> NDArray[np.uint8]:
    """A portrait's face, cut out roughly, in a room."""
    head = cv2.resize(read_rgb(path), (side, side), interpolation=cv2.INTER_AREA)
    middle, axes = (side // 2, int(0.487 * side)), (int(0.276 * side), int(0.395 * side))
    oval = cv2.ellipse(np.zeros((side, side), np.uint8), middle, axes, 0, 0, 360, 255, -1) > 0
    rgb = room.copy()
    rgb[top : top + side, left : left + side][oval] = head[oval]
    return rgb


def _without_performer(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As if a hand were put before the face, but for the colour."""
    box = FaceFinder(max_faces=1).find(rgb)[0].box
    hidden = rgb.copy()
    hidden[int(box.top) - 20 : int(box.bottom) + 10, int(box.left) - 10 : int(box.right) + 10] = (120, 90, 80)
    return hidden


def test_nobody_else_drives_while_the_performer_is_covered_for_a_moment() -> None:
    there = _scene(_BOTH, (680, 460))
    covered = _without_performer(there)
    with FaceFinder(tracking=True) as follower:
        assert _followed(follower, there, 3) == ["p"] * 3
        assert _followed(follower, covered, 15) == ["."] * 15
        assert _followed(follower, there, 3) == ["p"] * 3


def _followed_at(follower: FaceFinder, rgb: NDArray[np.uint8], times_s: Iterable[float]) -> list[str]:
    """As `_followed`, in frames of these times."""
    return [_who(follower.find(rgb, time_s)) for time_s in times_s]


@pytest.mark.parametrize(("fps", "waited", "searched"), [(5, 3, 3), (15, 8, 8), (60, 30, 30)])
def test_who_drives_is_a_matter_of_seconds_at_any_frame_rate(fps: int, waited: int, searched: int) -> None:
    there = _scene(_BOTH, (680, 460))
    covered = _without_performer(there)
    with FaceFinder(tracking=True) as follower:
        _followed_at(follower, there, [0.0])
        after = _followed_at(follower, covered, [frame / fps for frame in range(1, waited + 3)])
        assert after == ["."] * waited + ["b"] * 2
        back = _followed_at(follower, there, [frame / fps for frame in range(waited + 3, waited + 4 + searched)])
        assert back[-1] == "p"


def test_a_single_look_that_finds_nobody_leaves_nobody_alone() -> None:
    room = _room((680, 460))
    behind = _with_head(room, PORTRAITS[5], 450, 120, 190)
    with FaceFinder(tracking=True) as follower:
        _followed_at(follower, _with_head(behind, PORTRAITS[0], 0, 40, 380), [0.0])
        assert _followed_at(follower, room, [0.2]) == ["."]
        assert _followed_at(follower, behind, [0.4, 0.6]) == ["."] * 2


def test_what_nobody_saw_counts_for_nothing() -> None:
    """A camera that froze for 20 seconds, and a clock that stands or is set back."""
    there = _scene(_BOTH, (680, 460))
    covered = _without_performer(there)
    with FaceFinder(tracking=True) as follower:
        _followed_at(follower, there, [100.0])
        assert _followed_at(follower, covered, [120.0, 120.2, 120.2, 90.0, 90.2]) == ["."] * 5
        assert _followed_at(follower, covered, [90.4, 90.6]) == ["b"] * 2
        assert _followed_at(follower, there, [110.0, 110.1])[-1] == "p"


@pytest.mark.parametrize(
    ("left", "top", "side"), [(560, 40, 380), (0, 100, 300), (250, 0, 460)], ids=["elsewhere", "farther", "nearer"]
)
def test_who_is_alone_is_not_waited_for_who_was_there(left: int, top: int, side: int) -> None:
    """After frames that were dropped, say, or a hand before the face, a performer is anywhere."""
    size = 960, 460
    before, after = _scene([(PORTRAITS[0], 100, 40, 380)], size), _scene([(PORTRAITS[0], left, top, side)], size)
    with FaceFinder(tracking=True) as follower:
        follower.find(before)
        assert follower.find(_without_performer(before)) == []
        found = follower.find(after)
        assert found
        assert left < found[0].box.left < left + side / 2
        assert follower.find(after)


def test_who_comes_back_small_is_followed_after_a_moment() -> None:
    room = _room((680, 460))
    after = _with_head(room, PORTRAITS[0], 450, 120, 190)
    with FaceFinder(tracking=True) as follower:
        assert _followed(follower, _with_head(room, PORTRAITS[0], 0, 40, 380), 3) == ["p"] * 3
        assert _followed(follower, after, 16) == ["."] * 15 + ["b"]
        # It keeps the avatar from whoever is about as large.
        assert _followed(follower, _with_head(after, PORTRAITS[5], 0, 200, 200), 40) == ["b"] * 40


def test_who_comes_back_small_after_nobody_is_followed_at_once_and_stays() -> None:
    room = _room((680, 460))
    back = _with_head(room, PORTRAITS[0], 450, 120, 190)
    with FaceFinder(tracking=True) as follower:
        assert _followed(follower, _with_head(room, PORTRAITS[0], 0, 40, 380), 3) == ["p"] * 3
        assert _followed(follower, room, 5) == ["."] * 5
        assert _followed(follower, back, 3) == ["b"] * 3
        assert _followed(follower, _with_head(back, PORTRAITS[5], 0, 40, 380), 40) == ["b"] * 40


def test_a_poster_behind_the_performer_drives_nothing() -> None:
    size = 960, 460
    poster = (PORTRAITS[5], 100, 40, 280)
    with FaceFinder(tracking=True) as follower:
        assert _followed(follower, _scene([(PORTRAITS[0], 60, 40, 400)], size), 3) == ["p"] * 3
        assert _followed(follower, _scene([poster, (PORTRAITS[0], 540, 40, 400)], size), 3) == ["b"] * 3


def test_a_scene_that_fades_into_another_one_is_left_like_one_that_is_cut() -> None:
    one, other = _scene([(PORTRAITS[0], 0, 40, 380)], (680, 460)), np.full((460, 680, 3), 240, np.uint8)
    one[:, 380:] = 20
    other[:, :340] = 60
    other[120:310, 450:640] = cv2.resize(read_rgb(PORTRAITS[5]), (190, 190), interpolation=cv2.INTER_AREA)
    with FaceFinder(tracking=True) as follower:
        _followed(follower, one, 20)
        for share in np.linspace(0, 1, 12):
            follower.find(cv2.addWeighted(one, 1 - share, other, share, 0).astype(np.uint8))
        assert _followed(follower, other, 3)[-1] == "b"


def test_who_is_chosen_is_the_largest_or_stays_where_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    there = _scene(_BOTH, (680, 460))
    with FaceFinder(tracking=True) as follower:
        assert _followed(follower, _scene(_BOTH[1:], (680, 460)), 2) == ["b"] * 2
        assert _followed(follower, there, 2) == ["b"] * 2
        follower.choose()
        assert _followed(follower, there, 2) == ["p"] * 2
        monkeypatch.setattr(follower, "_search", lambda *_, **__: [])
        follower.choose()
        assert _followed(follower, there, 2) == ["p"] * 2


def test_who_drove_meanwhile_is_left_once_the_performer_is_back() -> None:
    there = _scene(_BOTH, (680, 460))
    covered = _without_performer(there)
    with FaceFinder(tracking=True) as follower:
        _followed(follower, there, 3)
        assert _followed(follower, covered, 60)[-28:] == ["b"] * 28
        assert _followed(follower, there, 20)[-5:] == ["p"] * 5


def test_who_left_by_the_edge_may_come_back_in_the_middle() -> None:
    nobody = _with_head(_room((960, 460)), PORTRAITS[5], 760, 120, 190)
    with FaceFinder(tracking=True) as follower:
        _followed(follower, _with_head(nobody, PORTRAITS[0], 0, 40, 380), 3)
        assert _followed(follower, nobody, 40)[-1] == "b"
        back = _with_head(nobody, PORTRAITS[0], 370, 40, 380)
        seen = [follower.find(back)[0].box.left for _ in range(20)]
    assert seen[0] > 700
    assert 400 < seen[-1] < 700


def test_who_has_driven_for_long_is_the_performer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcnet.media.faces._REMEMBERED_S", 1.49)
    there = _scene(_BOTH, (680, 460))
    covered = _without_performer(there)
    with FaceFinder(tracking=True) as follower:
        _followed(follower, there, 3)
        _followed(follower, covered, 60)
        assert _followed(follower, there, 20) == ["b"] * 20


def test_after_a_cut_the_largest_face_is_followed_at_once() -> None:
    there, elsewhere = _scene(_BOTH, (680, 460)), _scene(_BOTH[1:], (680, 460))
    with FaceFinder(tracking=True) as follower:
        assert _followed(follower, there, 3) == ["p"] * 3
        assert _followed(follower, elsewhere, 2) == ["b"] * 2
        assert _followed(follower, elsewhere, 20) == ["b"] * 20
        assert _followed(follower, there, 20)[-1] == "p"  # also after a hand before the lens, which is as a cut


def test_another_scene_has_nobody_who_was_lost_in_the_one_before() -> None:
    """Somebody at the performer's place and of that size is another person there."""
    there = _scene(_BOTH, (680, 460))
    elsewhere = np.empty_like(there)
    elsewhere[:, :] = np.linspace(0, 255, 680).astype(np.uint8)[None, :, None]
    elsewhere[40:330, 40:330] = cv2.resize(read_rgb(PORTRAITS[1]), (290, 290), interpolation=cv2.INTER_AREA)
    elsewhere[120:440, 360:680] = cv2.resize(read_rgb(PORTRAITS[5]), (320, 320), interpolation=cv2.INTER_AREA)
    with FaceFinder(tracking=True) as follower:
        _followed(follower, there, 3)
        seen = [follower.find(elsewhere)[0].box.left for _ in range(20)]
    assert min(seen) > 360, "it is the largest face that is followed"


def test_who_was_forgotten_is_not_waited_for() -> None:
    there = _scene(_BOTH, (680, 460))
    with FaceFinder(tracking=True) as follower:
        _followed(follower, there, 3)
        follower.forget()
        assert _followed(follower, _without_performer(there), 1) == ["b"]


@pytest.mark.parametrize("empty_frames", [0, 5])
def test_small_faces_of_a_video_are_searched_for_now_and_then(empty_frames: int) -> None:
    """A talking head in the corner of a recorded screen."""
    screen = np.full((1080, 1920, 3), 235, np.uint8)
    corner = screen.copy()
    corner[880:1060, 1720:1900] = cv2.resize(read_rgb(PORTRAITS[0]), (180, 180), interpolation=cv2.INTER_AREA)
    with FaceFinder(tracking=True, small=True) as follower:
        assert [follower.find(screen) for _ in range(empty_frames)] == [[]] * empty_frames
        found = [follower.find(corner) for _ in range(16)]
    assert all(found[-1:])
    assert found[-1][0].box.left > 1720
    with FaceFinder(tracking=True) as live:
        assert live.find(corner) == []


def test_a_search_between_two_frames_leaves_alone_who_is_followed() -> None:
    there = _scene(_BOTH, (680, 460))
    with FaceFinder(tracking=True) as follower:
        assert _followed(follower, _scene(_BOTH[1:], (680, 460)), 2) == ["b"] * 2
        assert len(follower.search(there)) == 2
        assert _followed(follower, there, 2) == ["b"] * 2


def test_closing_twice_is_harmless_and_use_after_it_is_not() -> None:
    finder = FaceFinder()
    finder.close()
    finder.close()
    with pytest.raises(MediaError, match="closed"):
        finder.find(np.zeros((64, 64, 3), np.uint8))


def test_another_bundle_is_refused(tmp_path: Path) -> None:
    content = bytearray(BUNDLE.read_bytes())
    content[100_000] ^= 1
    (tmp_path / "other.task").write_bytes(content)
    with pytest.raises(MediaError, match="not the bundled one"):
        FaceFinder(bundle=tmp_path / "other.task")
    with pytest.raises(MediaError, match="reinstall"):
        FaceFinder(bundle=tmp_path / "missing.task")


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (0, 64, 3)])
def test_pictures_of_another_shape_are_refused(finder: FaceFinder, shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError, match="expected uint8"):
        finder.find(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(("first", "fonts"), [("", ""), ("", "/fonts/of/the/user"), ("import cv2;", "")])
def test_importing_leaves_qt_alone(first: str, fonts: str) -> None:
    """In a process of its own, where nothing has been imported yet."""
    show = "import mcnet.media, os; print([os.environ.get(n, '') for n in mcnet.media._QT_SETTINGS])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QT_")}
    if fonts:
        environment["QT_QPA_FONTDIR"] = fonts
    answer = subprocess.run(
        [sys.executable, "-c", first + show],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert answer.stdout.strip() == str(["", fonts])


class CountedPlainMesh(PlainMesh):
    looks = 0

    def measure(self, rgb: NDArray[np.uint8], region: Region) -> Face:
        self.looks += 1
        return super().measure(rgb, region)


class CountedAttentionMesh(AttentionMesh):
    looks = 0

    def measure(self, rgb: NDArray[np.uint8], region: Region) -> Face:
        self.looks += 1
        return super().measure(rgb, region)


def test_the_judging_mesh_looks_twice_and_another_one_once() -> None:
    """Figures that the plain mesh measures depend on how often it looks: each look moves its points a little."""
    rgb = read_rgb(PORTRAITS[0])
    plain, attention = CountedPlainMesh(), CountedAttentionMesh(runtime="opencv")
    for mesh in (plain, attention):
        with FaceFinder(mesh=mesh) as finder:
            assert len(finder.find(rgb)) == 1
    assert (plain.looks, attention.looks) == (2, 1)
