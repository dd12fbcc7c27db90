"""Model files: ours (`.safetensors`) and the authors' (`.pth.tar`), read safely or refused in one sentence."""

import dataclasses
import hashlib
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from assets import ROOT as ASSETS
from mcnet.config import MOTION_SIZE_PX, Conditioning, ConfigError, HourglassConfig, McnetConfig, MemoryConfig
from mcnet.generator import Mcnet, ModelInfo

FORMAT = "mcnet-avatar/1"
_SHOWN = 5


class CheckpointError(ValueError):
    """A model file that cannot be used; the message says what was found, what was expected and what to do."""


def load_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> Mcnet:
    """Load a model in evaluation mode, in float32.

    Args:
        name_or_path: a bundled model's name (`starter`), our `.safetensors` file, or the authors' `.pth.tar`.
        device: where its weights go.

    Raises:
        CheckpointError: no such model, or the file is truncated, unsafe, of the wrong shape or holds NaN. Nothing is
            half-loaded.
    """
    path = find_model(name_or_path)
    if path.suffix == ".safetensors":
        config, info, tensors = _read_safetensors(path)
    else:
        config, tensors = _read_released(path)
        info = ModelInfo(name=path.name.split(".")[0], content_hash=content_hash(tensors))
    model = build(config, tensors, str(path))
    model.info = info
    return model.to(device)


def save_model(model: Mcnet, path: str | Path, *, half: bool = False) -> ModelInfo:
    """Write our format: a safetensors file whose header holds the configuration, name, training facts and hash.

    Args:
        model: its `info` gives name and training facts; the hash is computed anew.
        path: a `.safetensors` file; replaced in one step, so that a failure leaves the old one.
        half: store float16, half the size; it is computed in float32 all the same.

    Returns:
        What was written into the header.

    Raises:
        CheckpointError: the suffix is another, the place cannot be written, or a weight is not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"cannot write a model to {path}: got suffix {path.suffix!r}, expected .safetensors")
    tensors = {
        key: tensor.detach().to("cpu", torch.float16 if half else torch.float32).contiguous()
        for key, tensor in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    _refuse_not_finite(tensors, "the model to write")
    info = dataclasses.replace(model.info, content_hash=content_hash(tensors))
    metadata = {
        "format": FORMAT,
        "name": info.name,
        "config": json.dumps(model.config.to_dict()),
        "training": json.dumps(dict(info.training)),
        "content_hash": info.content_hash,
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, metadata)
        partial.chmod(0o644)  # safetensors writes files that only their owner may read
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write a model to {path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return info


def bundled_models() -> dict[str, Path]:
    """Names and files of the models that ship with the project."""
    return {path.stem: path for path in sorted((ASSETS / "models").glob("*.safetensors"))}


def find_model(name_or_path: str | Path) -> Path:
    """The file of a bundled name or a path.

    Raises:
        CheckpointError: there is neither such a file nor such a name.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    bundled = bundled_models()
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    if str(name_or_path) == "released":
        raise CheckpointError(
            "the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)"
        )
    raise CheckpointError(
        f"no model {str(name_or_path)!r}: got neither a file nor a bundled name, expected a .safetensors or .pth.tar "
        f"file or one of: {', '.join(bundled) or '(none is bundled)'}"
    )


def build(config: McnetConfig, tensors: Mapping[str, Tensor], where: str) -> Mcnet:
    """A model of `config` holding `tensors` (any float type), in float32 and evaluation mode.

    Args:
        config: what to build.
        tensors: our keys, as in `Mcnet.state_dict()`; BatchNorm's counters may be missing.
        where: the file's name for messages.

    Raises:
        CheckpointError: keys are missing or unknown or shapes differ (the first five are named), or a value is not
            finite.
    """
    with torch.device("meta"):
        model = Mcnet(config)
    expected = {key: tensor.shape for key, tensor in model.state_dict().items() if not _is_counter(key)}
    given = {key: tensor for key, tensor in tensors.items() if not _is_counter(key)}
    problems = [f"{key}: got nothing, expected {_shape(expected[key])}" for key in expected if key not in given]
    problems += [f"{key}: got {_shape(given[key].shape)}, expected no such key" for key in given if key not in expected]
    problems += [
        f"{key}: got {_shape(given[key].shape)}, expected {_shape(shape)}"
        for key, shape in expected.items()
        if key in given and given[key].shape != shape
    ]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"{where} does not hold the network it should: {'; '.join(problems[:_SHOWN])}{more}. "
            "Convert the original file again, or use another one"
        )
    _refuse_not_finite(given, where)
    model = model.to_empty(device="cpu")
    counters = {key: torch.tensor(0) for key in model.state_dict() if _is_counter(key)}
    model.load_state_dict({key: tensor.float() for key, tensor in given.items()} | counters, strict=True)
    return model.eval()


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, whatever their order."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        if _is_counter(key):
            continue
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> tuple[McnetConfig, ModelInfo, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no whole safetensors file ({error}): it may be truncated; get it again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a model of ours: got format {metadata.get('format')!r} in its header, expected {FORMAT!r}"
        )
    try:
        config = McnetConfig.from_dict(json.loads(metadata["config"]))
        info = ModelInfo(metadata["name"], metadata["content_hash"], json.loads(metadata["training"]))
    except (ConfigError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} has a header that cannot be used: {error}; a newer version may have written it"
        ) from error
    if (got := content_hash(tensors)) != info.content_hash:
        raise CheckpointError(
            f"{path} is damaged: its tensors hash to {got[:12]}, its header says {info.content_hash[:12]}; get it again"
        )
    return config, info, tensors


def _read_released(path: Path) -> tuple[McnetConfig, dict[str, Tensor]]:
    """The authors' file: a pickled dict with `generator` and `kp_detector`; the rest is left out."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # whether it reads is what counts
            file = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted:
            raise CheckpointError(
                f"{path} is refused: it wants to run code when it is read ({wanted[1]}), and a checkpoint holds "
                "tensors only; do not trust where it came from"
            ) from None
        raise CheckpointError(
            f"{path} is no checkpoint that torch can read; it may be truncated; get it again"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({_first_line(error)}): it may be truncated; get it again"
        ) from error
    parts = ("generator", "kp_detector")
    if not isinstance(file, dict) or not all(isinstance(file.get(part), dict) for part in parts):
        found = ", ".join(map(str, list(file)[:_SHOWN])) if isinstance(file, dict) else type(file).__name__
        raise CheckpointError(f"{path} is no MCNet checkpoint: got {found}, expected dicts named {' and '.join(parts)}")
    released: dict[str, Tensor] = {}
    for part in parts:
        for key, tensor in file[part].items():
            if not isinstance(tensor, Tensor):
                raise CheckpointError(f"{path}: {part}.{key} is a {type(tensor).__name__}, expected a tensor")
            released[f"{part}.{key.removeprefix('module.')}"] = tensor
    return from_released(released, str(path))


def from_released(
    released: Mapping[str, Tensor], where: str = "the checkpoint"
) -> tuple[McnetConfig, dict[str, Tensor]]:
    """Derive the configuration from the shapes of the authors' tensors, and give them our keys.

    Args:
        released: keys `generator.*` and `kp_detector.*`, without `module.`.
        where: the file's name for messages.

    Raises:
        CheckpointError: the shapes describe no member of the family.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in released.items()}
    try:
        config = _config_from_shapes(shapes)
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{where} does not hold the network it should: {error.args[0]}: got nothing, or a tensor of other rank, "
            "expected a weight of the released network"
        ) from error
    except ConfigError as error:
        raise CheckpointError(f"{where} holds no network of this family: {error}") from error
    tensors: dict[str, Tensor] = {}
    for key, tensor in released.items():
        ours = _our_key(key, config)
        if ours == "generator.memory.modulated_bank.weight" and tensor.dim() == 5 and len(tensor) == 1:
            tensor = tensor[0]  # the released one has a leading axis of 1, for grouped convolution
        tensors[ours] = tensor
    return config, tensors


# Released name -> ours, tried in this order on `generator.*` and `kp_detector.*`.
_RENAMES = [
    (r"^kp_detector\.predictor\.(?:en|de)coder\.", "keypoint_detector.hourglass."),
    (r"^kp_detector\.down\.", "keypoint_detector.shrink."),
    (r"^kp_detector\.kp\.", "keypoint_detector.logits."),
    (r"^kp_detector\.jacobian\.", "keypoint_detector.jacobians."),
    (r"^generator\.dense_motion_network\.hourglass\.(?:en|de)coder\.", "generator.dense_motion.hourglass."),
    (r"^generator\.dense_motion_network\.down\.", "generator.dense_motion.shrink."),
    (r"^generator\.dense_motion_network\.", "generator.dense_motion."),
    (r"^generator\.lateral\.", "generator.laterals."),
    (r"^generator\.mbUnit\.mb$", "generator.memory.bank"),
    (r"^generator\.mbUnit\.feat_forward_proj_(\d+)\.", r"generator.memory.levels.\1.inward."),
    (r"^generator\.mbUnit\.conv_(\d+)\.", r"generator.memory.levels.\1.outward."),
    (r"^generator\.mbUnit\.norm_(\d+)\.", r"generator.memory.levels.\1.norm."),
    (r"^generator\.mbUnit\.query_conv\.", "generator.memory.query."),
    (r"^generator\.mbUnit\.diff_conv\.", "generator.memory.difference."),
    (r"^generator\.mbUnit\.conv_kv\.attention\.fc1\.", "generator.memory.key_value.squeeze."),
    (r"^generator\.mbUnit\.conv_kv\.attention\.fc2\.", "generator.memory.key_value.excite."),
    (r"^generator\.mbUnit\.conv_kv\.", "generator.memory.key_value."),
    (r"^generator\.mbUnit\.styleconv\.weight$", "generator.memory.modulated_bank.noise_strength"),
    (r"^generator\.mbUnit\.styleconv\.activate\.bias$", "generator.memory.modulated_bank.bias"),
    (r"^generator\.mbUnit\.styleconv\.modulated_conv\.modulation\.", "generator.memory.modulated_bank.modulation_"),
    (r"^generator\.mbUnit\.styleconv\.modulated_conv\.", "generator.memory.modulated_bank."),
    (r"^generator\.mbUnit\.", "generator.memory."),
]


def _our_key(released: str, config: McnetConfig) -> str:
    if match := re.match(r"^generator\.resblock\.(\d+)\.(.+)$", released):
        places = [(stage, index) for stage, count in enumerate(config.resblocks) for index in range(count)]
        number = int(match[1])
        if number < len(places):
            stage, index = places[number]
            return f"generator.res_stages.{stage}.{index}.{match[2]}"
        return released  # one too many: `build` names it
    for pattern, ours in _RENAMES:
        renamed, count = re.subn(pattern, ours, released)
        if count:
            return renamed
    return released


def _config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> McnetConfig:
    def count(pattern: str) -> int:
        numbers = {match[1] for key in shapes if (match := re.match(pattern, key))}
        return len(numbers)

    def hourglass(prefix: str, head: str) -> HourglassConfig:
        blocks = count(rf"{re.escape(prefix)}encoder\.down_blocks\.(\d+)\.conv\.weight$")
        return HourglassConfig(
            width=shapes[f"{prefix}decoder.up_blocks.{blocks - 1}.conv.weight"][0],
            max_width=shapes[f"{prefix}encoder.down_blocks.{blocks - 1}.conv.weight"][0],
            blocks=blocks,
            head_kernel=shapes[head][2],
        )

    num_keypoints = shapes["kp_detector.kp.weight"][0]
    downs = count(r"generator\.down_blocks\.(\d+)\.conv\.weight$")
    encoder_widths = (
        shapes["generator.first.conv.weight"][0],
        *(shapes[f"generator.down_blocks.{i}.conv.weight"][0] for i in range(downs)),
    )
    lateral = "generator.lateral.0.weight" in shapes
    decoder_widths = (
        (*(shapes[f"generator.lateral.{i}.weight"][0] for i in range(downs + 1)),) if lateral else encoder_widths[::-1]
    )
    resblocks = count(r"generator\.resblock\.(\d+)\.conv1\.weight$")
    if downs < 1 or resblocks % downs:
        raise ConfigError(f"got {resblocks} ResBlocks in {downs} levels, expected as many in each level")
    # The kernel's side is 4 (factor - 1) + 1: see AntiAlias.
    shrink_factor = (shapes["kp_detector.down.weight"][2] - 1) // 4 + 1
    levels = sorted(
        int(match[1]) for key in shapes if (match := re.match(r"generator\.mbUnit\.norm_(\d+)\.weight$", key))
    )
    _, channels, size, _ = shapes["generator.mbUnit.mb"]
    code_size = shapes["generator.mbUnit.style_route.0.weight"][1]
    conditionings: dict[int, Conditioning] = {
        2 * num_keypoints: "keypoints",
        2 * num_keypoints + channels: "keypoints+appearance",
    }
    if code_size not in conditionings:
        raise ConfigError(f"style_route reads {code_size} numbers, expected one of {sorted(conditionings)}")
    return McnetConfig(
        num_keypoints=num_keypoints,
        size_px=shrink_factor * MOTION_SIZE_PX,
        keypoint_hourglass=hourglass("kp_detector.predictor.", "kp_detector.kp.weight"),
        motion_hourglass=hourglass(
            "generator.dense_motion_network.hourglass.", "generator.dense_motion_network.mask.weight"
        ),
        encoder_widths=encoder_widths,
        lateral=lateral,
        decoder_widths=decoder_widths,
        resblocks=(resblocks // downs,) * downs,
        output_kernel=shapes["generator.final.weight"][2],
        memory=MemoryConfig(
            channels=channels,
            size=size,
            levels_px=tuple(levels),
            parallel_kernels=shapes["generator.mbUnit.conv_kv.weight"][0],
            code_hidden=shapes["generator.mbUnit.style_route.0.weight"][0],
            conditioning=conditionings[code_size],
        ),
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_counter(key: str) -> bool:
    """BatchNorm's `num_batches_tracked`, which nothing uses with a fixed momentum."""
    return key.endswith("num_batches_tracked")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"


def _refuse_not_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{where}: {key} holds NaN or infinite values, expected finite weights; the training run that wrote it "
                "diverged, so use an earlier checkpoint"
            )
