import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from app.errors import AppError
from app.settings import (
    AppSettings,
    LiveSettings,
    WindowSettings,
    kept_language,
    kept_origins,
    load_settings,
    save_changes,
    save_settings,
    settings_from,
)


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


@pytest.mark.parametrize("name", ["fine_detail", "surroundings", "cut_out"])
def test_what_takes_time_is_on_where_there_are_processors_unless_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By what was kept before there was such a setting a call sees no more than before."""
    path = tmp_path / "settings.toml"
    for processors, usual in ((2, False), (8, True)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=processors: set(range(n)), raising=False)
        path.write_text("[live]\nzoom = 1.5\n", encoding="utf-8")
        kept = load_settings(path)[0]
        assert kept.live.zoom == 1.5
        assert getattr(kept.live, name) is (usual and name == "fine_detail")
        assert getattr(LiveSettings(), name) is usual
        for on in (True, False):  # what was chosen stays, wherever the next start is
            chosen: dict[str, Any] = {name: on}
            save_settings(path, AppSettings(live=LiveSettings(**chosen)))
            assert getattr(load_settings(path)[0].live, name) is on


def test_what_a_call_did_not_see_it_does_not_see_from_the_second_start_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an older app or a hand has written is read alike when it is loaded and when a change is put into it."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    path = tmp_path / "settings.toml"
    path.write_text('camera = "0"\n[live]\nzoom = 1.5\n', encoding="utf-8")
    first, _ = load_settings(path)
    save_changes(path, first, dataclasses.replace(first, window=WindowSettings(width_px=1000)))
    second, message = load_settings(path)
    assert (second.window.width_px, message) == (1000, None)
    assert second.live == first.live
    assert (second.live.surroundings, second.live.cut_out) == (False, False)


def test_a_file_that_is_no_toml_is_kept_aside_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("live = [", encoding="utf-8")
    settings, message = load_settings(path)
    assert settings == AppSettings()
    assert message is not None
    assert message.startswith("The settings could not be read (Invalid")
    assert (tmp_path / "settings.toml.damaged").read_text(encoding="utf-8") == "live = ["
    assert not path.exists()
    assert "are damaged" in caplog.text


@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize(
    "text", [f"camera = {3000 * '['}{3000 * ']'}", f"device = {5000 * '1'}", "camera = 1\ncamera = 2"]
)
def test_a_file_that_nobody_would_write_is_kept_aside_too(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    assert (kept_language(path), kept_origins(path)) == ("system", ())
    settings, message = load_settings(path)
    assert settings == AppSettings()
    assert message is not None
    assert (tmp_path / "settings.toml.damaged").read_text(encoding="utf-8") == text


def test_what_an_editor_makes_of_the_file_is_read(tmp_path: Path) -> None:
    """A byte order mark, and the line ends of Windows."""
    path = tmp_path / "settings.toml"
    save_settings(path, AppSettings(portrait="man_3"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_settings(path) == (AppSettings(portrait="man_3"), None)


@pytest.mark.parametrize("name", ["caf\udce9", "\ud83d"])
def test_a_files_name_that_is_no_text_is_kept_like_every_other(tmp_path: Path, name: str) -> None:
    """Linux takes any bytes for a name, Windows any half of a character."""
    settings = AppSettings(camera=f"/videos/{name}.mp4", recordings=f"/{name}")
    save_settings(tmp_path / "settings.toml", settings)
    assert load_settings(tmp_path / "settings.toml") == (settings, None)


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_a_link_to_the_file_stays_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As of those who keep the settings of all their programs in one folder."""
    real, link = tmp_path / "all" / "avatar.toml", tmp_path / "settings.toml"
    real.parent.mkdir()
    link.symlink_to(real)
    for settings in (AppSettings(portrait="man_3"), AppSettings(portrait="man_4")):
        save_settings(link, settings)
        assert load_settings(real) == load_settings(link) == (settings, None)
    real.write_text("zoom = 3\nportrait = 'man_5'\n", encoding="utf-8")
    assert load_settings(link)[0] == load_settings(real)[0] == AppSettings(portrait="man_5")
    assert link.is_symlink()
    assert "are damaged" in caplog.text


@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize(
    ("text", "said"), [(None, ""), ("", ""), ("live = [", "Invalid"), ("zoom = 3", "unknown setting zoom")]
)
def test_changes_are_kept_whatever_became_of_the_file(tmp_path: Path, text: str | None, said: str) -> None:
    path, live = tmp_path / "settings.toml", LiveSettings(surroundings=False, cut_out=False)  # as where nothing is said
    before = AppSettings(live=live, portrait="man_3")
    now = dataclasses.replace(before, live=dataclasses.replace(live, zoom=1.5))
    if text is not None:
        path.write_text(text, encoding="utf-8")
    complaint = save_changes(path, before, now)
    assert said in complaint if complaint else not said
    kept, message = load_settings(path)
    assert (kept.live.zoom, message) == (1.5, None)
    assert kept == (AppSettings(live=now.live) if text == "" else now)  # where nothing but defaults was in it by then
    aside = [file.read_text(encoding="utf-8") for file in tmp_path.glob("*.damaged")]
    assert aside == ([text] if said else []), "what an editor wrote is not lost for a slip of the pen"


@pytest.mark.usefixtures("caplog")
def test_a_slip_of_the_pen_takes_nothing_else_of_an_editors_with_it(tmp_path: Path) -> None:
    """Nor what the app had in the place of the slip; a window of a later version writes keys that are unknown here."""
    path, before = tmp_path / "settings.toml", AppSettings(live=LiveSettings(zoom=1.5))
    save_settings(path, before)
    text = path.read_text(encoding="utf-8").replace("badge = true", "badge = false").replace("zoom = 1.5", "zoom = 'x'")
    path.write_text(f"{text}\n[later]\nnew = true\n", encoding="utf-8")
    complaint = save_changes(path, before, dataclasses.replace(before, window=WindowSettings(width_px=1000)))
    assert complaint is not None
    assert (
        f"{path} was changed, and not all of it can be used: setting live.zoom: got 'x', expected float;" in complaint
    )
    assert f"unknown setting later. In place of that stays what this window has; the old file is kept as {path}" in (
        complaint
    )
    kept, message = load_settings(path)
    assert (kept.live.badge, kept.live.zoom, kept.window.width_px, message) == (False, 1.5, 1000, None)


@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("slate_text", "slate_txt", "unknown setting live.slate_txt;"),
        ("cut_out", "cutout", "unknown setting live.cutout;"),
        ("[live]", "[lvie]", "unknown setting lvie;"),
        ("[window]", "[windows]", "unknown setting windows;"),
        ("portrait", "protrait", "unknown setting protrait;"),
    ],
)
def test_a_misspelt_name_resets_nothing(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    """What a table lacks is as it is usually only where nothing in the table may stand for it."""
    path, live = tmp_path / "settings.toml", LiveSettings(slate_text="Back", cut_out=True, surroundings=True)
    before = AppSettings(live=live, window=WindowSettings(theme="dark"), portrait="man_3")
    save_settings(path, before)
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [wrong + line.removeprefix(right) if line.split(" ")[0] == right else line for line in lines]
    assert sum(line.startswith(wrong) for line in lines) == 1
    path.write_text("\n".join(line for line in lines if not line.startswith("camera")), encoding="utf-8")
    now = dataclasses.replace(before, live=dataclasses.replace(live, zoom=1.5))
    complaint = save_changes(path, before, now)
    assert complaint is not None
    assert said.replace(";", ". In place of that stays what this window has") in complaint
    assert load_settings(path) == (now, None)


def test_pages_are_read_without_touching_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    assert kept_origins(path) == ()
    page = 'origins = ["http://localhost:3000"]'
    for text, origins in ((f"[control]\n{page}\nport = -1", ("http://localhost:3000",)), ("[control", ()), (page, ())):
        path.write_text(text, encoding="utf-8")
        assert kept_origins(path) == origins
        assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("top", "live", "reason"),
    [
        ("cammera = 'x'", "", "unknown setting cammera"),
        ("output_fps_hz = 500", "", "setting output_fps_hz: got 500.0, expected 1 to 120"),
        ("output_width_px = 641", "", "setting output_width_px: got 641, expected an even number"),
        ("device = 7", "", "setting device: got 7, expected str"),
        ("window = 3", "", "setting window: got 3, expected a table of values"),
        ("", "speed = 2", "unknown setting live.speed"),
        ("", "zoom = 'big'", "setting live.zoom: got 'big', expected float"),
        ("", "zoom = nan", "setting zoom: got nan, expected 0.5 to 2"),
        ("", f"zoom = 1{400 * '0'}", f"setting live.zoom: got 1{79 * '0'}…, expected float"),
        ("", f"zoom = 0x{5000 * 'f'}", "setting live.zoom: got a number of thousands of digits, expected float"),
        (
            f"output_width_px = 0x{5000 * 'f'}",
            "",
            "setting output_width_px: got a number of thousands of digits, expected 64",
        ),
        (f"virtual_camera = '{5000 * 'x'}'", "", f"setting virtual_camera: got '{79 * 'x'}…, expected driver or"),
        ("", "zoom = 9", "setting zoom: got 9.0, expected 0.5 to 2"),
        (
            "",
            "background = 'sea'",
            "setting live.background: got 'sea', expected blur or own or colour",
        ),
        ("", "background_colour = 'red'", "setting background_colour: got 'red', expected #rrggbb"),
    ],
)
def test_what_is_good_is_taken_and_what_is_not_is_named(
    tmp_path: Path, top: str, live: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, good = tmp_path / "settings.toml", AppSettings(LiveSettings(smoothing=0.7, hold_s=2.0), portrait="man_3")
    text = f"portrait = 'man_3'\n{top}\n[live]\nsmoothing = 0.7\n{live}\nhold_s = 2\n"
    path.write_text(text, encoding="utf-8")
    settings, message = load_settings(path)
    assert settings == good
    assert message is not None
    assert f"Not all settings could be used: {reason}" in message
    assert (tmp_path / "settings.toml.damaged").read_text(encoding="utf-8") == text
    assert load_settings(path) == (good, None)  # the next start finds what was good, and says nothing any more
    assert "are damaged" in caplog.text


@pytest.mark.usefixtures("caplog")
def test_everything_that_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        "gpu_index = 1\noutput_fps_hz = 0\n[live]\nzoom = 7\n[window]\ntheme = 'pink'\nwidth_px = 1400\n",
        encoding="utf-8",
    )
    settings, message = load_settings(path)
    assert settings == AppSettings(window=WindowSettings(width_px=1400))
    assert message is not None
    for name in ("gpu_index", "output_fps_hz", "zoom", "theme"):
        assert name in message
    assert "width_px" not in message


def test_a_place_that_cannot_be_written_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(AppError, match="cannot keep the settings"):
        save_settings(tmp_path / "config" / "settings.toml", AppSettings())


def test_every_value_has_a_kind_that_toml_knows() -> None:
    values = dataclasses.asdict(AppSettings())
    assert settings_from(values) == (AppSettings(), [])
    assert settings_from({"live": {"zoom": 1}})[0].live.zoom == 1.0


def test_the_slates_text_has_a_limit() -> None:
    assert LiveSettings(slate_text=60 * "x").slate_text == 60 * "x"
    with pytest.raises(AppError, match="slate_text: got 61 characters, expected at most 60"):
        LiveSettings(slate_text=61 * "x")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("سأعود", "س أ ع و د"),
        ("\u05d1\u05e8", "\u05d1 \u05e8"),
        ("ไทย", "ไ ท ย"),
        ("Back \N{GRINNING FACE}\N{GRINNING FACE}", "\N{GRINNING FACE}"),
        ("two\nlines", r"U\+000A"),
        ("\u0905\u0902", r"\u0905 U\+0902"),
        ("x\u0302", r"U\+0302"),
        ("half \ud83d", r"U\+D83D"),
        ("".join(map(chr, range(0xE01, 0xE31))), "ก ข ฃ ค ฅ ฆ ง จ …"),
    ],
)
def test_what_the_slate_cannot_show_is_refused(text: str, named: str) -> None:
    with pytest.raises(AppError, match=f"setting slate_text: the slate cannot show {named};"):
        LiveSettings(slate_text=text)


def test_a_slates_text_of_before_that_cannot_be_shown_costs_no_other_setting(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[live]\nslate_text = "\N{GRINNING FACE}"\nzoom = 1.25\n', encoding="utf-8")
    settings, said = load_settings(path)
    assert (settings.live.slate_text, settings.live.zoom) == ("", 1.25)
    assert said is not None
    assert "the slate cannot show \N{GRINNING FACE}" in said
