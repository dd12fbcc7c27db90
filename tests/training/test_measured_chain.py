"""A model of measured keypoints through everything: fit, export, animate, evaluate, and the app without a window."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.__main__ import main as app
from assets import ROOT
from mcnet.__main__ import main as mcnet
from mcnet.checkpoint import load_model
from mcnet.media.crop import crop, frame_face
from mcnet.media.faces import FaceFinder
from mcnet.media.images import write_rgb
from mcnet.media.video import open_driving
from tests.training.conftest import write_video
from training.__main__ import main as train
from training.data import CLIPS_FORMAT, Clip, ClipTable, Landmarks, write_landmarks, write_table
from training.landmarks import KEYPOINT_GROUPS, TRAINING_POINTS

GRID = ROOT / "driving" / "grid_bbaf2n.mpg"
FRAMES = 24
PUPILS_AND_RIGID = ("face", "rigid", "pupils")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled clip, whose labels are made up until `relabel` measures them, and a portrait."""
    folder = tmp_path_factory.mktemp("chain") / "clips"
    folder.mkdir()
    shown = list(open_driving(GRID))[:FRAMES]
    with FaceFinder() as finder:
        box = frame_face(finder.find(shown[0])[0])
    write_video(folder / "grid.mp4", [crop(rgb, box, 256) for rgb in shown])
    table = ClipTable(256, (Clip("grid.mp4", "speaker", "train", FRAMES, licence="CC BY 4.0"),))
    write_table(folder / "clips.json", CLIPS_FORMAT, table)
    nothing = np.zeros((FRAMES, len(TRAINING_POINTS), 2), np.float16)
    write_landmarks(folder / "landmarks.npz", Landmarks(np.array(TRAINING_POINTS), nothing, np.zeros(FRAMES, bool)))
    return folder


def test_a_measured_model_goes_through_everything(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert train(["relabel", str(clips)]) == 0
    named = json.dumps(list(PUPILS_AND_RIGID))
    count = sum(len(KEYPOINT_GROUPS[name]) for name in PUPILS_AND_RIGID)
    values = {
        "model.num_keypoints": count,
        "data.keypoints": "measured",
        "data.keypoint_points": named,
        "data.keypoint_jacobians": "rotation",
        "data.detected_share": 0.0,
        "loss.guidance": 0.0,
        "loss.guidance_late": 0.0,
        "loss.perceptual": 0.0,
        "loss.gan": 0.0,
        "motion.steps": 4,
        "motion.batch": 2,
        "full.steps": 2,
        "log.sheet_every": 0,
        "log.tensorboard": "false",
    }
    options = [f"--set={key}={value}" for key, value in values.items()]
    assert train(["fit", "smoke", "--data", str(clips), "--run-dir", "run", *options]) == 0
    assert train(["export", "run", "mine.safetensors"]) == 0
    model = load_model("mine.safetensors")
    assert model.info.keypoint_landmarks == tuple(point for name in PUPILS_AND_RIGID for point in KEYPOINT_GROUPS[name])
    assert model.info.keypoint_jacobians == "rotation"
    assert not model.info.detects
    assert model.places_suffice
    assert model.info.ranges

    # From here on nobody has a detector.
    def refuse(*_: object) -> None:
        raise AssertionError("the detector was asked")

    monkeypatch.setattr("mcnet.keypoints.KeypointDetector.forward", refuse)
    common = [
        "animate",
        "--source",
        "woman_1",
        "--driving",
        str(GRID),
        "--model",
        "mine.safetensors",
        "--device",
        "cpu",
    ]
    common += ["--precision", "fp32", "--backend", "torch", "--max-frames", "4"]
    for motion in ("space", "plane"):
        assert mcnet([*common, "--motion", motion, "--output", f"{motion}.mp4"]) == 0
        frames = list(open_driving(Path(f"{motion}.mp4")))
        assert len(frames) == 4
        assert np.ptp(np.stack(frames).astype(int), axis=0).max() > 0  # something moves
    capsys.readouterr()
    assert mcnet([*common, "--keypoints", "detected", "--output", "no.mp4"]) == 1
    assert "was trained on measured keypoints only and cannot detect any" in capsys.readouterr().err
    write_rgb(tmp_path / "blank.png", np.full((300, 300, 3), 90, np.uint8))
    faceless = [*common, "--no-crop", "--output", "no.mp4"]
    faceless[faceless.index("woman_1")] = "blank.png"
    assert mcnet(faceless) == 1
    assert "no face in the portrait: model mine was trained on measured keypoints only" in capsys.readouterr().err
    assert not Path("no.mp4").exists()
    for motion in ("space", "plane"):
        watched = ["--headless", "--camera", str(GRID), "--source", "woman_1", "--model", "mine.safetensors"]
        watched += ["--device", "cpu", "--precision", "fp32", "--motion", motion, "--calibration-s", "0"]
        watched += ["--frames", "12", "--size", "640x360", "--give-up-s", "120", "--report", f"{motion}.json"]
        assert app(watched) == 0
        report = json.loads(Path(f"{motion}.json").read_text(encoding="utf-8"))
        assert report["model"] == "mine"
        assert report["frames_out"] >= 12
        assert "live" in {state["state"] for state in report["states"]}
        assert {"face", "render"} <= set(report["stage_ms"])
        assert {"detect", "crop"}.isdisjoint(report["stage_ms"])
