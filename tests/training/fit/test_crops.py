"""Crops of mouth and eyes, and what is done with them and with the picture as a whole."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mcnet.arrays import Keypoints
from mcnet.generator import Mcnet
from mcnet.mesh_points import LEFT_EYE_RING, RIGHT_EYE_RING
from tests.tolerance import EPSILON, PLACE, largest_error
from tests.training.conftest import ASKED, SIZE_PX, dots, head, tiny_config
from training.fit.augment import Faces
from training.fit.crops import REGIONS, face_squares
from training.fit.losses import Pyramid
from training.fit.objective import Objective, Outputs, with_crops, with_second_look
from training.fit.stores import to_coordinates
from training.landmarks import MOUTH_POINTS, TRAINING_POINTS

RINGS = [[TRAINING_POINTS.index(point) for point in ring] for ring in (MOUTH_POINTS, LEFT_EYE_RING, RIGHT_EYE_RING)]


def made_up_faces() -> Faces:
    """Two heads, of which the second was not found."""
    pictures, landmarks = zip(*(head(person, 0.45 + 0.1 * person, 0.5, 0.04) for person in (0, 1)), strict=True)
    shown = torch.stack([torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture in pictures])
    places = torch.stack([to_coordinates(torch.from_numpy(each), SIZE_PX) for each in landmarks])
    places[1] = 0
    return Faces(shown, places, torch.tensor([True, False]))


def turned(places: Tensor, angle: float) -> Tensor:
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    return places @ torch.stack((torch.stack((cos, sin)), torch.stack((-sin, cos))))


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_crops_are_level_centred_and_as_large_as_their_ring(angle: float) -> None:
    faces = made_up_faces()
    landmarks = turned(faces.landmarks, angle)
    squares = face_squares(landmarks, faces.valid)
    crops = squares.points(landmarks).view(2, 3, -1, 2)
    for number, (ring, region) in enumerate(zip(RINGS, REGIONS, strict=True)):
        inside = crops[0, number, ring]
        low, high = inside.amin(0), inside.amax(0)
        assert largest_error((low + high) / 2, torch.zeros(2)) < PLACE
        assert (high - low).max().item() == pytest.approx(2 / region.margin, rel=1e-4)
        assert high[0] - low[0] > high[1] - low[1]  # wider than high, whatever the head's tilt
        right, left = crops[0, number, region.right], crops[0, number, region.left]
        assert right[0] < left[0]
        assert right[1] == pytest.approx(left[1].item(), abs=PLACE)
    assert squares.weights.flatten().tolist() == [1, 1, 1, 0, 0, 0]
    assert all(bool(part.isfinite().all()) for part in squares)


def test_a_crop_shows_what_lies_where_its_points_say() -> None:
    faces = made_up_faces()
    landmarks = turned(faces.landmarks[:1], 0.3)
    chosen = [ring[0] for ring in RINGS]  # an outer corner of each
    picture = torch.from_numpy(dots(landmarks[0, chosen].double().numpy())).permute(2, 0, 1)[None] / 255
    squares = face_squares(landmarks, faces.valid[:1])
    crops = squares.pictures(picture, 97).mean(1)
    for number, column in enumerate(chosen):
        row, place = divmod(int(crops[number].argmax()), 97)
        found = torch.tensor([place, row]) * (2 / 96) - 1
        assert largest_error(found, squares.points(landmarks)[number, column]) < 2 * 2 / 96  # 2 pixels of the crop


def outputs_for(faces: Faces, prediction: Tensor) -> Outputs:
    points = Keypoints(torch.zeros(2, 6, 2), torch.eye(2).expand(2, 6, 2, 2))
    return Outputs(
        points, points, target=faces.pictures, copied=faces.pictures, prediction=prediction, generated=prediction
    )


def test_only_faces_that_were_found_are_cropped_into_the_loss() -> None:
    faces = made_up_faces()
    config = tiny_config(Path(), **ASKED).loss
    prediction = (faces.pictures * 0.9).requires_grad_()
    outputs = with_crops(outputs_for(faces, prediction), faces, config.crop_px)
    assert outputs.crops is not None
    (gradient,) = torch.autograd.grad(
        (outputs.crops.weights * (outputs.crops.predicted - outputs.crops.wanted).abs()).mean(), prediction
    )
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0
    mouth = (faces.landmarks[0, RINGS[0]].mean(0) + 1) * (SIZE_PX - 1) / 2
    assert gradient[0, :, int(mouth[1]), int(mouth[0])].abs().sum() > 0
    assert gradient[0, :, :20].abs().sum() == 0  # the crops are small


def test_a_second_look_teaches_the_picture_and_leaves_the_detector_alone() -> None:
    config = tiny_config(Path(), **ASKED)
    torch.manual_seed(0)
    model = Mcnet(config.model).train()
    faces = made_up_faces()
    prediction = (faces.pictures * 0.9).requires_grad_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outputs = with_second_look(outputs_for(faces, prediction), model, torch.enable_grad)
    assert outputs.seen is not None
    shown, wanted = outputs.seen
    assert shown.shape == wanted.shape == (2, 6, 2)
    (shown - wanted).square().sum().backward()  # type: ignore[no-untyped-call]
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    # What rests already goes on resting.
    model.keypoint_detector.eval().requires_grad_(False)
    with_second_look(outputs_for(faces, prediction.detach()), model, torch.enable_grad)
    assert not any(module.training for module in model.keypoint_detector.modules())
    assert not any(parameter.requires_grad for parameter in model.keypoint_detector.parameters())


def objective(**loss: object) -> Objective:
    tables = {**ASKED, "loss": {**ASKED["loss"], "mouth": 0.0, "eyes": 0.0, **loss}}
    config = tiny_config(Path(), **tables).loss
    return Objective(config, None, Pyramid((1,)), torch.enable_grad)


def test_each_switch_is_a_term_and_0_leaves_it_out() -> None:
    faces = made_up_faces()
    outputs = with_crops(outputs_for(faces, faces.pictures * 0.9), faces, 64)
    outputs = outputs._replace(seen=(torch.full((2, 6, 2), 0.1), torch.zeros(2, 6, 2)))
    warp, step = None, torch.zeros(())  # the detector rests: nothing asks for a warp
    adversarial = {
        "gan": torch.tensor(2.0),
        "crops_gan": torch.tensor(3.0),
        "crops_feature_matching": torch.tensor(1.0),
    }

    def names(**loss: object) -> set[str]:
        terms = objective(**loss).terms(outputs, faces, faces, warp, step, adversarial)  # type: ignore[arg-type]
        assert terms.total.item() == pytest.approx(sum(value.item() for value in terms.weighted.values()), rel=1e-5)
        return set(terms.weighted)

    every = {"l1", "generated", "crops", "picture_openings", "gan", "crops_gan", "crops_feature_matching"}
    assert names() == every
    assert every - names(generated=0.0) == {"generated"}
    assert every - names(crops=0.0) == {"crops"}
    assert every - names(picture_openings=0.0) == {"picture_openings"}
    assert every - names(crops_gan=0.0) == {"crops_gan"}
    assert every - names(feature_matching=0.0) == {"crops_feature_matching"}


def test_adversarial_terms_get_their_share_of_the_gradient() -> None:
    faces = made_up_faces()
    torch.manual_seed(1)
    last = nn.Parameter(torch.rand(3))
    prediction = faces.pictures * last[:, None, None]
    outputs = with_crops(outputs_for(faces, prediction), faces, 64)
    adversarial = {"gan": 7 * prediction.square().mean(), "feature_matching": prediction.mean()}
    given = objective(picture_openings=0.0).terms(outputs, faces, faces, None, torch.zeros(()), adversarial)  # type: ignore[arg-type]
    terms = given.balanced(0.3, last, lambda gradient: gradient)

    def length(names: set[str]) -> float:
        (gradient,) = torch.autograd.grad(
            torch.stack([terms.weighted[name] for name in names]).sum(), last, retain_graph=True
        )
        return float(gradient.norm())

    adversarial_names = {"gan", "feature_matching"}
    assert length(adversarial_names) == pytest.approx(0.3 * length(set(terms.weighted) - adversarial_names), rel=1e-4)
    factor = terms.readings["adversarial_factor"]
    assert not factor.requires_grad
    for name in terms.weighted:
        expected = given.weighted[name] * (factor if name in adversarial_names else 1)
        assert largest_error(terms.weighted[name].detach(), expected.detach()) <= 4 * EPSILON * expected.abs().item()
    assert terms.total.item() == pytest.approx(sum(value.item() for value in terms.weighted.values()), rel=1e-5)
