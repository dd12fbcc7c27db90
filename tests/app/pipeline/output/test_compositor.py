import dataclasses
import threading
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.output.compositor import Compositor, _write_centred
from app.pipeline.output.output_frame import Person, badge_place
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.state import State
from app.settings import LONGEST_SLATE_TEXT, Background, LiveSettings, not_on_slate
from assets import ROOT
from mcnet.arrays import Rgb
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.matte import Cutout
from mcnet.media.surroundings import Margins
from tests.app.fakes import pictures_are_read, wait_until

PLAIN = LiveSettings(background="colour", background_colour="#102030", badge=False, sharpness=0.0)


def avatar() -> Rgb:
    """Red on its left, blue on its right."""
    rgb = np.zeros((256, 256, 3), np.uint8)
    rgb[:, :128, 0] = 200
    rgb[:, 128:, 2] = 200
    return rgb


def test_the_avatar_fills_the_height_and_stands_in_the_middle_of_a_colour() -> None:
    picture = Compositor(OutputFormat(1280, 720)).compose(avatar(), PLAIN)
    assert picture.shape == (720, 1280, 3)
    assert picture.flags.c_contiguous
    for column in (0, 270, 1010, 1279):
        assert picture[360, column].tolist() == [16, 32, 48]
    assert picture[10, 640 - 100].tolist() == [200, 0, 0]
    assert picture[710, 640 + 100].tolist() == [0, 0, 200]


def test_its_sides_fade_into_the_background() -> None:
    row = Compositor(OutputFormat(1280, 720)).compose(avatar(), PLAIN)[360, 280:306, 0].astype(int)
    assert row[0] <= 20
    assert row[-1] == 200
    assert (np.diff(row) >= 0).all()


def test_mirrored_output_swaps_the_sides() -> None:
    picture = Compositor(OutputFormat(1280, 720)).compose(avatar(), dataclasses.replace(PLAIN, mirror_output=True))
    assert picture[360, 540].tolist() == [0, 0, 200]
    assert picture[360, 740].tolist() == [200, 0, 0]


def test_the_blurred_background_is_the_avatars_own_picture_dimmed() -> None:
    picture = Compositor(OutputFormat(1280, 720)).compose(avatar(), LiveSettings(badge=False))
    assert picture[360, 20, 0] > 60
    assert picture[360, 20, 0] < 140
    assert picture[360, 20, 2] < 10
    assert picture[360, 1260, 2] > 60


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (640, 480), (740, 720), (720, 720), (400, 256)])
@pytest.mark.parametrize("background", ["blur", "colour"])
def test_only_what_is_seen_is_drawn_and_it_looks_like_all_of_it(size: tuple[int, int], background: Background) -> None:
    """Against the plain way: the whole backdrop, and a square laid on it pixel by pixel in floating point."""
    width, height = size
    rgb = np.asarray(cv2.resize(np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8), (256, 256)), np.uint8)
    settings = LiveSettings(background=background, background_colour="#c02080", badge=False, sharpness=0.0)
    compositor = Compositor(OutputFormat(width, height))
    picture = compositor.compose(rgb, settings)
    if background == "blur":
        small = cv2.GaussianBlur(cv2.resize(rgb, (48, 48), interpolation=cv2.INTER_AREA), (0, 0), 3.0)
        cut = round(48 * height / max(size)), round(48 * width / max(size))
        top, left = (48 - cut[0]) // 2, (48 - cut[1]) // 2
        seen = cv2.convertScaleAbs(small[top : top + cut[0], left : left + cut[1]], alpha=0.55)
        expected = cv2.resize(seen, size, interpolation=cv2.INTER_LINEAR).astype(float)
    else:
        expected = np.tile(np.array([0xC0, 0x20, 0x80], float), (height, width, 1))
    side = min(size)
    square = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_CUBIC)
    edge = max(2, round(0.035 * side))
    share = np.minimum(1, (np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / edge)
    share = share * share * (3 - 2 * share) if width != height else np.ones(side)
    share = share[None, :, None] if width > height else share[:, None, None]
    top, left = (height - side) // 2, (width - side) // 2
    middle = expected[top : top + side, left : left + side]
    middle[:] = square * share + middle * (1 - share)
    assert np.abs(picture - expected).max() <= 2
    again = compositor.compose(rgb, settings)
    assert not np.shares_memory(picture, again)  # a fresh one, and the backdrop that is kept was not drawn on
    assert np.array_equal(picture, again)


def test_a_background_picture_covers_everything(tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    wall = np.full((300, 100, 3), (10, 220, 30), np.uint8)
    write_rgb(path, wall)
    settings = dataclasses.replace(PLAIN, background="image", background_image=str(path))
    compositor = Compositor(OutputFormat(640, 360))
    assert compositor.compose(avatar(), settings)[5, 5].tolist() == [0x10, 0x20, 0x30]
    compositor.reads_background(settings)
    pictures_are_read()
    assert not compositor.reads_background(settings)
    picture = compositor.compose(avatar(), settings)
    assert picture[5, 5].tolist() == [10, 220, 30]
    assert picture[355, 635].tolist() == [10, 220, 30]


def test_a_background_picture_that_is_there_still_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    write_rgb(path, np.full((300, 100, 3), (10, 220, 30), np.uint8))
    settings = dataclasses.replace(PLAIN, background="image", background_image=str(path))
    compositor = Compositor(OutputFormat(640, 360))
    compositor.reads_background(settings)
    pictures_are_read()
    compositor.compose(avatar(), settings)
    path.unlink()
    blur = dataclasses.replace(settings, background="blur")
    assert not compositor.reads_background(blur)
    compositor.compose(avatar(), blur)
    for again in (settings, dataclasses.replace(settings, background_colour="#ff0000")):
        assert not compositor.reads_background(again)
        assert compositor.compose(avatar(), again)[5, 5].tolist() == [10, 220, 30]


def test_a_disk_that_does_not_answer_is_asked_once_for_a_background_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = [], threading.Event()

    def read(path: Path) -> Rgb:
        asked.append(path.name)
        answers.wait(60)
        return np.zeros((9, 16, 3), np.uint8)

    monkeypatch.setattr("app.pipeline.output.picture_reading.read_rgb", read)
    monkeypatch.setattr("app.pipeline.output.picture_reading.require_file", Path)
    compositor = Compositor(OutputFormat(640, 360))
    away, other = (
        dataclasses.replace(PLAIN, background="image", background_image=str(tmp_path / name)) for name in ("a", "b")
    )
    try:
        for _ in range(3):
            assert compositor.reads_background(away)
            assert compositor.reads_background(other)
            assert not compositor.reads_background(dataclasses.replace(away, background="blur"))
        wait_until(lambda: sorted(asked) == ["a", "b"], "both are asked for once")
    finally:
        answers.set()
        pictures_are_read()
    assert len(asked) == 2


def test_a_background_picture_that_failed_is_tried_again_once_it_is_wished_for_again(tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    settings = dataclasses.replace(PLAIN, background="image", background_image=str(path))
    compositor = Compositor(OutputFormat(640, 360))
    compositor.reads_background(settings)
    pictures_are_read()
    with pytest.raises(AppError, match="there is no file"):
        compositor.compose(avatar(), settings)
    compositor.reads_background(dataclasses.replace(settings, background="blur"))
    write_rgb(path, np.full((300, 100, 3), (10, 220, 30), np.uint8))
    compositor.reads_background(settings)
    pictures_are_read()
    assert compositor.compose(avatar(), settings)[5, 5].tolist() == [10, 220, 30]


@pytest.mark.parametrize(("path", "message"), [("", "none is chosen"), ("missing.png", "there is no file missing.png")])
def test_a_background_picture_that_is_not_there_is_told(path: str, message: str) -> None:
    settings = dataclasses.replace(PLAIN, background="image", background_image=path)
    compositor = Compositor(OutputFormat(640, 360))
    compositor.reads_background(settings)
    pictures_are_read()
    with pytest.raises(AppError, match=message):
        compositor.compose(avatar(), settings)


@pytest.mark.parametrize("size", [(640, 640), (480, 640), (640, 360)])
def test_any_even_size_will_do(size: tuple[int, int]) -> None:
    picture = Compositor(OutputFormat(*size)).compose(avatar(), PLAIN)
    assert picture.shape == (size[1], size[0], 3)
    assert picture[size[1] // 2, size[0] // 2 - 60, 0] > 150


def test_the_badge_says_that_it_is_synthetic_and_can_be_left_out() -> None:
    compositor = Compositor(OutputFormat(1280, 720))
    with_badge = compositor.compose(avatar(), dataclasses.replace(PLAIN, badge=True)).astype(int)
    without = compositor.compose(avatar(), PLAIN).astype(int)
    changed = np.argwhere(np.abs(with_badge - without).sum(axis=2) > 0)
    left, top, width, height = badge_place(1280, 720)
    assert changed[:, 0].min() >= top
    assert changed[:, 0].max() < top + height
    assert changed[:, 1].min() >= left
    assert changed[:, 1].max() < left + width


@pytest.mark.parametrize("colour", ["#ffffff", "#000000", "#00b140", "#8a8a8a"])
@pytest.mark.parametrize("size", [(1280, 720), (640, 360), (720, 1280)])
def test_the_badge_is_legible_on_any_background(colour: str, size: tuple[int, int]) -> None:
    settings = dataclasses.replace(PLAIN, background_colour=colour, badge=True)
    picture = Compositor(OutputFormat(*size)).compose(avatar(), settings)
    left, top, width, height = badge_place(*size)
    linear = (picture[top : top + height, left : left + width].astype(float) / 255) ** 2.2
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    letters, plate = np.percentile(luminance, 99), np.median(luminance)
    assert (letters + 0.05) / (plate + 0.05) >= 4.5  # as the Web Content Accessibility Guidelines ask it of text
    rows = np.flatnonzero((luminance > 0.5 * letters).any(axis=1))
    assert np.ptp(rows) >= 0.025 * size[1]


@pytest.mark.parametrize(
    "size", [(64, 64), (64, 320), (64, 1440), (64, 4096), (256, 4096), (4096, 64), (4096, 4096), (1920, 1080)]
)
def test_the_badge_lies_in_the_picture(size: tuple[int, int]) -> None:
    left, top, width, height = badge_place(*size)
    assert left >= 0
    assert top >= 0
    assert left + width <= size[0]
    assert top + height <= size[1]
    assert width > 3 * height
    assert width >= min(0.75 * size[0], 0.2 * size[1])
    compositor = Compositor(OutputFormat(*size))
    with_badge, without = (
        compositor.compose(avatar(), dataclasses.replace(PLAIN, badge=badge)) for badge in (True, False)
    )
    changed = np.argwhere((with_badge != without).any(axis=2))
    assert (changed >= (top, left)).all()
    assert (changed < (top + height, left + width)).all()
    assert len(changed) > width * height // 2
    assert compositor.slate(State.SLATE, "Back at ten").shape == (size[1], size[0], 3)


def test_the_badge_keeps_its_place_in_the_usual_sizes() -> None:
    assert badge_place(1280, 720) == (1100, 662, 164, 42)
    assert badge_place(720, 1280) == (403, 1178, 289, 74)
    assert badge_place(640, 480) == (520, 441, 109, 28)


def test_the_slate_says_what_the_user_wants_but_while_the_avatar_gets_ready() -> None:
    compositor = Compositor(OutputFormat(640, 360))
    own = compositor.slate(State.SLATE, "Back at ten")
    assert not np.array_equal(own, compositor.slate(State.SLATE))
    assert np.array_equal(own, compositor.slate(State.NO_FACE, "Back at ten"))
    assert compositor.slate(State.STARTING, "Back at ten") is compositor.slate(State.STARTING)


def test_half_a_character_ends_no_call() -> None:
    """OpenCV ends the process over what cannot be written in UTF-8."""
    compositor = Compositor(OutputFormat(640, 360))
    assert np.array_equal(compositor.slate(State.SLATE, "ten \ud83d"), compositor.slate(State.SLATE, "ten ?"))


def test_a_long_text_of_the_slate_is_written_smaller() -> None:
    bare = Compositor(OutputFormat(640, 360)).slate(State.SLATE, " ").astype(int)
    long = Compositor(OutputFormat(640, 360)).slate(State.SLATE, LONGEST_SLATE_TEXT * "W").astype(int)
    written = np.flatnonzero(np.abs(long - bare).sum(axis=2).any(axis=0))
    assert written.min() > 10
    assert written.max() < 630


def _drawn(text: str) -> Rgb:
    """A text by itself."""
    picture = np.zeros((60, 90 * len(text), 3), np.uint8)
    _write_centred(picture, text, size=36, bottom=45, ink=(255, 255, 255))
    return picture


def test_every_character_that_a_slates_text_may_have_is_drawn() -> None:
    """OpenCV draws a question mark, or nothing, where it has no glyph."""
    none, unknown = _drawn(" "), _drawn("?")
    assert np.array_equal(_drawn("\N{GRINNING FACE}"), unknown)
    allowed = {unicodedata.normalize("NFC", char) for char in map(chr, range(0x110000)) if not not_on_slate(char)}
    assert len(allowed) > 30_000
    assert not [char for char in allowed if unicodedata.bidirectional(char) in ("R", "AL", "AN")]
    assert not [char for char in allowed if unicodedata.category(char)[0] in "MC"]
    for char in allowed:
        drawn = _drawn(char)
        assert char == "?" or not np.array_equal(drawn, unknown), f"{char} U+{ord(char):04X}"
        assert char.isspace() or not np.array_equal(drawn, none), f"{char} U+{ord(char):04X}"


@pytest.mark.parametrize(
    "text",
    [
        "Gleich zurück \N{EN DASH} bis 15 Uhr…",
        "Je reviens à l\N{RIGHT SINGLE QUOTATION MARK}instant",
        "¡Vuelvo enseguida!",
        "Já volto",
        "Tôi sẽ quay lại ngay",
        "Zaraz wracam, żółć",
        "Επιστρέφω αμέσως",
        "Скоро вернусь, їжак",
        "すぐに戻ります",
        "马上回来\N{FULLWIDTH COMMA}請稍候",
        "곧 돌아올게요",
        "Back at 10 ♥",
    ],
)
def test_scripts_that_a_slate_shows(text: str) -> None:
    """Accents of their own, as macOS has them in names of files, too."""
    assert not not_on_slate(text)
    compositor = Compositor(OutputFormat(640, 360))
    composed = compositor.slate(State.SLATE, unicodedata.normalize("NFD", text))
    assert np.array_equal(composed, compositor.slate(State.SLATE, text))
    assert not np.array_equal(composed, compositor.slate(State.SLATE, "".join("?" if c.isalpha() else c for c in text)))


def test_slates_differ_by_state_and_are_never_written_to() -> None:
    compositor = Compositor(OutputFormat(1280, 720))
    off, starting = compositor.slate(State.SLATE), compositor.slate(State.STARTING)
    assert off.shape == (720, 1280, 3)
    assert not np.array_equal(off, starting)
    assert compositor.slate(State.SLATE) is off
    with pytest.raises(ValueError, match="read-only"):
        off[0, 0] = 0


@pytest.mark.parametrize("size", [(1279, 720), (1280, 62), (1280, 5000)])
def test_sizes_that_devices_do_not_bear_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected an even number"):
        OutputFormat(*size)


def test_sharpening_brings_the_avatar_nearer_to_the_portrait_that_it_was_made_of() -> None:
    portrait = read_rgb(ROOT / "portraits" / "man_1.jpg")
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    softened = np.asarray(cv2.GaussianBlur(small, (0, 0), 0.5), np.uint8)  # as networks' pictures are

    def shown(sharpness: float) -> NDArray[np.float64]:
        settings = dataclasses.replace(PLAIN, sharpness=sharpness)
        return Compositor(OutputFormat(512, 512)).compose(softened, settings).astype(np.float64)

    def detail(rgb: NDArray[np.float64]) -> float:
        return float(np.abs(np.diff(rgb, axis=0)).mean() + np.abs(np.diff(rgb, axis=1)).mean())

    errors = [float(np.square(shown(sharpness) - portrait).mean()) for sharpness in (0.0, LiveSettings().sharpness)]
    assert errors[1] < errors[0]
    details = [detail(shown(sharpness)) for sharpness in (0.0, 0.5, 1.0)]
    assert details[0] < details[1] < details[2] < 1.1 * detail(portrait.astype(np.float64))


@pytest.mark.parametrize("cut_out", [False, True])
def test_an_avatar_with_the_portraits_own_detail_is_sharpened_half_as_far(cut_out: bool) -> None:
    noise = np.random.default_rng(2).integers(64, 192, (256, 256, 3), np.uint8)
    person = Person(Cutout(noise, np.ones((256, 256), np.float32)), noise)
    pictures = {}
    for sharpness, detailed in ((1.0, True), (0.5, False), (1.0, False)):
        settings = dataclasses.replace(PLAIN, sharpness=sharpness, cut_out=cut_out)
        composed = Compositor(OutputFormat(640, 480)).compose_layers(noise, settings, person, detailed=detailed)
        pictures[sharpness, detailed] = composed[0]
    np.testing.assert_array_equal(pictures[1.0, True], pictures[0.5, False])
    assert not np.array_equal(pictures[1.0, True], pictures[1.0, False])


def test_an_avatar_that_is_not_enlarged_stays_as_it_is() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (256, 256, 3), np.uint8)
    np.testing.assert_array_equal(
        Compositor(OutputFormat(256, 256)).compose(noise, dataclasses.replace(PLAIN, sharpness=1.0)), noise
    )


@pytest.mark.parametrize("background", ["colour", "blur"])
def test_a_smaller_portrait_stands_on_the_lower_edge(background: Background) -> None:
    settings = dataclasses.replace(PLAIN, portrait_size=0.6, background=background)
    picture = Compositor(OutputFormat(1280, 720)).compose(avatar(), settings)
    assert picture[719, 600].tolist() == [200, 0, 0]  # 432 px high, from row 288 on
    assert picture[320, 680].tolist() == [0, 0, 200]
    around = picture[[100, 287, 719, 719], [640, 500, 400, 880]]
    if background == "colour":
        assert (around == [16, 32, 48]).all()
    else:
        assert (around < 120).all(), "dimmed"
    edge = picture[289:300, 500, 0].astype(int)
    assert (np.diff(edge) >= 0).all()
    assert edge[0] < edge[-1]


def test_a_larger_portrait_loses_more_below_than_above() -> None:
    rows = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 256, 1).repeat(3, 2)
    settings = dataclasses.replace(PLAIN, portrait_size=1.5)
    column = Compositor(OutputFormat(1280, 720)).compose(rows, settings)[:, 640, 0]
    assert column[0] == pytest.approx(255 * 126 / 1080, abs=2)  # of 360 px that are too many 126 are above
    assert column[-1] == pytest.approx(255 * 846 / 1080, abs=2)


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (640, 640)])
@pytest.mark.parametrize("portrait_size", [0.5, 0.9, 1.1, 1.7])
def test_any_size_of_the_portrait_fits_any_output(size: tuple[int, int], portrait_size: float) -> None:
    settings = dataclasses.replace(PLAIN, portrait_size=portrait_size, background="blur")
    picture = Compositor(OutputFormat(*size)).compose(avatar(), settings)
    assert picture.shape == (size[1], size[0], 3)
    middle = picture[size[1] - 20]
    assert middle[size[0] // 2 - 30].tolist() == [200, 0, 0]
    assert middle[size[0] // 2 + 30].tolist() == [0, 0, 200]


def surrounded_avatar() -> tuple[Rgb, Margins]:
    """The same, with green on its left, white on its right, grey above and black below."""
    margins = Margins(102, 38, 60, 20)
    rgb = np.zeros((256 + 58, 256 + 162, 3), np.uint8)
    rgb[:38] = 128
    rgb[38:-20, :102] = (0, 200, 0)
    rgb[38:-20, -60:] = 255
    margins.square(rgb)[:] = avatar()
    return rgb, margins


def test_what_is_around_the_square_is_seen_beside_it_and_the_square_stays_where_it_is() -> None:
    rgb, margins = surrounded_avatar()
    compositor = Compositor(OutputFormat(1280, 720))
    alone, picture = compositor.compose(avatar(), PLAIN), compositor.compose(rgb, PLAIN, margins=margins)
    inside = slice(320, 960)
    # The edge between red and blue may lie a quarter of a pixel beside its place.
    assert np.abs(picture[:, inside].astype(int) - alone[:, inside].astype(int)).max() <= 50
    assert (picture[10:710, 20:270] == (0, 200, 0)).all()  # up to the picture's own edge
    assert (picture[10:710, 1010:1110] == 255).all()
    assert picture[360, 1279].tolist() == [16, 32, 48]  # the photograph ends, and fades into the background
    assert (np.diff(picture[360, 1110:1180, 0].astype(int)) <= 0).all()


def test_mirrored_the_surroundings_change_sides_too() -> None:
    rgb, margins = surrounded_avatar()
    mirrored = dataclasses.replace(PLAIN, mirror_output=True)
    compositor = Compositor(OutputFormat(1280, 720))
    picture = compositor.compose(rgb, mirrored, margins=margins)
    assert (picture[10:710, 1010:1260] == (0, 200, 0)).all()
    assert picture[360, 540].tolist() == [0, 0, 200]
    np.testing.assert_array_equal(picture[:, ::-1], compositor.compose(rgb, PLAIN, margins=margins))


def test_of_a_smaller_portrait_more_is_seen_around_it() -> None:
    rgb, margins = surrounded_avatar()
    smaller = dataclasses.replace(PLAIN, portrait_size=0.5, portrait_y=-0.25)
    picture = Compositor(OutputFormat(1280, 720)).compose(rgb, smaller, margins=margins)
    top, bottom, left, right = 180, 540, 460, 820  # of the square
    assert picture[top - 30, 640].tolist() == [128, 128, 128]
    assert picture[bottom + 8, 640].tolist() == [0, 0, 0]
    assert picture[360, left - 100].tolist() == [0, 200, 0]
    assert picture[360, right + 50].tolist() == [255, 255, 255]
    for row, column in ((100, 640), (600, 640), (360, 300), (360, 920)):
        assert picture[row, column].tolist() == [16, 32, 48]


@pytest.mark.parametrize("background", ["colour", "own", "blur", "alpha"])
def test_a_person_goes_on_beyond_the_square(background: Background) -> None:
    """Shoulders that leave the square are seen on both sides of it; without margins they fade out there."""
    rgb, margins = surrounded_avatar()
    alpha = np.zeros(rgb.shape[:2], np.float32)
    alpha[200:] = 1
    red = np.full_like(rgb, (200, 30, 30))
    person = Person(Cutout(red, alpha), np.full_like(rgb, (10, 10, 90)))
    settings = dataclasses.replace(PLAIN, background=background, background_colour="#0a0a5a", cut_out=True)
    compositor = Compositor(OutputFormat(1280, 720))
    picture, transparency = compositor.compose_layers(rgb, settings, person, margins=margins)
    assert np.abs(picture[600, 5:960].astype(int) - (200, 30, 30)).max() <= 2
    assert np.abs(picture[200, 5:960].astype(int) - (10, 10, 90)).max() <= 2
    if transparency is not None:
        assert (transparency[600, 5:960] == 255).all()
        assert not transparency[200].any()
        assert not transparency[600, 1279]


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (640, 480), (642, 360)])
@pytest.mark.parametrize("portrait_size", [0.5, 0.93, 1.0, 1.7])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, -0.5), (-0.31, 0.47)])
def test_any_place_fits_any_output_with_what_is_around(
    size: tuple[int, int], portrait_size: float, shift: tuple[float, float]
) -> None:
    rgb, margins = surrounded_avatar()
    person = Person(Cutout(rgb, np.ones(rgb.shape[:2], np.float32)), rgb)
    placed = LiveSettings(portrait_size=portrait_size, portrait_x=shift[0], portrait_y=shift[1])
    for settings in (placed, dataclasses.replace(placed, cut_out=True, background="colour")):
        picture = Compositor(OutputFormat(*size)).compose(rgb, settings, person, margins=margins)
        assert picture.shape == (size[1], size[0], 3)


def test_a_person_whom_the_photograph_ends_fades_out_there_and_not_at_the_square() -> None:
    rgb, margins = surrounded_avatar()
    person = Person(Cutout(np.full_like(rgb, 250), np.ones(rgb.shape[:2], np.float32)), np.zeros_like(rgb))
    settings = dataclasses.replace(PLAIN, background_colour="#000000", cut_out=True)
    row = Compositor(OutputFormat(1280, 720)).compose(rgb, settings, person, margins=margins)[400, :, 0].astype(int)
    end = 1000 + round(60 * 720 / 256)  # of the photograph, on the right; on the left it goes beyond the picture
    assert (row[: end - round(0.19 * 720)] > 245).all()
    assert (np.diff(row[end - round(0.17 * 720) : end]) <= 0).all()
    assert row[end - 3] < 80
    assert not row[end + 2 :].any()
