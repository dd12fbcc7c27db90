"""The person cut out of the portrait, before other backgrounds and at other places."""

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from app.errors import AppError
from app.pipeline.output import backdrop_video, picture_reading
from app.pipeline.output.compositor import Compositor
from app.pipeline.output.output_frame import AvatarPicture, OutputFrame, Person, badge_place
from app.pipeline.output.presenter import FADE_S, Presenter
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.state import State
from app.settings import Background, LiveSettings
from mcnet.arrays import Rgb
from mcnet.media.errors import MediaError
from mcnet.media.images import write_rgb
from mcnet.media.matte import Cutout
from mcnet.media.playing import Playing
from mcnet.media.scene import LoopedVideo, covering
from mcnet.media.surroundings import NO_MARGINS, Margins
from tests.app.fakes import pictures_are_read, wait_until
from tests.media.videos import counted, make_video, number_of

OUTPUT = OutputFormat(640, 360)
PLAIN = LiveSettings(cut_out=True, background="colour", background_colour="#00ff00", badge=False, sharpness=0.0)
RED, BLUE = (200, 40, 40), (30, 60, 200)
MIDDLE, CORNER = (200, 320), (20, 200)  # the latter in the square of the portrait, beside the person


def avatar(wall: tuple[int, int, int] = (90, 90, 90)) -> Rgb:
    """A red person from the middle downwards, before a wall that the network moved."""
    rgb = np.empty((256, 256, 3), np.uint8)
    rgb[:] = wall
    rgb[60:, 80:176] = RED
    return rgb


def person() -> Person:
    alpha = np.zeros((256, 256), np.float32)
    alpha[60:, 80:176] = 1
    colours, plate = np.empty((256, 256, 3), np.uint8), np.empty((256, 256, 3), np.uint8)
    colours[:], plate[:] = RED, BLUE
    return Person(Cutout(colours, alpha), plate)


@pytest.fixture
def compositor() -> Iterator[Compositor]:
    made = Compositor(OUTPUT)
    yield made
    made.close()


def test_of_green_there_is_nothing_but_green_beside_the_person(compositor: Compositor) -> None:
    picture = compositor.compose(avatar(), PLAIN, person())
    assert picture[MIDDLE].tolist() == list(RED)
    assert picture[CORNER].tolist() == [0, 255, 0]
    assert (picture[:, :150] == (0, 255, 0)).all()


def test_the_portraits_own_background_is_still_whatever_the_network_makes_of_it(compositor: Compositor) -> None:
    for kind in ("own", "blur"):
        settings = dataclasses.replace(PLAIN, background=kind)
        one, other = (compositor.compose(avatar(wall), settings, person()) for wall in ((90, 90, 90), (160, 160, 20)))
        np.testing.assert_array_equal(one, other)
        assert np.abs(one[CORNER].astype(int) - BLUE).max() <= 2
        assert one[MIDDLE].tolist() == list(RED)


def walled(margins: Margins) -> tuple[Rgb, Person]:
    """A person before a wall that is red on the left and becomes blue to the right, with what is around the square."""
    height, width = 256 + margins.top + margins.bottom, 256 + margins.left + margins.right
    plate = np.zeros((height, width, 3), np.uint8)
    plate[..., 0], plate[..., 2] = np.linspace(250, 0, width), np.linspace(0, 250, width)
    alpha = np.zeros((height, width), np.float32)
    alpha[height - 60 :, width // 2 - 20 : width // 2 + 20] = 1
    return plate, Person(Cutout(np.full_like(plate, 90), alpha), plate)


@pytest.mark.parametrize("margins", [NO_MARGINS, Margins(20, 9, 40, 0)])
@pytest.mark.parametrize("place", [(1.0, 0.0, 0.0), (0.5, 0.3, -0.2), (0.6, -0.5, 0.5)])
def test_the_own_background_goes_on_beyond_its_edges(
    compositor: Compositor, margins: Margins, place: tuple[float, float, float]
) -> None:
    size, x, y = place
    settings = dataclasses.replace(
        PLAIN, background="own", sharpness=0.5, portrait_size=size, portrait_x=x, portrait_y=y
    )
    plate, someone = walled(margins)
    picture = compositor.compose(plate, settings, someone, margins=margins).astype(int)
    wall = picture[..., 1] < 40  # the person is grey
    light = picture.sum(axis=-1)[wall]
    assert light.min() > 235  # no bar, and nothing that is dimmed
    assert light.max() < 265
    across = picture[OUTPUT.height_px // 8]
    assert np.abs(np.diff(across, axis=0)).max() < 8  # no seam
    if size == 1:  # the photograph itself is where it was
        scale = OUTPUT.height_px / 256
        inside = np.arange(150, 490)
        columns = (inside - OUTPUT.width_px / 2) / scale + 128 + margins.left
        assert np.abs(across[inside] - plate[0, np.rint(columns).astype(int)]).max() < 6
    mirrored = compositor.compose(
        plate, dataclasses.replace(settings, mirror_output=True, portrait_x=-x), someone, margins=margins
    )
    assert np.abs(mirrored[:, ::-1].astype(int) - picture).mean() < 1


def test_the_own_background_is_made_once_for_a_portrait_and_a_place(
    compositor: Compositor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    continued = Compositor._continued

    def counted(*args: Any) -> Rgb:
        made.append(1)
        return continued(*args)

    monkeypatch.setattr(Compositor, "_continued", counted)
    settings = dataclasses.replace(PLAIN, background="own")
    (plate, one), (_, other) = walled(NO_MARGINS), walled(NO_MARGINS)
    for someone in (one, Person(one.cutout, one.plate), other):
        for _ in range(3):
            compositor.compose(plate, settings, someone)[:] = 7  # and nobody's writing gets into it
    assert len(made) == 2
    moved = dataclasses.replace(settings, portrait_x=0.1)
    assert (compositor.compose(plate, moved, other) != 7).any()
    assert len(made) == 3


def test_a_portrait_that_is_moved_out_of_the_picture_leaves_its_own_background(compositor: Compositor) -> None:
    far = dataclasses.replace(PLAIN, background="own", portrait_size=0.5, portrait_x=0.5, portrait_y=0.5)
    plate, someone = walled(NO_MARGINS)
    assert (compositor.compose(plate, far, someone)[20, 20] > 0).any()


def test_who_is_not_cut_out_looks_as_ever(compositor: Compositor) -> None:
    without = dataclasses.replace(PLAIN, cut_out=False)
    np.testing.assert_array_equal(compositor.compose(avatar(), PLAIN), compositor.compose(avatar(), without, person()))
    assert compositor.compose(avatar(), without)[CORNER].tolist() == [90, 90, 90]


def test_a_picture_stands_behind(compositor: Compositor, tmp_path: Path) -> None:
    write_rgb(tmp_path / "sea.png", np.full((90, 200, 3), 77, np.uint8))
    settings = dataclasses.replace(PLAIN, background="image", background_image=str(tmp_path / "sea.png"))
    compositor.reads_background(settings)
    pictures_are_read()
    assert compositor.compose(avatar(), settings, person())[CORNER].tolist() == [77, 77, 77]


def test_a_video_runs_behind_and_begins_anew(tmp_path: Path) -> None:
    presenter = Presenter(OUTPUT, 2.0)
    path = make_video(tmp_path / "sea.mp4", counted(4), fps=25)
    settings = dataclasses.replace(PLAIN, background="video", background_video=str(path))
    frame = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)
    seen: list[int] = []

    def all_of_them_twice() -> bool:
        picture = presenter.present(frame, settings, 10.0, fault=False).rgb
        assert picture[MIDDLE].tolist() == list(RED)
        if picture[CORNER].tolist() != [0, 255, 0]:  # it is being opened
            seen.append(number_of(picture[:100, :100]))
        turns = [later for before, later in itertools.pairwise(seen) if later != before]
        return turns.count(0) >= 2 and set(seen) == {0, 1, 2, 3}

    try:
        wait_until(all_of_them_twice, "the video is seen twice")
    finally:
        presenter.close()


@pytest.mark.parametrize(
    ("kind", "path", "told"),
    [
        ("video", "missing.mp4", "there is no file missing.mp4"),
        ("video", "rtsp://192.0.2.1/x", "got a network address"),
        ("video", "/dev/null", "a device or a pipe"),
        ("video", "", "no file is chosen"),
        ("image", "/dev/null", "a device or a pipe"),
    ],
)
def test_what_cannot_stand_behind_is_told_once_and_the_own_background_does(
    kind: Background, path: str, told: str
) -> None:
    refused: list[tuple[str, str]] = []
    presenter = Presenter(OUTPUT, 2.0, lambda *what: refused.append(what))
    settings = dataclasses.replace(
        PLAIN,
        background=kind,
        background_image=path,
        background_video=path,
    )
    frame = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)

    def shown() -> Rgb:
        return presenter.present(frame, settings, 10.0, fault=False).rgb

    wait_until(lambda: shown() is not None and bool(refused), "it is told")
    for _ in range(3):
        assert np.abs(shown()[CORNER].astype(int) - BLUE).max() <= 2
    presenter.close()
    assert [setting for setting, _ in refused] == ["background"]
    assert told in refused[0][1]


@pytest.mark.parametrize("failure", [MemoryError(), cv2.error("out of memory")], ids=["python", "opencv"])
def test_a_picture_that_does_not_fit_the_memory_is_refused_once(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def full(*what: object) -> Rgb:
        tries.append(what)
        raise failure

    monkeypatch.setattr(picture_reading, "covering", full)
    refused: list[tuple[str, str]] = []
    presenter = Presenter(OUTPUT, 2.0, lambda *what: refused.append(what))
    sea = str(tmp_path / "sea.png")
    write_rgb(tmp_path / "sea.png", np.full((90, 200, 3), 77, np.uint8))
    settings = dataclasses.replace(PLAIN, cut_out=False, background="image", background_image=sea, slate_image=sea)
    for tick in range(3):
        frame = OutputFrame(tick, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)
        assert presenter.present(frame, settings, 10.0 + tick, fault=False).state is State.LIVE
        pictures_are_read()
    assert sorted(setting for setting, _ in refused) == ["background", "slate_image"]
    assert len(tries) == 2


def test_a_picture_that_is_being_read_keeps_no_picture_and_no_slate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scene of before goes on, and what else is wished takes effect; the slate is there with the next picture."""
    answers = threading.Event()

    def hanging(path: str) -> Path:
        assert answers.wait(60)
        return Path(path)

    monkeypatch.setattr(picture_reading, "require_file", hanging)
    sea = str(tmp_path / "sea.png")
    write_rgb(tmp_path / "sea.png", np.full((90, 200, 3), 77, np.uint8))
    presenter = Presenter(OUTPUT, 2.0)
    wished = dataclasses.replace(PLAIN, background="image", background_image=sea, slate_image=sea)
    shown = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)

    def corner(settings: LiveSettings, now_s: float) -> list[int]:
        return [int(value) for value in presenter.present(shown, settings, now_s, fault=False).rgb[CORNER]]

    slate = Presenter(OUTPUT, 2.0).present(None, dataclasses.replace(PLAIN, slate=True), 5.0, fault=False).rgb
    try:
        blurred = presenter.present(shown, dataclasses.replace(wished, mirror_output=True), 10.0, fault=False)
        assert blurred.rgb[MIDDLE].tolist() == list(RED)
        assert np.abs(blurred.rgb[CORNER].astype(int) - BLUE).max() <= 2
        assert corner(PLAIN, 10.1) == [0, 255, 0]
        assert corner(wished, 10.2) == [0, 255, 0]
        assert corner(dataclasses.replace(wished, cut_out=False), 10.3) == [90, 90, 90]
        assert (presenter.present(shown, dataclasses.replace(wished, slate=True), 10.4, fault=False).rgb == slate).all()
        corner(wished, 10.5)
        assert corner(wished, 10.6 + FADE_S) == [0, 255, 0]
    finally:
        answers.set()
    pictures_are_read()
    assert corner(wished, 12.0) == [77, 77, 77]
    assert (presenter.present(shown, dataclasses.replace(wished, slate=True), 12.1, fault=False).rgb == 77).all()
    presenter.close()


def test_a_video_that_is_too_slow_to_decode_is_seen_frame_by_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock of the video, which goes on by three frames with each that is decoded."""
    now_s, ended = 0.0, threading.Event()
    seen: list[int] = []
    path = make_video(tmp_path / "sea.mp4", counted(30), fps=25)
    decoded = LoopedVideo.next

    def slow(self: LoopedVideo) -> Rgb:
        nonlocal now_s
        now_s += 0.12
        return decoded(self)

    def taken(rgb: Rgb, size_px: tuple[int, int]) -> Rgb:
        seen.append(number_of(rgb))
        if len(seen) == 25:
            ended.set()
        return covering(rgb, size_px)

    monkeypatch.setattr(LoopedVideo, "next", slow)
    monkeypatch.setattr(backdrop_video, "covering", taken)
    monkeypatch.setattr(backdrop_video, "Playing", lambda pull, fps: Playing(pull, fps, lambda: now_s))
    video = backdrop_video.BackdropVideo(str(path), (64, 64), 30.0)
    try:
        wait_until(ended.is_set, "25 frames are seen")
    finally:
        video.close()
    assert seen[:25] == list(range(25))


def test_a_change_of_background_does_not_wait_for_the_video_before(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, go_on = threading.Event(), threading.Event()

    def hanging(_: str) -> Path:
        opened.set()
        go_on.wait()
        raise MediaError("it hung")

    monkeypatch.setattr(backdrop_video, "require_file", hanging)
    joins: list[object] = []
    join = threading.Thread.join

    def watched(thread: threading.Thread, timeout_s: float | None = None) -> None:
        joins.append(thread)
        join(thread, timeout_s)

    monkeypatch.setattr(threading.Thread, "join", watched)
    presenter = Presenter(OUTPUT, 2.0)
    frame = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)
    before_video = dataclasses.replace(PLAIN, background="video", background_video="sea.mp4")
    try:
        presenter.present(frame, before_video, 10.0, fault=False)
        assert opened.wait(10)
        for settings in (dataclasses.replace(before_video, background_video="hill.mp4"), PLAIN):
            presenter.present(frame, settings, 10.1, fault=False)
        assert joins == []
    finally:
        go_on.set()
        presenter.close()
    assert len(joins) == 2


def test_the_portrait_is_placed(compositor: Compositor) -> None:
    def columns(settings: LiveSettings) -> list[int]:
        red = (compositor.compose(avatar(), settings, person())[300] == RED).all(-1)
        found = np.flatnonzero(red)
        return [int(found[0]), int(found[-1])]

    usual = columns(PLAIN)
    moved = columns(dataclasses.replace(PLAIN, portrait_x=0.2))
    assert [there - here for there, here in zip(moved, usual, strict=True)] == [128, 128]
    small = columns(dataclasses.replace(PLAIN, portrait_size=0.5))
    assert small[1] - small[0] < 0.6 * (usual[1] - usual[0])
    lower = compositor.compose(avatar(), dataclasses.replace(PLAIN, portrait_y=0.5), person())
    assert lower[200, 320].tolist() == [0, 255, 0]
    assert lower[350, 320].tolist() == list(RED)


# Rows or columns from an edge of the portrait's square inwards, in the middle of the person there.
SIDES: dict[str, Callable[[Rgb], Rgb]] = {
    "bottom": lambda shown: shown[::-1, 320],
    "top": lambda shown: shown[:, 320],
    "left": lambda shown: shown[180, :],
    "right": lambda shown: shown[180, ::-1],
}


@pytest.mark.parametrize("side", SIDES)
def test_a_person_who_is_cut_off_ends_softly_inside_the_picture(compositor: Compositor, side: str) -> None:
    alpha = np.zeros((256, 256), np.float32)
    alpha[72:184, 72:184] = 1  # in the middle, and from there to the one edge
    rows, columns = {
        "bottom": (slice(72, 256), slice(72, 184)),
        "top": (slice(0, 184), slice(72, 184)),
        "left": (slice(72, 184), slice(0, 184)),
        "right": (slice(72, 184), slice(72, 256)),
    }[side]
    alpha[rows, columns] = 1
    one = Person(Cutout(person().cutout.colours, alpha), person().plate)
    small = dataclasses.replace(PLAIN, portrait_size=0.5, portrait_y=-0.25)  # from 90 to 270, and from 230 to 410
    share = SIDES[side](compositor.compose(avatar(), small, one)).astype(float)[:, 0] / RED[0]
    inside = share[90 if side in ("bottom", "top") else 230 :][:90]
    assert inside[0] < 0.05
    assert np.diff(inside[:60]).min() > -0.02
    # No step: the fade takes a sixth of the side, above a twentieth, or each nod would thin out the hair.
    assert np.diff(inside[:60]).max() < (0.25 if side == "top" else 0.08)
    assert (inside[12] > 0.97) == (side == "top")
    assert inside[36:60].min() > 0.97
    others = {name: look for name, look in SIDES.items() if name != side}
    for name, look in others.items():  # who does not reach an edge ends as the matte has it
        beside = look(compositor.compose(avatar(), small, one)).astype(float)[:, 0] / RED[0]
        assert np.diff(beside[90 if name in ("bottom", "top") else 230 :][:90]).max() > 0.3


def test_a_person_who_is_cut_off_goes_to_the_pictures_own_edge(compositor: Compositor) -> None:
    whole = Person(Cutout(person().cutout.colours, np.ones((256, 256), np.float32)), person().plate)
    standing = compositor.compose(avatar(), dataclasses.replace(PLAIN, portrait_size=0.5), whole)
    assert standing[-1, 320].tolist() == list(RED)
    assert standing[180, 320, 1] > 240
    leaning = compositor.compose(avatar(), dataclasses.replace(PLAIN, portrait_size=0.5, portrait_x=-0.5), whole)
    assert leaning[270, 0].tolist() == list(RED)
    assert leaning[270, 88, 1] > 240


def test_hair_close_to_an_edge_is_not_faded(compositor: Compositor) -> None:
    alpha = np.zeros((256, 256), np.float32)
    alpha[4:252, 4:252] = 1
    close = Person(Cutout(person().cutout.colours, alpha), person().plate)
    shown = compositor.compose(avatar(), dataclasses.replace(PLAIN, portrait_size=0.5, portrait_y=-0.25), close)
    assert (shown[96:264, 236:404] == RED).all()


def test_a_portrait_that_is_not_cut_out_is_placed_too(compositor: Compositor) -> None:
    settings = dataclasses.replace(PLAIN, cut_out=False, portrait_x=-0.25, portrait_size=0.5)
    picture = compositor.compose(avatar(), settings)
    assert picture[270, 160].tolist() == list(RED)
    assert picture[270, 400].tolist() == [0, 255, 0]
    # However it lies, a whole picture comes of it.
    for size in (0.5, 1.7):
        for x in (-0.5, 0.5):
            for y in (-0.5, 0.5):
                for cut_out in (False, True):
                    placed = dataclasses.replace(
                        settings, cut_out=cut_out, portrait_size=size, portrait_x=x, portrait_y=y
                    )
                    assert compositor.compose(avatar(), placed, person()).shape == (360, 640, 3)


def test_mirrored_with_its_background(compositor: Compositor) -> None:
    one = person()
    one.plate[:, :128] = (250, 250, 0)
    for kind in ("own", "blur"):
        settings = dataclasses.replace(PLAIN, background=kind, background_blur=0.1, portrait_x=0.1)
        plain = compositor.compose(avatar(), settings, one)
        mirrored = compositor.compose(avatar(), dataclasses.replace(settings, mirror_output=True, portrait_x=-0.1), one)
        assert np.abs(mirrored[:, ::-1].astype(int) - plain).mean() < 1


def test_transparency_is_told_beside_the_picture_and_the_badge_has_none() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    settings = dataclasses.replace(PLAIN, background="alpha", badge=True)
    frame = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)
    picture = presenter.present(frame, settings, 10.0, fault=False)
    assert picture.alpha is not None
    assert picture.behind == "#00ff00"
    assert (picture.alpha[MIDDLE], picture.alpha[CORNER]) == (255, 0)
    assert picture.rgb[CORNER].tolist() == [0, 255, 0]
    left, top, width, height = badge_place(640, 360)
    assert (picture.alpha[top : top + height, left : left + width] == 255).all()
    plate = picture.rgb[top : top + height, left : left + width].astype(int)
    assert (plate[..., 1] - plate[..., 0]).max() < 20  # no green comes through
    for other in ("own", "colour"):
        opaque = dataclasses.replace(settings, background=other)
        assert presenter.present(frame, opaque, 10.0, fault=False).alpha is None


def test_the_slate_covers_everything_and_a_fade_comes_to_it() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    settings = dataclasses.replace(PLAIN, background="alpha")
    frame = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)
    presenter.present(frame, settings, 10.0, fault=False)
    lost = OutputFrame(1, 9.0, State.NO_FACE, None, False)
    half = presenter.present(lost, settings, 10.1, fault=False)
    assert half.fading
    half = presenter.present(lost, settings, 10.1 + FADE_S / 2, fault=False)
    assert half.alpha is not None
    assert 110 < half.alpha[CORNER] < 145
    assert half.alpha[MIDDLE] == 255
    whole = presenter.present(lost, settings, 10.2 + FADE_S, fault=False)
    assert whole.alpha is None
    panic = presenter.present(frame, dataclasses.replace(settings, slate=True), 12.0, fault=False)
    assert (panic.state, panic.alpha) == (State.SLATE, None)
    assert (presenter.present(frame, settings, 12.1, fault=True).alpha) is None
    assert presenter.last_resort(13.0).alpha is None


def test_what_shows_pictures_of_the_users_is_told_to_be_composite(tmp_path: Path) -> None:
    presenter = Presenter(OUTPUT, 2.0)
    sea = str(tmp_path / "sea.png")
    write_rgb(tmp_path / "sea.png", np.full((90, 200, 3), 77, np.uint8))
    shown = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)
    lost = OutputFrame(1, 9.0, State.NO_FACE, None, False)
    before_sea = dataclasses.replace(PLAIN, background="image", background_image=sea)
    sea_as_slate = dataclasses.replace(PLAIN, slate_image=sea)
    for now_s, frame, settings, composite in (
        (10, shown, PLAIN, False),
        (20, shown, before_sea, True),
        (30, shown, dataclasses.replace(before_sea, cut_out=False), True),
        (40, shown, dataclasses.replace(PLAIN, background_image=sea), False),
        (50, shown, dataclasses.replace(before_sea, slate=True), False),
        (60, shown, dataclasses.replace(sea_as_slate, slate=True), True),
        (70, lost, sea_as_slate, True),
        (80, lost, sea_as_slate, True),
        (90, shown, sea_as_slate, True),  # a fade from the slate
        (91, shown, sea_as_slate, False),
    ):
        presenter.present(frame, settings, float(now_s), fault=False)
        pictures_are_read()
        assert presenter.present(frame, settings, float(now_s), fault=False).composite is composite, now_s
    presenter.close()


def test_until_the_person_is_cut_out_the_scene_of_before_goes_on(tmp_path: Path) -> None:
    presenter = Presenter(OUTPUT, 2.0)
    sea = str(tmp_path / "sea.png")
    write_rgb(tmp_path / "sea.png", np.full((90, 200, 3), 77, np.uint8))
    before = dataclasses.replace(PLAIN, cut_out=False, background="colour", background_colour="#101010")
    whole = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(avatar()), True)
    cut = OutputFrame(2, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True)
    told_to_stay_whole = OutputFrame(3, 9.0, State.LIVE, AvatarPicture(avatar()), True, whole=True)
    first = presenter.present(whole, before, 10.0, fault=False).rgb
    for number, wished in enumerate(
        (
            PLAIN,
            dataclasses.replace(PLAIN, background="alpha"),
            dataclasses.replace(PLAIN, background="image", background_image=sea),
        )
    ):
        now_s = 11.0 + number
        for _ in range(2):  # of a setting the picture of before hears first
            waiting = presenter.present(whole, wished, now_s, fault=False)
            np.testing.assert_array_equal(waiting.rgb, first)
            assert (waiting.alpha, waiting.composite) == (None, False)
        slate = presenter.present(whole, dataclasses.replace(wished, slate=True), now_s, fault=False)
        assert slate.state is State.SLATE
        presenter.present(whole, before, now_s + 0.5, fault=False)  # and out of its fade
    moved = presenter.present(whole, dataclasses.replace(PLAIN, mirror_output=True), 15.0, fault=False).rgb
    np.testing.assert_array_equal(moved, first[:, ::-1])  # what is no scene does not wait
    done = presenter.present(cut, PLAIN, 16.0, fault=False).rgb
    assert done[CORNER].tolist() == [0, 255, 0]
    held = presenter.present(dataclasses.replace(whole, state=State.HOLD), PLAIN, 16.5, fault=False).rgb
    np.testing.assert_array_equal(held, done)  # one that was made before has no place in it
    refused = presenter.present(told_to_stay_whole, PLAIN, 17.0, fault=False).rgb
    assert refused[CORNER].tolist() == [90, 90, 90]
    presenter.close()


def test_before_anything_was_shown_the_portrait_moves_until_the_person_is_cut_out() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    wished = dataclasses.replace(PLAIN, background="alpha")
    pictures = []
    for number in range(2):
        moved = OutputFrame(number, 9.0, State.LIVE, AvatarPicture(avatar() + np.uint8(number * 20)), True)
        picture = presenter.present(moved, wished, 10.0 + number, fault=False)
        assert picture.alpha is None
        pictures.append(picture.rgb)
    assert (pictures[0] != pictures[1]).any()
    cut = presenter.present(
        OutputFrame(2, 9.0, State.LIVE, AvatarPicture(avatar(), person()), True), wished, 12.0, fault=False
    )
    assert cut.alpha is not None
    presenter.close()


def test_a_background_that_is_not_there_is_an_error_of_the_compositor(compositor: Compositor) -> None:
    with pytest.raises(AppError, match="none is chosen"):
        compositor.compose(avatar(), dataclasses.replace(PLAIN, background="image"), person())
