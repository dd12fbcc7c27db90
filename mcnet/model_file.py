"""Model files of ours (`.safetensors`), found and read as numpy's arrays: no torch is needed for that."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open

from assets import ROOT as ASSETS
from mcnet.arrays import Array, Keypoints
from mcnet.config import ConfigError, McnetConfig, range_names
from mcnet.errors import UserError
from mcnet.files import as_written
from mcnet.mesh_points import MESH_SIZE
from mcnet.model_card import FORMAT, CardError, fit_to_show
from mcnet.model_card import model_file as file_in_folder
from mcnet.phrases import listed, offered, phrase
from mcnet.pose import (
    Jacobians,
    LinearMap,
    TensorOrArray,
    invert_2x2,
    irises_have_lids,
    jacobians_of_places,
    namespace,
    squeezes,
    tells_rotation,
)
from mcnet.weight_shapes import weight_shapes

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 5
_LARGEST = float(np.finfo(np.float32).max)
_FLOATS = {"F16", "F32", "F64"}
"""Types of tensors that are read, by safetensors' names: NumPy has them all."""

LINEAR_JACOBIANS = "linear_jacobians"
"""What the training facts call the map of that name, beside what else they say of keypoints."""
IRISES, SQUEEZED = "irises", "squeezed"
"""What they say of irises that lids squeeze."""
Ranges = Mapping[str, tuple[float, float]]
"""Least and largest value that may go into a convolution, by its name in the rewritten generator; `warped_N` is what
the motion shows of the source at N px."""


class CheckpointError(UserError, ValueError):
    """A model file that cannot be used; the message says what was found, what was expected and what to do."""


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What is known about a model's weights."""

    name: str = "untitled"
    content_hash: str = ""
    """SHA-256 of the weights as stored; empty for weights that were never stored."""
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Facts of the training run: data, steps, metrics. Plain values, ready for JSON."""
    ranges: Ranges = dataclasses.field(default_factory=dict)
    """Least and largest value that may go into each convolution that is computed in 8 bits, by its name in the fast
    network (`mcnet.config.range_names`). Empty: not measured, so that nothing is."""

    @property
    def keypoint_landmarks(self) -> tuple[int, ...]:
        """Which points of the face mesh the keypoints were trained to lie on, in the keypoints' order: of its 468, or
        of the ten on the irises behind them.

        Empty where keypoints mean nothing, as those that a network found by itself.
        """
        if isinstance(stated := self.training.get("keypoints"), Mapping):
            return _mesh_points(stated.get("points"))
        loss = self.training.get("loss")
        if not isinstance(loss, Mapping) or not (loss.get("guidance") or loss.get("guidance_late")):
            return ()
        return _mesh_points(loss.get("guidance_points"))

    @property
    def keypoint_jacobians(self) -> Jacobians:
        """Where the jacobians came from when the network was trained on measured keypoints; see `mcnet.pose`."""
        stated = self.training.get("keypoints")
        kind = stated.get("jacobians") if isinstance(stated, Mapping) else None
        if kind == "rotation" and tells_rotation(self.keypoint_landmarks):
            return "rotation"
        return "identity" if kind == "identity" and self.keypoint_landmarks else "detected"

    @functools.cached_property
    def squeezes_irises(self) -> bool:
        """Whether the network was trained with irises that lids squeeze (`mcnet.pose.squeezes`)."""
        stated = self.training.get("keypoints")
        squeezed = isinstance(stated, Mapping) and stated.get(IRISES) == SQUEEZED
        return squeezed and irises_have_lids(self.keypoint_landmarks)

    @functools.cached_property
    def linear_jacobians(self) -> LinearMap:
        """The map from places to jacobians that motion in space takes; empty where the file has none.

        Raises:
            ConfigError: it is none for the file's keypoints.
        """
        stated = self.training.get("keypoints")
        if not isinstance(stated, Mapping) or LINEAR_JACOBIANS not in stated:
            return ()
        count = len(self.keypoint_landmarks)
        expected = (2 * count + 1, 4 * count)
        rows = stated[LINEAR_JACOBIANS]
        if not count or not _is_matrix(rows, *expected):
            raise ConfigError(
                phrase(
                    "its linear jacobians are no {rows} rows of {columns} numbers, as {count} keypoints on the face "
                    "mesh have them",
                    rows=expected[0],
                    columns=expected[1],
                    count=count,
                )
            )
        if beyond := [value for row in rows for value in row if not -_LARGEST < value < _LARGEST]:  # so is NaN
            raise ConfigError(phrase("its linear jacobians have {value}, expected finite numbers", value=beyond[0]))
        return tuple(tuple(map(float, row)) for row in rows)

    @property
    def detects(self) -> bool:
        """Whether the keypoints may be detected. Not where the network was trained on measured ones alone, whose
        jacobians follow from their places.
        """
        stated = self.training.get("keypoints")
        if not isinstance(stated, Mapping) or self.keypoint_jacobians == "detected":
            return True
        return bool(stated.get("detected_share", 1.0))


def _is_matrix(rows: object, height: int, width: int) -> bool:
    """Whether something out of a file is so many rows of so many numbers."""
    return (
        isinstance(rows, list | tuple)
        and len(rows) == height
        and all(isinstance(row, list | tuple) and len(row) == width for row in rows)
        and all(type(value) in {int, float} for row in rows for value in row)
    )


def _mesh_points(points: object) -> tuple[int, ...]:
    """What a file says of mesh points; empty if these can be none."""
    if not isinstance(points, list | tuple):
        return ()
    return tuple(points) if all(type(point) is int and 0 <= point < MESH_SIZE for point in points) else ()


def with_own_jacobians(info: ModelInfo, keypoints: Keypoints[TensorOrArray]) -> Keypoints[TensorOrArray]:
    """Keypoints at measured places with the jacobians that a model was trained with; the given ones where these are
    detected.
    """
    kind = info.keypoint_jacobians
    if kind == "detected":
        return keypoints
    return keypoints._replace(jacobian=jacobians_of_places(keypoints.value, info.keypoint_landmarks, kind))


def driven_as_trained(
    info: ModelInfo, driving: Keypoints[TensorOrArray], source: Keypoints[TensorOrArray]
) -> Keypoints[TensorOrArray]:
    """Driving keypoints at their last places, all of them measured, as the model was trained to see them.

    Jacobians that follow from the places do so. Where lids squeeze the irises, they do it in both pictures; here both
    squeezes are in the driving jacobians, so that relative motion knows nothing of them: with S of `squeezes`,
    J = S_d J_d J_s^-1 S_s^-1 J_s, and the motion (paper eq. 1) is J_s J^-1 = S_s J_s (S_d J_d)^-1.

    Args:
        info: of the model.
        driving: (B, K, 2) places, (B, K, 2, 2) jacobians.
        source: likewise, batch 1.
    """
    driving = with_own_jacobians(info, driving)
    if not info.squeezes_irises:
        return driving
    points = info.keypoint_landmarks
    own = source.jacobian
    jacobian = squeezes(driving.value, points) @ driving.jacobian @ invert_2x2(own)
    return driving._replace(jacobian=jacobian @ invert_2x2(squeezes(source.value, points)) @ own)


class Described(Protocol):
    """A network, or a file that holds one."""

    @property
    def config(self) -> McnetConfig: ...

    @property
    def info(self) -> ModelInfo: ...


def meant_landmarks(model: Described) -> tuple[int, ...]:
    """Which points of the face mesh a model's keypoints are, in their order; empty where they mean nothing."""
    meant = model.info.keypoint_landmarks
    return meant if len(meant) == model.config.num_keypoints else ()


def may_detect(model: Described) -> bool:
    """Whether a model's keypoints may be detected; if not, they have to be measured."""
    return model.info.detects or not places_suffice(model)


def places_suffice(model: Described) -> bool:
    """Whether the jacobians of measured keypoints follow from their places, so that nothing has to be detected."""
    return bool(meant_landmarks(model)) and model.info.keypoint_jacobians != "detected"


class Network(Described, Protocol):
    """What is asked of `mcnet.generator.Mcnet` here, which imports torch."""

    def state_dict(self) -> dict[str, Any]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class ModelFile:
    """A network as its file holds it: what an engine is made from.

    Attributes:
        config: of the network.
        info: what is known about its weights.
        weights: by the names that `Mcnet.state_dict` gives them, without BatchNorm's counters; float32 or float16.
    """

    config: McnetConfig
    info: ModelInfo
    weights: Mapping[str, Array]

    @classmethod
    def of(cls, model: Network) -> "ModelFile":
        """The weights that a network has now, copied to the host; what becomes of the network later does not matter."""
        weights = {
            key: np.array(tensor.detach().float().cpu().numpy())
            for key, tensor in model.state_dict().items()
            if not is_counter(key)
        }
        return cls(model.config, model.info, weights)

    @classmethod
    def read(cls, path: Path) -> "ModelFile":
        """Read our format.

        Raises:
            CheckpointError: the file is truncated, is not of ours, or was damaged or written by something else; its
                weights are not those of its configuration, or hold NaN. Nothing is half-loaded.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                kinds = {key: str(file.get_slice(key).get_dtype()) for key in file.keys()}  # noqa: SIM118 - it is no dict
                weights = {key: file.get_tensor(key) for key, kind in kinds.items() if kind in _FLOATS}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                phrase(
                    "{path} is no whole safetensors file ({error}): it may be truncated; get it again",
                    path=path,
                    error=error,
                )
            ) from error
        if metadata.get("format") != FORMAT:
            raise CheckpointError(
                phrase(
                    "{path} is not a model of ours: got format {found} in its header, expected {format}",
                    path=path,
                    found=repr(metadata.get("format")),
                    format=repr(FORMAT),
                )
            )
        try:
            config = McnetConfig.from_dict(_table(metadata, "config"))
            ranges = _ranges(metadata, config)
            name = fit_to_show(metadata["name"])
            info = ModelInfo(name, metadata["content_hash"], _table(metadata, "training"), ranges)
            _ = info.linear_jacobians  # which a file may have got wrong
        except (ConfigError, KeyError, ValueError, RecursionError) as error:
            raise CheckpointError(
                phrase(
                    "{path} has a header that cannot be used: {error}; a newer version may have written it",
                    path=path,
                    error=error,
                )
            ) from error
        for key, kind in kinds.items():
            if kind not in _FLOATS and not is_counter(key):
                raise CheckpointError(
                    phrase(
                        "{path}: {key} is a tensor of {kind}, expected F32 or F16 as we write them: have the model "
                        "saved again as one of these",
                        path=path,
                        key=key,
                        kind=kind,
                    )
                )
        if (got := content_hash(weights)) != info.content_hash:
            raise CheckpointError(
                phrase(
                    "{path} is damaged: its tensors hash to {got}, its header says {content_hash}; get it again",
                    path=path,
                    got=got[:12],
                    content_hash=info.content_hash[:12],
                )
            )
        refuse_wrong_shapes(config, weights, str(path))
        refuse_not_finite(weights, str(path))
        return cls(config, info, weights)

    @property
    def keypoint_landmarks(self) -> tuple[int, ...]:
        """Which points of the face mesh the keypoints are, in their order; empty where they mean nothing."""
        return meant_landmarks(self)

    @property
    def places_suffice(self) -> bool:
        """Whether jacobians follow from measured places, so that nothing has to be detected."""
        return places_suffice(self)

    @property
    def detects(self) -> bool:
        """Whether keypoints may be detected; if not, they have to be measured."""
        return may_detect(self)

    @property
    def hash_in_float32(self) -> str:
        """Of the weights as they are computed with, whatever the file holds them in."""
        return _digest((key, self.weights[key].astype(np.float32, copy=False)) for key in sorted(self.weights))


def bundled_models() -> dict[str, Path]:
    """Names and files of the models that ship with the project."""
    return {path.stem: path for path in sorted((ASSETS / "models").glob("*.safetensors"))}


def find_model(name_or_path: str | Path) -> Path:
    """The file of a bundled name, a path, or a model's folder.

    Raises:
        CheckpointError: there is neither such a file nor such a name, or the folder holds no model.
    """
    folder: Path | None = None
    with contextlib.suppress(OSError):  # too long a name: no such file either
        path = as_written(name_or_path)
        if path.is_file():
            return path
        folder = path if path.is_dir() else None
    bundled = bundled_models()
    if str(name_or_path) in bundled:
        return bundled[str(name_or_path)]
    if folder is not None:
        try:
            return file_in_folder(folder)
        except CardError as error:
            raise CheckpointError(str(error)) from error
    if str(name_or_path) == "released":
        raise CheckpointError(
            phrase(
                "the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)"
            )
        )
    raise CheckpointError(
        phrase(
            "no model {name_or_path}: got neither a file, a folder nor a bundled name, expected a .safetensors or "
            ".pth.tar file or a model's folder (check the path) or one of: {bundled}",
            name_or_path=repr(str(name_or_path)),
            bundled=offered(bundled, str(name_or_path)) or phrase("(none is bundled)"),
        )
    )


def content_hash(weights: "Mapping[str, Tensor] | Mapping[str, Array]") -> str:
    """SHA-256 over names, types, shapes and bytes of weights, whatever their order; counters are left out.

    Tensors and the arrays of the same numbers have the same.
    """
    return _digest((key, weights[key]) for key in sorted(weights))


def is_counter(key: str) -> bool:
    """Whether a weight is BatchNorm's `num_batches_tracked`, which nothing uses with a fixed momentum."""
    return key.endswith("num_batches_tracked")


def refuse_wrong_shapes(
    config: McnetConfig,
    weights: "Mapping[str, Tensor] | Mapping[str, Array]",
    where: str,
    names: Mapping[str, str] | None = None,
) -> None:
    """See that weights are those that a configuration has, by name and shape.

    Args:
        config: of the network.
        weights: by our names, without counters.
        where: the file's name for messages.
        names: the file's own names for ours, where they differ.

    Raises:
        CheckpointError: some are missing, unknown or of another shape; the first five are named.
    """
    names, expected = names or {}, weight_shapes(config)
    given = {key: tuple(weight.shape) for key, weight in weights.items()}
    problems = [
        phrase(
            "{key}: got {got}, expected {expected}",
            key=names.get(key, key),
            got=_shape(given[key]) if key in given else phrase("nothing"),
            expected=_shape(shape),
        )
        for key, shape in expected.items()
        if given.get(key) != shape
    ]
    problems += [
        phrase("{key}: got {got}, expected no such key", key=key, got=_shape(given[key]))
        for key in given
        if key not in expected
    ]
    if problems:
        shown = listed(problems[:_SHOWN], ";")
        if len(problems) > _SHOWN:
            shown = phrase("{problems}; and {number} more", problems=shown, number=len(problems) - _SHOWN)
        raise CheckpointError(
            phrase(
                "{where} does not hold the network it should: {problems}. Convert the original file again, or use "
                "another one",
                where=where,
                problems=shown,
            )
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or phrase("a single number")


def refuse_not_finite(weights: "Mapping[str, Tensor] | Mapping[str, Array]", where: str) -> None:
    """See that all weights are numbers.

    Raises:
        CheckpointError: one is not; `where` tells the file.
    """
    for key, weight in weights.items():
        if not math.isfinite(float(weight.sum(dtype=namespace(weight).float64))):  # finite float32 cannot overflow it
            raise CheckpointError(
                phrase(
                    "{where}: {key} holds NaN or infinite values, expected finite weights; if a training run "
                    "diverged, use an earlier checkpoint of it",
                    where=where,
                    key=key,
                )
            )


def _digest(entries: "Iterable[tuple[str, Tensor | Array]]") -> str:
    digest = hashlib.sha256()
    for key, weight in entries:
        if is_counter(key):
            continue
        if isinstance(weight, np.ndarray):
            dtype, raw = f"torch.{weight.dtype}", np.ascontiguousarray(weight)
        else:  # as bytes, since numpy does not know all of torch's types
            plain = weight.detach().cpu().to_dense().contiguous()
            dtype, raw = str(weight.dtype), plain.flatten().view(namespace(plain).uint8).numpy()
        digest.update(f"{key} {dtype} {tuple(weight.shape)}\n".encode())
        digest.update(raw.data)
    return digest.hexdigest()


def _ranges(metadata: Mapping[str, str], config: McnetConfig) -> dict[str, tuple[float, float]]:
    """Of activations; a file that they were not measured for has none."""
    if "ranges" not in metadata:
        return {}
    ranges = {}
    table = _table(metadata, "ranges")
    if wrong := set(table) ^ range_names(config):
        raise ConfigError(f"ranges: got {len(table)} names, expected those of the configuration; {min(wrong)} is amiss")
    for name, pair in table.items():
        numbers = pair if isinstance(pair, list) and all(type(end) in (int, float) for end in pair) else []
        if len(numbers) != 2 or not -_LARGEST <= numbers[0] <= numbers[1] <= _LARGEST:
            raise ConfigError(f"ranges: got {str(pair)[:40]} for {name}, expected two numbers in order, within float32")
        ranges[name] = float(numbers[0]), float(numbers[1])
    return ranges


def _table(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """The JSON object that a header holds as text."""
    value = json.loads(metadata[key])
    if not isinstance(value, dict):
        raise ConfigError(f"{key}: got {metadata[key][:40]}, expected a table of values")
    return value
