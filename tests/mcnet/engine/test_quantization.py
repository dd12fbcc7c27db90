"""The ranges of activations: which are measured, how they travel in a file, and what a file may not say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mcnet import Mcnet, load_model
from mcnet.__main__ import main
from mcnet.checkpoint import save_model
from mcnet.config import range_names
from mcnet.engine.quantization import (
    BEYOND,
    BEYOND_OF_FEATURES,
    QuantizationError,
    measure_ranges,
    note_ranges,
    range_of,
)
from mcnet.model_file import CheckpointError
from mcnet.pose import relative_keypoints


@pytest.fixture
def faces(noise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([noise, noise[::-1]])


def test_what_goes_into_the_decoder_is_measured(tiny: Mcnet, faces: NDArray[np.uint8]) -> None:
    ranges = measure_ranges(tiny, faces, faces)
    assert set(ranges) == range_names(tiny.config)
    assert {"warped_32", "up_blocks.2", "memory.levels.64.outward", "res_stages.1.0.conv2"} < set(ranges)
    assert len(ranges) == 3 + 3 + 2 + 4
    assert all(least <= 0 < largest for least, largest in ranges.values())


def test_a_range_holds_all_values_of_all_pictures_but_a_few(tiny: Mcnet, faces: NDArray[np.uint8]) -> None:
    seen: list[torch.Tensor] = []
    up_block = tiny.generator.up_blocks[-1]
    up_block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten()))
    with torch.inference_mode():
        pictures = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255
        for one, other in ((0, 0), (0, 1), (1, 0), (1, 1)):
            cache = tiny.encode_source(pictures[one : one + 1])
            driving, first = (tiny.keypoint_detector(pictures[each : each + 1]) for each in (other, 0))
            tiny.generator(cache, relative_keypoints(cache.keypoints, driving, first))
    least, largest = measure_ranges(tiny, faces, faces)[f"up_blocks.{len(tiny.generator.up_blocks) - 1}"]
    values = torch.cat(seen)
    assert float((values > largest).float().mean()) == pytest.approx(BEYOND, rel=0.2)
    assert float((values < least).float().mean()) == pytest.approx(BEYOND if least < 0 else 0.0, rel=0.2)


def test_a_few_values_far_beyond_the_others_leave_a_range_as_it_is() -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    before = range_of(values, BEYOND_OF_FEATURES)
    values[:20] *= 1000
    assert range_of(values, BEYOND_OF_FEATURES) == pytest.approx(before, rel=0.05)
    positive = values[100:].abs() + 1
    assert range_of(positive, BEYOND)[0] == range_of(-positive, BEYOND)[1] == 0  # it always holds 0
    assert range_of(values[100:101], BEYOND) == (min(0, values[100]), max(0, values[100]))


def test_a_model_that_gives_nan_is_refused(tiny: Mcnet, faces: NDArray[np.uint8]) -> None:
    with torch.no_grad():
        tiny.get_parameter("generator.up_blocks.0.conv.weight")[0] = float("nan")
    with pytest.raises(QuantizationError, match=r"res_stages\.1\.0\.conv1: got values between nan and nan"):
        measure_ranges(tiny, faces, faces)


def test_ranges_travel_in_the_file(tiny: Mcnet, faces: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "ranged.safetensors"
    save_model(tiny, path)
    assert not load_model(path).info.ranges
    note_ranges(tiny, faces, faces)
    save_model(tiny, path)
    assert load_model(path).info.ranges == tiny.info.ranges


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"up_blocks.0": [1, 0]}, "for up_blocks.0, expected two numbers in order"),
        ({"up_blocks.0": [0]}, "for up_blocks.0, expected two numbers in order"),
        ({"up_blocks.0": "all"}, "for up_blocks.0, expected two numbers in order"),
        ({"up_blocks.0": [0, float("inf")]}, "for up_blocks.0, expected two numbers in order"),
        ({"up_blocks.0": [0, float("nan")]}, "for up_blocks.0, expected two numbers in order"),
        ({"up_blocks.0": [0, 1e39]}, "for up_blocks.0, expected two numbers in order, within float32"),
        ({"up_blocks.0": [0, 10**400]}, "for up_blocks.0, expected two numbers in order, within float32"),
        ({"bogus": [0, 1]}, "got 13 names, expected those of the configuration; bogus is amiss"),
        ({}, "expected a table"),
    ],
)
def test_a_file_with_impossible_ranges_is_refused(tiny: Mcnet, tmp_path: Path, ranges: Any, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    save_model(tiny, path)
    table = {name: [0, 1] for name in range_names(tiny.config)} | ranges if ranges else []
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), "ranges": json.dumps(table)}
    save_file(load_file(path), path, metadata)
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


def test_convert_measures_on_the_bundled_faces(tmp_path: Path, tiny: Mcnet, capsys: pytest.CaptureFixture[str]) -> None:
    plain, ranged = tmp_path / "plain.safetensors", tmp_path / "ranged.safetensors"
    save_model(tiny, plain)
    assert main(["convert", str(plain), str(ranged), "--int8"]) == 0
    capsys.readouterr()
    info = load_model(ranged).info
    assert "up_blocks.0" in info.ranges
    assert info.content_hash == load_model(plain).info.content_hash


def test_the_starter_tells_its_ranges() -> None:
    assert len(load_model("starter").info.ranges) == 10
