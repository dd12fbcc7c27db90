"""`mcnet bench`: what it reports, not how fast anything is."""

import importlib.util
import json
import sys
from typing import Any

import numpy as np
import pytest
import torch

from mcnet.__main__ import main
from mcnet.bench import (
    BASELINE,
    Accuracy,
    Rates,
    Spread,
    Task,
    Variant,
    bytes_of,
    floor_of,
    noise_pictures,
    open_model,
    prepare,
    real_pictures,
    variants_for,
)
from mcnet.checkpoint import CheckpointError, load_model
from mcnet.config import McnetConfig
from mcnet.engine import DeviceChoice, EngineOptions
from mcnet.errors import UserError
from mcnet.generator import Mcnet
from mcnet.macs import FrameMacs
from tests.processors import skip_where_openvino_is_limited
from tests.tolerance import PROMISED

CPU = DeviceChoice.of(EngineOptions(device="cpu", precision="fp32"))
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


def test_the_command_ends_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["torch bf16"] + ["openvino bf16"] * HAS_OPENVINO
    arguments = ["--model", "tiny", "--device", "cpu", "--rounds", "1", "--frames", "1", "--variants", *chosen]
    assert main(["bench", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "tiny (random weights) on" in printed
    assert "GMAC a frame" in printed
    result = json.loads(printed.splitlines()[-1])
    (model,) = result["models"]
    assert list(model["variants"]) == ["plain", *chosen]
    for row in model["variants"].values():
        assert 0 < row["median"] <= row["p95"]
        assert row["floor"]["operations_ms"] > 0
        assert row["error"] is None  # random weights on noise tell nothing
    assert set(model["variants"]["torch bf16"]["stages"]) == {"detect", "motion", "warp", "memory", "decode", "pack"}
    assert model["rates"]["gmac_per_s"]["fp32"] > 0
    assert f"torch {torch.__version__}" in model["machine"]


def test_a_variant_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", "tiny", "--device", "cpu", "--variants", "tensorrt"]) == 1
    assert "got 'tensorrt', expected some of plain, encoder each frame, plain" in capsys.readouterr().err


def test_a_model_that_nobody_knows() -> None:
    with pytest.raises(CheckpointError, match="huge"):
        open_model("huge")


@pytest.mark.parametrize("variant", variants_for(CPU, has_openvino=HAS_OPENVINO), ids=lambda variant: str(variant.name))
def test_every_variant_gives_the_same_picture(variant: Variant) -> None:
    """The accuracy guard: every backend and precision against the plain float32 model on real faces."""
    if variant.runtime == "openvino":
        options = EngineOptions(device="cpu", precision=variant.precision)
        skip_where_openvino_is_limited(DeviceChoice.of(options, load_model("starter")).dtype)
    pictures = real_pictures(256, portraits=1, frames=3)
    shown = []
    for one in (BASELINE, variant):
        runner = prepare(Task("starter", "cpu", None, one))
        runner.set_source(pictures.sources[0], pictures.driving[0])
        shown.append(np.stack([runner.frame(rgb) for rgb in pictures.driving]))
        assert set(runner.stages(pictures.driving[1])) == set() or one.kind == "engine"
    accuracy = Accuracy.of(shown[1], shown[0])
    promised = PROMISED[variant.precision]
    assert accuracy.largest <= promised.largest
    assert accuracy.mean <= promised.mean
    assert accuracy.psnr_db >= promised.psnr_db
    assert np.abs(shown[0][0].astype(int) - shown[0][2]).mean() > 0.5  # the face moves, or it would prove nothing


def test_cuda_has_half_precision_too() -> None:
    choice = DeviceChoice(torch.device("cuda"), torch.float32, "")
    names = [variant.name for variant in variants_for(choice, has_openvino=True)]
    runs = [f"{runtime} {precision}" for runtime in ("torch", "cudagraph") for precision in ("fp32", "bf16", "fp16")]
    assert names == ["plain, encoder each frame", "plain", *runs]


def test_accuracy() -> None:
    expected = np.full((2, 4, 4, 3), 100, np.uint8)
    assert Accuracy.of(expected, expected) == (0, 0.0, float("inf"))
    shown = expected.copy()
    shown[1, 0, 0, 0] = 97
    accuracy = Accuracy.of(shown, expected)
    assert accuracy.largest == 3
    assert accuracy.mean == pytest.approx(3 / 96)
    assert accuracy.psnr_db == pytest.approx(10 * np.log10(255**2 * 48 / 9))  # of the worse picture, not of both


def test_spread() -> None:
    assert Spread.of([5.0]) == (5.0, 5.0)
    assert Spread.of(list(range(100, 0, -1))) == (50.5, 96)


def test_floor_counts_each_part_at_its_own_rate() -> None:
    rates = Rates({"fp32": 100.0, "bf16": 200.0}, 10.0)
    macs = FrameMacs(detector=1.0, motion=2.0, memory=3.0, decoder=4.0)
    assert floor_of(macs, 1e9, rates, "fp32", "torch") == pytest.approx((100.0, 100.0))
    assert floor_of(macs, 1e9, rates, "bf16", "torch").operations_ms == pytest.approx((1 + 2) * 10 + (3 + 4) * 5)
    assert floor_of(macs, 1e9, rates, "bf16", "openvino").operations_ms == pytest.approx(1 * 10 + (2 + 3 + 4) * 5)
    eight = Rates({**rates.gmac_per_s, "int8": 400.0}, 10.0)
    assert floor_of(macs, 1e9, eight, "int8", "openvino").operations_ms == pytest.approx(1 * 10 + (2 + 3) * 5 + 4 * 2.5)
    assert floor_of(macs, 5e9, rates, "fp32", "torch").total_ms == pytest.approx(500)
    assert Rates({"fp32": 1.0}, 5.0).best_of(Rates({"fp32": 2.0}, 3.0)) == ({"fp32": 2.0}, 5.0)


def test_bytes_are_weights_and_source(tiny: Mcnet) -> None:
    encoder = sum(weight.numel() for part in ("first", "down_blocks", "laterals") for weight in _weights(tiny, part))
    weights = sum(weight.numel() for weight in tiny.parameters()) - encoder
    source = 24 * 32**2 + 16 * 64**2 + 12 * 128**2 + (8 + 3) * 256**2
    assert bytes_of(tiny, "fp32") == 4 * (weights + source)
    assert bytes_of(tiny, "bf16") < bytes_of(tiny, "fp32")


def _weights(model: Mcnet, part: str) -> Any:
    return getattr(model.generator, part).parameters()


def test_pictures_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for module in ("crop", "bundled"):
        monkeypatch.delitem(sys.modules, f"mcnet.media.{module}", raising=False)
    with pytest.raises((ImportError, UserError)):
        real_pictures(256)
    noise = noise_pictures(256)
    assert noise.sources.shape[1:] == noise.driving.shape[1:] == (256, 256, 3)
    assert not noise.real


def test_random_weights_stand_in_for_those_that_are_not_bundled() -> None:
    model, trained = open_model("tiny")
    assert not trained
    assert model.config == McnetConfig.named("tiny")
    assert open_model("starter")[1]
