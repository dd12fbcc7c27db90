import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from app.pipeline.animation.kept_arrays import read_arrays, write_arrays
from app.pipeline.animation.source_store import SourceStore
from mcnet import Engine, EngineOptions, load_model
from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.media.matte import Matte
from mcnet.media.surroundings import Margins

pytestmark = pytest.mark.usefixtures("_compiled_once")

SQUARE = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)


def tiny_engine(seed: int = 0) -> Engine:
    torch.manual_seed(seed)
    model = Mcnet(McnetConfig.named("tiny")).eval()
    return Engine(model, EngineOptions(device="cpu", precision="fp32", warm_up_frames=0))


def test_a_cache_comes_back_as_it_was_and_gives_the_same_picture(tmp_path: Path) -> None:
    engine = tiny_engine()
    cache = engine.set_source(SQUARE)
    store = SourceStore(tmp_path / "sources")
    assert store.load(SQUARE, engine.fingerprint, engine.config) is None
    store.save(SQUARE, cache)
    expected = engine.render(cache.keypoints)
    again = store.load(SQUARE, engine.fingerprint, engine.config)
    assert again is not None
    engine.set_source(again)
    np.testing.assert_array_equal(engine.render(again.keypoints), expected)


def test_the_starters_cache_comes_back_too(tmp_path: Path) -> None:
    engine = Engine(load_model("starter"), EngineOptions(device="cpu", warm_up_frames=0))
    store = SourceStore(tmp_path)
    cache = engine.set_source(SQUARE)
    store.save(SQUARE, cache)
    again = store.load(SQUARE, engine.fingerprint, engine.config)
    assert again is not None
    assert again.memory is not None
    assert cache.memory is not None
    np.testing.assert_array_equal(again.memory.responses, cache.memory.responses)
    assert [feature.shape for feature in again.features] == [feature.shape for feature in cache.features]


def test_another_picture_or_model_is_another_key(tmp_path: Path) -> None:
    engine = tiny_engine()
    store = SourceStore(tmp_path)
    store.save(SQUARE, engine.set_source(SQUARE))
    assert store.load(SQUARE[::-1].copy(), engine.fingerprint, engine.config) is None
    assert store.load(SQUARE, tiny_engine(1).fingerprint, engine.config) is None


def damage(path: Path, how: str) -> None:
    """As a power cut, or an app of another version, leaves a file."""
    whole, (arrays, _) = path.read_bytes(), read_arrays(path)
    header = 8 + int.from_bytes(whole[:8], "little")
    match how:
        case "cut":
            path.write_bytes(whole[:1000])
        case "zeros":
            path.write_bytes(whole[:header] + bytes(len(whole) - header))
        case "one block":
            middle = len(whole) // 2
            path.write_bytes(whole[:middle] + b"\xff" * 512 + whole[middle + 512 :])
        case "without a hash":
            save_file(load_file(path), path)
        case "a level less":
            write_arrays(path, {name: array for name, array in arrays.items() if name != "feature.3"})
        case "other points":
            write_arrays(path, arrays | {"value": arrays["value"][:, :4], "jacobian": arrays["jacobian"][:, :4]})
        case "nobody":
            write_arrays(path, arrays | {"alpha": np.zeros_like(arrays["alpha"])})


@pytest.mark.parametrize("how", ["cut", "zeros", "one block", "without a hash", "a level less", "other points"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, how: str) -> None:
    engine = tiny_engine()
    store = SourceStore(tmp_path)
    cache = engine.set_source(SQUARE)
    store.save(SQUARE, cache)
    (path,) = tmp_path.glob("*.safetensors")
    damage(path, how)
    assert store.load(SQUARE, engine.fingerprint, engine.config) is None
    store.save(SQUARE, cache)
    assert store.load(SQUARE, engine.fingerprint, engine.config) is not None


def test_a_place_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    engine = tiny_engine()
    SourceStore(tmp_path / "file").save(SQUARE, engine.set_source(SQUARE))
    assert "could not be kept" in caplog.text


def test_only_the_last_used_ones_stay(tmp_path: Path) -> None:
    engine = tiny_engine()
    store = SourceStore(tmp_path)
    cache = engine.set_source(SQUARE)
    for number in range(45):
        square = SQUARE.copy()
        square[0, 0] = number
        store.save(square, cache)
        for path in tmp_path.glob("*.safetensors"):
            os.utime(path, (path.stat().st_mtime - 10,) * 2)
    assert len(list(tmp_path.glob("*.safetensors"))) == 40
    assert store.load(square, engine.fingerprint, engine.config) is not None


@pytest.mark.parametrize("how", ["cut", "zeros", "one block", "without a hash", "nobody"])
def test_mattes_are_kept_by_picture_and_made_anew_where_they_are_damaged(tmp_path: Path, how: str) -> None:
    store = SourceStore(tmp_path / "sources")
    square = SQUARE[:256, :256].copy()
    assert store.load_matte(square) is None
    matte = Matte(np.full((256, 256), 0.5, np.float32), square[::-1], np.full((260, 256), 0.5, np.float32))
    store.save_matte(square, matte)
    again = store.load_matte(square)
    assert again is not None
    for part, expected in zip(again, matte, strict=True):
        np.testing.assert_array_equal(part, expected)
    assert store.load_matte(square[:, ::-1].copy()) is None
    assert store.load_matte(square, Margins(0, 10, 0, 0)) is None  # another square of it is animated
    (path,) = (tmp_path / "sources").iterdir()
    damage(path, how)
    assert store.load_matte(square) is None
    store.save_matte(square, matte)
    assert store.load_matte(square) is not None
