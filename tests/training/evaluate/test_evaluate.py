import argparse
import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch

from assets import ROOT as ASSETS
from mcnet.arrays import Rgb
from mcnet.checkpoint import load_model
from mcnet.commands.drives import Shot
from mcnet.commands.outputs import OutputError
from mcnet.config import McnetConfig
from mcnet.engine import EngineError
from mcnet.generator import Mcnet
from mcnet.media.crop import SquareBox, crop, frame_face, plan_crops
from mcnet.media.expressions import Expression, Mesh
from mcnet.media.faces import FaceFinder
from mcnet.media.head_motion import Head
from mcnet.media.images import read_rgb, write_rgb
from mcnet.media.video import open_driving
from mcnet.media.video_writer import VideoWriter
from mcnet.mesh_points import LIP_PAIRS
from mcnet.model_file import ModelInfo
from tests.media.heads import with_jaw_down
from tests.training.conftest import SIZE_PX, tiny_config
from training.data import (
    CLIPS_FORMAT,
    PACKED_FORMAT,
    PHOTOS,
    Clip,
    ClipTable,
    DataError,
    Landmarks,
    write_landmarks,
    write_table,
)
from training.evaluate import command as command
from training.evaluate import jitter
from training.evaluate.evaluation import (
    ClipStore,
    choose_clips,
    driving_frames,
    evaluate,
    make_engine,
    pictures_of,
    plan_cross_pairs,
    self_pairs,
)
from training.evaluate.iris import Eyes
from training.evaluate.jitter import _restlessness, _shifted
from training.evaluate.methods import MethodRunner
from training.evaluate.metric_networks import ALEXNET_URL, AlexNet, Lpips, MetricNetworks, open_metric_networks
from training.evaluate.metrics import Regions, picture_l1
from training.evaluate.options import EvaluateError, EvaluateOptions
from training.evaluate.references import choose_reference, reference_candidates
from training.evaluate.report import format_table, to_json
from training.evaluate.scores import (
    DISTORTED,
    EyesAsked,
    Pair,
    PairResult,
    Score,
    Seen,
    Still,
    result_of,
    score,
    summarise,
)

NO_NETWORKS = MetricNetworks(None, None, None, None, None, None, ())
METHODS = ("model", "warp", "copy")
FRAMES = (0, 6, 12, 18, 24, 43)  # the last one is a blink


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clips: six frames of the bundled GRID clip, two portraits, and a clip that lost its end."""
    folder = tmp_path_factory.mktemp("grid")
    driving = open_driving(ASSETS / "driving" / "grid_bbaf2n.mpg")
    chosen = [frame for number, frame in enumerate(driving) if number in FRAMES]
    with FaceFinder() as finder:
        boxes = plan_crops([finder.find(frame)[0] for frame in chosen], 25)
        for name in ("man_1", "woman_2"):
            rgb = read_rgb(ASSETS / "portraits" / f"{name}.jpg")
            write_rgb(folder / f"{name}.png", crop(rgb, frame_face(finder.find(rgb)[0]), 256))
    for name in ("grid.mp4", "torn.mp4"):
        with VideoWriter(str(folder / name), 25, (256, 256)) as writer:
            for frame in chosen:
                writer.write(crop(frame, boxes[0], 256))
    clips = (
        Clip("grid.mp4", "s1", "test", len(FRAMES)),
        Clip("torn.mp4", "s2", "test", 40),
        Clip("man_1.png", "", "test", 1),
        Clip("woman_2.png", "", "test", 1),
    )
    write_table(folder / "clips.json", CLIPS_FORMAT, ClipTable(256, clips))
    return folder


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    options = parser.parse_args(["evaluate", *arguments])
    status: int = options.run_command(options)
    return status


def tiny_model() -> Mcnet:
    torch.manual_seed(0)
    return Mcnet(McnetConfig.named("tiny"), ModelInfo(name="tiny")).eval()


@pytest.fixture(autouse=True)
def _few_still_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jitter, "JITTER_FRAMES", 2)  # how restless a still performer is takes long to see


def test_the_starter_on_a_real_clip(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """End to end: table, JSON and sheet, with baselines and with what is missing named."""
    places = ["--json", str(tmp_path / "out.json"), "--sheet", str(tmp_path / "out.png")]
    some = ["--frames-per-clip", "3", "--precision", "fp32", "--reference", "first", "speaking"]
    assert run("starter", str(grid), *some, *places) == 0
    table = capsys.readouterr().out
    assert "split test: 1 clips of 1 people at 256 px" in table
    assert "self-reenactment, 3 pairs" in table
    assert "cross-identity, first reference, 3 pairs" in table
    assert "cross-identity, speaking reference, 3 pairs" in table
    assert "shut eyes shown shut, of 1 frames" in table
    assert "open eyes shown open, of 2 frames" in table
    assert "LPIPS is left out: " in table
    assert "Left out: torn.mp4: got no frame 39, expected 40 frames" in table
    assert "FID is left out: it needs 2048 pictures at least, got 6" in table

    values = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    frames = ClipStore(grid).read(0, range(6))
    of_self, of_cross = values["self"], values["cross"]
    assert list(of_self) == ["measured", "detected", "warp", "copy"]
    assert list(of_cross) == ["first", "speaking"]
    assert all(list(figures) == ["space", "unretouched", "plane", "copy"] for figures in of_cross.values())
    blend = values["blend"]
    assert blend["pairs"] == 3
    assert blend["better"] < min(blend["warped"], blend["generated"])
    assert blend["gap"] == pytest.approx(blend["blended"] - blend["better"], abs=1e-5)
    assert blend["blended"] == pytest.approx(of_self["measured"]["l1_of_copying"], abs=0.01)
    assert "the better of both in each neighbourhood of 9x9 px" in table
    (of_clip,) = values["self_clips"]
    assert of_clip["clip"] == "grid.mp4"
    assert of_clip["figures"]["l1"] == of_self["measured"]["l1"]
    assert of_clip["blend"] == blend
    assert values["worst_clips"]["akd_of_copying"] == [
        {"clip": "grid.mp4", "value": of_self["measured"]["akd_of_copying"]}
    ]
    assert "worst of" not in table, "there is one clip only"
    bars = {bar["figure"]: bar for bar in values["bars"]}
    assert (bars["l1_of_copying"]["bar"], bars["l1_of_copying"]["at_most"]) == (0.54, True)
    assert bars["shut_shown"]["value"] == of_self["measured"]["shut_shown"]
    assert "bars for its test split (these figures are of 1 of its 2 clips)" in table, "the torn clip is missing"
    copied = [picture_l1(frames[0], frames[frame]) for frame in driving_frames(6, 3)]
    assert of_self["copy"]["l1"] == pytest.approx(np.mean(copied), rel=1e-4)
    assert of_self["copy"]["l1_of_copying"] == 1
    assert of_self["copy"]["mouth_correlation"] is None
    for method in ("measured", "detected"):
        assert of_self[method]["akd_of_copying"] < 0.9, "the starter follows the head"
        assert 0 < of_self[method]["angle_deg"] < of_self["copy"]["angle_deg"] < 20
        assert of_self[method]["pairs"] == of_self[method]["complete"] == 3
        assert 0 < values["jitter"][method]["keypoints_px"] < 2
        assert values["engine_ms"][method]["median"] > 0
        assert 0.2 < of_self[method]["sharpness"] < 1.2
        assert 0 < of_self[method]["mouth_akd"] < of_self["copy"]["mouth_akd"]
        assert 0 < of_self[method]["brows_expression_error"] < 0.2
    assert of_self["measured"]["l1"] != of_self["detected"]["l1"]
    assert of_self["copy"]["distorted"] == 0
    assert of_self["measured"]["lids_error"] > 0
    assert of_self["copy"]["direction_angle_deg"] == pytest.approx(of_self["copy"]["angle_deg"], abs=0.3), "one person"
    if "Identity (AED, CSIM, leakage) is left out" not in table:  # the `eval` extra is installed
        assert of_self["measured"]["csim_performer"] > 0.9
        assert of_cross["first"]["copy"]["csim_source"] == pytest.approx(1)
        assert of_cross["first"]["space"]["csim_source"] > 0.9 > of_cross["first"]["copy"]["csim_performer"]
    assert "l1" not in {name for name, value in of_cross["first"]["space"].items() if value is not None}
    for kind, pairs in values["cross_pairs"].items():
        assert {pair["source"][0] for pair in pairs} <= {"man_1.png", "woman_2.png"}
        assert len({pair["reference"][1] for pair in pairs}) == 1
        assert (pairs[0]["reference"][1] == 0) == (kind == "first")
        assert of_cross[kind]["space"]["direction_angle_deg"] < of_cross[kind]["copy"]["direction_angle_deg"]
        assert pairs[0]["eyes"]["performer"]["opening"] > 0.15 > 0.1 > pairs[2]["eyes"]["performer"]["opening"]
    assert set(values["engine_ms"]) == {"measured", "detected", "space", "unretouched", "plane"}
    assert "unretouched: the same, by the network alone" in table
    assert str(grid) not in (tmp_path / "out.json").read_text(encoding="utf-8")
    # Three blocks of three rows: words, then source, performer and three methods, or source, reference, performer and
    # three.
    assert read_rgb(tmp_path / "out.png").shape == (3 * (26 + 3 * 260), 4 + 7 * 260, 3)


def test_a_sheets_rows_show_what_each_shows_alone(
    guided: MethodRunner, grid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one of them has no face: it holds its own source's picture, not that of the row before."""
    store = ClipStore(grid)
    faceless = store.read(0, [3])[3]
    for pairs in (
        [Pair(Still(0, 0), Still(0, 0), Still(0, frame)) for frame in (2, 3, 4, 2)],
        [Pair(Still(2, 0), Still(0, 1), Still(0, frame)) for frame in (2, 3, 4)],
    ):
        with FaceFinder() as finder:
            find = finder.find
            monkeypatch.setattr(finder, "find", lambda rgb: [] if np.array_equal(rgb, faceless) else find(rgb))  # noqa: B023
            together = pictures_of(store, pairs, guided, finder)
            assert list(together) == list(dict.fromkeys(pairs))
            for pair, shown in together.items():
                alone = pictures_of(store, [pair], guided, finder)[pair]
                assert list(shown) == list(alone)
                for name, rgb in shown.items():
                    assert np.array_equal(rgb, alone[name]), (pair, name)
        method = guided.methods(of_self=not pairs[0].relative)[0]
        assert np.array_equal(together[pairs[1]][method], together[pairs[1]]["source"])
        assert not np.array_equal(together[pairs[0]][method], together[pairs[0]]["source"])


def test_a_model_whose_keypoints_mean_nothing_is_judged_by_its_detector_alone(grid: Path) -> None:
    options = EvaluateOptions(frames_per_clip=2, device="cpu", precision="fp32", references=("neutral",))
    result = evaluate(tiny_model(), grid, options)
    assert tuple(result.of_self.figures) == tuple(result.of_cross["neutral"].figures) == METHODS
    assert tuple(result.jitter) == tuple(result.engine_ms) == ("model",)
    table = format_table(result, "tiny", "test").replace("measured in space", "").replace("not measured", "")
    assert "measured" not in table
    assert not any(note.startswith("Measured keypoints") for note in result.notes)


@pytest.fixture(scope="module")
def guided() -> MethodRunner:
    """Of a model that knows nothing, but whose keypoints are said to lie on the face."""
    model = tiny_model()
    points = [334, 105, 386, 374, 159, 145, 1, 291, 61, 13, 14, 152, 454, 234, 10][: model.config.num_keypoints]
    model.info = ModelInfo(name="tiny", training={"loss": {"guidance": 1.0, "guidance_points": points}})
    return MethodRunner(model, make_engine(model, EvaluateOptions(device="cpu", precision="fp32")))


def test_a_frame_without_a_face_holds_the_picture_before(guided: MethodRunner, shots: list[Shot]) -> None:
    source, performer = shots
    faceless = dataclasses.replace(performer, face=None)
    before = guided.held
    shown = [each.rgb for each in guided.perform("measured", source, None, [faceless, performer, faceless])]
    assert np.array_equal(shown[0], source.square)
    assert not np.array_equal(shown[1], source.square)
    assert np.array_equal(shown[1], shown[2])
    assert guided.held == before + 2
    list(guided.perform("detected", source, None, [faceless]))
    assert guided.held == before + 2, "who detects needs no face"


@pytest.mark.parametrize("lacking", ["source", "reference"])
def test_where_no_face_can_be_measured_keypoints_are_detected(
    guided: MethodRunner, shots: list[Shot], lacking: str
) -> None:
    source, performer = (dataclasses.replace(shot, face=None) if lacking == "source" else shot for shot in shots)
    reference = None if lacking == "source" else dataclasses.replace(performer, face=None)
    before = guided.detected_instead
    measured, detected = (
        next(guided.perform(method, source, reference, [performer])).rgb for method in ("measured", "detected")
    )
    assert np.array_equal(measured, detected)
    assert guided.detected_instead == before + 1


def test_what_people_get_in_space_stands_beside_the_network_alone(
    guided: MethodRunner, shots: list[Shot], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, closed = shots
    assert closed.face is not None
    head = Head.of(closed.face.landmarks_px.astype(np.float64))
    wide_open = dataclasses.replace(closed.face, landmarks_px=with_jaw_down(head, 0.5).mesh.astype(np.float32))
    performers = [closed, dataclasses.replace(closed, face=wide_open), dataclasses.replace(closed, face=None)]
    assert guided.methods(of_self=False) == ("space", "unretouched", "plane", "copy")
    space, alone = (
        [each.rgb for each in guided.perform(method, source, closed, performers)] for method in ("space", "unretouched")
    )
    assert not np.array_equal(space[0], alone[0])
    assert not np.array_equal(space[1], alone[1])
    assert np.array_equal(space[2], space[1]), "held"
    assert guided.unretouched == (0, "")
    with monkeypatch.context() as broken:
        broken.setattr("mcnet.media.mouth.MouthInterior.drawn", lambda *_: 1 // 0)
        failed = [each.rgb for each in guided.perform("space", source, closed, performers)]
    assert np.array_equal(failed, [*alone[:2], alone[1]])
    assert guided.unretouched == (2, "ZeroDivisionError: integer division or modulo by zero"), "and is told of"
    faceless = dataclasses.replace(source, face=None)
    instead = [
        next(guided.perform(method, faceless, closed, performers[1:2])).rgb for method in ("space", "unretouched")
    ]
    assert np.array_equal(instead[0], instead[1]), "by detected keypoints nothing is drawn"


def test_the_warp_is_that_of_measured_keypoints(guided: MethodRunner, shots: list[Shot]) -> None:
    source, performer = shots
    warped = next(guided.perform("warp", source, None, [performer]))
    assert warped.engine_ms is None
    plain = guided.plain
    expected = plain.warp(plain.encode(source, measured=True), plain.keypoints(performer, measured=True))
    assert np.array_equal(warped.rgb, expected)
    detected = plain.warp(plain.encode(source, measured=False), plain.keypoints(performer, measured=False))
    assert not np.array_equal(warped.rgb, detected)


def test_a_model_that_cannot_detect_is_never_asked_to(shots: list[Shot], monkeypatch: pytest.MonkeyPatch) -> None:
    source, performer = shots
    model = tiny_model()
    points = [33, 263, 168, 10, 4, *range(5, 100)][: model.config.num_keypoints]
    stated = {"points": points, "jacobians": "rotation", "detected_share": 0.0}
    model.info = ModelInfo(name="tiny", training={"keypoints": stated})
    runner = MethodRunner(model, make_engine(model, EvaluateOptions(device="cpu", precision="fp32")))
    assert runner.methods(of_self=True) == ("measured", "warp", "copy")
    assert runner.still_methods == ("measured",)
    asked: list[object] = []
    monkeypatch.setattr(runner.engine.backend, "detect", asked.append)
    for reference in (None, performer):
        shown = next(runner.perform("measured", source, reference, [performer])).rgb
        assert shown.shape == source.square.shape
    assert not asked
    # Jacobians that follow from the places stand in the plain model's motion too.
    keypoints = runner.plain.keypoints(performer, measured=True)
    assert torch.equal(keypoints.jacobian[:, :1].expand_as(keypoints.jacobian), keypoints.jacobian)
    found = runner.engine.detect(None, performer.mesh()[points, :2])
    for plain, engines in zip(keypoints, found, strict=True):
        np.testing.assert_allclose(plain.numpy(), engines, rtol=1e-6, atol=1e-6)
    faceless = dataclasses.replace(source, face=None)
    assert np.array_equal(next(runner.perform("measured", faceless, None, [performer])).rgb, source.square)
    assert runner.detected_instead == 0


def test_the_blend_is_the_models_own_prediction(guided: MethodRunner, shots: list[Shot]) -> None:
    source, performer = shots
    first, faceless = guided.blends(source, [performer, dataclasses.replace(performer, face=None)])
    assert first is not None
    assert faceless is None, "nothing is animated by it"
    pictures = {
        method: next(guided.perform(method, source, None, [performer])).rgb for method in ("measured", "warp", "copy")
    }
    l1 = {method: picture_l1(rgb, performer.square) for method, rgb in pictures.items()}
    # The engine's pictures are rounded to 8 bits: by half a level at most.
    for part, method in (("blended", "measured"), ("warped", "warp"), ("copied", "copy")):
        assert getattr(first, part) == pytest.approx(l1[method], abs=0.5 / 255)
    assert first.better < min(first.warped, first.generated)
    detected = guided.blends(dataclasses.replace(source, face=None), [dataclasses.replace(performer, face=None)])
    assert detected[0] is not None, "a source without a face is animated by detected keypoints"


def test_every_frame_is_of_one_arithmetic() -> None:
    starter = load_model("starter")
    chosen = {
        precision: make_engine(starter, EvaluateOptions(device="cpu", precision=precision)).backend_name
        for precision in ("auto", "fp32")
    }
    assert chosen == {"auto": "torch", "fp32": "torch"}


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra `openvino` is not installed")
def test_int8_is_computed_by_openvino_from_the_first_frame_on() -> None:
    engine = make_engine(load_model("starter"), EvaluateOptions(device="cpu", precision="int8"))
    assert engine.choice.int8
    assert engine.backend_name == "openvino"


def test_a_dataset_without_faces_is_reported_not_dropped(tmp_path: Path) -> None:
    """Pictures are compared, and the table says what could not be."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)
    (tmp_path / "frames.u8").write_bytes(noise.tobytes())
    points = Landmarks(np.arange(2), np.zeros((3, 2, 2), np.float16), np.zeros(3, bool))
    write_landmarks(tmp_path / "landmarks.npz", points)
    write_table(tmp_path / "dataset.json", PACKED_FORMAT, ClipTable(256, (Clip("noise", "nobody", "test", 3),)))
    result = evaluate(tiny_model(), tmp_path, EvaluateOptions(frames_per_clip=2, cross_pairs=0, device="cpu"))
    assert result.of_cross == {}
    assert not any(note.startswith("Cross") for note in result.notes), "none were wanted"
    figures = result.of_self.figures["model"]
    assert (figures["pairs"], figures["unmeasurable"], figures["complete"]) == (2, 2, 0)
    assert figures["akd"] is None
    assert figures["l1"] is not None
    assert "count the 0 pairs with a face in every picture, 2 lack one in source or performer" in format_table(
        result, "tiny", "test"
    )


def picture_share(shown: Score, copied: Score) -> float:
    """L1 of copying of one pair."""
    assert shown.l1 is not None
    assert copied.l1
    return shown.l1 / copied.l1


def test_the_worst_clips_are_named(tmp_path: Path) -> None:
    """Of two clips, one of them still; and other splits than the test split have no bars."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8)
    noise[3] = noise[2]
    (tmp_path / "frames.u8").write_bytes(noise.tobytes())
    points = Landmarks(np.arange(2), np.zeros((4, 2, 2), np.float16), np.zeros(4, bool))
    write_landmarks(tmp_path / "landmarks.npz", points)
    clips = (Clip("lively.mp4", "ann", "val", 2), Clip("still.mp4", "ben", "val", 2))
    write_table(tmp_path / "dataset.json", PACKED_FORMAT, ClipTable(256, clips))
    options = EvaluateOptions(split="val", frames_per_clip=1, cross_pairs=0, device="cpu")
    result = evaluate(tiny_model(), tmp_path, options)
    table = format_table(result, "tiny", "val")
    lively = result.of_self.pairs[0]
    share = picture_share(lively.scores["model"], lively.scores["copy"])
    assert "worst of 2 clips in self-reenactment" in table
    assert f"lively {share:.0%}\n" in table, "copying is perfect in the other one: it has no share"
    assert "bars" not in table
    assert json.loads(to_json(result, ModelInfo(), options))["bars"] == []


def test_mistakes_are_told(heads: Path, grid: Path, tmp_path: Path) -> None:
    model = Mcnet(tiny_config(heads).model).eval()
    with pytest.raises(EvaluateError, match="no clip of two frames or more in split 'nil'; its splits: test, train"):
        evaluate(model, heads, EvaluateOptions(split="nil"))
    with pytest.raises(DataError, match=r"neither dataset\.json nor clips\.json"):
        evaluate(model, tmp_path)
    with pytest.raises(EngineError, match="expected auto, cpu, cuda"):
        evaluate(model, heads, EvaluateOptions(device="abacus"))
    large = tmp_path / "large"
    large.mkdir()
    write_table(large / "clips.json", CLIPS_FORMAT, ClipTable(512, (Clip("large.mp4", "a", "test", 9),)))
    with pytest.raises(EvaluateError, match=f"pictures of 512 px, the model makes {SIZE_PX} px"):
        evaluate(model, large)
    with pytest.raises(OutputError, match="there is no folder"):
        run("starter", str(grid), "--json", str(tmp_path / "nowhere" / "out.json"))
    with pytest.raises(OutputError, match="it is a folder"):
        run("starter", str(grid), "--json", str(tmp_path))
    with pytest.raises(OutputError, match=r"got suffix '\.mp4', expected \.png or \.jpg"):
        run("starter", str(grid), "--sheet", str(tmp_path / "out.mp4"))
    torn = tmp_path / "torn"
    torn.mkdir()
    write_table(torn / "clips.json", CLIPS_FORMAT, ClipTable(SIZE_PX, (Clip("gone.mp4", "a", "test", 9),)))
    with pytest.raises(DataError, match=r"none of the 1 clips .* gone\.mp4 cannot be decoded"):
        evaluate(model, torn, EvaluateOptions(device="cpu"))


@pytest.mark.parametrize("count", ["0", "-1", "some", ""])
def test_a_wrong_number_of_frames_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("starter", "data", f"--frames-per-clip={count}")
    assert "expected a whole number" in capsys.readouterr().err


def test_frames_that_drive() -> None:
    assert driving_frames(101, 5) == [20, 40, 60, 80, 100]
    assert driving_frames(3, 5) == [1, 2]
    assert driving_frames(2, 1) == [1]
    assert driving_frames(4, None) == [0, 1, 2, 3]
    assert self_pairs(7, 3, 1) == [Pair(Still(7, 0), Still(7, 0), Still(7, 2))]


CLIPS = (
    Clip("a1", "ann", "test", 9),
    Clip("a2", "ann", "test", 9),
    Clip("b1", "ben", "test", 9),
    Clip("c1", "cyd", "train", 9),
    Clip("d1", "", "test", 1),
    Clip("e1", "", "test", 1),
    Clip("f1", "fay", "test", 2),
)


def test_different_people_come_first() -> None:
    assert choose_clips(CLIPS, "test", None) == [0, 2, 6, 1]
    assert choose_clips(CLIPS, "test", 2) == [0, 2]
    assert choose_clips(CLIPS, "train", None) == [3]
    assert choose_clips((Clip("p", "gus", "test", 3, PHOTOS), *CLIPS), "test", 2) == [1, 3]  # nobody moves in a pack


def test_cross_pairs_are_of_different_people_and_drawn_by_the_seed() -> None:
    def plan(**changes: Any) -> list[list[Pair]]:
        return plan_cross_pairs(CLIPS, choose_clips(CLIPS, "test", None), EvaluateOptions(**changes))

    pairs = plan(cross_pairs=40, frames_per_clip=2)
    assert len(pairs) == 40
    for of_clip, performer in zip(pairs, [0, 2, 6, 1] * 10, strict=True):
        sources = {pair.source for pair in of_clip}
        assert len(sources) == 1
        source = CLIPS[sources.pop().clip]
        assert source.identity != CLIPS[performer].identity
        assert source.split == "test"
        assert all(pair.reference == Still(performer, 0) and pair.relative for pair in of_clip)
    assert {CLIPS[first.source.clip].identity for first, *_ in pairs} == {"ann", "ben", "fay", ""}
    assert {4, 5} <= {first.source.clip for first, *_ in pairs}, "both stills without a name"
    assert plan(seed=3) == plan(seed=3)
    assert plan(cross_pairs=40) != plan(cross_pairs=40, seed=1)
    assert len(plan()) == 4
    assert plan(cross_pairs=0) == []
    assert plan_cross_pairs(CLIPS[:2], [0, 1], EvaluateOptions()) == []


def test_frames_of_a_packed_dataset(heads: Path) -> None:
    store = ClipStore(heads)
    stored = np.fromfile(heads / "frames.u8", np.uint8).reshape(-1, SIZE_PX, SIZE_PX, 3)
    read = store.read(2, [3, 0])
    assert list(read) == [0, 3]
    assert np.array_equal(read[3], stored[5 + 3 + 3])


@pytest.fixture(scope="module")
def shots() -> list[Shot]:
    """Two portraits with their faces."""
    with FaceFinder() as finder:
        pictures = [read_rgb(ASSETS / "portraits" / f"{name}.jpg")[::2, ::2] for name in ("man_2", "woman_3")]
        return [Shot(rgb, finder.find(rgb)[0], SquareBox(128, 128, 256), 256) for rgb in pictures]


@pytest.fixture(scope="module")
def two(shots: list[Shot]) -> tuple[Seen, Seen]:
    """What networks saw in them."""
    one, other = (
        Seen(shot.square, shot.face.landmarks_px, None, None, Eyes(0.2, 0.0)) for shot in shots if shot.face is not None
    )
    return one, other


def compared(source: Seen, performer: Seen, shown: dict[str, Seen]) -> PairResult:
    """A pair of self-reenactment."""
    scores = {
        method: score(picture, source, source, performer, NO_NETWORKS, of_self=True)
        for method, picture in shown.items()
    }
    return result_of(PAIR, source, source, performer, scores, {})


def test_copying_the_performer_is_perfect(two: tuple[Seen, Seen]) -> None:
    source, performer = two
    perfect = score(performer, source, source, performer, NO_NETWORKS, of_self=True)
    assert (perfect.l1, perfect.psnr, perfect.akd) == (0, 100, 0)
    assert perfect.turn == pytest.approx((0, 0, 0, 0), abs=1e-4)
    assert perfect.direction == pytest.approx((0, 0, 0, 0), abs=1e-4)
    result = compared(source, performer, dict.fromkeys(METHODS, performer))
    assert result.complete
    assert result.performer_distortion == perfect.distortion
    assert perfect.distortion is not None
    assert 0 < perfect.distortion < DISTORTED, "somebody else's face"
    assert result.scores["model"].moved == result.wanted
    assert perfect.sharpness == 1
    assert perfect.regions == Regions(0, 0, 0, 0)
    assert perfect.regions_in_space == Regions(0, 0, 0, 0)
    copy = score(source, source, source, performer, NO_NETWORKS, of_self=True)
    assert copy.moved == Expression(0, 0, 0)
    assert copy.distortion == pytest.approx(0, abs=1e-9)
    assert copy.akd is not None
    assert copy.akd > 0


PAIR = Pair(Still(0, 0), Still(0, 0), Still(0, 1))


def test_blur_costs_sharpness(two: tuple[Seen, Seen]) -> None:
    source, performer = two
    shares = [
        score(
            performer._replace(rgb=cv2.GaussianBlur(performer.rgb, (0, 0), sigma).astype(np.uint8)),
            *(source, source, performer, NO_NETWORKS),
            of_self=True,
        ).sharpness
        or 0
        for sigma in (0.5, 1.0, 2.0)
    ]
    assert 1 > shares[0] > 1.3 * shares[1] > 1.3**2 * shares[2] > 0
    across = score(performer, source, performer, performer, NO_NETWORKS, of_self=False)
    assert across.sharpness is None, "another person's skin is no measure"
    assert across.regions is None
    assert across.regions_in_space is not None


def test_regions_are_means_over_pairs_with_a_face() -> None:
    def result(error: float) -> PairResult:
        still = Expression(0, 0, 0)
        regions = Regions(error, 2 * error, 3 * error, 4 * error)
        one = Score(face=True, moved=still, moved_in_space=still, sharpness=error, regions=regions)
        return PairResult(PAIR, True, still, still, still, None, None, dict.fromkeys(METHODS, one), {})

    figures = summarise([result(0.5), result(1.5)], "model")
    assert [figures[f"{region}_akd"] for region in Regions._fields] == [1, 2, 3, 4]
    assert figures["sharpness"] == 1
    assert figures["mouth_expression_error"] is None


def test_a_picture_that_lost_its_face_is_counted(two: tuple[Seen, Seen]) -> None:
    source, performer = two
    lost = Seen(performer.rgb, None, None, None, None)
    rows = [
        compared(source, performer, {"model": shown, "warp": source, "copy": source}) for shown in (performer, lost)
    ]
    rows.append(compared(source, lost, dict.fromkeys(METHODS, source)))
    model, copy = summarise(rows, "model"), summarise(rows, "copy")
    assert (model["pairs"], model["complete"], model["faces_missing"], model["unmeasurable"]) == (3, 1, 1, 1)
    assert copy["faces_missing"] == 0
    assert model["akd"] == 0
    assert copy["akd"] == rows[0].scores["copy"].akd
    assert copy["akd_wherever_found"] == pytest.approx(copy["akd"]), "both measurable pairs are the same here"
    assert model["l1"] is not None
    assert copy["l1"] is not None
    assert model["l1_of_copying"] == pytest.approx(model["l1"] / copy["l1"])


def test_distorted_faces_count_wherever_there_is_a_face(two: tuple[Seen, Seen]) -> None:
    source, performer = two
    assert source.mesh is not None
    lost = performer._replace(mesh=None, eyes=None)
    melted = source._replace(mesh=source.mesh * np.array([1, 1.4, 1], np.float32))
    rows = [
        compared(source, asked, {"model": shown, "warp": lost, "copy": source})
        for shown, asked in (
            (melted, performer),
            (performer, performer),
            (lost, performer),
            (melted, melted),
            (melted, lost),
        )
    ]
    model, warp, copy = (summarise(rows, method) for method in METHODS)
    assert model["distorted"] == pytest.approx(2 / 3), "one face is lost, and one is driven by none"
    assert warp["distorted"] is None
    assert copy["distorted"] == 0
    assert model["performer_distorted"] == pytest.approx(1 / 4)


def test_pose_is_judged_by_turn_and_by_direction(two: tuple[Seen, Seen]) -> None:
    """Who already looked aside, and then turned on as the performer did, is right in turn and wrong in direction."""
    straight = two[0]
    assert straight.mesh is not None

    def turned(yaw_deg: float) -> Seen:
        cos, sin = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
        about_y = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        return straight._replace(mesh=(straight.mesh @ about_y.T).astype(np.float32))

    found = score(turned(30), turned(20), straight, turned(10), NO_NETWORKS, of_self=False)
    assert found.turn == pytest.approx((0, 0, 0, 0), abs=0.01)
    assert found.direction == pytest.approx((20, 0, 0, 20), abs=0.01)


def test_eyes_are_judged_by_the_iris_network() -> None:
    def result(performer: Eyes, shown: Eyes) -> PairResult:
        asked = EyesAsked(source=Eyes(0.25, 0.1), reference=Eyes(0.2, 0.0), performer=performer)
        still = Expression(0, 0, 0)
        scores = {
            method: Score(face=True, moved=still, moved_in_space=still, eyes=eyes)
            for method, eyes in (("model", shown), ("copy", asked.source))
        }
        return PairResult(PAIR, True, still, still, still, asked, None, scores, {})

    rows = [
        result(Eyes(0.05, 0.9), Eyes(0.08, -0.9)),
        result(Eyes(0.02, -0.9), Eyes(0.14, 0.9)),
        result(Eyes(0.20, 0.2), Eyes(0.25, 0.2)),
        result(Eyes(0.22, 0.4), Eyes(0.26, 0.3)),
        result(Eyes(0.18, -0.2), Eyes(0.24, 0.0)),
        result(Eyes(0.20, 0.3), Eyes(0.12, -0.5)),
    ]
    model, copy = summarise(rows, "model"), summarise(rows, "copy")
    assert (model["shut"], model["shut_shown"]) == (2, 0.5)
    assert (copy["shut"], copy["shut_shown"]) == (2, 0)
    assert (model["open"], model["open_shown"]) == (4, 0.75), "one of four open frames is shown half shut"
    assert (copy["open"], copy["open_shown"]) == (4, 1)
    assert model["gaze_pairs"] == copy["gaze_pairs"] == 3, (
        "eyes are open in the performer's and in every method's picture"
    )
    assert model["gaze_correlation"] == pytest.approx(1), "half as far, but in step"
    assert copy["gaze_correlation"] is None
    wanted = np.array([-0.15, -0.18, 0, 0.02, -0.02, 0])
    moved = np.array([-0.17, -0.11, 0, 0.01, -0.01, -0.13])
    assert model["lids_correlation"] == pytest.approx(np.corrcoef(wanted, moved)[0, 1])
    itself = [0.05, 0.02, 0.2, 0.22, 0.18, 0.2]
    assert model["lids_itself_correlation"] == pytest.approx(np.corrcoef(itself, moved)[0, 1])
    assert model["lids_error"] == pytest.approx(np.abs(wanted - moved).mean())


def test_references_are_chosen_by_what_a_clip_shows(shots: list[Shot]) -> None:
    assert shots[0].face is not None
    still = shots[0].face.landmarks_px.astype(np.float64)
    cos, sin = np.cos(np.radians(35)), np.sin(np.radians(35))
    aside = still @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).T
    speaking = still.copy()
    speaking[list(LIP_PAIRS[1]), 1] += 30
    meshes: dict[int, Mesh | None] = {4: speaking, 9: None, 12: aside, 17: still, 20: speaking}
    assert choose_reference("first", meshes) == 0
    assert choose_reference("turned", meshes) == 12
    assert choose_reference("speaking", meshes) == 4
    assert choose_reference("neutral", meshes) == 17
    assert [choose_reference(kind, {3: None}) for kind in ("neutral", "turned", "speaking")] == [0, 0, 0]
    assert reference_candidates(50, ["first"]) == []
    assert reference_candidates(5, ["first", "turned"]) == [0, 1, 2, 3, 4]
    assert reference_candidates(500, ["neutral"])[-1] == 499


def test_correlations_are_of_changes() -> None:
    def result(wanted: float, moved: float) -> PairResult:
        change, asked = Expression(moved, moved, -moved), Expression(wanted, wanted, wanted)
        itself = Expression(1 - wanted, 0, 0)
        one = Score(face=True, moved=change, moved_in_space=change)
        return PairResult(PAIR, True, asked, asked, itself, None, None, dict.fromkeys(METHODS, one), {})

    figures = summarise([result(wanted, 0.5 * wanted) for wanted in (0.0, 0.1, 0.4)], "model")
    assert figures["mouth_correlation"] == pytest.approx(1)
    assert figures["mouth_error"] == pytest.approx(0.25 / 3)
    assert figures["mouth_itself_correlation"] == pytest.approx(-1), "whatever the reference showed"
    assert figures["right_eye_correlation"] == pytest.approx(-1)
    assert figures["eyes_correlation"] is None, "both eyes together did not move at all"
    assert (figures["lids_correlation"], figures["shut"], figures["distorted"]) == (None, 0, None), "no judge for these"


def test_restlessness_is_root_mean_square() -> None:
    places = np.zeros((2, 5, 2))
    places[0, :, 0], places[1, :, 0] = 1, -1
    assert _restlessness(places) == 1
    assert _restlessness(places + 7) == 1


def test_a_shift_moves_to_the_right_and_down() -> None:
    across, down = np.meshgrid(10 * np.arange(24), 10 * np.arange(24))
    slopes = np.stack((across, down, across), axis=-1).astype(np.uint8)
    change = _shifted(slopes, np.array([0.2, -0.3])).astype(int) - slopes
    inside = change[3:-3, 3:-3]
    assert (inside == [-2, 3, -2]).all()


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ("dlib", "Identity (AED, CSIM, leakage) is left out: dlib is not installed: pip install 'mcnet-avatar[eval]'"),
        ("torchmetrics.functional.image", "SSIM is left out: torchmetrics "),
        ("face_alignment", "the paper's variant, is left out: face_alignment is not installed"),
        ("torch_fidelity.feature_extractor_inceptionv3", "FID is left out: torch_fidelity"),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, package: str, sentence: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    notes = open_metric_networks(torch.device("cpu"), 5000, paper_landmarks=package == "face_alignment").notes
    assert any(sentence in note for note in notes), notes


def test_lpips_of_equal_pictures_is_zero(monkeypatch: pytest.MonkeyPatch, two: tuple[Seen, Seen]) -> None:
    pytest.importorskip("torchmetrics", reason="the eval extra is not installed")
    torch.manual_seed(0)
    fetched: list[str] = []

    def fetch(url: str, **_: object) -> dict[str, torch.Tensor]:
        fetched.append(url)
        return {**AlexNet().state_dict(), "classifier.1.weight": torch.zeros(1)}

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    lpips: Callable[[Rgb, Rgb], float] = Lpips(torch.device("cpu"))
    assert fetched == [ALEXNET_URL]
    assert lpips(two[0].rgb, two[0].rgb) == 0
    assert lpips(two[0].rgb, two[1].rgb) > 0.001


def test_identity_tells_people_apart(two: tuple[Seen, Seen]) -> None:
    pytest.importorskip("dlib", reason="the eval extra is not installed")
    identity = open_metric_networks(torch.device("cpu"), 0, paper_landmarks=False).identity
    assert identity is not None
    assert two[0].mesh is not None
    assert two[1].mesh is not None
    one, other = (identity.embed(seen.rgb, seen.mesh) for seen in two if seen.mesh is not None)
    darker = (two[0].rgb * 0.8).astype(np.uint8)
    assert np.linalg.norm(one - identity.embed(darker, two[0].mesh)) < 0.3
    assert np.linalg.norm(one - other) > 0.6, "dlib's own threshold for different people"
