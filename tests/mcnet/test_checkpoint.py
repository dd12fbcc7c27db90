"""Model files: what goes in comes out, and what is broken is refused whole."""

import json
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mcnet import (
    CheckpointError,
    Engine,
    EngineOptions,
    Mcnet,
    McnetConfig,
    ModelFile,
    load_model,
    open_model,
    save_model,
)
from mcnet.config import named_configs
from mcnet.model_file import bundled_models, content_hash, is_counter
from mcnet.weight_shapes import weight_shapes
from tests.released import SHAPES, checkpoint, load_case
from tests.tolerance import PICTURE, PLACE


def header(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    metadata: dict[str, str] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    return metadata


def rewrite_file(
    path: Path, *, metadata: dict[str, str] | None = None, tensors: dict[str, Tensor] | None = None
) -> None:
    """Write the file again with other metadata or tensors; its hash stays true unless metadata says otherwise."""
    tensors = tensors or load_file(path)
    save_file(tensors, path, {**header(path), "content_hash": content_hash(tensors), **(metadata or {})})


@pytest.fixture
def saved(tiny: Mcnet, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(tiny, path)
    return path


def test_round_trip(tiny: Mcnet, saved: Path) -> None:
    model = load_model(saved)
    assert model.config == tiny.config
    assert model.info.name == "tiny"
    assert model.info.training == {"steps": 0}
    assert not model.training
    for key, value in tiny.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize("name", ["tiny", "tiny.bin", "tiny.safetensors.part", "tiny.SafeTensors"])
def test_a_file_of_ours_is_known_whatever_its_name(tiny: Mcnet, saved: Path, name: str) -> None:
    """As a download may leave it."""
    path = saved.rename(saved.with_name(name))
    assert load_model(path).config == tiny.config
    assert open_model(path).info.name == "tiny"
    path.write_bytes(path.read_bytes()[:-1])
    for opens in (load_model, open_model):
        with pytest.raises(CheckpointError, match="is no whole safetensors file"):
            opens(path)


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_of_torchs_is_known_whatever_its_name(archive: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=archive)
    for opens in (load_model, open_model):
        with pytest.raises(CheckpointError, match="is no MCNet checkpoint: got a, expected dicts named"):
            opens(path)


def test_half_is_stored_small_and_computed_in_float32(tiny: Mcnet, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    info = save_model(tiny, path, half=True)
    model = load_model(path)
    assert path.stat().st_size < 0.7 * saved.stat().st_size
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert info.content_hash == model.info.content_hash != load_model(saved).info.content_hash


def test_bundled_starter_opens_by_name() -> None:
    assert "starter" in bundled_models()
    assert load_model("starter").info.name == "starter"


@pytest.fixture(scope="module")
def released_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' layout: prefixed keys, an optimizer, an epoch."""
    path = tmp_path_factory.mktemp("released") / "00000099-checkpoint.pth.tar"
    drawn = checkpoint(int(load_case("case_a")["seed"]))
    parts: dict[str, Any] = {
        part: {f"module.{key}": value for key, value in tensors.items()} for part, tensors in drawn.items()
    }
    torch.save({**parts, "optimizer_generator": {"state": {0: {"step": 3}}}, "epoch": 99}, path)
    return path


def test_a_released_checkpoint_converts_and_gives_what_is_stored(released_file: Path, tmp_path: Path) -> None:
    released = load_model(released_file)
    assert released.config == McnetConfig.named("released")
    converted = tmp_path / "released.safetensors"
    save_model(released, converted)
    stored = load_case("case_a")
    engine = Engine(load_model(converted), EngineOptions("cpu", "fp32", "torch", warm_up_frames=0))
    source = engine.set_source(stored["source"]).keypoints
    # Absolute motion shows these keypoints as they are; what the picture of given ones is, the one below tells.
    for name, found in (("source", source), ("driving", engine.detect(stored["driving"]))):
        assert np.abs(found.value - stored[f"kp_{name}_value"]).max() <= PLACE
        assert np.abs(found.jacobian - stored[f"kp_{name}_jacobian"]).max() <= PLACE
    engine.calibrate(stored["driving_initial"])
    got = engine.animate(stored["driving"], relative=True, adapt_scale=True)
    off = 0.5 + 255 * PICTURE  # half a step is what rounding takes
    assert np.abs(got - stored["relative_prediction"][0].transpose(1, 2, 0) * 255).max() <= off


def test_missing_model_names_the_bundled_ones() -> None:
    with pytest.raises(CheckpointError, match=r"no model 'nobody'.*starter"):
        load_model("nobody")
    with pytest.raises(CheckpointError, match="not bundled"):
        load_model("released")
    for name in ("a" * 300, "~nobody-of-that-name/model.safetensors"):
        with pytest.raises(CheckpointError, match="no model"):
            load_model(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_device_that_is_not_there(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot put the model on cuda"):
        load_model(saved, "cuda")


def test_half_says_what_does_not_fit(tiny: Mcnet, tmp_path: Path) -> None:
    with torch.no_grad():
        tiny.generator.final.weight[0, 0, 0, 0] = 70000
    with pytest.raises(CheckpointError, match="beyond float16's range"):
        save_model(tiny, tmp_path / "half.safetensors", half=True)
    save_model(tiny, tmp_path / "whole.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_truncated_safetensors(saved: Path, kept: float) -> None:
    raw = saved.read_bytes()
    saved.write_bytes(raw[: int(kept if kept > 1 or kept == 0 else kept * len(raw))])
    with pytest.raises(CheckpointError, match="truncated"):
        load_model(saved)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def to_rubbish(path: Path) -> None:
    path.write_bytes(b"not a checkpoint at all")


def to_nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, to_rubbish, to_nothing])
def test_damaged_pickle(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "model.pth.tar"
    torch.save({"generator": {"a": torch.zeros(9999)}, "kp_detector": {}}, path)
    damage(path)
    with pytest.raises(CheckpointError, match="truncated"):
        load_model(path)


class Trap:
    """Pickles to a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path: Path, legacy: bool) -> None:
    path, proof = tmp_path / "model.pth.tar", tmp_path / "ran"
    if legacy:
        path.write_bytes(pickle.dumps({"generator": Trap(proof), "kp_detector": {}}, protocol=2))
    else:
        torch.save({"generator": Trap(proof), "kp_detector": {}}, path)
    with pytest.raises(CheckpointError, match=r"refused: .*could run code.*posix\.mkdir"):
        load_model(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "got list, expected dicts named generator and kp_detector"),
        ({"state_dict": {}}, "got state_dict, expected dicts named generator and kp_detector"),
        (
            {"generator": {}, "kp_detector": {}},
            "down.weight: got nothing, expected 3x1x13x13.*; and 278 more",
        ),
        ({"generator": {"a": 3}, "kp_detector": {}}, "generator.a is a int, expected a name and a tensor"),
    ],
)
def test_pickle_of_something_else(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "model.pth.tar"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


@pytest.fixture(scope="module")
def blank() -> dict[str, dict[str, Tensor]]:
    """The released network's names and shapes, all of a part's numbers one zero: files of kilobytes, not of 400 MB."""
    return {
        part: {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()} for part, shapes in SHAPES.items()
    }


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("generator", "mbUnit.diff_conv.bias", None, "generator.mbUnit.diff_conv.bias: got nothing, expected 512"),
        ("generator", "mbUnit.query_conv.bias", torch.zeros(3), "query_conv.bias: got 3, expected 512"),
        ("generator", "extra.weight", torch.zeros(2, 3), "generator.extra.weight: got 2x3, expected no such key"),
        ("generator", "mbUnit.mb", torch.zeros(512, 32, 32), "mbUnit.mb: got 512x32x32, expected 1x512x32x32"),
        ("kp_detector", "down.weight", torch.zeros(13), "kp_detector.down.weight: got 13, expected 3x1x13x13"),
        ("generator", "resblock.5.conv1.weight", None, "resblock.5.conv1.weight: got nothing"),
        ("generator", "final.bias", torch.full((3,), 1e300, dtype=torch.float64), "final.bias holds NaN or infinite"),
        ("generator", "final.bias", torch.zeros(3, dtype=torch.complex64), "final.bias is a complex64 strided tensor"),
        ("generator", "final.bias", torch.zeros(3).to_sparse(), "final.bias is a float32 sparse_coo tensor"),
        ("generator", "final.bias", torch.zeros(3, dtype=torch.int64), "final.bias is a int64 strided tensor"),
        ("generator", 3, torch.zeros(3), "generator.3 is a Tensor, expected a name and a tensor"),
    ],
)
def test_broken_parts_of_a_pickle_are_named_as_in_the_file(
    blank: dict[str, dict[str, Tensor]], tmp_path: Path, part: str, key: Any, value: Tensor | None, message: str
) -> None:
    parts: dict[str, dict[Any, Any]] = {name: dict(tensors) for name, tensors in blank.items()}
    parts[part].pop(key, None)
    if value is not None:
        parts[part][key] = value
    path = tmp_path / "model.pth.tar"
    torch.save(parts, path)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_model(path)


def test_damaged_pickles_never_end_in_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = tmp_path / "whole.pth.tar"
    torch.save({"generator": {"a": torch.zeros(9)}, "kp_detector": {}}, whole)
    legacy = tmp_path / "legacy.pth.tar"
    torch.save({"generator": {"a": torch.zeros(9)}, "kp_detector": {}}, legacy, _use_new_zipfile_serialization=False)
    damaged = tmp_path / "damaged.pth.tar"
    for path in (whole, legacy):
        for _ in range(150):
            raw = bytearray(path.read_bytes())
            for place in rng.integers(0, len(raw), 3):
                raw[place] = rng.integers(0, 256)
            damaged.write_bytes(bytes(raw))
            with pytest.raises(CheckpointError):
                load_model(damaged)


def test_first_five_wrong_keys_are_named(saved: Path) -> None:
    tensors = load_file(saved)
    for key in list(tensors)[:8]:
        del tensors[key]
    rewrite_file(saved, tensors=tensors)
    with pytest.raises(CheckpointError, match="; and 3 more") as refusal:
        load_model(saved)
    assert str(refusal.value).count("got nothing") == 5


def test_a_weight_that_was_cut_is_named_by_whoever_opens_the_file(saved: Path) -> None:
    tensors = load_file(saved)
    tensors["generator.final.weight"] = tensors["generator.final.weight"][:2].contiguous()
    rewrite_file(saved, tensors=tensors)
    for open_file in (ModelFile.read, open_model, load_model):
        with pytest.raises(CheckpointError) as refusal:
            open_file(saved)
        assert str(refusal.value) == (
            f"{saved} does not hold the network it should: generator.final.weight: got 2x8x3x3, expected 3x8x3x3. "
            "Convert the original file again, or use another one"
        )


def configs() -> list[McnetConfig]:
    """The named ones, and what else tells of shapes."""
    tiny = McnetConfig.named("tiny")
    changes: list[dict[str, Any]] = [
        *({"size_px": size_px, "memory": replace(tiny.memory, levels_px=())} for size_px in (64, 128, 512)),
        {"memory": replace(tiny.memory, conditioning="none")},
        {"memory": replace(tiny.memory, conditioning="keypoints+appearance", levels_px=(128,))},
        {"lateral": False, "decoder_widths": tiny.encoder_widths[::-1], "resblocks": (2, 0, 1), "output_kernel": 7},
        {"keypoint_hourglass": replace(tiny.keypoint_hourglass, blocks=1, max_width=4, head_kernel=7)},
    ]
    return [*map(McnetConfig.named, named_configs()), *(replace(tiny, **change) for change in changes)]


@pytest.mark.parametrize("config", configs())
def test_the_shapes_that_a_file_must_have_are_the_networks(config: McnetConfig) -> None:
    with torch.device("meta"):
        network = Mcnet(config).state_dict()
    assert weight_shapes(config) == {key: tuple(value.shape) for key, value in network.items() if not is_counter(key)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.bool])
def test_tensors_and_arrays_have_the_same_hash(dtype: torch.dtype) -> None:
    tensors = {"b": torch.arange(6).reshape(2, 3).to(dtype), "a": torch.tensor(1).to(dtype)}
    tensors["c"] = tensors["b"].T  # not contiguous
    arrays = {key: tensor.numpy() for key, tensor in reversed(tensors.items())}
    assert content_hash(tensors) == content_hash(arrays)
    assert content_hash(arrays | {"norm.num_batches_tracked": np.array(7)}) == content_hash(tensors)
    assert content_hash(arrays | {"b": arrays["b"].reshape(3, 2)}) != content_hash(tensors)


def test_unknown_config_key(saved: Path) -> None:
    config = json.loads(header(saved)["config"]) | {"wings": 2}
    rewrite_file(saved, metadata={"config": json.dumps(config)})
    with pytest.raises(CheckpointError, match="unknown config key wings"):
        load_model(saved)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("config", '["abc"]', "expected a table"),
        ("training", "[1]", "expected a table"),
        ("config", "{", "header that cannot be used"),
        ("config", "[" * 100_000, "header that cannot be used"),
        ("training", "9" * 5000, "header that cannot be used"),
        ("config", '{"encoder_widths": [-8, 16, 24, 32]}', "encoder_widths: got (-8, 16, 24, 32)"),
        ("config", '{"output_kernel": -1}', "output_kernel: got -1, expected an odd number"),
    ],
)
def test_header_that_cannot_be_built(saved: Path, key: str, text: str, message: str) -> None:
    if text.startswith('{"'):
        text = json.dumps(json.loads(header(saved)[key]) | json.loads(text))
    rewrite_file(saved, metadata={key: text})
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_model(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(saved: Path, value: float) -> None:
    tensors = load_file(saved)
    tensors["generator.final.weight"][0, 0, 0, 0] = value
    rewrite_file(saved, tensors=tensors)
    with pytest.raises(CheckpointError, match=r"generator\.final\.weight holds NaN or infinite"):
        load_model(saved)


@pytest.mark.parametrize(
    ("dtype", "kind"), [(torch.int64, "I64"), (torch.bfloat16, "BF16"), (torch.float8_e4m3fn, "F8_E4M3")]
)
@pytest.mark.parametrize("open_file", [load_model, open_model])
def test_weights_of_other_types_are_named(
    saved: Path, open_file: Callable[[Path], object], dtype: torch.dtype, kind: str
) -> None:
    """Whoever opens the file: with torch or without."""
    tensors = load_file(saved)
    tensors["generator.final.bias"] = tensors["generator.final.bias"].to(dtype)
    rewrite_file(saved, tensors=tensors)
    with pytest.raises(CheckpointError, match=rf"final\.bias is a tensor of {kind}, expected F32 or F16"):
        open_file(saved)


def test_changed_weights_do_not_pass_for_the_model(saved: Path) -> None:
    raw = bytearray(saved.read_bytes())
    raw[-3] ^= 1
    saved.write_bytes(bytes(raw))
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(saved)


@pytest.mark.parametrize("missing", ["format", "config", "name", "training"])
def test_header_without_its_facts(saved: Path, missing: str) -> None:
    tensors = load_file(saved)
    save_file(tensors, saved, {key: value for key, value in header(saved).items() if key != missing})
    with pytest.raises(CheckpointError, match="header"):
        load_model(saved)


def test_a_suffix_in_capitals_is_written_as_it_is_read(tiny: Mcnet, tmp_path: Path) -> None:
    info = save_model(tiny, tmp_path / "A.SAFETENSORS")
    assert load_model(tmp_path / "A.SAFETENSORS").info.content_hash == info.content_hash


def test_failed_save_leaves_the_old_file(tiny: Mcnet, saved: Path) -> None:
    before = saved.read_bytes()
    with torch.no_grad():
        tiny.generator.final.weight.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="NaN"):
        save_model(tiny, saved)
    with pytest.raises(CheckpointError, match=r"suffix '\.pth', expected \.safetensors"):
        save_model(tiny, saved.with_suffix(".pth"))
    with pytest.raises(CheckpointError, match="cannot write"):
        save_model(load_model(saved), saved.parent / "no" / "such" / "folder.safetensors")
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
