"""Model files: ours (`.safetensors`) and the authors' (`.pth.tar`), read safely or refused in one sentence."""

import dataclasses
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialize
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mcnet.config import MOTION_SIZE_PX, Conditioning, ConfigError, HourglassConfig, McnetConfig, MemoryConfig
from mcnet.files import replacing
from mcnet.generator import Mcnet
from mcnet.model_card import FORMAT, fit_to_show, is_safetensors
from mcnet.model_file import (
    CheckpointError,
    ModelFile,
    ModelInfo,
    content_hash,
    find_model,
    is_counter,
    refuse_not_finite,
    refuse_wrong_shapes,
)
from mcnet.phrases import listed, phrase

_SHOWN = 5


def load_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> Mcnet:
    """Load a model in evaluation mode, in float32.

    Args:
        name_or_path: a bundled model's name (`starter`), our `.safetensors` file, a folder that holds one (as
            `mcnet-train export` writes it, or a run that learns), or the authors' `.pth.tar`.
        device: where its weights go.

    Raises:
        CheckpointError: no such model, or the file is truncated, unsafe, of the wrong shape or holds NaN. Nothing is
            half-loaded.
    """
    path = find_model(name_or_path)
    if is_safetensors(path):
        model = assemble(ModelFile.read(path))
    else:
        released = _read_released(path)
        model = build_released(released, str(path))
        model.info = ModelInfo(name=path.name.split(".")[0], content_hash=content_hash(released))
    try:
        return model.to(device)
    except (AssertionError, RuntimeError) as error:  # what torch raises where there is no such device
        raise CheckpointError(
            phrase("cannot put the model on {device}: {cause}; use cpu", device=device, cause=_first_line(error))
        ) from error


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
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"cannot write a model to {path}: got suffix {path.suffix!r}, expected .safetensors")
    weights = {key: value.detach().cpu() for key, value in model.state_dict().items() if not is_counter(key)}
    refuse_not_finite(weights, "the model to write")
    dtype = torch.float16 if half else torch.float32
    tensors = {key: value.to(dtype).contiguous() for key, value in weights.items()}
    if half and any(not torch.isfinite(value).all() for value in tensors.values()):
        raise CheckpointError("the model has weights beyond float16's range of 65504: store it without half")
    info = dataclasses.replace(model.info, name=fit_to_show(model.info.name), content_hash=content_hash(tensors))
    metadata = {
        "format": FORMAT,
        "name": info.name,
        "config": json.dumps(model.config.to_dict()),
        "training": json.dumps(dict(info.training)),
        "content_hash": info.content_hash,
    }
    if info.ranges:
        metadata["ranges"] = json.dumps(dict(info.ranges))
    try:
        with replacing(path) as partial:
            # As bytes, since safetensors' own files are readable to their owner alone.
            partial.write_bytes(serialize(tensors, metadata))
    except OSError as error:
        raise CheckpointError(f"cannot write a model to {path}: {error.strerror or error}") from error
    return info


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
    return _build(config, tensors, where, {})


def build_released(released: Mapping[str, Tensor], where: str) -> Mcnet:
    """A model from the authors' tensors; its configuration follows from their shapes.

    Args:
        released: keys `generator.*` and `kp_detector.*`, without `module.`.
        where: the file's name for messages.

    Raises:
        CheckpointError: as `build`, with the file's own keys.
    """
    try:
        config = _config_from_shapes({key: tuple(tensor.shape) for key, tensor in released.items()})
    except (ConfigError, _NotDerivableError):
        config = McnetConfig.named("released")  # `build` then says what is amiss
    ours = _without_weights(config).state_dict()
    names = {key: _released_key(key, config) for key in ours}
    tensors = {key: released[name] for key, name in names.items() if name in released}
    bank = "generator.memory.modulated_bank.weight"
    if bank in tensors and tensors[bank].dim() == 5 and len(tensors[bank]) == 1:
        tensors[bank] = tensors[bank][0]  # the released one has a leading axis of 1, for grouped convolution
    known = set(names.values())
    return _build(config, tensors | {key: value for key, value in released.items() if key not in known}, where, names)


def _build(config: McnetConfig, tensors: Mapping[str, Tensor], where: str, names: Mapping[str, str]) -> Mcnet:
    """See `build`; `names` gives the file's own keys for ours, where they differ."""
    given = {key: tensor for key, tensor in tensors.items() if not is_counter(key)}
    refuse_wrong_shapes(config, given, where, names)
    for key, tensor in given.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided:
            kind = f"{tensor.dtype} {tensor.layout}".replace("torch.", "")
            raise CheckpointError(
                phrase(
                    "{where}: {key} is a {kind} tensor, expected plain floating point",
                    where=where,
                    key=names.get(key, key),
                    kind=kind,
                )
            )
    weights = {key: tensor.detach().to("cpu", torch.float32, copy=True) for key, tensor in given.items()}
    refuse_not_finite({names.get(key, key): tensor for key, tensor in weights.items()}, where)
    return _filled(config, weights)


def assemble(file: ModelFile) -> Mcnet:
    """The network of weights whose names and shapes are right, in float32 and evaluation mode."""
    weights = {key: torch.tensor(weight, dtype=torch.float32) for key, weight in file.weights.items()}
    model = _filled(file.config, weights)
    model.info = file.info
    return model


def _filled(config: McnetConfig, weights: Mapping[str, Tensor]) -> Mcnet:
    """A network of weights whose names and shapes are right."""
    model = _without_weights(config)
    counters = {key: torch.tensor(0) for key in model.state_dict() if is_counter(key)}
    model.load_state_dict({**weights, **counters}, strict=True, assign=True)
    return model.eval()


def _without_weights(config: McnetConfig) -> Mcnet:
    """A network on the meta device: shapes without memory."""
    with torch.device("meta"), _NotFilled():
        return Mcnet(config)


class _NotFilled(TorchFunctionMode):
    """Leaves out, or to the CPU, what would make torch import its compiler on the meta device: most of a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func is torch.randn:
            return torch.empty(*args)
        if func in (torch.arange, torch.eye):
            return func(*args, **(kwargs | {"device": "cpu"}))
        return func(*args, **kwargs)


def _read_released(path: Path) -> dict[str, Tensor]:
    """The authors' file: a pickled dict with `generator` and `kp_detector`; the rest is left out."""
    try:
        with warnings.catch_warnings(), path.open("rb") as opened:  # torch goes by the name of one that is not opened
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # whether it reads is what counts
            file = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle makes torch's reader fail in many ways, and all mean the same
        wanted = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if wanted:
            raise CheckpointError(
                phrase(
                    "{path} is refused: besides tensors it holds something that could run code when it is read "
                    "({wanted}); do not trust where it came from, or have it saved again with tensors only",
                    path=path,
                    wanted=wanted[1],
                )
            ) from None
        raise CheckpointError(
            phrase(
                "{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; get it again",
                path=path,
            )
        ) from error
    parts = ("generator", "kp_detector")
    if not isinstance(file, dict) or not all(isinstance(file.get(part), dict) for part in parts):
        found = listed(map(str, list(file)[:_SHOWN])) if isinstance(file, dict) else type(file).__name__
        raise CheckpointError(
            phrase(
                "{path} is no MCNet checkpoint: got {found}, expected dicts named {parts}",
                path=path,
                found=found,
                parts=listed(parts, "and"),
            )
        )
    released: dict[str, Tensor] = {}
    for part in parts:
        for key, tensor in file[part].items():
            if not isinstance(key, str) or not isinstance(tensor, Tensor):
                raise CheckpointError(
                    phrase(
                        "{path}: {part}.{key} is a {kind}, expected a name and a tensor",
                        path=path,
                        part=part,
                        key=key,
                        kind=type(tensor).__name__,
                    )
                )
            released[f"{part}.{key.removeprefix('module.')}"] = tensor
    return released


# Our name -> the released one; the first that fits. Hourglasses, ResBlocks and levels: see `_released_key`.
_RENAMES = [
    (r"^keypoint_detector\.shrink\.", "kp_detector.down."),
    (r"^keypoint_detector\.logits\.", "kp_detector.kp."),
    (r"^keypoint_detector\.jacobians\.", "kp_detector.jacobian."),
    (r"^keypoint_detector\.hourglass\.down_blocks\.", "kp_detector.predictor.encoder.down_blocks."),
    (r"^keypoint_detector\.hourglass\.up_blocks\.", "kp_detector.predictor.decoder.up_blocks."),
    (r"^generator\.dense_motion\.shrink\.", "generator.dense_motion_network.down."),
    (
        r"^generator\.dense_motion\.hourglass\.down_blocks\.",
        "generator.dense_motion_network.hourglass.encoder.down_blocks.",
    ),
    (
        r"^generator\.dense_motion\.hourglass\.up_blocks\.",
        "generator.dense_motion_network.hourglass.decoder.up_blocks.",
    ),
    (r"^generator\.dense_motion\.", "generator.dense_motion_network."),
    (r"^generator\.laterals\.", "generator.lateral."),
    (r"^generator\.memory\.bank$", "generator.mbUnit.mb"),
    (r"^generator\.memory\.levels\.(\d+)\.inward\.", r"generator.mbUnit.feat_forward_proj_\1."),
    (r"^generator\.memory\.levels\.(\d+)\.outward\.", r"generator.mbUnit.conv_\1."),
    (r"^generator\.memory\.levels\.(\d+)\.norm\.", r"generator.mbUnit.norm_\1."),
    (r"^generator\.memory\.query\.", "generator.mbUnit.query_conv."),
    (r"^generator\.memory\.difference\.", "generator.mbUnit.diff_conv."),
    (r"^generator\.memory\.key_value\.squeeze\.", "generator.mbUnit.conv_kv.attention.fc1."),
    (r"^generator\.memory\.key_value\.excite\.", "generator.mbUnit.conv_kv.attention.fc2."),
    (r"^generator\.memory\.key_value\.", "generator.mbUnit.conv_kv."),
    (r"^generator\.memory\.modulated_bank\.noise_strength$", "generator.mbUnit.styleconv.weight"),
    (r"^generator\.memory\.modulated_bank\.bias$", "generator.mbUnit.styleconv.activate.bias"),
    (
        r"^generator\.memory\.modulated_bank\.modulation_",
        "generator.mbUnit.styleconv.modulated_conv.modulation.",
    ),
    (r"^generator\.memory\.modulated_bank\.", "generator.mbUnit.styleconv.modulated_conv."),
    (r"^generator\.memory\.", "generator.mbUnit."),
]


def _released_key(ours: str, config: McnetConfig) -> str:
    """The authors' name of a weight of ours."""
    if match := re.match(r"^generator\.res_stages\.(\d+)\.(\d+)\.(.+)$", ours):
        number = sum(config.resblocks[: int(match[1])]) + int(match[2])  # theirs are counted through
        return f"generator.resblock.{number}.{match[3]}"
    for pattern, released in _RENAMES:
        renamed, count = re.subn(pattern, released, ours)
        if count:
            return renamed
    return ours


class _NotDerivableError(Exception):
    """A weight that tells of the configuration is missing or has another number of axes."""


def _config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> McnetConfig:
    """The configuration that the released keys' shapes describe.

    Raises:
        ConfigError: they describe none of this family.
        _NotDerivableError: a weight that tells of it is missing.
    """

    def count(pattern: str) -> int:
        return len({match[1] for key in shapes if (match := re.match(pattern, key))})

    def shape(key: str, axes: int = 4) -> tuple[int, ...]:
        if len(shapes.get(key, ())) != axes:
            raise _NotDerivableError(key)
        return shapes[key]

    def hourglass(prefix: str, head: str) -> HourglassConfig:
        blocks = count(rf"{re.escape(prefix)}encoder\.down_blocks\.(\d+)\.conv\.weight$")
        return HourglassConfig(
            width=shape(f"{prefix}decoder.up_blocks.{blocks - 1}.conv.weight")[0],
            max_width=shape(f"{prefix}encoder.down_blocks.{blocks - 1}.conv.weight")[0],
            blocks=blocks,
            head_kernel=shape(head)[2],
        )

    num_keypoints = shape("kp_detector.kp.weight")[0]
    downs = count(r"generator\.down_blocks\.(\d+)\.conv\.weight$")
    encoder_widths = (
        shape("generator.first.conv.weight")[0],
        *(shape(f"generator.down_blocks.{i}.conv.weight")[0] for i in range(downs)),
    )
    lateral = "generator.lateral.0.weight" in shapes
    decoder_widths = encoder_widths[::-1]
    if lateral:
        decoder_widths = tuple(shape(f"generator.lateral.{i}.weight")[0] for i in range(downs + 1))
    resblocks = count(r"generator\.resblock\.(\d+)\.conv1\.weight$")
    if downs < 1 or resblocks % downs:
        raise ConfigError(f"got {resblocks} ResBlocks in {downs} levels, expected as many in each level")
    # The kernel's side is 4 (factor - 1) + 1: see AntiAlias.
    shrink_factor = (shape("kp_detector.down.weight")[2] - 1) // 4 + 1
    levels = sorted(
        int(match[1]) for key in shapes if (match := re.match(r"generator\.mbUnit\.norm_(\d+)\.weight$", key))
    )
    _, channels, size, _ = shape("generator.mbUnit.mb")
    code_hidden, code_size = shape("generator.mbUnit.style_route.0.weight", axes=2)
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
        output_kernel=shape("generator.final.weight")[2],
        memory=MemoryConfig(
            channels=channels,
            size=size,
            levels_px=tuple(levels),
            parallel_kernels=shape("generator.mbUnit.conv_kv.weight", axes=5)[0],
            code_hidden=code_hidden,
            conditioning=conditionings[code_size],
        ),
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
