import json
from pathlib import Path

import numpy as np
import pytest

from app.errors import AppError
from app.pipeline.portraits import Portrait, PortraitStore, bundled_portraits, load_portrait
from assets import ROOT as ASSETS
from mcnet.media.crop import SquareBox
from mcnet.media.errors import MediaError
from mcnet.media.images import read_rgb, write_rgb

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


def test_an_added_portrait_is_kept_with_its_crop_and_can_be_removed(store: PortraitStore, tmp_path: Path) -> None:
    added = store.add(WOMAN)
    assert not added.entry.bundled
    again = PortraitStore(tmp_path / "portraits")
    entry = again.entries()[-1]
    assert entry == added.entry
    np.testing.assert_array_equal(again.prepare(entry).square, added.square)
    changed = again.set_box(entry, SquareBox(200.0, 220.0, 300.0))
    assert again.entries()[-1] == changed
    assert again.prepare(changed).box == SquareBox(200.0, 220.0, 300.0)
    again.remove(changed)
    assert all(entry.bundled for entry in again.entries())
    assert not changed.path.exists()


def test_a_portrait_is_not_added_twice(store: PortraitStore) -> None:
    store.add(WOMAN)
    store.add_picture(read_rgb(WOMAN), "pasted")
    assert sum(not entry.bundled for entry in store.entries()) == 1


def test_what_shows_no_face_is_not_kept(store: PortraitStore, tmp_path: Path) -> None:
    with pytest.raises(AppError, match="no face in wall"):
        store.add_picture(np.full((200, 200, 3), 90, np.uint8), "wall")
    with pytest.raises(MediaError, match="no picture at"):
        store.add(tmp_path / "missing.jpg")
    assert not (tmp_path / "portraits").exists()


def test_bundled_ones_stay(store: PortraitStore) -> None:
    with pytest.raises(AppError, match="came with the app"):
        store.remove(bundled_portraits()[0])


def test_a_damaged_list_loses_no_picture(
    store: PortraitStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    added = store.add(WOMAN)
    (tmp_path / "portraits" / "portraits.json").write_text(json.dumps([{"key": 1}]))
    assert [entry.path for entry in store.entries() if not entry.bundled] == [added.entry.path]
    assert "cannot be read" in caplog.text


def test_reasons_are_given_for_a_low_score(store: PortraitStore) -> None:
    rgb = read_rgb(WOMAN)
    tiny = rgb[:: max(1, rgb.shape[0] // 110), :: max(1, rgb.shape[1] // 110)]
    small = store.add_picture(np.ascontiguousarray(tiny), "small")
    assert any("small" in remark for remark in small.remarks)
    whole = store.add(WOMAN)
    assert small.score < whole.score
    face_at_border = np.ascontiguousarray(rgb[:, : int(whole.box.center_x + 0.3 * whole.box.side)])
    cut = store.add_picture(face_at_border, "cut")
    assert any("border" in remark for remark in cut.remarks)


def test_a_command_line_names_files_and_keys(store: PortraitStore, tmp_path: Path) -> None:
    path = tmp_path / "me.png"
    write_rgb(path, read_rgb(WOMAN))
    assert load_portrait(str(path), store).entry.name == "me"
    assert load_portrait("man_3", store).entry.bundled
    assert all(entry.bundled for entry in store.entries())  # a file that is only used is not taken in
    with pytest.raises(AppError, match="no portrait 'nobody'"):
        load_portrait("nobody", store)
