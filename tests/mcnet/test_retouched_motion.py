"""Retouched motion in space, by `mcnet animate` and by its drive: what is drawn, where, and when nothing is."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from assets import ROOT as ASSETS
from mcnet.__main__ import main
from mcnet.arrays import Rgb
from mcnet.checkpoint import save_model
from mcnet.commands.animate import perform_words
from mcnet.commands.animate_options import parse_one
from mcnet.commands.drives import Shot, SpaceDrive
from mcnet.commands.jobs import do, read_jobs
from mcnet.engine import Engine
from mcnet.generator import Mcnet
from mcnet.media.crop import SquareBox
from mcnet.media.faces import Face, FaceFinder
from mcnet.media.head_motion import Head, PortraitInSpace
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.motion_track import MotionTrack, save_track
from mcnet.mesh_points import INNER_LIPS
from tests.media.heads import changed, with_jaw_down

FULL = SquareBox(128, 128, 256)
EDGE_PX = 3
"""How far the soft edge of what is drawn reaches beyond the lips' ring."""


class Performed(NamedTuple):
    """A portrait with closed lips, another face with closed lips, and that face with its mouth wide open."""

    portrait: Shot
    closed: Shot
    wide: Shot


def wide_open(face: Face) -> Face:
    head = Head.of(face.landmarks_px.astype(np.float64))
    return Face(with_jaw_down(head, 0.5).mesh.astype(np.float32), face.presence, face.irises_px)


@pytest.fixture(scope="module")
def performed() -> Performed:
    with FaceFinder() as finder:
        squares = [read_rgb(ASSETS / "portraits" / f"{name}.jpg")[::2, ::2] for name in ("woman_4", "man_2")]
        portrait, closed = (Shot(rgb, finder.find(rgb)[0], FULL, 256) for rgb in squares)
    assert closed.face is not None
    return Performed(portrait, closed, Shot(closed.rgb, wide_open(closed.face), FULL, 256))


def around_the_lips(head: Head) -> NDArray[np.bool_]:
    """(256, 256): where the ring of the inner lips and its soft edge are."""
    ring = (head.mesh[list(INNER_LIPS), :2] + 1) * 255 / 2
    mask = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(mask, [np.round(ring).astype(np.int32)], 1)
    return cv2.dilate(mask, np.ones((2 * EDGE_PX + 1,) * 2, np.uint8)) > 0


def test_skin_is_drawn_on_the_face_alone(performed: Performed, guided_engine: Engine) -> None:
    portrait, closed, _ = performed
    alone, drawn = (
        SpaceDrive(guided_engine, portrait, closed, retouch=retouch).pictures([closed])[0] for retouch in (False, True)
    )
    on_face = changed(drawn, alone)
    in_space = PortraitInSpace(portrait.mesh(), guided_engine.keypoint_landmarks, linear=guided_engine.linear_jacobians)
    head = in_space.follow(Head.of(closed.mesh()), Head.of(closed.mesh()))
    places = ((head.mesh[:468, :2] + 1) * 255 / 2).astype(np.int32)
    hull = np.zeros((256, 256), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(places), 1)
    face = cv2.dilate(hull, np.ones((2 * EDGE_PX + 1,) * 2, np.uint8)) > 0
    assert not on_face[~face].any()
    assert on_face.sum() > 0.5 * face.sum()


@pytest.mark.usefixtures("without_skin")
def test_a_wide_open_mouth_is_drawn_inside_the_lips_alone(performed: Performed, guided_engine: Engine) -> None:
    portrait, closed, wide = performed
    plain = SpaceDrive(guided_engine, portrait, closed, retouch=False)
    alone = plain.pictures([closed, wide])
    assert np.array_equal(alone, guided_engine.render_batch(plain.keypoints([closed, wide]))), (
        "bit for bit the network's"
    )
    alone_with_flow, flow = plain.pictures_with_flow([closed, wide])

    drive = SpaceDrive(guided_engine, portrait, closed)
    retouched = drive.pictures([closed, wide])
    assert np.array_equal(retouched[0], alone[0]), "there is nothing to be drawn between closed lips"
    drawn = changed(retouched[1], alone[1])
    in_space = PortraitInSpace(portrait.mesh(), guided_engine.keypoint_landmarks, linear=guided_engine.linear_jacobians)
    lips = around_the_lips(in_space.follow(Head.of(wide.mesh()), Head.of(closed.mesh())))
    assert not (drawn & ~lips).any()
    assert drawn.sum() > 0.4 * lips.sum()

    with_flow, same_flow = drive.pictures_with_flow([closed, wide])
    assert np.array_equal(changed(with_flow, alone_with_flow).any(axis=(1, 2)), [False, True])
    assert not (changed(with_flow[1], alone_with_flow[1]) & ~lips).any()
    assert np.array_equal(same_flow.deformation, flow.deformation), "what cuts the person out is told as before"


def test_the_network_is_posed_by_one_head_and_its_picture_retouched_by_another(
    performed: Performed, guided_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is drawn is left out of what the network is asked for, and drawn where the head is to be shown."""
    portrait, closed, wide = performed
    shown: list[Head] = []

    class Recorder:
        def __init__(self, *_: object) -> None:
            pass

        def posed(self, head: Head, _: float) -> Head:
            return head._replace(shift=head.shift + 0.1)

        def applied(self, rgb: Rgb, head: Head, _: float) -> Rgb:
            shown.append(head)
            return rgb

    monkeypatch.setattr("mcnet.commands.drives.Retouch", Recorder)
    drive, plain = (
        SpaceDrive(guided_engine, portrait, closed),
        SpaceDrive(guided_engine, portrait, closed, retouch=False),
    )
    difference = drive.keypoints([wide]).value - plain.keypoints([wide]).value
    np.testing.assert_allclose(difference, 0.1, atol=1e-5)
    pictures, flows = drive.pictures([wide]), drive.pictures_with_flow([wide])[0]
    assert np.array_equal(pictures, guided_engine.render_batch(drive.keypoints([wide])))
    assert np.array_equal(flows, pictures)
    in_space = PortraitInSpace(portrait.mesh(), guided_engine.keypoint_landmarks, linear=guided_engine.linear_jacobians)
    expected = in_space.follow(Head.of(wide.mesh()), Head.of(closed.mesh()))
    for head in shown:
        np.testing.assert_allclose(head.mesh, expected.mesh)
    assert len(shown) == 2


@pytest.mark.usefixtures("without_skin")
def test_the_command_retouches_unless_it_is_told_not_to(
    performed: Performed, guided_model: Mcnet, tmp_path: Path
) -> None:
    """By a motion file, whose second frame opens the mouth wide; before a background and side by side, too."""
    assert performed.closed.face is not None
    assert performed.wide.face is not None
    save_model(guided_model, tmp_path / "tiny.safetensors")
    faces = [performed.closed.face, performed.wide.face]
    save_track(tmp_path / "motion.safetensors", MotionTrack(np.array([0.0, 0.04]), faces, (256, 256)))

    def pictures(name: str, *options: str) -> list[Rgb]:
        files = ["--source", "woman_4", "--driving", str(tmp_path / "motion.safetensors")]
        how = ["--model", str(tmp_path / "tiny.safetensors"), "--device", "cpu", "--precision", "fp32"]
        how += ["--backend", "torch", "--no-content-credentials", "--size", "256", "--output", str(tmp_path / name)]
        assert main(["animate", *files, *how, *options]) == 0
        return [read_rgb(path) for path in sorted((tmp_path / name).iterdir())]

    retouched, alone = pictures("retouched"), pictures("alone", "--no-retouch")
    assert np.array_equal(retouched[0], alone[0])
    drawn = changed(retouched[1], alone[1])
    assert 50 < drawn.sum() < 0.05 * drawn.size
    beside = pictures("beside", "--side-by-side")
    assert all(np.array_equal(wide[:, 512:], shown) for wide, shown in zip(beside, retouched, strict=True))
    before_green, alone_before_green = (
        pictures(f"green{option}", "--background", "green", *option.split()) for option in ("", "--no-retouch")
    )
    assert np.array_equal(before_green[0], alone_before_green[0])
    mouth = changed(before_green[1], alone_before_green[1])
    assert mouth.any()
    assert not (mouth & ~drawn).any()
    (tmp_path / "performer").mkdir()
    write_rgb(tmp_path / "performer" / "0.png", performed.closed.rgb)
    plane = ("--motion", "plane", "--driving", str(tmp_path / "performer"))
    in_the_plane = pictures("plane", *plane)
    assert np.array_equal(in_the_plane, pictures("same", *plane, "--no-retouch")), "no head is known to draw on"


class Failing:
    """Cannot draw a mouth, and has lids half open for what it would draw."""

    def __init__(self, *_: object) -> None: ...

    def posed(self, head: Head, _: float) -> Head:
        return head._replace(shift=head.shift + 0.1)

    def applied(self, rgb: Rgb, head: Head, _: float) -> Rgb:
        if head.openings.mouth > 0.2:
            raise MemoryError("no room for teeth")
        return np.zeros_like(rgb)


def test_where_drawing_fails_frames_are_the_network_s_and_the_next_ones_are_drawn(
    performed: Performed, guided_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    portrait, closed, wide = performed
    plain = SpaceDrive(guided_engine, portrait, closed, retouch=False)
    alone, (alone_with_flow, flow) = plain.pictures([closed, wide]), plain.pictures_with_flow([closed, wide])
    monkeypatch.setattr("mcnet.commands.drives.Retouch", Failing)
    drive = SpaceDrive(guided_engine, portrait, closed)
    assert not drive.pictures([closed]).any(), "drawn"
    assert drive.unretouched == (0, "")
    assert np.array_equal(drive.pictures([closed, wide]), alone), "bit for bit, as nothing is left to a drawing"
    assert drive.unretouched == (2, "MemoryError: no room for teeth")
    pictures, beside = drive.pictures_with_flow([closed, wide])
    assert np.array_equal(pictures, alone_with_flow)
    assert np.array_equal(beside.deformation, flow.deformation)
    assert not drive.pictures([closed]).any(), "tried again"
    assert drive.unretouched == (4, "MemoryError: no room for teeth")


def test_a_drawing_that_fails_ends_no_run_and_is_told_once_with_its_reason(
    performed: Performed,
    guided_model: Mcnet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The video is complete, and says what is missing in it; a batch says so of the job."""
    assert performed.closed.face is not None
    assert performed.wide.face is not None
    save_model(guided_model, tmp_path / "tiny.safetensors")
    faces = [performed.closed.face, performed.wide.face, performed.wide.face]
    save_track(tmp_path / "motion.safetensors", MotionTrack(np.arange(3) / 25, faces, (256, 256)))
    monkeypatch.setattr("mcnet.commands.drives.Retouch", Failing)
    how = ["--model", str(tmp_path / "tiny.safetensors"), "--device", "cpu", "--precision", "fp32", "--backend"]
    how += ["torch", "--no-content-credentials"]
    files = ["--source", "woman_4", "--driving", str(tmp_path / "motion.safetensors"), "--output"]
    assert main(["animate", *files, str(tmp_path / "one"), *how]) == 0
    said = "skin, teeth and shut lids are not drawn in 2 of 3 frames: MemoryError: no room for teeth"
    errors = capsys.readouterr().err
    assert f"{said}; they are as with --no-retouch" in errors
    assert errors.count("no room for teeth") == 1
    assert len(list((tmp_path / "one").iterdir())) == 3
    table = tmp_path / "jobs.csv"
    table.write_text("source,driving,output\nwoman_4,motion.safetensors,two\n", encoding="utf-8")
    (job,) = read_jobs(table, how, parse_one)
    outcome = do(job, perform_words)
    assert (outcome.state, outcome.frames, outcome.message) == ("done", 3, said)
    for one, two in zip(sorted((tmp_path / "one").iterdir()), sorted((tmp_path / "two").iterdir()), strict=True):
        assert np.array_equal(read_rgb(one), read_rgb(two))


def test_a_job_may_say_otherwise_than_the_batch(tmp_path: Path) -> None:
    table = tmp_path / "jobs.csv"
    rows = ("source,driving,output,retouch,no-retouch", "woman_1,a.mp4,1.mp4,,", "woman_1,a.mp4,2.mp4,yes,")
    table.write_text("\n".join((*rows, "woman_1,a.mp4,3.mp4,,yes")) + "\n", encoding="utf-8")
    for shared, wanted in (((), [True, True, False]), (("--no-retouch",), [False, True, False])):
        jobs = read_jobs(table, shared, parse_one)
        assert [parse_one(job.arguments).retouch for job in jobs] == wanted
        assert len({job.key for job in jobs}) == 3
