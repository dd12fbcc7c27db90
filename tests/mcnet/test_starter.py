"""The bundled model gives the picture that it gave where it was trained."""

import torch

from mcnet.checkpoint import load_model
from mcnet.config import McnetConfig
from tests.released import load_case, to_tensor
from tests.tolerance import PICTURE, PLACE, assert_near


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
