"""Which camera is used, and what becomes of it."""

from collections.abc import Callable

import pytest
from pytestqt.qtbot import QtBot

from app.pipeline.camera_spec import CameraSpec
from app.pipeline.events import CameraDark, CameraFailed, CameraLit, CameraOpened
from app.settings import AppSettings
from app.ui.chain import Link
from app.ui.main_window import MainWindow
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World

ZERO, ONE, TWO = (CameraSpec("device", number) for number in range(3))

CameraEvent = CameraOpened | CameraFailed | CameraDark | CameraLit

OF_CAMERA_0: dict[str, Callable[[int], CameraEvent]] = {
    "opened": lambda wish: CameraOpened(ZERO, wish, "camera 0", 320, 240, 15.0),
    "gone": lambda wish: CameraFailed(ZERO, wish, "camera 0", "camera 0 is gone"),
    "tried again": lambda wish: CameraFailed(ZERO, wish, "camera 0", "camera 0 is gone", retry_s=1.0),
    "another goes on": lambda wish: CameraFailed(ZERO, wish, "camera 0", "busy", kept=TWO, kept_name="camera 2"),
    "goes on itself": lambda wish: CameraFailed(ZERO, wish, "camera 0", "no such size", kept=ZERO, kept_name="x"),
    "dark": lambda wish: CameraDark(ZERO, wish, "camera 0"),
    "lit": lambda wish: CameraLit(ZERO, wish, "camera 0"),
}


def everything_about_the_camera(window: MainWindow) -> tuple[object, ...]:
    session = window.session
    choices = [window.controls.camera.itemText(row) for row in range(window.controls.camera.count())]
    return (
        session.settings,
        session.camera_desk.current,
        session.chain,
        session.calibrating,
        choices,
        window.controls.camera.currentText(),
        window.messages.text,
    )


def heard(world: World, window: MainWindow, event: CameraEvent, qtbot: QtBot) -> None:
    """Tell an event, and wait until it has arrived: events arrive in order."""
    world.pipeline.tell(event)
    with qtbot.waitSignal(window.session.changed):
        pass


@pytest.mark.parametrize("event", OF_CAMERA_0.values(), ids=OF_CAMERA_0.keys())
@pytest.mark.parametrize("opened", [False, True], ids=["while 1 is opened", "while 1 runs"])
@pytest.mark.parametrize("late", [True, False], ids=["told before the choice", "told after it"])
def test_an_event_of_another_camera_changes_nothing(
    proven: MainWindow,
    world: World,
    qtbot: QtBot,
    event: Callable[[int], CameraEvent],
    opened: bool,
    late: bool,
) -> None:
    before = world.pipeline.wish
    proven.session.camera_desk.choose("1")
    if opened:
        world.pipeline.open_camera()
        qtbot.waitUntil(lambda: proven.session.chain.camera.done)
    expected = everything_about_the_camera(proven)
    assert proven.session.settings.camera == "1"
    assert proven.controls.camera.currentText() == "Other"
    heard(world, proven, event(before if late else world.pipeline.wish), qtbot)
    assert everything_about_the_camera(proven) == expected


@pytest.mark.parametrize("event", OF_CAMERA_0.values(), ids=OF_CAMERA_0.keys())
def test_an_event_of_a_former_wish_for_the_same_camera_changes_nothing(
    proven: MainWindow, world: World, qtbot: QtBot, event: Callable[[int], CameraEvent]
) -> None:
    """It may say that another camera goes on, which has been replaced since."""
    first = world.pipeline.wish
    for camera in ("1", "0"):
        proven.session.camera_desk.choose(camera)
    expected = everything_about_the_camera(proven)
    heard(world, proven, event(first), qtbot)
    assert everything_about_the_camera(proven) == expected
    world.pipeline.open_camera()
    qtbot.waitUntil(lambda: proven.session.chain.camera.done)
    assert proven.session.settings.camera == "0"


def test_a_camera_that_fails_while_another_goes_on(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    session.camera_desk.choose("1")
    assert world.pipeline.camera == ONE
    world.pipeline.fail_camera("camera 1 is busy: close other programs", kept=ZERO)
    qtbot.waitUntil(lambda: session.camera_desk.current == "0")
    assert session.settings.camera == "0"
    assert proven.controls.camera.currentText() == "Fake Cam"
    assert proven.messages.text == "camera 1 is busy: close other programs. camera 0 goes on."
    assert session.chain.camera == Link(True, "640 x 480, 30 fps")
    heard(world, proven, CameraFailed(ZERO, world.pipeline.wish, "camera 0", "camera 0 is gone"), qtbot)
    assert session.chain.camera.failed, "the one that goes on is the one in use, and is heard"


def test_a_camera_that_was_opened_unheard_goes_on(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    """Its opening was told before the pipeline heard of the next wish, and nevertheless it is what goes on."""
    session, pipeline = proven.session, world.pipeline
    session.camera_desk.choose("1")
    opening = CameraOpened(ONE, pipeline.wish, "Other", 640, 480, 26.0)
    session.camera_desk.choose("2")
    heard(world, proven, opening, qtbot)
    assert session.camera_desk.current == "2"
    assert not session.chain.camera.done
    pipeline.fail_camera("camera 2 is busy", kept=ONE)
    qtbot.waitUntil(lambda: session.camera_desk.current == "1")
    assert session.chain.camera == Link(True, "640 x 480, 26 fps")


def test_a_format_that_cannot_be_had_leaves_the_old_one(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    session.camera_desk.choose("0@1280x720")
    assert world.pipeline.camera is not None
    assert world.pipeline.camera.width_px == 1280
    world.pipeline.fail_camera("camera 0 gives no frames", kept=ZERO)
    qtbot.waitUntil(lambda: session.camera_desk.current == "0")
    assert session.settings.camera == "0"


def test_a_camera_that_is_gone_and_comes_back(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    session = proven.session
    world.pipeline.fail_camera("camera 0 is gone.", retry_s=2.0)
    qtbot.waitUntil(lambda: session.chain.camera.failed)
    assert proven.messages.text == "camera 0 is gone. Trying again in 2 s."
    world.pipeline.fail_camera("camera 0 is gone", retry_s=0.4)
    qtbot.waitUntil(lambda: proven.messages.text == "camera 0 is gone. Trying again in 1 s.")
    assert session.chain.missing_name() == "camera"
    world.pipeline.open_camera(fps_hz=15.0)
    qtbot.waitUntil(lambda: session.chain.camera.done)
    assert proven.messages.text == ""
    assert session.chain.camera.text == ("640 x 480, 15 fps; asked for 30 frames/s, gives 15 (more light often helps)")


def test_a_dark_camera_goes_on(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    link = proven.session.chain.camera
    heard(world, proven, CameraDark(ZERO, world.pipeline.wish, "Fake Cam"), qtbot)
    assert proven.messages.text.startswith("Fake Cam gives a picture of one colour: open its shutter")
    assert proven.session.chain.camera == link
    heard(world, proven, CameraLit(ZERO, world.pipeline.wish, "Fake Cam"), qtbot)
    assert proven.messages.text == ""
    assert proven.session.chain.camera == link


def test_darkness_and_a_camera_that_fails_are_told_apart(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    bar = proven.messages
    heard(world, proven, CameraDark(ZERO, world.pipeline.wish, "Fake Cam"), qtbot)
    proven.session.camera_desk.choose("1")
    assert bar.text == ""
    world.pipeline.fail_camera("camera 1 is busy", kept=ZERO)
    qtbot.waitUntil(lambda: "busy" in bar.text)
    heard(world, proven, CameraDark(ZERO, world.pipeline.wish, "Fake Cam"), qtbot)
    assert len(bar.messages) == 2
    heard(world, proven, CameraLit(ZERO, world.pipeline.wish, "Fake Cam"), qtbot)
    assert [message.text for message in bar.messages] == ["camera 1 is busy. camera 0 goes on."]
    heard(world, proven, CameraDark(ZERO, world.pipeline.wish, "Fake Cam"), qtbot)
    heard(world, proven, CameraFailed(ZERO, world.pipeline.wish, "Fake Cam", "it is gone"), qtbot)
    assert [message.text for message in bar.messages] == ["it is gone."]


def test_a_permission_that_comes_late_opens_nothing(
    proven: MainWindow, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[tuple[Callable[[], None], Callable[[], None]]] = []
    monkeypatch.setattr("app.ui.camera_desk.when_camera_is_allowed", lambda *both: answers.append(both))
    for camera in ("1", "2"):
        proven.session.camera_desk.choose(camera)
    (allow_1, forbid_1), (allow_2, _) = answers
    allow_2()
    allow_1()
    forbid_1()
    assert world.pipeline.camera == TWO
    assert not proven.session.chain.camera.failed


def test_what_means_no_camera_leaves_the_one_in_use(proven: MainWindow, world: World) -> None:
    desk, link, settings = proven.session.camera_desk, proven.session.chain.camera, proven.session.settings
    assert not desk.choose("nonsense")
    assert "expected a camera" in proven.messages.text
    assert world.pipeline.camera == ZERO
    assert (desk.current, desk.link, proven.session.settings) == ("0", link, settings)
    assert proven.controls.camera.currentText() == "Fake Cam"


def test_a_camera_that_cannot_be_parsed(open_window: OpenWindow, world: World) -> None:
    window = open_window(AppSettings(camera="nonsense", portrait="fake_1"))
    assert world.pipeline.camera is None
    assert "expected a camera" in window.messages.text
    assert window.session.chain.camera.failed


def test_no_camera_at_all(open_window: OpenWindow, world: World) -> None:
    world.cameras = []
    window = open_window()
    assert "No camera was found" in window.messages.text
    assert world.pipeline.camera is None
