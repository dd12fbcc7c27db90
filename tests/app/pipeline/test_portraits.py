import dataclasses
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any, Never

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.portraits import Portrait, PortraitStore, bundled_portraits, load_portrait
from assets import ROOT as ASSETS
from mcnet.files import Claim
from mcnet.media.crop import SquareBox, turned
from mcnet.media.errors import MediaError
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.images import KEPT_PIXELS, read_rgb, write_rgb

WOMAN = ASSETS / "portraits" / "woman_2.jpg"


@pytest.fixture
def store(tmp_path: Path) -> PortraitStore:
    return PortraitStore(tmp_path / "portraits")


def test_the_bundled_ones_are_there_and_animate_well(woman: Portrait) -> None:
    entries = bundled_portraits()
    assert len(entries) == 10
    assert {entry.key for entry in entries} >= {"man_1", "woman_5"}
    assert woman.square.shape == (512, 512, 3)
    assert woman.score >= 80
    assert woman.landmarks_px is not None
    assert abs(woman.box.center_x - woman.rgb.shape[1] / 2) < 0.1 * woman.rgb.shape[1]


def add(store: PortraitStore) -> Portrait:
    portrait = store.look(WOMAN)
    store.keep(portrait)
    return portrait


def test_a_kept_portrait_stays_with_its_crop(store: PortraitStore, tmp_path: Path) -> None:
    added = add(store)
    assert not added.entry.bundled
    again = PortraitStore(tmp_path / "portraits")
    entry = again.entries()[-1]
    assert entry == added.entry
    np.testing.assert_array_equal(again.prepare(entry).square, added.square)
    box = SquareBox(200.0, 220.0, 300.0)
    cropped = again.reframe(added, box)
    assert cropped.box == box
    assert again.entries()[-1].box is None  # looking writes nothing
    again.keep(cropped)
    assert again.entries()[-1] == cropped.entry
    assert again.prepare(cropped.entry).box == box


def test_looking_at_a_picture_writes_nothing(store: PortraitStore, tmp_path: Path) -> None:
    store.reframe(store.look(WOMAN), SquareBox(200.0, 220.0, 300.0))
    store.look_at(read_rgb(WOMAN), "pasted")
    assert not (tmp_path / "portraits").exists()


def test_a_removed_portrait_can_be_restored_until_it_is_forgotten(store: PortraitStore) -> None:
    entry = add(store).entry
    content = entry.path.read_bytes()
    store.remove(entry)
    assert all(one.bundled for one in store.entries())
    assert not entry.path.exists()
    store.restore(entry)
    assert store.entries()[-1] == entry
    assert entry.path.read_bytes() == content
    store.remove(entry)
    store.forget_removed()
    assert [path.name for path in entry.path.parent.iterdir()] == ["portraits.json"]
    with pytest.raises(AppError, match="cannot put woman_2 back"):
        store.restore(entry)
    assert all(one.bundled for one in store.entries())


def test_no_other_window_takes_away_what_can_be_restored(store: PortraitStore, tmp_path: Path) -> None:
    """Neither by opening nor by closing; what a crash left is taken away, and so is what older versions left."""
    entry = add(store).entry
    content = entry.path.read_bytes()
    folder = entry.path.parent
    store.remove(entry)
    left = [folder / name for name in (f"{entry.key}.0badc0de.removed", "0badc0de.remover", f"{entry.key}.removed")]
    for path in left:
        path.write_bytes(b"")
    other = PortraitStore(tmp_path / "portraits")
    other.forget_leftovers()
    assert not any(path.exists() for path in left)
    other.remove(entry)  # which it still shows
    other.forget_removed()
    store.restore(entry)
    assert store.entries()[-1] == entry
    assert entry.path.read_bytes() == content
    other.remove(entry)
    other.restore(entry)
    other.remove(entry)
    store.restore(entry)  # also what another window removed
    assert entry.path.read_bytes() == content
    other.forget_removed()
    store.forget_removed()
    assert {path.name for path in folder.iterdir()} == {"portraits.json", entry.path.name}


def test_where_nothing_can_be_claimed_each_window_takes_away_its_own_alone(
    store: PortraitStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_: Claim) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(Claim, "take", no_locks)
    entry = add(store).entry
    store.remove(entry)
    PortraitStore(tmp_path / "portraits").forget_leftovers()
    store.restore(entry)
    assert store.entries()[-1] == entry
    store.forget_removed()
    assert {path.name for path in entry.path.parent.iterdir()} == {"portraits.json", entry.path.name}


@pytest.mark.skipif(os.name != "posix", reason="Windows locks no folders")
def test_two_windows_that_keep_portraits_at_once_keep_both(
    store: PortraitStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one keeps its own while the first one has read the list and not written it yet."""
    other = PortraitStore(tmp_path / "portraits")
    portraits = [store.look(WOMAN), other.look_at(read_rgb(WOMAN)[:, ::-1].copy(), "mirrored")]
    second = threading.Thread(target=other.keep, args=portraits[1:])
    dumps = json.dumps

    def slowly(*values: Any, **options: Any) -> str:
        if second.ident is None:
            second.start()
            second.join(1.0)
        return dumps(*values, **options)

    monkeypatch.setattr(json, "dumps", slowly)
    store.keep(portraits[0])
    second.join(10)
    assert [one.name for one in store.entries() if not one.bundled] == ["woman_2", "mirrored"]


def test_a_portrait_is_renamed(store: PortraitStore) -> None:
    entry = add(store).entry
    store.rename(entry, "  My   aunt ")
    assert store.entries()[-1] == dataclasses.replace(entry, name="My aunt")
    with pytest.raises(AppError, match="needs a name"):
        store.rename(entry, " ")
    with pytest.raises(AppError, match="keeps its name"):
        store.rename(bundled_portraits()[0], "Mine")
    assert store.entries()[-1].name == "My aunt"


def test_what_one_window_crops_keeps_the_name_that_another_gave(store: PortraitStore, tmp_path: Path) -> None:
    """The crop editor shows the portrait as it was read, and so does who removes it and puts it back."""
    other, read = PortraitStore(tmp_path / "portraits"), add(store)
    other.rename(read.entry, "Anna")
    box = SquareBox(200.0, 220.0, 300.0)
    kept = store.keep(store.reframe(read, box))
    assert (kept.entry.name, kept.entry.box, kept.box) == ("Anna", box, box)
    assert store.entries()[-1] == kept.entry
    removed = store.remove(read.entry)
    assert removed == kept.entry
    store.restore(removed)
    assert store.entries()[-1] == kept.entry
    other.rename(read.entry, "Beth")
    store.restore(removed)
    assert store.entries()[-1].name == "Beth", "it was there"


@pytest.mark.parametrize(
    ("stem", "name"), [("two\nlines\t\x1b[2J", "two lines [2J"), ("👩‍🔬 שלום", "👩‍🔬 שלום"), ("\x07", "")]
)
def test_a_files_name_becomes_one_line(store: PortraitStore, tmp_path: Path, stem: str, name: str) -> None:
    path = tmp_path / f"{stem}.png"
    path.write_bytes(WOMAN.read_bytes())
    entry = store.look(path).entry
    assert entry.name == (name or entry.key[:8])


def test_a_picture_without_a_file_is_taken_as_one_is_read(
    store: PortraitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An icon in the clipboard was kept, and could not be read at the next start."""
    rgb = read_rgb(WOMAN)
    with pytest.raises(MediaError, match="the picture pasted is too small: got 48 x 48, expected at least 64"):
        store.look_at(cv2.resize(rgb, (48, 48), interpolation=cv2.INTER_AREA).astype(np.uint8), "pasted")
    monkeypatch.setattr("mcnet.media.images.KEPT_PIXELS", 250 * 250)
    assert store.look_at(rgb, "pasted").rgb.shape == (250, 250, 3)


def test_small_pictures_are_kept_as_long_as_they_are_true(
    store: PortraitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of photographs took minutes to read, at every start."""
    added = add(store)
    folder = added.entry.path.parent
    small = store.thumbnail(added.entry, 96)
    read: list[Path] = []

    def noted(path: Path, *, most_kept: int = KEPT_PIXELS) -> NDArray[np.uint8]:
        read.append(path)
        return read_rgb(path, most_kept=most_kept)

    monkeypatch.setattr("app.pipeline.portraits.read_rgb", noted)
    again = store.thumbnail(added.entry, 96)
    assert np.abs(again.astype(int) - small).mean() < 4
    assert added.entry.path not in read
    cropped = store.reframe(added, SquareBox(200.0, 220.0, 300.0))
    store.keep(cropped)
    assert np.abs(store.thumbnail(cropped.entry, 96).astype(int) - small).mean() > 10
    (kept,) = folder.glob("*.small.jpg")
    kept.write_bytes(b"cut short")
    assert np.abs(store.thumbnail(cropped.entry, 96).astype(int) - small).mean() > 10
    store.remove(cropped.entry)
    assert not list(folder.glob("*.small.jpg")), "nothing shows who was removed"
    store.restore(cropped.entry)
    store.thumbnail(cropped.entry, 96)
    cropped.entry.path.unlink()
    store.forget_leftovers()
    assert not list(folder.glob("*.small.jpg"))


def test_a_small_picture_that_cannot_be_kept_is_shown(store: PortraitStore, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = add(store).entry

    def refuse(path: Path, _rgb: NDArray[np.uint8]) -> Never:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("app.pipeline.portraits.write_rgb", refuse)
    assert store.thumbnail(entry, 96).shape == (96, 96, 3)


def test_a_damaged_picture_can_be_removed_and_restored(store: PortraitStore) -> None:
    entry = add(store).entry
    entry.path.write_bytes(b"no picture")
    with pytest.raises(MediaError):
        store.prepare(entry)
    store.remove(entry)
    assert all(one.bundled for one in store.entries())
    store.restore(entry)
    assert entry.path.read_bytes() == b"no picture"


def test_a_portrait_is_not_kept_twice(store: PortraitStore) -> None:
    add(store)
    pasted = store.look_at(read_rgb(WOMAN), "pasted")
    assert pasted.entry.name == "woman_2"
    store.keep(pasted)
    assert sum(not entry.bundled for entry in store.entries()) == 1


def test_what_shows_no_face_is_refused(store: PortraitStore, tmp_path: Path) -> None:
    with pytest.raises(AppError, match="no face in wall"):
        store.look_at(np.full((200, 200, 3), 90, np.uint8), "wall")
    with pytest.raises(MediaError, match="no picture at"):
        store.look(tmp_path / "missing.jpg")


def test_of_a_bundled_one_nothing_is_kept(store: PortraitStore, tmp_path: Path, woman: Portrait) -> None:
    store.keep(woman)
    assert not (tmp_path / "portraits").exists()


def test_bundled_ones_stay(store: PortraitStore) -> None:
    with pytest.raises(AppError, match="came with the app"):
        store.remove(bundled_portraits()[0])


@pytest.mark.parametrize(
    "text",
    [
        '[{"key": 1}]',
        '[{"key": "a", "name": "b", "box": [1' + 400 * "0" + ", 1, 1]}]",
        '[{"key": "a", "name": "b", "box": null, "angle_deg": 1' + 5000 * "0" + "}]",
        3000 * "[" + 3000 * "]",
    ],
    ids=["half a row", "a large number", "a number of thousands of digits", "a depth"],
)
def test_a_damaged_list_loses_no_picture(
    store: PortraitStore, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    added = add(store)
    (tmp_path / "portraits" / "portraits.json").write_text(text, encoding="utf-8")
    assert [entry.path for entry in store.entries() if not entry.bundled] == [added.entry.path]
    assert "cannot be read" in caplog.text


@pytest.mark.usefixtures("caplog")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("box", [1, 2], "portrait box: got [1.0, 2.0], expected three numbers, the last of them above 0"),
        ("box", [1, 2, float("nan")], "portrait box: got [1.0, 2.0, nan], expected three numbers, "),
        ("box", [1, 2, -3], "portrait box: got [1.0, 2.0, -3.0], expected three numbers, the last of them above 0"),
        ("box", "all", "portrait box: got 'all', expected a list"),
        ("angle_deg", float("inf"), "portrait angle_deg: got inf, expected a number"),
        ("name", 7, "portrait name: got 7, expected str"),
        ("key", "../a", "expected a portrait with its key"),
        ("key", "0123456789abcdeX", "row 2: there is no picture '0123456789abcdeX.png'"),
        ("key", 300 * "a", "row 2: "),
        ("key", "a\0b", "row 2: "),
        ("key", "\ud800", "row 2: "),
    ],
)
def test_a_damaged_row_takes_nothing_of_the_others_with_it(
    store: PortraitStore, tmp_path: Path, name: str, value: object, said: str
) -> None:
    """Nor of its own what can be read. The window tells of it once, and a run without a window changes nothing."""
    rgb, box = read_rgb(WOMAN), SquareBox(200.0, 220.0, 300.0)
    for number, called in enumerate(("Anna", "Ben", "Cleo")):
        picture = rgb.copy()
        picture[0, 0] = number
        store.keep(store.reframe(store.look_at(picture, called), box))
    before = [one for one in store.entries() if not one.bundled]
    path = tmp_path / "portraits" / "portraits.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows[1][name] = value
    text = json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    reader = PortraitStore(path.parent, mends=False)
    read = [one for one in reader.entries() if not one.bundled]
    assert path.read_text(encoding="utf-8") == text
    assert not list(path.parent.glob("*.damaged*"))
    complaint = reader.take_complaint()
    assert complaint is not None
    assert said in complaint
    assert complaint.endswith("the file stays as it is.")
    assert [one for one in store.entries() if not one.bundled] == read
    told = store.take_complaint()
    assert told is not None
    assert said in told
    aside = path.with_name("portraits.json.damaged")
    assert told.endswith(f"A portrait may have lost its name or its crop; the old file is kept as {aside}.")
    assert aside.read_text(encoding="utf-8") == text
    lost = {
        "box": {"box": None},
        "angle_deg": {"angle_deg": 0.0},
        "name": {"name": before[1].key[:8]},
        "key": {"name": before[1].key[:8], "box": None, "angle_deg": 0.0},
    }
    ben = dataclasses.replace(before[1], **lost[name])  # type: ignore[arg-type]
    assert read == ([before[0], before[2], ben] if name == "key" else [before[0], ben, before[2]])
    assert PortraitStore(path.parent).entries()[-3:] == read
    assert (store.take_complaint(), len(list(path.parent.glob("*.damaged*")))) == (None, 1)


def test_a_row_whose_picture_is_gone_is_nobodys(store: PortraitStore) -> None:
    """As where somebody has deleted it: there is nothing to tell where every picture has its row."""
    added = add(store)
    rgb = added.rgb.copy()
    rgb[0, 0] += 1
    store.keep(store.look_at(rgb, "other")).entry.path.unlink()
    assert [entry for entry in store.entries() if not entry.bundled] == [added.entry]
    rgb[0, 0] += 1
    third = store.keep(store.look_at(rgb, "third")).entry
    store.restore(store.remove(third))
    assert [entry for entry in store.entries() if not entry.bundled] == [added.entry, third]
    assert store.take_complaint() is None


@pytest.mark.usefixtures("caplog")
def test_a_change_to_a_damaged_list_keeps_it_aside_too(store: PortraitStore, tmp_path: Path) -> None:
    """As where another program has damaged it while the window is open."""
    entry = add(store).entry
    path = tmp_path / "portraits" / "portraits.json"
    path.write_text("[", encoding="utf-8")
    store.rename(entry, "Mine")
    assert store.entries()[-1] == dataclasses.replace(entry, name="Mine")
    assert store.take_complaint() is not None
    assert path.with_name("portraits.json.damaged").read_text(encoding="utf-8") == "["


def test_a_damaged_list_that_cannot_be_put_aside_is_told(
    store: PortraitStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store)
    (tmp_path / "portraits" / "portraits.json").write_text("{", encoding="utf-8")

    def replace(_self: Path, _other: Path) -> Never:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(AppError, match=r"cannot keep the list of portraits in .*Read-only file system"):
        store.entries()
    assert load_portrait("woman_1", store).entry.bundled, "which needs no list"


def test_reasons_are_given_for_a_low_score(store: PortraitStore) -> None:
    rgb = read_rgb(WOMAN)
    tiny = rgb[:: max(1, rgb.shape[0] // 110), :: max(1, rgb.shape[1] // 110)]
    small = store.look_at(np.ascontiguousarray(tiny), "small")
    assert any("small" in remark for remark in small.remarks)
    whole = store.look(WOMAN)
    assert small.score < whole.score
    face_at_border = np.ascontiguousarray(rgb[:, : int(whole.box.center_x + 0.3 * whole.box.side)])
    cut = store.look_at(face_at_border, "cut")
    assert any("border" in remark for remark in cut.remarks)


def test_a_command_line_names_files_and_keys(store: PortraitStore, tmp_path: Path) -> None:
    path = tmp_path / "me.png"
    write_rgb(path, read_rgb(WOMAN))
    assert load_portrait(str(path), store).entry.name == "me"
    assert load_portrait("man_3", store).entry.bundled
    assert load_portrait(str(WOMAN), store).entry.bundled
    kept = store.look(path)
    store.keep(kept)
    assert load_portrait(kept.entry.key, store).entry == kept.entry
    store.remove(kept.entry)
    assert all(entry.bundled for entry in store.entries())  # a file that is only used is not taken in
    with pytest.raises(MediaError, match="no portrait 'nobody'"):
        load_portrait("nobody", store)


def test_a_face_beside_the_chosen_square_is_not_the_portraits(tmp_path: Path) -> None:
    """Its mesh would give the avatar the keypoints, and the place, of somebody else."""
    large, small = (read_rgb(ASSETS / "portraits" / name) for name in ("woman_1.jpg", "man_1.jpg"))
    side = large.shape[0]
    both = np.full((side, 2 * side, 3), 128, np.uint8)
    both[:, :side] = large
    half = cv2.resize(small, (side // 2, side // 2), interpolation=cv2.INTER_AREA)
    both[side // 4 : side // 4 + half.shape[0], side + side // 4 : side + side // 4 + half.shape[1]] = half
    store = PortraitStore(tmp_path)
    portrait = store.look_at(both, "both")
    on_the_small_one = SquareBox(1.5 * side, 0.5 * side, 0.5 * side)
    chosen = store.reframe(portrait, on_the_small_one)
    assert chosen.landmarks_px is None or abs(chosen.landmarks_px[:, 0].mean() - 1.5 * side) < 0.25 * side
    nobody = store.reframe(portrait, SquareBox(1.9 * side, 0.1 * side, 0.15 * side))
    assert nobody.landmarks_px is None
    assert nobody.score == 0
    with pytest.raises(AppError, match="no face in this square of both: move the square over a face"):
        store.keep(nobody)
    assert all(entry.bundled for entry in store.entries())
    store.keep(store.reframe(nobody, None))
    assert not store.entries()[-1].bundled


@pytest.mark.parametrize("name", ["woman_2", "man_1", "man_5"])
@pytest.mark.parametrize("lies_deg", [90.0, 180.0, 270.0])
def test_a_portrait_on_its_side_or_on_its_head_is_offered_upright(
    store: PortraitStore, tmp_path: Path, name: str, lies_deg: float
) -> None:
    upright = read_rgb(ASSETS / "portraits" / f"{name}.jpg")
    expected = store.look_at(upright, "upright")
    lying = turned(upright, lies_deg)
    portrait = store.look_at(lying, "lying")
    assert portrait.entry.angle_deg == (360 - lies_deg) % 360
    assert portrait.entry.box is None
    assert dataclasses.astuple(portrait.box) == pytest.approx(dataclasses.astuple(expected.box), abs=2)
    assert portrait.score == pytest.approx(expected.score, abs=3)
    store.keep(portrait)
    again = PortraitStore(tmp_path / "portraits")
    entry = again.entries()[-1]
    assert entry == portrait.entry
    np.testing.assert_array_equal(read_rgb(entry.path), lying)  # it is kept as it was
    np.testing.assert_array_equal(again.prepare(entry).square, portrait.square)
    np.testing.assert_array_equal(again.look_at(lying, "twice").square, portrait.square)


def test_a_command_line_turns_a_picture_as_the_window_does(store: PortraitStore, tmp_path: Path) -> None:
    upright = tmp_path / "upright.png"
    write_rgb(upright, read_rgb(WOMAN))
    path = tmp_path / "lying.png"
    write_rgb(path, turned(read_rgb(WOMAN), 90.0))
    portrait = load_portrait(str(path), store)
    assert portrait.entry.angle_deg == 270
    assert portrait.score == pytest.approx(load_portrait(str(upright), store).score, abs=3)
    assert all(entry.bundled for entry in store.entries())
    kept = store.reframe(portrait, None, 0.0)
    store.keep(kept)
    assert load_portrait(str(path), store).entry == kept.entry  # as the user chose in the window


def test_a_face_that_is_lost_by_the_turn_is_used_as_it_lies(
    store: PortraitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(FaceFinder):
        """Finds a face in the first picture alone."""

        looked = False

        def search(self, rgb: NDArray[np.uint8]) -> list[Face]:
            found = [] if self.looked else super().search(rgb)
            self.looked = True
            return found

    monkeypatch.setattr("app.pipeline.portraits.FaceFinder", Blind)
    portrait = store.look_at(turned(read_rgb(WOMAN), 90.0), "lying")
    assert portrait.entry.angle_deg == 0
    assert portrait.landmarks_px is not None
    assert "the head is tilted" in portrait.remarks


def test_a_picture_is_straightened(store: PortraitStore, woman: Portrait) -> None:
    leaning = store.look_at(turned(woman.rgb, 20.0), "leaning")
    assert leaning.entry.angle_deg == 0
    assert "the head is tilted" in leaning.remarks
    straight = store.reframe(leaning, None, -20.0)
    assert straight.remarks == ()
    assert straight.score == pytest.approx(woman.score, abs=4)
    assert straight.rgb is leaning.rgb
    assert store.reframe(straight, straight.box).entry.angle_deg == -20.0


def test_an_index_of_before_pictures_could_be_turned(store: PortraitStore, tmp_path: Path) -> None:
    entry = add(store).entry
    index = tmp_path / "portraits" / "portraits.json"
    rows = json.loads(index.read_text(encoding="utf-8"))
    del rows[0]["angle_deg"]
    index.write_text(json.dumps(rows), encoding="utf-8")
    assert store.entries()[-1] == entry
