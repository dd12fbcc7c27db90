"""What was calibrated comes back for the same performer before the same camera, and for nobody else."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from app.pipeline.animation.animator import Animator
from app.pipeline.animation.kept_arrays import read_arrays, write_arrays
from app.pipeline.animation.reference_store import ReferenceStore, Setup
from app.pipeline.capture.camera_frame import CameraFrame
from app.pipeline.events import Calibrated, Event, ReferenceImproved
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.pipeline import Pipeline
from app.pipeline.portraits import Portrait, PortraitStore, load_portrait
from app.pipeline.state import State
from app.settings import LiveSettings
from mcnet.arrays import Rgb
from mcnet.media.faces import Face
from mcnet.phrases import Phrase, packed, phrase
from tests.app.fakes import FakeEngine, FakeFinder, marked_picture

SETTINGS = LiveSettings(calibration_s=0.2, smoothing=0.0)
PLANE = dataclasses.replace(SETTINGS, motion="plane")
POINTS = (33, 263, 13, 14, 152)


class Run:
    """One run of the app, as far as calibration goes."""

    def __init__(self, folder: Path, face: Face, portrait: Portrait, *, model: str = "fake/1", identity: str = "cam"):
        self.engine = FakeEngine()
        self.engine.keypoint_landmarks, self.engine.fingerprint = POINTS, model
        self.finder = FakeFinder(face)
        self.events: list[Event] = []
        store = ReferenceStore(folder)
        self.animator = Animator(self.engine, self.events.append, lambda *_: None, finder=self.finder, references=store)
        self.animator.set_portrait(portrait)
        self.identity = identity
        self.frames = 0

    def step(self, settings: LiveSettings = SETTINGS, rgb: Rgb | None = None) -> State:
        self.frames += 1
        now_s = 100 + 0.04 * self.frames
        picture = marked_picture() if rgb is None else rgb
        step = self.animator.step(CameraFrame(self.frames, now_s, picture, "one", self.identity), now_s, settings)
        assert step.output is not None
        return step.output.state

    def until_live(self, settings: LiveSettings = SETTINGS) -> int:
        """How many frames the slate was shown for."""
        before = self.frames
        while self.step(settings) is not State.LIVE:
            assert self.frames < before + 100
        return self.frames - before - 1

    @property
    def calibrated(self) -> list[bool]:
        """Of each reference that was taken, whether it was a kept one."""
        return [event.kept for event in self.events if isinstance(event, Calibrated)]


@pytest.fixture(scope="module")
def man() -> Portrait:
    return load_portrait("man_3", PortraitStore(Path("nowhere")))


def face_of(portrait: Portrait) -> Face:
    """Where the fixture `face` has the woman's."""
    assert portrait.landmarks_px is not None
    landmarks = portrait.landmarks_px.copy()
    landmarks *= 200 / np.ptp(landmarks[:, 1])
    landmarks[:, :2] += np.array([320, 240], np.float32) - landmarks[:, :2].mean(axis=0)
    return Face(landmarks, 1.0)


def test_the_next_run_begins_live(tmp_path: Path, face: Face, woman: Portrait) -> None:
    first = Run(tmp_path, face, woman)
    assert first.until_live() > 2
    second = Run(tmp_path, face, woman)
    assert second.until_live() == 0
    assert (first.calibrated, second.calibrated) == ([False], [True])
    told = [next(event for event in run.events if isinstance(event, Calibrated)) for run in (first, second)]
    assert told[1] == dataclasses.replace(told[0], kept=True)
    np.testing.assert_allclose(second.engine.rendered[-1].value, first.engine.rendered[-1].value, atol=1e-4)


def test_its_remarks_can_still_be_said_in_another_language(tmp_path: Path, face: Face, woman: Portrait) -> None:
    run, store = Run(tmp_path, face, woman), ReferenceStore(tmp_path)
    run.until_live()
    setup = Setup("cam", marked_picture().shape, True, True, woman.square, run.engine.fingerprint)
    kept = store.load(setup)
    assert kept is not None
    remark = phrase("the eyes are {n} % open: {advice}", n=30, advice=phrase("open them"))
    store.save(setup, kept._replace(remarks=(remark, "as an older app kept it")))
    run = Run(tmp_path, face, woman)
    run.until_live()
    (told,) = (event for event in run.events if isinstance(event, Calibrated))
    assert told.remarks == (remark, "as an older app kept it")
    assert isinstance(told.remarks[0], Phrase)
    assert packed(told.remarks[0]) == packed(remark)


def test_in_space_it_serves_every_portrait_and_model(
    tmp_path: Path, face: Face, woman: Portrait, man: Portrait
) -> None:
    Run(tmp_path, face, woman).until_live()
    other = Run(tmp_path, face, man, model="other/1")
    assert other.until_live() == 0
    assert other.until_live(PLANE) > 0, "its keypoints are another model's, so that the plane calibrates anew"
    assert other.calibrated == [True, False]


def test_in_the_plane_it_comes_back_with_its_portrait(
    tmp_path: Path, face: Face, woman: Portrait, man: Portrait
) -> None:
    run = Run(tmp_path, face, woman)
    run.until_live(PLANE)
    hers = run.animator._references.reference
    run.animator.set_portrait(man)
    assert run.step(PLANE) is State.LIVE, "without one of its own, the reference of before goes on"
    run.animator.calibrate(0.0)
    run.step(PLANE)
    assert run.calibrated == [False, False]
    run.animator.set_portrait(woman)
    assert run.step(PLANE) is State.LIVE
    assert run.calibrated == [False, False, True]
    assert hers is not None
    assert run.animator._references.reference is not None
    np.testing.assert_allclose(run.animator._references.reference.pose.value, hers.pose.value, atol=1e-6)
    assert Run(tmp_path, face, woman, model="other/1").until_live(PLANE) > 0, "keypoints are the model's"


@pytest.mark.parametrize("change", ["camera", "unknown camera", "size", "performer", "mode"])
def test_in_any_other_setup_it_is_taken_anew(
    tmp_path: Path, face: Face, woman: Portrait, man: Portrait, change: str
) -> None:
    Run(tmp_path, face, woman, identity="" if change == "unknown camera" else "cam").until_live()
    identity = {"camera": "other", "unknown camera": ""}.get(change, "cam")
    second = Run(tmp_path, face_of(man) if change == "performer" else face, woman, identity=identity)
    rgb = marked_picture(480, 848) if change == "size" else None
    assert second.step(PLANE if change == "mode" else SETTINGS, rgb) is State.CALIBRATING
    assert second.calibrated == []


def test_who_asks_for_a_calibration_gets_another_one(tmp_path: Path, face: Face, woman: Portrait) -> None:
    run = Run(tmp_path, face, woman)
    run.until_live()
    run.animator.calibrate(0.1)
    for _ in range(10):
        run.step()
    assert run.calibrated == [False, False]


def test_a_better_expression_is_kept_too(tmp_path: Path, face: Face, woman: Portrait) -> None:
    speaking = face.landmarks_px.copy()
    speaking[[14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377], 1] += 0.12 * np.ptp(speaking[:, 1])
    run = Run(tmp_path, Face(speaking, 1.0), woman)
    run.until_live()
    run.finder.face = face
    for _ in range(10):
        run.step()
    assert any(isinstance(event, ReferenceImproved) for event in run.events)
    again = Run(tmp_path, face, woman)
    assert again.until_live() == 0
    kept = again.animator._references.reference
    assert kept is not None
    assert kept.head is not None
    assert kept.head.openings.mouth < 0.1


def test_a_better_expression_after_another_model_came_is_kept_as_the_first_ones(
    tmp_path: Path, face: Face, woman: Portrait
) -> None:
    """The expression serves the other model, and the keypoints do not: the plane begins with its own."""
    speaking = face.landmarks_px.copy()
    speaking[[14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377], 1] += 0.12 * np.ptp(speaking[:, 1])
    run, other = Run(tmp_path / "run", Face(speaking, 1.0), woman), FakeEngine()
    run.until_live()
    other.keypoint_landmarks, other.fingerprint = POINTS, "other/1"
    holds: list[bool] = []
    run.animator.use_engine(other, holds.append)
    run.finder.face = face
    for _ in range(10):
        run.step()
    assert holds == [True]
    assert any(isinstance(event, ReferenceImproved) for event in run.events)
    for model, anew in (("other/1", True), ("fake/1", False)):
        shutil.copytree(tmp_path / "run", tmp_path / model)
        again = Run(tmp_path / model, face, woman, model=model)
        assert again.until_live() == 0
        assert (again.step(PLANE) is State.CALIBRATING) == anew
        assert again.calibrated == [True]
    run.animator.use_engine(run.engine, holds.append)
    assert run.step(PLANE) is State.LIVE, "it is the first model's own"


def test_a_better_expression_of_somebody_else_is_neither_taken_nor_kept(
    tmp_path: Path, face: Face, woman: Portrait, man: Portrait
) -> None:
    speaking = face.landmarks_px.copy()
    speaking[[14, 87, 317, 178, 402, 88, 318, 95, 324, 17, 152, 148, 377], 1] += 0.12 * np.ptp(speaking[:, 1])
    run = Run(tmp_path, Face(speaking, 1.0), woman)
    run.until_live()
    run.step()
    (file,) = tmp_path.iterdir()
    hers, kept = run.animator._references.reference, file.read_bytes()
    run.finder.face = face_of(man)
    for _ in range(30):
        run.step()
    assert run.animator._references.reference is hers
    assert file.read_bytes() == kept
    run.finder.face = face
    for _ in range(30):
        run.step()
    assert any(isinstance(event, ReferenceImproved) for event in run.events), "she is back"


def test_switched_off_nothing_is_kept_and_what_was_is_deleted(tmp_path: Path, face: Face, woman: Portrait) -> None:
    Run(tmp_path, face, woman).until_live()
    (file,) = tmp_path.iterdir()
    if os.name != "nt":
        assert file.stat().st_mode & 0o777 == 0o600
    off = Run(tmp_path, face, woman)
    assert off.until_live(dataclasses.replace(SETTINGS, remember_calibration=False)) > 2
    assert list(tmp_path.iterdir()) == []


def test_it_is_deleted_without_a_frame(tmp_path: Path, face: Face, woman: Portrait) -> None:
    """The camera gives none, or the pipeline does not run at all."""
    off = dataclasses.replace(SETTINGS, remember_calibration=False)
    run = Run(tmp_path, face, woman)
    run.until_live()
    run.animator.step(None, 999.0, off)
    assert list(tmp_path.iterdir()) == []
    Run(tmp_path, face, woman).until_live()
    output = OutputFormat(64, 64)
    pipeline = Pipeline(lambda: run.engine, settings=SETTINGS, output=output, on_event=print, references=tmp_path)
    pipeline.update(SETTINGS)
    assert len(list(tmp_path.iterdir())) == 1
    pipeline.update(off)
    assert list(tmp_path.iterdir()) == []


TENSORS = {
    "shape": ("shape", np.zeros((100, 3), np.float32)),
    "nan": ("shape", np.full((468, 3), np.nan, np.float32)),
    "no size": ("scale", np.zeros(1, np.float32)),
    "a negative size": ("scale", -np.ones(1, np.float32)),
    "not a size": ("scale", np.full(1, np.nan, np.float32)),
    "empty size": ("scale", np.zeros(0, np.float32)),
    "two sizes": ("scale", np.ones(2, np.float32)),
    "no rotation": ("rotation", np.zeros((3, 3), np.float32)),
    "a stretch": ("rotation", 1.1 * np.eye(3, dtype=np.float32)),
    "a mirror": ("rotation", np.diag([1, 1, -1]).astype(np.float32)),
}
TOLD: dict[str, dict[str, Any]] = {
    "version": {"version": "9"},
    "remarks": {"remarks": [{"template": "{x}"}]},
    "score": {"score": "90"},
}


@pytest.mark.parametrize("damage", ["cut", "zeros", "without a hash", "folder", *TENSORS, *TOLD])
def test_a_damaged_file_is_made_anew(tmp_path: Path, face: Face, woman: Portrait, damage: str) -> None:
    Run(tmp_path, face, woman).until_live()
    (file,) = tmp_path.iterdir()
    whole, (tensors, told) = file.read_bytes(), read_arrays(file)
    if damage == "cut":
        file.write_bytes(whole[:200])
    elif damage == "zeros":
        file.write_bytes(whole[:2000] + bytes(len(whole) - 2000))
    elif damage == "without a hash":
        save_file(tensors, file, {"told": json.dumps(told)})
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        name, tensor = TENSORS.get(damage, ("scale", tensors["scale"]))
        write_arrays(file, tensors | {name: tensor}, told | TOLD.get(damage, {}))
    again = Run(tmp_path, face, woman)
    assert again.until_live() > 2
    assert again.calibrated == [False]
