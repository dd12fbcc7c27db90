import dataclasses
import os
from pathlib import Path

import pytest

from app.errors import AppError
from app.settings import AppSettings, LiveSettings, WindowSettings, load_settings, save_settings, settings_from


def test_settings_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "config" / "settings.toml"
    settings = AppSettings(
        live=LiveSettings(zoom=1.5, background="image", background_image="/a b/ö.png"),
        window=WindowSettings(theme="dark", checklist_done=True),
        camera="/dev/video2@1280x720",
    )
    save_settings(path, settings)
    assert load_settings(path) == (settings, None)


@pytest.mark.skipif(os.name == "nt", reason="permissions are other ones there")
def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """An address of a network camera may have a password in it."""
    save_settings(tmp_path / "s.toml", AppSettings(camera="http://me:secret@phone/video"))
    assert (tmp_path / "s.toml").stat().st_mode & 0o777 == 0o600
    assert load_settings(tmp_path / "s.toml")[0].camera == "http://me:secret@phone/video"


def test_no_file_means_defaults_and_no_message(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "settings.toml") == (AppSettings(), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("live = [", "Invalid"),
        ("cammera = 'x'", "unknown setting cammera"),
        ("[live]\nzoom = 'big'", "setting live.zoom: got 'big', expected float"),
        ("[live]\nzoom = 9", "setting zoom: got 9.0, expected 0.5 to 2"),
        ("[live]\nbackground = 'sea'", "expected blur or colour or image"),
        ("[live]\nbackground_colour = 'red'", "expected #rrggbb"),
    ],
)
def test_a_damaged_file_is_kept_aside_and_told(
    tmp_path: Path, text: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    settings, message = load_settings(path)
    assert settings == AppSettings()
    assert message is not None
    assert reason in message
    assert (tmp_path / "settings.toml.damaged").read_text() == text
    assert not path.exists()
    assert "could not be read" in caplog.text


def test_a_place_that_cannot_be_written_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file in the way")
    with pytest.raises(AppError, match="cannot keep the settings"):
        save_settings(tmp_path / "config" / "settings.toml", AppSettings())


def test_every_value_has_a_kind_that_toml_knows() -> None:
    values = dataclasses.asdict(AppSettings())
    assert settings_from(values) == AppSettings()
    assert settings_from({"live": {"zoom": 1}}).live.zoom == 1.0


def test_the_slates_text_has_a_limit() -> None:
    assert LiveSettings(slate_text=60 * "x").slate_text == 60 * "x"
    with pytest.raises(AppError, match="slate_text: got 61 characters, expected at most 60"):
        LiveSettings(slate_text=61 * "x")
