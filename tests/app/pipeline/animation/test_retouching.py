"""What is drawn into the engine's pictures where the portrait is moved in space, and what becomes of a call when it
fails.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.pipeline.animation import finish
from app.pipeline.events import SettingRefused
from app.pipeline.output.output_frame import OutputFrame
from app.pipeline.portraits import Portrait
from app.pipeline.state import State
from app.settings import LiveSettings, MotionKind
from mcnet.arrays import Array, Keypoints, Rgb
from mcnet.engine import resized
from mcnet.media.crop import SquareBox
from mcnet.media.faces import Face
from mcnet.media.head_motion import Head, PortraitInSpace, mesh_in_square
from mcnet.media.matte import Matte
from mcnet.media.motion_track import MotionTrack, save_track
from mcnet.media.retouch import Retouch, Retouching
from mcnet.mesh_points import LEFT_LID_PAIRS, RIGHT_LID_PAIRS
from tests.app.fakes import AVATAR_RGB, SIZE_PX, wait_until
from tests.app.pipeline.animation.stage import POINTS, SETTINGS, Stage
from tests.media.heads import JAW, LIDS, with_eyes_at, with_jaw_down

EYES = (LEFT_LID_PAIRS, RIGHT_LID_PAIRS)


def speaking(face: Face) -> Face:
    """With its mouth wide open."""
    landmarks = face.landmarks_px.copy()
    landmarks[list(JAW), 1] += 0.12 * np.ptp(landmarks[:, 1])
    return Face(landmarks, 1.0)


def blinking(face: Face) -> Face:
    """With both eyes shut."""
    landmarks = face.landmarks_px.copy()
    for upper, lower in EYES:
        landmarks[list(upper)] = landmarks[list(lower)]
    return Face(landmarks, 1.0)


def drawn_px(picture: Rgb | None) -> int:
    """How many pixels are none of the engine's; the first one counts its pictures."""
    assert picture is not None
    changed = (picture != AVATAR_RGB).any(axis=-1)
    changed[0, 0] = False
    return int(changed.sum())


def shown(stage: Stage, settings: LiveSettings = SETTINGS) -> OutputFrame:
    output = stage.step(settings).output
    assert output is not None
    return output


def spoken(face: Face, portrait: Portrait, settings: LiveSettings = SETTINGS) -> Stage:
    """Live, and then with an open mouth."""
    stage = Stage(face, portrait, POINTS)
    stage.until(State.LIVE, settings)
    stage.finder.face = speaking(face)
    for _ in range(20):
        stage.step(settings)
    return stage


def refused(stage: Stage) -> list[str]:
    return [event.message for event in stage.events if isinstance(event, SettingRefused) and event.setting == "retouch"]


@pytest.mark.parametrize(
    ("change", "drawn"),
    [
        ({}, True),
        ({"retouch": False}, False),
        ({"motion": "plane"}, False),
        ({"relative": False}, False),
        ({"keypoints": "detected"}, False),
    ],
    ids=["in space", "off", "in the plane", "absolute", "detected"],
)
def test_skin_is_drawn_in_space_only(face: Face, woman: Portrait, change: dict[str, Any], drawn: bool) -> None:
    settings = dataclasses.replace(SETTINGS, **change)
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, settings)
    assert (drawn_px(shown(stage, settings).avatar) > 0.05 * SIZE_PX**2) is drawn


@pytest.mark.usefixtures("without_skin")
@pytest.mark.parametrize(
    ("change", "open_mouth", "drawn"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"retouch": False}, True, False),
        ({"motion": "plane"}, True, False),
        ({"relative": False}, True, False),
        ({"keypoints": "detected"}, True, False),
        ({"mouth_strength": 0.0}, True, False),
    ],
    ids=["open", "closed", "off", "in the plane", "absolute", "detected", "a mouth that is kept still"],
)
def test_a_mouth_is_drawn_where_it_opens_in_space_only(
    face: Face, woman: Portrait, change: dict[str, Any], open_mouth: bool, drawn: bool
) -> None:
    settings = dataclasses.replace(SETTINGS, **change)
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, settings)
    stage.finder.face = speaking(face) if open_mouth else face
    for _ in range(20):
        output = shown(stage, settings)
    assert output.state is State.LIVE
    assert (drawn_px(output.avatar) > 100) is drawn
    if not drawn:
        assert drawn_px(output.avatar) == 0


@pytest.mark.parametrize(("change", "drawn"), [({}, True), ({"retouch": False}, False), ({"motion": "plane"}, False)])
def test_lids_are_drawn_where_they_shut_in_space_only(
    face: Face, woman: Portrait, change: dict[str, Any], drawn: bool
) -> None:
    settings = dataclasses.replace(SETTINGS, **change)
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, settings)
    stage.finder.face = blinking(face)
    for _ in range(10):
        output = shown(stage, settings)
    assert (drawn_px(output.avatar) > 0) is drawn


def test_the_network_is_asked_for_half_a_blink_and_the_whole_one_is_drawn(
    face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Head] = []

    class Recorder(Retouch):
        def applied(self, rgb: Rgb, head: Head, share: float = 1.0) -> Rgb:
            drawn.append(head)
            return rgb

    monkeypatch.setattr(finish, "Retouch", Recorder)
    gaps = {}
    for on in (True, False):
        settings = dataclasses.replace(SETTINGS, retouch=on)
        stage = Stage(face, woman, (*LIDS, 1))
        rendered: list[NDArray[np.float32]] = []
        render = stage.engine.render

        def recorded(
            pose: Keypoints[Array], render: Any = render, rendered: list[NDArray[np.float32]] = rendered
        ) -> Rgb:
            rendered.append(pose.value[0])
            picture: Rgb = render(pose)
            return picture

        monkeypatch.setattr(stage.engine, "render", recorded)
        stage.until(State.LIVE, settings)
        open_gap = rendered[-1][1:4:2, 1] - rendered[-1][:4:2, 1]
        stage.finder.face = blinking(face)
        for _ in range(20):
            shown(stage, settings)
        gaps[on] = (rendered[-1][1:4:2, 1] - rendered[-1][:4:2, 1]) / open_gap
    np.testing.assert_allclose(gaps[True], 0.5, atol=0.1)
    assert gaps[False].max() < 0.2
    assert drawn[-1].openings.eyes < 0.2 * drawn[0].openings.eyes


def test_the_switch_takes_effect_with_the_next_picture_and_each_is_timed(face: Face, woman: Portrait) -> None:
    stage = spoken(face, woman)
    off = dataclasses.replace(SETTINGS, retouch=False)
    for settings in (off, SETTINGS, off):
        stage.timed.clear()
        assert (drawn_px(shown(stage, settings).avatar) > 0) is settings.retouch
        assert ("retouch" in stage.timed) is settings.retouch
        assert stage.timed.count("render") == 1


def test_nothing_of_the_performers_picture_is_in_what_is_drawn(face: Face, woman: Portrait) -> None:
    pictures = []
    for level in (0, 255):
        stage = Stage(face, woman, POINTS)
        for index in range(30):
            stage.finder.face = face if index < 20 else speaking(face)
            output = stage.only_step(rgb=np.full((480, 640, 3), level, np.uint8)).output
        assert output is not None
        assert output.avatar is not None
        pictures.append(output.avatar)
    assert drawn_px(pictures[0]) > 100
    np.testing.assert_array_equal(pictures[0], pictures[1])


@pytest.mark.usefixtures("without_skin")
def test_what_is_held_is_retouched_and_what_eases_to_rest_closes_its_mouth(face: Face, woman: Portrait) -> None:
    stage = spoken(face, woman)
    spoke = shown(stage).avatar
    stage.finder.face = None
    held = shown(stage)
    assert held.state is State.HOLD
    assert held.avatar is spoke
    stage.until(State.EASING)
    eased = [drawn_px(held.avatar)]
    while (output := shown(stage)).state is State.EASING:
        eased.append(drawn_px(output.avatar))
    assert eased == sorted(eased, reverse=True)
    assert len(set(eased)) > 3
    assert output.state is State.IDLE
    assert drawn_px(output.avatar) == 0


@pytest.mark.usefixtures("without_skin")
@pytest.mark.parametrize("motion", ["space", "plane"])
def test_an_idle_motion_that_speaks_is_retouched(
    face: Face, woman: Portrait, tmp_path: Path, motion: MotionKind
) -> None:
    """However the performer's own motion is taken, an idle one is in space."""
    path = tmp_path / "talk.safetensors"
    save_track(path, MotionTrack(np.arange(60) / 30, [*[face] * 30, *[speaking(face)] * 30], (640, 480)))
    settings = dataclasses.replace(SETTINGS, idle_s=60.0, idle_motion=str(path), motion=motion)
    stage = Stage(face, woman, POINTS)
    stage.until(State.LIVE, settings)
    wait_until(lambda: stage.idle_motion(settings) is not None, "the motion is read")
    stage.finder.face = None
    stage.until(State.IDLE, settings)
    drawn = [drawn_px(shown(stage, settings).avatar) for _ in range(45)]
    assert drawn[0] == 0
    assert max(drawn) > 100


def test_who_is_cut_out_is_retouched_before(face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.ones((SIZE_PX, SIZE_PX), np.float32)
    plate = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)

    monkeypatch.setattr("app.pipeline.animation.cutting_out.cut_out", lambda *_: Matte(whole, plate, whole))
    stage = spoken(face, woman)
    settings = dataclasses.replace(SETTINGS, cut_out=True)
    wait_until(lambda: shown(stage, settings).person is not None, "the person is cut out")
    output = shown(stage, settings)
    assert output.person is not None
    assert drawn_px(output.person.cutout.colours) == drawn_px(output.avatar) > 100


class Broken:
    """Retouches until it is told to fail.

    Attributes:
        when: where it fails: `posed`, `applied`, or nowhere.
        tried: how often it was used.
    """

    when = ""
    tried = 0

    def __init__(self, square: Rgb, head: Head) -> None: ...

    def posed(self, head: Head, share: float) -> Head:
        self._try("posed")
        return head

    def applied(self, rgb: Rgb, head: Head, share: float) -> Rgb:
        self._try("applied")
        return np.zeros_like(rgb)

    def _try(self, what: str) -> None:
        Broken.tried += 1
        if Broken.when == what:
            raise MemoryError("no room for teeth")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> type[Broken]:
    Broken.when, Broken.tried = "", 0
    monkeypatch.setattr(finish, "Retouch", Broken)
    return Broken


@pytest.mark.parametrize("when", ["posed", "applied"])
def test_where_it_fails_the_networks_own_picture_goes_out_and_it_is_told_once(
    face: Face, woman: Portrait, broken: type[Broken], when: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken.when = when
    stage = spoken(face, woman)
    output = shown(stage)
    assert output.state is State.LIVE
    assert drawn_px(output.avatar) == 0
    (told,) = refused(stage)
    assert told.startswith("skin, teeth and shut lids cannot be drawn for this portrait: ")
    assert "no room for teeth" in told
    assert "MemoryError" in caplog.text
    tried = broken.tried
    for _ in range(5):
        stage.step()
    assert broken.tried == tried, "it is not tried again in every frame"
    # Another portrait is another try, and so is the switch.
    stage.animator.set_portrait(dataclasses.replace(woman, square=woman.square[:, ::-1].copy()))
    stage.until(State.LIVE)
    assert len(refused(stage)) == 2
    broken.when = ""
    shown(stage, dataclasses.replace(SETTINGS, retouch=False))
    stage.animator.try_again(cut_out=False, retouch=True, fine_detail=False)
    assert shown(stage).avatar is not None
    assert drawn_px(shown(stage).avatar) == SIZE_PX**2 - 1
    assert len(refused(stage)) == 2


@pytest.fixture
def _with_processors_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.pipeline.animation.pictures.has_processors_to_spare", lambda: True)


@pytest.mark.usefixtures("_with_processors_to_spare")
def test_pictures_that_nobody_shows_are_not_drawn_into(face: Face, woman: Portrait, broken: type[Broken]) -> None:
    stage = spoken(face, woman)
    shown(stage).finish()
    tried = broken.tried
    steps = [stage.step() for _ in range(5)]
    assert broken.tried == tried + 5, "each is posed for its drawing"
    output = steps[-1].output
    assert output is not None
    assert drawn_px(output.avatar) == SIZE_PX**2 - 1
    assert output.avatar is output.avatar
    assert broken.tried == tried + 6, "it is drawn into once"


@pytest.mark.usefixtures("_with_processors_to_spare")
def test_where_it_fails_later_the_networks_own_picture_goes_out(
    face: Face, woman: Portrait, broken: type[Broken]
) -> None:
    """On the thread that shows it."""
    stage = spoken(face, woman)
    output = shown(stage)
    broken.when = "applied"
    assert drawn_px(output.avatar) == 0
    assert len(refused(stage)) == 1
    tried = broken.tried
    assert drawn_px(shown(stage).avatar) == 0
    assert broken.tried == tried
    assert len(refused(stage)) == 1


def test_where_it_fails_no_frame_has_half_a_blink(face: Face, woman: Portrait, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Retouch):
        def applied(self, rgb: Rgb, head: Head, share: float = 1.0) -> Rgb:
            if head.openings.eyes < 0.1:
                raise MemoryError("no room for lids")
            return super().applied(rgb, head, share)

    monkeypatch.setattr(finish, "Retouch", Failing)
    stage = Stage(face, woman, (*LIDS, 1))
    stage.until(State.LIVE)
    for _ in range(20):  # behind the glide of the calibration
        stage.step()
    stage.finder.face = blinking(face)

    def gap(rendered: int) -> float:
        value = stage.engine.rendered[rendered].value[0]
        return float((value[1:4:2, 1] - value[:4:2, 1]).mean())

    open_gap = gap(-1)
    before = len(stage.engine.rendered)
    output = shown(stage)
    assert refused(stage)
    assert len(stage.engine.rendered) == before + 2, "the network is asked anew"
    assert gap(-2) > 0.4 * open_gap > 2 * gap(-1)
    assert drawn_px(output.avatar) == 0


@pytest.mark.parametrize("held", [False, True])
def test_the_switch_tries_again_what_failed_also_within_one_frame(
    face: Face, woman: Portrait, broken: type[Broken], held: bool
) -> None:
    """A whole pipeline's thread may see no frame while it is off; see `Pipeline.update`."""
    broken.when = "applied"
    stage = spoken(face, woman)
    if held:
        stage.finder.face = None
    assert drawn_px(shown(stage).avatar) == 0
    broken.when = ""
    for _ in range(3):
        assert drawn_px(shown(stage).avatar) == 0, "nobody asked for it"
    stage.animator.try_again(cut_out=True, retouch=False, fine_detail=False)
    assert drawn_px(shown(stage).avatar) == 0, "that is another switch"
    stage.animator.try_again(cut_out=False, retouch=True, fine_detail=False)
    output = shown(stage)
    assert output.state is (State.HOLD if held else State.LIVE)
    assert drawn_px(output.avatar) == SIZE_PX**2 - 1


def test_a_picture_that_is_held_goes_by_the_switch_as_any_other(face: Face, woman: Portrait) -> None:
    stage = spoken(face, woman)
    spoke = shown(stage).avatar
    assert spoke is not None
    stage.finder.face = None
    off = dataclasses.replace(SETTINGS, retouch=False)
    for settings in (SETTINGS, off, off, SETTINGS):
        rendered = len(stage.engine.rendered)
        before = stage.engine.rendered[-1].value
        held = shown(stage, settings)
        assert held.state is State.HOLD
        assert not held.fresh
        assert (drawn_px(held.avatar) > 100) is settings.retouch
        made = stage.engine.rendered[rendered:]
        assert len(made) <= 1
        for pose in made:
            np.testing.assert_allclose(pose.value, before, atol=1e-6)


def test_what_is_drawn_fades_in_behind_a_glide_from_the_plane(face: Face, woman: Portrait) -> None:
    """And not at a stroke: while the glide lasts no head is known to draw on."""
    plane = dataclasses.replace(SETTINGS, motion="plane")
    stage = spoken(face, woman, plane)
    assert drawn_px(shown(stage, plane).avatar) == 0
    changes = []
    for _ in range(20):
        picture = shown(stage).avatar
        assert picture is not None
        differences = np.abs(picture.astype(int) - AVATAR_RGB)
        differences[0, 0] = 0
        changes.append(int(differences.sum()))
    glide = sum(change == 0 for change in changes)
    assert 5 <= glide <= 9, "0.3 s of frames 0.04 s apart, and the first moments of the fading"
    assert changes[glide:] == sorted(changes[glide:])
    assert max(np.diff(changes)) < 0.4 * changes[-1]
    assert changes[-1] == changes[-4]


# What there is to retouch


def opened(head: Head) -> Head:
    """With its mouth wide open and its eyes shut."""
    return with_eyes_at(with_jaw_down(head, 0.6), 0.0)


def of_portrait(woman: Portrait, right: float = 0.0, down: float = 0.0) -> tuple[Head, Retouching, list[Exception]]:
    """The portrait's head, in a square moved by shares of its side, and what was refused."""
    assert woman.landmarks_px is not None
    box = SquareBox(
        woman.box.center_x - right * woman.box.side, woman.box.center_y - down * woman.box.side, woman.box.side
    )
    mesh = mesh_in_square(woman.landmarks_px, box, SIZE_PX)
    head, told = Head.of(mesh), list[Exception]()
    return head, Retouching(Retouch(resized(woman.square, SIZE_PX), head), told.append), told


GREEN = np.full((SIZE_PX, SIZE_PX, 3), AVATAR_RGB, np.uint8)


@pytest.mark.parametrize(
    ("right", "down", "drawn"),
    [
        (0.5, 0.0, True), (-0.5, 0.0, True), (0.0, 0.3, True), (0.0, -0.75, True),
        (2.0, 0.0, False), (0.0, 2.0, False), (-2.0, -2.0, False), (1e7, 0.0, False),
    ],
)  # fmt: skip
def test_a_face_that_is_partly_or_wholly_outside_is_drawn_as_far_as_it_is_inside(
    woman: Portrait, right: float, down: float, drawn: bool
) -> None:
    head, made, told = of_portrait(woman, right, down)
    before = GREEN.copy()
    assert (drawn_px(made.applied(GREEN, opened(head))) > 0) is drawn
    np.testing.assert_array_equal(GREEN, before)
    assert told == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda head, value: head.shape.__setitem__((61, 1), value),
        lambda head, value: head.shape.__setitem__((152, 2), value),
        lambda head, value: head.shift.__setitem__(0, value),
        lambda head, value: head.rotation.__setitem__((1, 1), value),
    ],
    ids=["a corner of the mouth", "the chin", "its place", "its turn"],
)
def test_a_head_that_is_not_finite_is_left_alone_and_the_next_one_drawn(
    woman: Portrait, spoil: Callable[[Head, float], None], value: float
) -> None:
    head, made, told = of_portrait(woman)
    head = opened(head)
    spoiled = Head(head.shape.copy(), head.rotation.copy(), head.scale, head.shift.copy())
    spoil(spoiled, value)
    assert made.applied(GREEN, spoiled) is GREEN
    assert made.applied(GREEN, head._replace(scale=value)) is GREEN
    assert drawn_px(made.applied(GREEN, head)) > 100
    assert told == []


def test_a_portrait_whose_mesh_is_not_finite_is_shown_as_it_is(woman: Portrait) -> None:
    assert woman.landmarks_px is not None
    landmarks = woman.landmarks_px.copy()
    landmarks[[14, 61]] = np.nan
    mesh = mesh_in_square(landmarks, woman.box, SIZE_PX)
    told: list[Exception] = []
    head = PortraitInSpace(mesh, POINTS).head
    made = Retouching(Retouch(resized(woman.square, SIZE_PX), head), told.append)
    assert made.applied(GREEN, opened(head)) is GREEN
    assert told == []


@pytest.mark.usefixtures("without_skin")
@pytest.mark.parametrize("size_px", [64, 256, 512])
def test_pictures_of_any_size_are_drawn_alike(woman: Portrait, size_px: int) -> None:
    assert woman.landmarks_px is not None
    mesh = mesh_in_square(woman.landmarks_px, woman.box, size_px)
    picture = np.full((size_px, size_px, 3), AVATAR_RGB, np.uint8)
    head = Head.of(mesh)
    drawn = Retouch(resized(woman.square, size_px), head).applied(picture, opened(head))
    rows = np.argwhere((drawn != AVATAR_RGB).any(axis=-1))
    nose_px = (mesh[1, 1::-1] + 1) / 2 * size_px
    for drawn_there, points in (
        (rows[rows[:, 0] > nose_px[0]], [13, 14]),
        (rows[rows[:, 0] < nose_px[0]], [33, 133, 263, 362]),
    ):
        assert 0.005 < len(drawn_there) / size_px**2 < 0.1
        place_px = (mesh[points, 1::-1].mean(axis=0) + 1) / 2 * size_px
        assert np.abs(drawn_there.mean(axis=0) - place_px).max() < 0.12 * size_px
