"""Strengths by name and by portrait, and what becomes of a damaged file of them."""

import dataclasses
import os
import tomllib
from pathlib import Path

import pytest

from app.errors import AppError
from app.presets import (
    LONGEST_NAME,
    MOST_PRESETS,
    STANDARD,
    Place,
    Presets,
    Strengths,
    load_presets,
    save_changes,
    save_presets,
)
from app.settings import LiveSettings

CALM = Strengths(motion_strength=0.6, mouth_strength=1.3)


def test_strengths_are_all_gains_and_nothing_else() -> None:
    names = {field.name for field in dataclasses.fields(Strengths)}
    assert names == {field.name for field in dataclasses.fields(LiveSettings) if field.name.endswith("_strength")}
    assert Strengths() == Strengths.of(LiveSettings())
    live = LiveSettings(zoom=1.5, smoothing=0.9, motion="plane", slate=True, retouch=False, turn_strength=0.1)
    put = CALM.over(live)
    assert Strengths.of(put) == CALM
    assert Strengths.of(live).over(put) == live
    with pytest.raises(AppError, match=r"lids_strength: got 2.5, expected 0 to 2"):
        Strengths(lids_strength=2.5)


def test_named_ones_are_saved_renamed_applied_and_deleted() -> None:
    presets = Presets().saved("  Calm  one ", CALM).saved("Lively", Strengths(expression_strength=1.5))
    assert presets.names == (STANDARD, "Calm one", "Lively")
    assert presets.get("calm ONE") == CALM
    assert presets.get("standard") == Strengths()
    assert presets.name_of(CALM) == "Calm one"
    assert presets.name_of(Strengths()) == STANDARD
    assert presets.name_of(Strengths(nod_strength=0.2)) == ""
    louder = presets.saved("CALM ONE", Strengths(mouth_strength=2.0))
    assert louder.names == presets.names
    assert louder.get("Calm one").mouth_strength == 2.0
    renamed = presets.renamed("Calm one", "Quiet")
    assert renamed.names == (STANDARD, "Quiet", "Lively")
    assert renamed.renamed("Quiet", "QUIET").names == (STANDARD, "QUIET", "Lively")
    assert renamed.without("quiet").names == (STANDARD, "Lively")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda presets: presets.get("Wild"), "got 'Wild', expected one of Standard, Calm"),
        (lambda presets: presets.saved(" ", CALM), "got '' for a name, expected 1 to 40 characters"),
        (lambda presets: presets.saved("x" * 41, CALM), "expected 1 to 40 characters"),
        (lambda presets: presets.saved("a\x00b", CALM), "expected 1 to 40 characters"),
        (lambda presets: presets.saved("standard", CALM), "Standard stays as it is"),
        (lambda presets: presets.renamed("Calm", "Standard"), "Standard is there already"),
        (lambda presets: presets.renamed("Standard", "Mine"), "expected one of your own: Calm"),
        (lambda presets: presets.without("Wild"), "expected one of your own: Calm"),
        (lambda _: Presets().without("Wild"), "expected one of your own: none yet"),
    ],
)
def test_what_cannot_be_is_said(change: object, reason: str) -> None:
    assert callable(change)
    with pytest.raises(AppError, match=reason):
        change(Presets().saved("Calm", CALM))


def test_there_are_not_too_many_of_either() -> None:
    presets = Presets()
    for number in range(MOST_PRESETS):
        presets = presets.saved(f"n{number}", CALM)
    with pytest.raises(AppError, match="delete one first"):
        presets.saved("one more", CALM)
    presets.saved("n3", Strengths())
    for number in range(301):
        presets = presets.with_last(f"p{number}", CALM).with_place(f"p{number}", Place())
    assert list(presets.places) == list(presets.last)
    assert list(presets.last) == [f"p{number}" for number in range(1, 301)]
    assert list(presets.with_last("p1", Strengths()).last)[-1] == "p1"


def test_they_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "config" / "presets.toml"
    assert load_presets(path) == (Presets(), None)
    presets = Presets().saved('“Für” [den]."Chef"', CALM).with_last("woman_1", CALM).with_last("man 1", Strengths())
    presets = presets.with_place("man 1", Place(0.7, -0.2, 0.1))
    save_presets(path, presets)
    assert load_presets(path) == (presets, None)
    assert tomllib.loads(path.read_text(encoding="utf-8"))["version"] == 1
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600


DAMAGED = """
version = 1
named = {"Good" = {motion_strength = 0.6}, "Half" = {motion_strength = 9, brows_strength = 0.5}, "Odd" = 3}
extra = 1
[last.woman_1]
mouth_strength = 1.5
speed = 2
[last.man_1]
lids_strength = nan
turn_strength = 0.25
[places.man_1]
portrait_x = 7
portrait_y = 0.1
"""


def test_a_damaged_entry_takes_nothing_else_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "presets.toml"
    path.write_text(DAMAGED, encoding="utf-8")
    presets, message = load_presets(path)
    assert presets.named == {"Good": Strengths(motion_strength=0.6), "Half": Strengths(brows_strength=0.5)}
    assert presets.last == {"woman_1": Strengths(mouth_strength=1.5), "man_1": Strengths(turn_strength=0.25)}
    assert presets.places == {"man_1": Place(portrait_y=0.1)}
    assert message is not None
    for said in (
        "portrait_x: got 7",
        "named.Half: setting motion_strength: got 9",
        "named.Odd: got 3",
        "speed",
        "lids_strength",
        "extra",
    ):
        assert said in message
    assert (tmp_path / "presets.toml.damaged").read_text(encoding="utf-8") == DAMAGED
    assert load_presets(path) == (presets, None)
    assert "are damaged" in caplog.text


@pytest.mark.parametrize("text", ["version = ", "\xff\xfe", f"version = {5000 * '1'}"])
@pytest.mark.usefixtures("caplog")
def test_what_is_no_toml_is_kept_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "presets.toml"
    path.write_bytes(text.encode("latin-1"))
    presets, message = load_presets(path)
    assert presets == Presets()
    assert message is not None
    assert message.startswith("The presets could not be read")
    assert (tmp_path / "presets.toml.damaged").read_bytes() == text.encode("latin-1")


def test_a_later_format_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "presets.toml"
    path.write_text("version = 2\nsets = []\n", encoding="utf-8")
    with pytest.raises(AppError, match=r"of format 2, this app knows formats up to 1; use a newer app"):
        load_presets(path)
    assert path.read_text(encoding="utf-8") == "version = 2\nsets = []\n"
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(AppError, match="cannot read the presets"):
        load_presets(tmp_path / "folder.toml")


def test_what_two_windows_change_is_all_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "presets.toml"
    weak, strong = Strengths(nod_strength=0.5), Strengths(nod_strength=1.5)
    before = Presets().saved("a", weak).saved("b", weak).saved("c", weak).with_last("man_1", weak)
    save_presets(path, before)
    theirs = before.without("a").saved("d", strong).saved("c", strong).with_last("man_2", strong)
    assert save_changes(path, before, theirs) == (theirs, None)
    mine = before.renamed("b", "e").with_last("man_3", weak).with_place("man_3", Place(portrait_x=0.1))
    kept, _ = save_changes(path, before, mine)
    assert load_presets(path) == (kept, None)
    assert kept.named == {"c": strong, "d": strong, "e": weak}
    assert kept.last == {"man_1": weak, "man_2": strong, "man_3": weak}
    assert kept.places == mine.places
    assert save_changes(path, kept, kept.renamed("d", "f"))[0].names == (STANDARD, "c", "f", "e"), "it keeps its place"
    path.write_text("version = 2\n", encoding="utf-8")
    with pytest.raises(AppError, match="of format 2"):
        save_changes(path, kept, mine)
    assert path.read_text(encoding="utf-8") == "version = 2\n"
    path.unlink()
    assert save_changes(path, kept, mine)[0] == mine
    path.write_text("version = 1\n[named", encoding="utf-8")
    assert save_changes(path, kept, mine)[0] == mine
    (aside,) = tmp_path.glob("*.damaged")
    assert aside.read_text(encoding="utf-8") == "version = 1\n[named", "what an editor wrote is not lost"
    assert "are damaged" in caplog.text


@pytest.mark.usefixtures("caplog")
def test_a_slip_of_the_pen_takes_nothing_of_another_windows_with_it(tmp_path: Path) -> None:
    path = tmp_path / "presets.toml"
    before = Presets().saved("a", CALM).saved("b", CALM).with_last("man_1", CALM).with_place("man_1", Place(0.7))
    save_presets(path, before.saved("theirs", CALM).without("b"))
    text = path.read_text(encoding="utf-8").replace("portrait_size = 0.7", "portrait_size = 'x'")
    path.write_text(text + "\n[later]\nnew = true\n", encoding="utf-8")
    kept, complaint = save_changes(path, before, before.saved("mine", CALM))
    assert complaint is not None
    assert "places.man_1: place portrait_size: got 'x', expected float; unknown key later" in complaint
    assert kept.names == (STANDARD, "a", "theirs", "mine")
    assert (kept.last, kept.places) == (before.last, before.places)
    assert load_presets(path) == (kept, None)
    path.write_text("version = 1\nlast = 3\nplaces.man_1 = 3\n[named]\na = 3\n", encoding="utf-8")
    again, complaint = save_changes(path, kept, kept.with_last("man_2", CALM))
    assert complaint is not None
    assert again.names == (STANDARD, "a"), "the others were taken out"
    assert (list(again.last), again.places) == (["man_1", "man_2"], before.places)


@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("[named", "[nmaed", "unknown key nmaed."),
        ("[last", "[lats", "unknown key lats."),
        ("[places", "[place", "unknown key place."),
        ("turn_strength = 0.7", "turn = 0.7", "unknown strength turn."),
        ("portrait_size = 0.7", "portrait = 0.7", "unknown place portrait."),
    ],
)
def test_a_misspelt_name_deletes_nothing(tmp_path: Path, right: str, wrong: str, said: str) -> None:
    path, turning = tmp_path / "presets.toml", Strengths(turn_strength=0.7)
    before = Presets().saved("a", turning).saved("b", CALM).with_last("man_1", CALM).with_place("man_1", Place(0.7))
    save_presets(path, before)
    text = path.read_text(encoding="utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    kept, complaint = save_changes(path, before, before.saved("mine", CALM))
    assert complaint is not None
    assert said in complaint
    assert kept == before.saved("mine", CALM)
    assert load_presets(path) == (kept, None)


def test_two_windows_that_reach_the_most_together_keep_all(tmp_path: Path) -> None:
    path, before = tmp_path / "presets.toml", Presets()
    for number in range(MOST_PRESETS - 1):
        before = before.saved(f"n{number}", CALM)
    save_presets(path, before)
    save_changes(path, before, before.saved("mine", CALM))
    kept, complaint = save_changes(path, before, before.saved("theirs", CALM))
    assert complaint is None
    assert (len(kept.named), kept.names[-2:]) == (MOST_PRESETS + 1, ("mine", "theirs"))
    assert load_presets(path) == (kept, None)
    with pytest.raises(AppError, match="there are 51 already, expected no more: delete one first"):
        kept.saved("one more", CALM)
    assert kept.saved("mine", Strengths()).get("mine") == Strengths()


def test_names_of_two_windows_that_differ_in_capitals_get_numbers(tmp_path: Path) -> None:
    path, before, long = tmp_path / "presets.toml", Presets(), LONGEST_NAME * "x"
    save_presets(path, before)
    save_changes(path, before, before.saved("Call", CALM).saved("Call 2", CALM).saved(long, CALM))
    kept, complaint = save_changes(path, before, before.saved("call", Strengths()).saved(long.upper(), Strengths()))
    assert complaint is None
    assert kept.names == (STANDARD, "Call", "Call 2", long, "call 3", f"{long[2:].upper()} 2")
    assert kept.get("CALL") == CALM
    assert load_presets(path) == (kept, None)
    path.write_text("version = 1\n[named.One]\n[named.one]\n[named.standard]\n[named.'One  2']\n", encoding="utf-8")
    presets, message = load_presets(path)
    assert (presets.names, message) == ((STANDARD, "One", "one 2", "standard 2", "One 2 2"), None)
