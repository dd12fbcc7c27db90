import dataclasses
from pathlib import Path

import numpy as np

from app.pipeline.output.output_frame import AvatarPicture, OutputFrame
from app.pipeline.output.presenter import FADE_S, Presenter
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.media.images import write_rgb
from tests.app.fakes import AVATAR_RGB, pictures_are_read

OUTPUT = OutputFormat(640, 360)
SETTINGS = LiveSettings(background="colour", badge=False)
AVATAR = np.full((256, 256, 3), AVATAR_RGB, np.uint8)
MIDDLE = (180, 320)


def live(frame_id: int = 1, state: State = State.LIVE) -> OutputFrame:
    shown = AvatarPicture(AVATAR) if state.shows_avatar else None
    return OutputFrame(frame_id, 9.0, state, shown, fresh=state is State.LIVE)


def test_before_anything_came_the_slate_is_shown() -> None:
    picture = Presenter(OUTPUT, 2.0).present(None, SETTINGS, 0.0, fault=False)
    assert picture.state is State.STARTING
    assert not picture.fresh


def test_a_live_picture_is_fresh_once_and_then_repeated() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    first = presenter.present(live(), SETTINGS, 10.0, fault=False)
    again = presenter.present(None, SETTINGS, 10.03, fault=False)
    assert (first.state, first.fresh, first.frame_id, first.captured_s) == (State.LIVE, True, 1, 9.0)
    assert (again.state, again.fresh) == (State.LIVE, False)
    assert again.rgb is first.rgb
    assert first.rgb[MIDDLE].tolist() == list(AVATAR_RGB)


def test_what_is_around_the_square_is_shown_beside_it_and_told() -> None:
    """Also where the background cannot be had, so that the usual one takes its place."""
    wide = np.zeros((256, 456, 3), np.uint8)
    wide[:, 100:356] = AVATAR_RGB
    shown = OutputFrame(1, 9.0, State.LIVE, AvatarPicture(wide, margins=(100, 0, 100, 0)), fresh=True)
    for settings in (SETTINGS, dataclasses.replace(SETTINGS, background="image", background_image="missing.png")):
        presenter = Presenter(OUTPUT, 2.0)
        presenter.present(shown, settings, 10.0, fault=False)
        pictures_are_read()
        picture = presenter.present(shown, settings, 10.03, fault=False)
        assert (picture.rgb[:, 150:490] == AVATAR_RGB).all()
        assert not picture.rgb[:, 20:130].any()
        assert picture.composite
    assert not Presenter(OUTPUT, 2.0).present(live(), SETTINGS, 10.0, fault=False).composite


def test_the_panic_key_takes_effect_with_the_next_picture_without_a_fade() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    presenter.present(live(), SETTINGS, 10.0, fault=False)
    panic = dataclasses.replace(SETTINGS, slate=True)
    picture = presenter.present(live(2), panic, 10.03, fault=False)
    assert picture.state is State.SLATE
    assert not picture.fresh
    assert picture.rgb is presenter.present(None, panic, 10.06, fault=False).rgb


def test_the_users_text_stands_on_the_slate() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    panic = dataclasses.replace(SETTINGS, slate=True)
    usual = presenter.present(None, panic, 10.0, fault=False).rgb
    own = presenter.present(None, dataclasses.replace(panic, slate_text="Back at ten"), 10.03, fault=False)
    assert (own.rgb != usual).any()
    assert presenter.present(None, panic, 10.06, fault=False).rgb is usual


def test_the_users_picture_is_the_slate_but_while_the_avatar_gets_ready(tmp_path: Path) -> None:
    write_rgb(tmp_path / "own.png", np.full((90, 160, 3), (200, 100, 0), np.uint8))
    presenter = Presenter(OUTPUT, 2.0)
    own = dataclasses.replace(SETTINGS, slate_image=str(tmp_path / "own.png"))
    assert presenter.present(live(1, State.CALIBRATING), own, 10.0, fault=False).rgb[5, 5].tolist() != [200, 100, 0]
    panic = dataclasses.replace(own, slate=True)
    pictures_are_read()
    (tmp_path / "own.png").unlink()  # it was read when it was chosen
    picture = presenter.present(live(2), panic, 10.03, fault=False)
    assert (picture.rgb == (200, 100, 0)).all()
    with_text = presenter.present(None, dataclasses.replace(panic, slate_text="Soon"), 10.06, fault=False).rgb
    assert with_text[5, 5].max() < 200
    assert with_text.max() > 200
    plain = presenter.present(None, dataclasses.replace(panic, slate_image=""), 10.09, fault=False).rgb
    assert plain[5, 5].tolist() != [200, 100, 0]


def test_a_picture_for_the_slate_that_cannot_be_read_is_told_once_and_the_usual_slate_shown() -> None:
    told: list[tuple[str, str]] = []
    presenter = Presenter(OUTPUT, 2.0, lambda *what: told.append(what))
    usual = presenter.present(None, dataclasses.replace(SETTINGS, slate=True), 10.0, fault=False).rgb
    broken = dataclasses.replace(SETTINGS, slate=True, slate_image="missing.png")
    for tick in range(3):
        assert presenter.present(None, broken, 10.03 + tick, fault=False).rgb is usual
        pictures_are_read()
    assert [setting for setting, _ in told] == ["slate_image"]
    assert "missing.png" in told[0][1]


def test_a_silent_model_and_a_fault_give_the_slate_at_once() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    presenter.present(live(), SETTINGS, 10.0, fault=False)
    assert presenter.present(None, SETTINGS, 11.9, fault=False).state is State.LIVE
    assert presenter.why == ""
    assert presenter.present(None, SETTINGS, 12.1, fault=False).state is State.FAULT
    assert presenter.why == "the model has given no picture for 2 s: wait, or start again"
    assert presenter.present(live(2), SETTINGS, 12.2, fault=False).state is State.LIVE
    assert presenter.why == ""
    assert presenter.present(live(3), SETTINGS, 12.3, fault=True).state is State.FAULT
    assert presenter.why == ""  # the stage tells


def test_between_slate_and_avatar_there_is_a_fade() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    presenter.present(live(1, State.CALIBRATING), SETTINGS, 10.0, fault=False)
    shown = [
        presenter.present(live(2), SETTINGS, 10.0 + share * FADE_S, fault=False)
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert [one.fading for one in shown] == [True, True, True, True, False]
    green = [int(one.rgb[MIDDLE][1]) for one in shown]
    assert green == sorted(green)
    assert green[0] < 60
    assert 60 < green[2] < 130
    assert green[-1] == AVATAR_RGB[1]
    back = presenter.present(live(3, State.NO_FACE), SETTINGS, 20.0, fault=False)
    assert back.state is State.NO_FACE
    assert back.fading
    assert not presenter.present(None, dataclasses.replace(SETTINGS, slate=True), 20.1, fault=False).fading
    assert back.rgb[MIDDLE].tolist() == list(AVATAR_RGB)  # the fade begins with what was shown


def test_a_setting_that_cannot_be_used_is_told_once_and_replaced() -> None:
    told: list[tuple[str, str]] = []
    presenter = Presenter(OUTPUT, 2.0, lambda *what: told.append(what))
    broken = dataclasses.replace(SETTINGS, background="image", background_image="missing.png")
    for frame_id in range(3):
        frame = dataclasses.replace(live(frame_id), picture=AvatarPicture(AVATAR.copy()))
        assert presenter.present(frame, broken, 10.0 + frame_id, fault=False).state is State.LIVE
        pictures_are_read()
    assert len(told) == 1
    assert told[0][0] == "background"
    assert "missing.png" in told[0][1]


def test_a_change_of_background_shows_without_a_new_frame() -> None:
    presenter = Presenter(OUTPUT, 2.0)
    before = presenter.present(live(), SETTINGS, 10.0, fault=False)
    other = dataclasses.replace(SETTINGS, background_colour="#ff0000")
    after = presenter.present(None, other, 10.03, fault=False)
    assert before.rgb[5, 5].tolist() != after.rgb[5, 5].tolist() == [255, 0, 0]
