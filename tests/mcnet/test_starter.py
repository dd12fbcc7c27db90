"""The bundled model gives the picture that it gave where it was trained, and its light form nearly the same motion."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mcnet.checkpoint import load_model
from mcnet.config import McnetConfig
from mcnet.engine import Engine, EngineOptions
from tests.released import load_case, to_tensor
from tests.tolerance import PICTURE, PLACE, PROMISED, assert_near


def test_starter_gives_the_stored_picture() -> None:
    stored = load_case("starter_case")
    model = load_model("starter")
    assert model.config == McnetConfig.named("starter")
    with torch.inference_mode():
        cache = model.encode_source(to_tensor(stored["source"]))
        driving = model.keypoint_detector(to_tensor(stored["driving"]))
        frame = model.generator.inspect(cache, driving)
    assert_near(cache.keypoints.value, stored["kp_source_value"], PLACE)
    assert_near(driving.value, stored["kp_driving_value"], PLACE)
    assert_near(frame.motion.deformation, stored["deformation"], PLACE)
    assert_near(frame.motion.occlusion, stored["occlusion_map"], PICTURE)
    assert_near(frame.prediction, stored["prediction"], PICTURE)


NEAR_PX = 1.0
"""Of 256, in the mean over what the starter trusts: keypoints move some 13 pixels."""


def test_the_light_one_is_the_starter_with_a_narrower_motion() -> None:
    starter, light = load_model("starter"), load_model("starter_light")
    whole, narrow = starter.config.motion_hourglass, light.config.motion_hourglass
    assert dataclasses.replace(light.config, motion_hourglass=whole) == starter.config
    assert dataclasses.replace(narrow, width=whole.width) == whole
    assert 2 * narrow.width == whole.width
    weights = light.state_dict()
    for name, weight in starter.state_dict().items():
        assert name.startswith("generator.dense_motion.") or torch.equal(weights[name], weight), name
    assert light.info.keypoint_landmarks == starter.info.keypoint_landmarks
    assert light.info.linear_jacobians == starter.info.linear_jacobians
    assert light.info.training["teacher"]["content_hash"] == starter.info.content_hash

    stored = load_case("starter_case")
    with torch.inference_mode():
        cache = starter.encode_source(to_tensor(stored["source"]))
        driving = starter.keypoint_detector(to_tensor(stored["driving"]))
        frames = [model.generator.inspect(cache, driving) for model in (starter, light)]
    taught, learned = (frame.motion for frame in frames)
    apart_px = 128 * (learned.deformation - taught.deformation).norm(dim=-1)[:, None]
    trusted = taught.occlusion
    assert float((apart_px * trusted).sum() / trusted.sum()) < NEAR_PX
    assert float((learned.occlusion - taught.occlusion).abs().mean()) < 0.05


def test_the_light_one_keeps_the_promise_of_8_bits() -> None:
    pytest.importorskip("openvino")
    model = load_model("starter_light")
    assert set(model.info.ranges) == set(load_model("starter").info.ranges)
    stored = load_case("starter_case")
    shown: list[NDArray[np.int16]] = []
    for precision in ("fp32", "int8"):
        engine = Engine(model, EngineOptions(device="cpu", precision=precision, backend="openvino"))
        engine.set_source(stored["source"])
        if not shown:
            keypoints = engine.detect(stored["driving"])
        shown.append(engine.render(keypoints).astype(np.int16))
    wrong = np.abs(shown[1] - shown[0])
    assert wrong.max() <= PROMISED["int8"].largest
    assert wrong.mean() <= PROMISED["int8"].mean
