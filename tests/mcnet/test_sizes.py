"""Pictures that are larger than the model's, by `mcnet animate --size` and by its drives."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from assets import ROOT as ASSETS
from mcnet.__main__ import main
from mcnet.arrays import Rgb
from mcnet.checkpoint import save_model
from mcnet.commands.animate_options import parse_one
from mcnet.commands.drives import PlaneDrive, Shot, SpaceDrive
from mcnet.commands.jobs import read_jobs
from mcnet.engine import Engine
from mcnet.generator import Mcnet
from mcnet.media.crop import SquareBox
from mcnet.media.faces import FaceFinder
from mcnet.media.fine_detail import FineDetail
from mcnet.media.head_motion import Head
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.retouch import Retouch

SMALL_PX, LARGE_PX = 256, 512


@pytest.fixture(scope="module")
def shots() -> tuple[Shot, Shot]:
    """A portrait and a performer."""
    with FaceFinder() as finder:
        pictures = [read_rgb(ASSETS / "portraits" / f"{name}.jpg") for name in ("woman_4", "man_2")]
        portrait, performer = (Shot(rgb, finder.find(rgb)[0], SquareBox(256, 256, 512), SMALL_PX) for rgb in pictures)
    return portrait, performer


def test_a_drive_in_the_plane_adds_detail(guided_engine: Engine, shots: tuple[Shot, Shot]) -> None:
    portrait, performer = shots
    assert guided_engine.config.size_px == SMALL_PX
    larger = replace(portrait, size_px=LARGE_PX).square
    drive = PlaneDrive(guided_engine, portrait, None, measured=True, adapt_scale=False, larger=larger)
    pictures = drive.pictures([performer, portrait])
    made, flow = guided_engine.render_with_flow(drive.keypoints([performer, portrait]))
    detail = FineDetail(portrait.square, larger)
    assert pictures.shape == (2, LARGE_PX, LARGE_PX, 3)
    for shown, rgb, deformation in zip(pictures, made, flow.deformation, strict=True):
        np.testing.assert_array_equal(shown, detail.added(rgb, deformation))
    with_flow, same_flow = drive.pictures_with_flow([performer, portrait])
    np.testing.assert_array_equal(with_flow, pictures)
    np.testing.assert_array_equal(same_flow.deformation, flow.deformation)


def test_in_space_what_is_drawn_is_drawn_in_the_larger_picture(guided_engine: Engine, shots: tuple[Shot, Shot]) -> None:
    portrait, performer = shots
    larger = replace(portrait, size_px=LARGE_PX).square
    plain = SpaceDrive(guided_engine, portrait, performer, retouch=False, larger=larger)
    without = plain.pictures([performer])[0]
    drawn = SpaceDrive(guided_engine, portrait, performer, larger=larger).pictures([performer])[0]
    head = Head.of(portrait.mesh())
    assert without.shape == drawn.shape == (LARGE_PX, LARGE_PX, 3)
    shown = plain._heads([performer])[0]
    np.testing.assert_array_equal(drawn, Retouch(larger, head).applied(without, shown))
    assert (drawn != without).any()


class Command:
    """`mcnet animate`, by two pictures of a performer."""

    def __init__(self, folder: Path, model: Mcnet) -> None:
        self.folder, self._model = folder, folder / "tiny.safetensors"
        save_model(model, self._model)
        (folder / "performer").mkdir()
        for index in range(2):
            write_rgb(folder / "performer" / f"{index}.png", read_rgb(ASSETS / "portraits" / "man_2.jpg"))

    def __call__(self, name: str, *options: str, source: str = "woman_4") -> list[Rgb]:
        files = ["--source", source, "--driving", str(self.folder / "performer"), "--output", str(self.folder / name)]
        how = ["--model", str(self._model), "--device", "cpu", "--precision", "fp32", "--backend", "torch"]
        assert main(["animate", *files, *how, "--no-content-credentials", *options]) == 0
        return [read_rgb(path) for path in sorted((self.folder / name).iterdir())]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, guided_model: Mcnet) -> Command:
    return Command(tmp_path_factory.mktemp("sizes"), guided_model)


def test_pictures_are_twice_the_models_where_the_portrait_has_the_pixels(command: Command) -> None:
    (first, _) = command("twice")
    assert first.shape == (LARGE_PX, LARGE_PX, 3)
    np.testing.assert_array_equal(first, command("said", "--size", str(LARGE_PX))[0])
    rgb = read_rgb(ASSETS / "portraits" / "woman_4.jpg")
    write_rgb(command.folder / "small.png", rgb[::2, ::2])
    (first, _) = command("small", source=str(command.folder / "small.png"))
    assert first.shape == (SMALL_PX, SMALL_PX, 3)


def test_everything_beside_the_picture_has_its_size(command: Command) -> None:
    sheet = command.folder / "sheet.png"
    (first, _) = command("beside", "--size", "300", "--side-by-side", "--contact-sheet", str(sheet))
    assert first.shape == (300, 900, 3)
    assert read_rgb(sheet).size
    (green, _) = command("green", "--size", "384", "--background", "green")
    assert green.shape == (384, 384, 3)
    assert tuple(green[8, 8]) == (0, 255, 0) or green[8, 8, 1] > 150 > green[8, 8, 0]


def test_what_cannot_be_had_is_said(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--source", "woman_4", "--driving", str(command.folder / "performer"), "--output"]
    assert main(["animate", *files, str(command.folder / "no"), "--size", "200"]) == 1
    said = capsys.readouterr().err
    assert "--size 200: the model makes pictures of 256 px; ask for that or more" in said
    assert not (command.folder / "no").exists()
    command("huge", "--size", "1000", "--max-frames", "1")
    said = capsys.readouterr().err
    assert "--size 1000: the portrait has " in said
    assert "px where the avatar is, and no detail beyond that" in said


def test_a_job_of_a_batch_may_have_its_own_size(tmp_path: Path) -> None:
    table = tmp_path / "jobs.csv"
    table.write_text("source,driving,output,size\nwoman_1,a.mp4,1.mp4,\nwoman_1,a.mp4,2.mp4,400\n", encoding="utf-8")
    jobs = read_jobs(table, ("--size", "300"), parse_one)
    assert [parse_one(job.arguments).size for job in jobs] == [300, 400]


def test_the_whole_picture_is_shown_where_it_is_asked_for(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """The portrait stands in the middle of a wide wall, of which the far left is beyond twice the square's side."""
    rgb = np.full((600, 4000, 3), (40, 90, 200), np.uint8)
    rgb[80:592, 2400:2912] = read_rgb(ASSETS / "portraits" / "woman_4.jpg")
    write_rgb(command.folder / "wall.png", rgb)
    wall, sheet = str(command.folder / "wall.png"), command.folder / "squares.png"
    (square, _) = command("square", source=wall)
    (whole, _) = command("whole", "--surroundings", "--contact-sheet", str(sheet), source=wall)
    height, width = whole.shape[:2]
    assert height % 2 == width % 2 == 0
    assert height == pytest.approx(600 * LARGE_PX / 500, rel=0.15)
    assert width > 4 * LARGE_PX
    assert (whole[60:, :100] == (40, 90, 200)).all()
    assert read_rgb(sheet).size
    # Where the network's picture is seen alone, it is the same.
    match = cv2.matchTemplate(whole, square[128:384, 128:384], cv2.TM_SQDIFF)
    assert match.min() == 0
    (green, _) = command("around_green", "--surroundings", "--background", "green", source=wall)
    assert green.shape == whole.shape
    assert (green[:, :100] == (0, 255, 0)).all()
    files = ["--source", wall, "--driving", str(command.folder / "performer"), "--output", str(command.folder / "no")]
    assert main(["animate", *files, "--surroundings", "--side-by-side"]) == 1
    assert "--surroundings: got --side-by-side too, which shows squares" in capsys.readouterr().err
