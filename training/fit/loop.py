"""The training loop, from top to bottom, and the few helpers that it calls.

To resume a run, run the same command again.
"""

import contextlib
import dataclasses
import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mcnet.checkpoint import load_model
from mcnet.commands.outputs import check_folder
from mcnet.config import ConfigError
from mcnet.cuda_recording import record
from mcnet.files import claimed, remove_left_scratch
from mcnet.generator import Mcnet
from mcnet.layers import UpBlock
from mcnet.model_card import LATEST_FILE, licences_of
from mcnet.model_file import LINEAR_JACOBIANS, ModelInfo
from mcnet.pose import LinearMap
from mcnet.signals import StopSignals
from training.data import CLIP, NO_LICENCE, DataError, Dataset, has_depth, open_or_pack, table_of
from training.fit.augment import Faces
from training.fit.backbones import load_backbone
from training.fit.card import card_of
from training.fit.config import DataConfig, FitConfig, differences, format_config
from training.fit.discriminator import Adversaries
from training.fit.growth import (
    can_grow,
    grown,
    nearest_points,
    neighbouring_points,
    with_measured_keypoints,
    with_more_places,
)
from training.fit.heads import HeadStore
from training.fit.journal import CURVES, EVENTS, SHEETS, STATS, Journal
from training.fit.linear_jacobians import fit_linear_jacobians
from training.fit.measured import measured
from training.fit.moving import Mover
from training.fit.processes import Processes
from training.fit.profiling import StageProfile, profile_stage
from training.fit.running import Reader
from training.fit.sampler import PairSampler, check_split, held_out_pairs
from training.fit.sheets import HeldOut
from training.fit.stages import FitError, Stage, resolve_stages, stage_at
from training.fit.state import CHECKPOINT, TrainState, load_state, save_state
from training.fit.stores import FrameStore, LandmarkStore
from training.fit.thinning import can_thin, thinned
from training.fit.trainer import Capture, Trainer
from training.landmarks import PUPILS

_log = logging.getLogger(__name__)
_AGREE_EVERY = 10
"""Steps after which several processes agree whether to stop: for that their hosts wait for one another."""

_CONFIG = "config.toml"
_FILES = (CHECKPOINT, LATEST_FILE, STATS, CURVES, _CONFIG)
_FOLDERS = (SHEETS, EVENTS)
"""What a run writes into its folder."""
_OF_THE_RUN = (
    "run.seed",
    "loss.discriminator_widths",
    "loss.crop_discriminator_widths",
    "data.keypoints",
)
"""Values that cannot change within a run, besides the network's configuration."""
_OF_MEASURED_KEYPOINTS = ("data.keypoint_points", "data.keypoint_jacobians")
"""Likewise, where keypoints are measured: the network and the run's map of jacobians know these alone."""
_OF_ITS_BEGINNING = ("initial", "first_step")
"""Values of the table `run` that a run has from its first call, whatever later ones say."""


class FitResult(NamedTuple):
    """How a call of `fit` ended.

    Attributes:
        step: steps done.
        reason: `done`, `time` (the minutes are over) or a signal's name.
        checkpoint: where the state is.
    """

    step: int
    reason: str
    checkpoint: Path


AfterStage = Callable[[str, Mcnet, dict[str, Any]], None]
"""Is told a stage that has ended, or in which the run stops: its name, the averaged network, the facts for its card."""


def fit(
    config: FitConfig,
    run: Path,
    *,
    max_minutes: float | None = None,
    cache: Path | None = None,
    after_stage: AfterStage | None = None,
) -> FitResult:
    """Train, from the run's checkpoint if it has one.

    Args:
        config: all about it; `data.path` must be filled in.
        run: folder of the run: checkpoint, statistics, sheets.
        max_minutes: stop cleanly after so long, set-up included; None: when all steps are done.
        cache: where a folder of clips is unpacked to; None: beside the run's other files.
        after_stage: called, in the process that writes, at each stage's end.

    Raises:
        DataError, BackboneError, CheckpointError, ConfigError: something given cannot be used.
        StateError: the checkpoint cannot be read, or not be written (disk full); the one before is kept.
        FitError: the run's own checkpoint is of another configuration, another `fit` is at work on it, or the losses
            stay NaN.
    """
    # ---- Set up -----------------------------------------------------------------------------------------------------
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(Processes(on_gpu=_wants_gpu(config)))
        main = processes.main
        if not main:
            logging.getLogger("training").setLevel(logging.ERROR)  # once is enough
        processes.by_one(lambda: _claim(run, stack))
        ready = _set_up(config, run, cache, processes)
        config, trainer, stages, facts = ready.config, ready.trainer, ready.stages, ready.facts
        step, reader = ready.step, ready.reader
        clock = _Clock(started, max_minutes, facts.get("time_share", 0.0))
        clock.check(stages, processes)
        totals = trainer.totals
        last_step = stages[-1].first + stages[-1].steps
        skipped = trainer.standing().skipped
        journal = Journal(run, step, tensorboard=config.log.tensorboard) if main else None
        if main:
            (run / _CONFIG).write_text(format_config(config), encoding="utf-8")
        last_save = time.monotonic()
        signals = stack.enter_context(StopSignals())
        if reader is not None:
            stack.enter_context(reader)
        if journal is not None:
            stack.callback(journal.close)
        reason = "done"
        if step >= last_step:
            _log.warning("the run is %d steps old, and its stages have %d: nothing is left to do", step, last_step)

        # ---- Loop ---------------------------------------------------------------------------------------------------
        while step < last_step:
            stage = stage_at(stages, step)
            trainer.begin(stage)
            began = time.perf_counter()
            read = None if reader is None else reader.take(step, stage.config, processes.rank)
            if reader is not None and step + 1 < last_step:
                reader.ask(step + 1, stage_at(stages, step + 1).config, processes.rank)
            totals.time(time.perf_counter() - began)
            time_share = clock.share(stage)
            rate = trainer.launch(stage, step, read, time_share=time_share)
            step += 1
            finished = step == last_step
            over = _over(started, max_minutes)
            stopping = signals.received is not None or over
            if processes.count > 1:
                agreeing = finished or step % _AGREE_EVERY == 0
                stopping = agreeing and bool(processes.sum(torch.tensor(float(stopping), device=processes.device)))
            # A stage that goes by the clock has come to its end by it, however many steps it might have had.
            ending = finished or (over and stopping and stage.config.decay_by == "time")
            late = time.monotonic() - last_save > 60 * config.log.checkpoint_minutes
            saving = finished or stopping or late or step % config.log.checkpoint_every == 0

            # ---- Status: here, and for what is below, the host waits for the device ---------------------------------
            logging_now = step % config.log.every == 0 or ending
            if logging_now or saving:
                left_out = trainer.standing()
                if left_out.skipped > skipped:
                    _log.warning(
                        "step %d left out, and %d before it since the last line: its loss or gradient is not finite",
                        left_out.last,
                        left_out.skipped - skipped - 1,
                    )
                skipped = left_out.skipped
                if left_out.in_row > config.run.max_bad_steps:
                    raise FitError(
                        f"{left_out.in_row} steps in a row had a loss or gradient that is not finite, the last one "
                        f"{left_out.last}. The run stops; {run / CHECKPOINT} is the state of the last save. Try a "
                        "lower learning rate, fp32 in place of a shorter precision, or look for broken frames in the "
                        "data"
                    )
            if logging_now:
                line = totals.take(processes)
                pairs = stage.config.batch * processes.count
                line |= {"learning_rate": rate, "skipped": skipped, "pairs_per_s": pairs * 1000 / line["step_ms"]}
                left = stage.first + stage.steps - step
                line["stage_left_s"] = clock.left_s(stage, left * (line["step_ms"] + line["other_ms"]) / 1000)
                facts["last"] = {"step": step, **line}
                if journal is not None:
                    journal.write(step, stage.name, line)

            # ---- Snapshot -------------------------------------------------------------------------------------------
            every = config.log.sheet_every
            looking = every and (step % every == 0 or ending or step == 1)
            if looking and journal is not None and ready.held_out is not None:
                with totals.paused():
                    shares = journal.sheet(step, stage.name, trainer.average.model, ready.held_out)
                    facts["held_out"] = {"step": step, **shares}

            # ---- Checkpoint -----------------------------------------------------------------------------------------
            leaving = stopping or step == stage.first + stage.steps
            if main and (saving or leaving):
                facts |= {"stage": stage.name, "time_share": time_share}
                card = card_of(config, step, skipped, facts)
                with totals.paused():
                    if saving:
                        save_state(trainer.state(step, skipped, facts), run / CHECKPOINT)
                        if journal is not None:
                            journal.publish(trainer.average.model, card | {"of_steps": last_step})
                    if leaving and after_stage is not None:
                        after_stage(stage.name, trainer.average.model, card)
            if saving:
                last_save = time.monotonic()
            if stopping and not finished:
                reason = signals.received or "time"
                break
        processes.wait()
    _log.info("%s at step %d of %d; the state is in %s", reason, step, last_step, run / CHECKPOINT)
    return FitResult(step, reason, run / CHECKPOINT)


def _claim(run: Path, stack: contextlib.ExitStack) -> None:
    """Keep others from the run until the stack ends: two that save to it would lose each other's steps.

    Raises:
        FitError: another one has it.
    """
    if not run.exists():
        run.mkdir(parents=True)
    check_folder("the run's folder", run, _FILES, {})
    for folder in (run / name for name in _FOLDERS):
        if folder.exists() and not folder.is_dir():
            raise FitError(f"{folder} is a file, expected a folder: move it away, or choose another --run-dir")
    if not stack.enter_context(claimed(run / CHECKPOINT)):
        raise FitError(
            f"another mcnet-train fit is at work in {run}, expected one at a time: wait until it has ended, or choose "
            "another --run-dir"
        )
    for name in (CHECKPOINT, LATEST_FILE, STATS):
        remove_left_scratch(run / name)  # of a run that was killed as it saved


def profile(
    config: FitConfig, run: Path, steps: int, *, cache: Path | None = None, limit_s: float | None = None
) -> list[StageProfile]:
    """Measure where each stage's steps spend their time. What they learn is thrown away, and nothing is saved.

    Args:
        config: as for `fit`.
        run: folder of the run, whose checkpoint is taken if there is one.
        steps: of each stage that are measured, after a few that are not.
        cache: as for `fit`.
        limit_s: seconds after which a stage's measurement takes what it has.

    Raises:
        DataError, BackboneError, CheckpointError, ConfigError, StateError, FitError: as for `fit`.
    """
    with Processes(on_gpu=_wants_gpu(config)) as processes:
        ready = _set_up(config, run, cache, processes)
        with contextlib.nullcontext() if ready.reader is None else ready.reader:
            return [
                profile_stage(ready.trainer, stage, steps, ready.reader, processes, limit_s) for stage in ready.stages
            ]


def _wants_gpu(config: FitConfig) -> bool:
    """Whether the run computes on a GPU.

    Raises:
        FitError: it needs one, and there is none.
    """
    settings = config.run
    gpu = settings.device != "cpu" and torch.cuda.is_available()
    if not gpu and (settings.device == "cuda" or settings.precision == "fp16"):
        wanted = "run.device is cuda" if settings.device == "cuda" else "run.precision fp16 needs a GPU"
        raise FitError(f"{wanted}, but there is no CUDA device here: set run.device to auto, run.precision to fp32")
    return gpu


class _Ready(NamedTuple):
    """What a run needs before its first step.

    Attributes:
        config: as given, with what the run has from its first call.
        trainer: with the checkpoint's state, if there is one.
        stages: of the run.
        facts: for the model's card.
        step: the first one to do.
        reader: reads frames ahead; None where all lie on the device.
        held_out: what sheets show; None where there is nothing.
    """

    config: FitConfig
    trainer: Trainer
    stages: tuple[Stage, ...]
    facts: dict[str, Any]
    step: int
    reader: Reader | None
    held_out: HeldOut | None


def check_data(config: FitConfig, folder: Path) -> None:
    """See, by its table, that a run can learn from some data: before it is unpacked, or travels.

    Args:
        config: of the run.
        folder: the packed dataset or folder of clips.

    Raises:
        DataError: there is no data, or none of what the pairs are to be made of, or its landmarks lie in the plane and
            sources are to be moved in space.
        FitError: its pictures are of another size than the model's.
    """
    table = table_of(folder)
    if table.size_px != config.model.size_px:
        raise FitError(
            f"the data has pictures of {table.size_px} px, the model wants {config.model.size_px} px: prepare the "
            f"footage with --size {config.model.size_px}, or train another model"
        )
    check_split(folder, table.clips, config.data.split, config.data.stills_share)
    if (config.augment.moved_stills or config.augment.moved_clips) and not has_depth(folder):
        raise DataError(
            f"{folder} has landmarks in the picture's plane, expected landmarks in space, as sources are to be moved "
            "there: label the data anew (mcnet-train relabel), or set augment.moved_stills and "
            "augment.moved_clips to 0"
        )


def _set_up(config: FitConfig, run: Path, cache: Path | None, processes: Processes) -> _Ready:
    given, device = config, processes.device
    # What is given by name is read before minutes of unpacking, and nothing is fetched where there is no data.
    check_data(config, Path(config.data.path))
    state = load_state(run / CHECKPOINT) if (run / CHECKPOINT).is_file() else None
    if state is not None:
        config = _as_begun(config, state)
    settings = config.run
    initial = load_model(settings.initial) if state is None and settings.initial else None
    teacher = load_teacher(config)
    backbone = None
    looking = config.loss.perceptual or config.loss.generated_perceptual or config.loss.crops_perceptual
    if looking and config.full.runs:
        backbone = load_backbone(config.loss.backbone, config.loss.backbone_weights)

    def unpack() -> None:
        run.mkdir(parents=True, exist_ok=True)
        open_or_pack(Path(config.data.path), cache or run / "frames")

    processes.by_one(unpack)
    dataset = open_or_pack(Path(config.data.path), cache or run / "frames")
    frames = FrameStore(dataset, device, config.data.frames)
    data = config.data
    wanted = (*config.keypoint_points, *(PUPILS if config.loss.gaze else ()))
    landmarks = LandmarkStore(dataset, device, wanted)
    sampler = PairSampler(
        dataset, data.split, data.stills_share, settings.seed, data.lively_share, data.photos_share, frames.rows_on
    )
    stages = resolve_stages(config, len(sampler.clips), processes.count)
    last_step = stages[-1].first + stages[-1].steps

    torch.manual_seed(settings.seed)  # the same first weights in every process
    model = Mcnet(config.model)
    playing = config.loss.gan > 0 or config.loss.crops_gan > 0
    torch.manual_seed(settings.seed)  # and the same first discriminators, however much the network drew before
    adversaries = Adversaries(config.model.num_keypoints, config.loss) if playing else None
    facts: dict[str, Any] = {"data": _data_facts(dataset, {data.split, *_splits_before(state)})}
    if state is not None:
        _check_same_run(given, dataset, state, run)
        model.load_state_dict(state.model)
        facts |= {key: value for key, value in state.facts.items() if key != "data"}
    elif initial is not None:
        facts["initial"] = take_weights(
            model,
            initial,
            config.keypoint_points if config.data.keypoints == "measured" else (),
            landmarks=landmarks,
            guidance_points=config.loss.guidance_points,
        )
    model.to(device)
    fitting = functools.partial(
        fit_linear_jacobians, model.keypoint_detector, dataset, data.split, frames, landmarks, data.keypoint_points
    )
    linear = _linear_map(data, facts, initial, lambda: processes.by_one(fitting))
    if adversaries is not None:
        adversaries.to(device)
    if settings.channels_last:
        _channels_last(model)
    if processes.count > 1 and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    elif processes.count > 1 and not settings.freeze_batchnorm:
        _log.warning("BatchNorm's statistics are each process's own: torch synchronises them on GPUs only")
    if backbone is not None:
        backbone.to(device)
    if teacher is not None:
        teacher.generator.dense_motion.to(device)
        taught_by, before = _origin(teacher.info), facts.get("teacher", {})
        if before and before["content_hash"] != taught_by["content_hash"]:
            _log.warning("another teacher than in the last call: %s -> %s", before, taught_by)
        if licences := licences_of({"initial": before, "teacher": taught_by}):  # of all that taught it
            taught_by["licences"] = licences
        facts["teacher"] = taught_by
    if state is None and settings.first_step >= last_step:
        raise FitError(
            f"run.first_step is {settings.first_step}, but the stages have {last_step} steps: there is nothing to do"
        )
    # Recorded where one process has all that a step needs on its GPU; a gradient scaler remembers on the host.
    recordable = device.type == "cuda" and processes.count == 1 and settings.precision != "fp16"
    capture: Capture | None = record if recordable else None
    moving = config.augment.moved_stills or config.augment.moved_clips
    mover = Mover(HeadStore(dataset, device), sampler) if moving else None
    trainer = Trainer(
        config,
        model,
        adversaries,
        backbone,
        sampler,
        frames,
        landmarks,
        processes,
        capture=capture,
        mover=mover,
        linear_jacobians=linear,
        teacher=None if teacher is None else teacher.generator.dense_motion,
    )
    if settings.channels_last:
        _channels_last(trainer.average.model)
    if state is not None:
        trainer.load(state)
    shown = [
        torch.from_numpy(rows[: config.log.sheet_rows]).to(frames.rows_on)
        for rows in held_out_pairs(dataset, data.held_out_split, 64)
    ]
    held_out = None
    if len(shown[0]):
        source, driving = (
            Faces(frames.to_pictures(frames.read(rows)), *landmarks.read(rows.to(device, non_blocking=True)))
            for rows in shown
        )
        held_out = HeldOut(source.pictures, driving.pictures, measured(source, driving, data))
    elif config.log.sheet_every:
        _log.warning(
            "there will be no sample sheets: the split %r of %s has no clip of two frames or more; set "
            "data.held_out_split to a split that has some",
            data.held_out_split,
            dataset.folder,
        )
    return _Ready(
        config,
        trainer,
        stages,
        facts,
        settings.first_step if state is None else state.step,
        None if frames.resident else Reader(sampler, frames),
        held_out,
    )


def load_teacher(config: FitConfig) -> Mcnet | None:
    """The model whose dense motion is taught, at rest; None where there is none.

    Raises:
        CheckpointError: it cannot be read.
        FitError: its motion is not of the same keypoints.
    """
    if not config.run.teacher:
        return None
    teacher = load_model(config.run.teacher).eval().requires_grad_(False)
    told, info = f"run.teacher {config.run.teacher} has", teacher.info
    known, ours = teacher.config.num_keypoints, config.model.num_keypoints
    if known != ours:
        raise FitError(
            f"{told} {known} keypoints, expected {ours}, as the network that it is to teach: take the model that this "
            "one was cut out of"
        )
    data = config.data
    if data.keypoints == "measured":
        points, jacobians = list(info.keypoint_landmarks), info.keypoint_jacobians
        if points != list(data.keypoint_points):
            raise FitError(
                f"{told} keypoints at the mesh points {points}, expected data.keypoint_points, which are "
                f"{list(data.keypoint_points)}: it would move other points than it learned to"
            )
        if jacobians != data.keypoint_jacobians:
            raise FitError(
                f"{told} {jacobians} jacobians, expected data.keypoint_jacobians, which are "
                f"{data.keypoint_jacobians}: it would see other motions than it learned from"
            )
    if config.run.channels_last:
        _channels_last(teacher.generator.dense_motion)
    return teacher


def _linear_map(
    data: DataConfig, facts: dict[str, Any], initial: Mcnet | None, fit: Callable[[], LinearMap]
) -> LinearMap:
    """The run's map from places to jacobians, as far as its pairs take it; empty where none does.

    A map that the run has stays. At its beginning it is that of the model whose weights it took, as long as places and
    detector are still that model's; else one is fitted, where pairs are to take it.

    Args:
        data: of the configuration.
        facts: of the run, which get the map.
        initial: the model whose weights the run has just taken, if any.
        fit: makes a map, of the detector as it is.
    """
    theirs = () if initial is None else initial.info.linear_jacobians
    if initial is not None and theirs:
        neighbours = facts["initial"].get("neighbours", ())
        before = data.keypoint_points[: len(data.keypoint_points) - len(neighbours)]
        same = data.keypoints == "measured" and initial.info.keypoint_landmarks == before
        known = not any(group.startswith("keypoint_detector") for group in facts["initial"]["fresh"])
        if same and known and data.keypoint_jacobians == "detected":
            facts[LINEAR_JACOBIANS] = with_more_places(theirs, neighbours)
        else:
            _log.warning(
                "the map of jacobians of %s is left out: it is of its own measured keypoints and its own detector",
                initial.info.name,
            )
    if data.linear_share and LINEAR_JACOBIANS not in facts:
        facts[LINEAR_JACOBIANS] = fit()
    return facts[LINEAR_JACOBIANS] if data.linear_share else ()


def take_weights(
    model: Mcnet,
    given: Mcnet,
    measured_points: tuple[int, ...] = (),
    *,
    landmarks: LandmarkStore,
    guidance_points: Sequence[int] = (),
) -> dict[str, Any]:
    """Take another model's weights, and log what was taken and what was not.

    Where the network is that model with further ResBlocks or keypoints, it begins as the same function, or near it (see
    `training.fit.growth`); where its dense motion alone is narrower, with the channels that weigh most (see
    `training.fit.thinning`). Otherwise weights are copied wherever name and shape agree.

    Args:
        model: that takes them.
        given: the other one.
        measured_points: the mesh points of the model's keypoints, if these are measured: new ones have to lie behind
            the other model's, and each begins as the mean of those that lie nearest on the mean face.
        landmarks: of the data, for the mean face. A new keypoint that is detected is a copy of that one whose landmark
            lies nearest.
        guidance_points: the mesh points that the detected keypoints are taught to be.
    """
    theirs, ours = given.state_dict(), model.state_dict()
    facts = _origin(given.info)
    known, before, count = given.info.keypoint_landmarks, given.config.num_keypoints, model.config.num_keypoints
    alike = dataclasses.replace(given.config, num_keypoints=count, border=model.config.border) == model.config
    if measured_points and known and count > before and measured_points[:before] == known and alike:
        neighbours = neighbouring_points(landmarks.trusted, measured_points, before)
        theirs = {key: with_measured_keypoints(key, weight, ours[key], neighbours) for key, weight in theirs.items()}
        facts["neighbours"] = neighbours
        _log.info("%d keypoints are new, behind the %d of %s", count - before, before, given.info.name)
    elif not measured_points and can_grow(given.config, model.config):
        parents: Sequence[int] = [number % before for number in range(count - before)]
        if len(guidance_points) == count:
            parents = nearest_points(landmarks.trusted, guidance_points, before)
        theirs = grown(given, model, parents)
        facts["grown"] = True
        _log.info("grown from %s: the same function, with room to learn", given.info.name)
    elif can_thin(given.config, model.config):
        theirs = thinned(given, model.config)
        facts["thinned"] = True
        _log.info("the dense motion is a narrower one, cut out of that of %s: it has to learn again", given.info.name)
    taken = [key for key in ours if key in theirs and theirs[key].shape == ours[key].shape]
    left = [key for key in ours if key not in taken]
    unused = [key for key in theirs if key not in taken]
    model.load_state_dict({key: theirs[key] for key in taken}, strict=False)
    _log.info("took %d of %d tensors from %s", len(taken), len(ours), given.info.name)
    if left:
        _log.info("fresh (no tensor of that name and shape there): %s", ", ".join(_groups(left)))
    return facts | {"taken": len(taken), "fresh": _groups(left), "unused": len(unused)}


def _origin(info: ModelInfo) -> dict[str, Any]:
    """What the card of a model says of another one that went into it."""
    licences = licences_of(info.training)
    return {"from": info.name, "content_hash": info.content_hash, **({"licences": licences} if licences else {})}


def _groups(keys: list[str]) -> list[str]:
    """Modules instead of single tensors, each once."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key in keys))


def _check_same_run(config: FitConfig, dataset: Dataset, state: TrainState, run: Path) -> None:
    """Refuse to go on with another network, seed or data; anything else may change, and is logged."""
    changed = differences(_as_of_this_version(state.config), config.to_dict())
    fixed = (*_OF_THE_RUN, *(_OF_MEASURED_KEYPOINTS if config.data.keypoints == "measured" else ()))
    fatal = [str(change) for change in changed if change.key.startswith("model.") or change.key in fixed]
    before = state.facts["data"]["fingerprint"]
    if before != dataset.fingerprint:
        fatal.append(f"the data's fingerprint: {before} -> {dataset.fingerprint}")
    if fatal:
        raise FitError(
            f"{run / CHECKPOINT} is of another run: {'; '.join(fatal)}. Use another run folder; run.initial can take "
            "the weights of a model exported from this one"
        )
    for change in changed:
        if change.key in {f"run.{name}" for name in _OF_ITS_BEGINNING}:
            _log.warning(
                "%s has no effect: the run goes on from its checkpoint; choose another run folder to begin anew", change
            )
        else:
            _log.warning("changed since the last call: %s", change)
    _log.info("resuming %s at step %d", run, state.step)


def _as_begun(config: FitConfig, state: TrainState) -> FitConfig:
    """The configuration with what a run has from its first call."""
    begun = {name: value for name, value in state.config["run"].items() if name in _OF_ITS_BEGINNING}
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **begun))


def _splits_before(state: TrainState | None) -> Sequence[str]:
    """The splits that earlier calls of a run learned from."""
    if state is None:
        return ()
    splits: Sequence[str] = state.facts["data"].get("splits", [state.config["data"]["split"]])
    return splits


def _as_of_this_version(values: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's configuration, with defaults for what an earlier version did not have."""
    try:
        return FitConfig.from_dict(values).to_dict()
    except ConfigError:  # a key that is gone: then it is named as changed
        return values


def _data_facts(dataset: Dataset, splits: set[str]) -> dict[str, Any]:
    """What a model's card tells of the data that it learned from, in all calls together."""
    learned_from = [clip for clip in dataset.clips if clip.split in splits]
    moving = [clip for clip in learned_from if clip.frames > 1]
    clips = [clip for clip in moving if clip.kind == CLIP]
    return {
        "fingerprint": dataset.fingerprint,
        "splits": sorted(splits),
        "clips": len(clips),
        "clip_identities": len({clip.identity for clip in clips}),
        "stills": len(learned_from) - len(moving),
        "packs_of_photos": len(moving) - len(clips),
        "licences": dict(sorted(Counter(clip.licence or NO_LICENCE for clip in learned_from).items())),
        "frames": sum(clip.frames for clip in dataset.clips),
    }


def _channels_last(model: nn.Module) -> None:
    """Lay out the kernels of convolutions, and the maps that enter them, with their channels last.

    A convolution would convert its input itself, but keeps what it was given for its gradient, where it converts it
    once more. What an UpBlock doubles is converted before, where it is a quarter of the size.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # the memory's five-dimensional kernels have no such layout
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
        if isinstance(module, nn.Conv2d | UpBlock):
            module.register_forward_pre_hook(_lay_out)


def _lay_out(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:])


class _Clock:
    """Tells how much of its time a stage has had that decays by `time`.

    Args:
        started: when the call began, by `time.monotonic`.
        max_minutes: that it has.
        share_before: of the stage's time, which earlier calls had: this one divides what was left then.
    """

    def __init__(self, started: float, max_minutes: float | None, share_before: float) -> None:
        self._end = None if max_minutes is None else started + 60 * max_minutes
        self._share_before = share_before
        self._began: float | None = None

    def check(self, stages: Sequence[Stage], processes: Processes) -> None:
        """Refuse what such a stage cannot have.

        Raises:
            FitError: the call has no end in time, another stage follows, or several processes would each go by a clock
                of their own.
        """
        by_time = [stage.name for stage in stages if stage.config.decay_by == "time"]
        if not by_time:
            return
        name = by_time[0]
        told = f"{name}.decay_by is time, but"
        if self._end is None:
            raise FitError(f"{told} the call has no end: give --max-minutes, or set {name}.decay_by to steps")
        if name != stages[-1].name:
            raise FitError(f"{told} the stage {stages[-1].name} follows, which would get none: set it to steps")
        if processes.count > 1:
            raise FitError(f"{told} there are {processes.count} processes, each with its own clock: set it to steps")

    def share(self, stage: Stage) -> float:
        """Of the stage's time, in [0, 1], what is over; 0 for a stage that decays by steps."""
        if stage.config.decay_by != "time" or self._end is None:
            return 0.0
        now = time.monotonic()
        if self._began is None:
            self._began = now
        passed = min(1.0, (now - self._began) / max(self._end - self._began, 1e-9))
        return self._share_before + (1 - self._share_before) * passed

    def left_s(self, stage: Stage, at_this_rate_s: float) -> float:
        """Seconds until the stage ends: those that its steps will take at this rate, or what is left of its time."""
        if stage.config.decay_by != "time" or self._end is None:
            return at_this_rate_s
        return min(at_this_rate_s, max(0.0, self._end - time.monotonic()))


def _over(started: float, max_minutes: float | None) -> bool:
    return max_minutes is not None and time.monotonic() - started > 60 * max_minutes
