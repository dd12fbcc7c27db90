"""The training loop, from top to bottom, and the few helpers that it calls.

To resume a run, run the same command again.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mcnet.checkpoint import load_model
from mcnet.generator import Mcnet
from mcnet.signals import StopSignals
from training.data import NO_LICENCE, Dataset, open_or_pack
from training.fit import losses
from training.fit.augment import Faces, augment, disturb, equivariance_warp
from training.fit.backbones import load_backbone
from training.fit.config import AugmentConfig, FitConfig, StageConfig, differences, format_config
from training.fit.discriminator import Discriminator
from training.fit.journal import HeldOut, Journal
from training.fit.objective import Objective, Outputs, detector_outputs, full_outputs, motion_outputs
from training.fit.running import Reader, Totals, average_gradients, clip_gradients, mixed_seed
from training.fit.sampler import PairPlan, PairSampler, held_out_pairs
from training.fit.stages import (
    FitError,
    learning_rate,
    parameter_groups,
    part_rate,
    resolve_stages,
    set_trainable,
    stage_at,
)
from training.fit.state import CHECKPOINT, BatchNormGuard, TrainState, WeightAverage, load_state, save_state
from training.fit.stores import FrameStore, LandmarkStore

_log = logging.getLogger(__name__)

_OF_THE_RUN = ("run.seed", "loss.discriminator_widths")
"""Values that cannot change within a run, besides the network's configuration."""


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


def fit(config: FitConfig, run: Path, *, max_minutes: float | None = None, cache: Path | None = None) -> FitResult:
    """Train, from the run's checkpoint if it has one.

    Args:
        config: all about it; `data.path` must be filled in.
        run: folder of the run: checkpoint, statistics, sheets.
        max_minutes: stop cleanly after so long, set-up included; None: when all steps are done.
        cache: where a folder of clips is unpacked to; None: beside the run's other files.

    Raises:
        DataError, BackboneError, CheckpointError, ConfigError: something given cannot be used.
        StateError: the checkpoint cannot be read, or not be written (disk full); the one before is kept.
        FitError: the run's own checkpoint is of another configuration, or the losses stay NaN.
    """
    # ---- Set up -----------------------------------------------------------------------------------------------------
    started = time.monotonic()
    settings = config.run
    gpu = settings.device != "cpu" and torch.cuda.is_available()
    if not gpu and (settings.device == "cuda" or settings.precision == "fp16"):
        wanted = "run.device is cuda" if settings.device == "cuda" else "run.precision fp16 needs a GPU"
        raise FitError(f"{wanted}, but there is no CUDA device here: set run.device to auto, run.precision to fp32")
    torch.backends.cudnn.benchmark = True  # all batches of a stage have the same shape
    accelerator = Accelerator(
        cpu=not gpu,
        mixed_precision={"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[settings.precision],
    )
    device = accelerator.device
    main, rank, processes = accelerator.is_main_process, accelerator.process_index, accelerator.num_processes
    if not main:
        logging.getLogger("training").setLevel(logging.ERROR)  # once is enough
    if main:
        run.mkdir(parents=True, exist_ok=True)
        open_or_pack(Path(config.data.path), cache or run / "frames")  # one process unpacks
    accelerator.wait_for_everyone()
    dataset = open_or_pack(Path(config.data.path), cache or run / "frames")
    if dataset.size_px != config.model.size_px:
        raise FitError(f"the data has pictures of {dataset.size_px} px, the model wants {config.model.size_px} px")
    data = config.data
    sampler = PairSampler(dataset, data.split, data.stills_share, settings.seed, data.lively_share, data.photos_share)
    frames = FrameStore(dataset, device, config.data.frames)
    landmarks = LandmarkStore(dataset, device)
    stages = resolve_stages(config, len(sampler.clips), processes)
    last_step = stages[-1].first + stages[-1].steps

    torch.manual_seed(settings.seed)  # the same first weights in every process
    model = Mcnet(config.model)
    playing = config.loss.gan > 0
    discriminator = Discriminator(config.model.num_keypoints, config.loss.discriminator_widths) if playing else None
    state = load_state(run / CHECKPOINT) if (run / CHECKPOINT).is_file() else None
    facts: dict[str, Any] = {"data": _data_facts(dataset, sampler, data.split)}
    if state is not None:
        _check_same_run(config, dataset, state, run)
        model.load_state_dict(state.model)
        facts |= {key: value for key, value in state.facts.items() if key != "data"}
    elif settings.initial:
        facts["initial"] = take_weights(model, settings.initial)
    model.to(device)
    if settings.channels_last:
        _channels_last(model)
    if processes > 1 and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    elif processes > 1 and not settings.freeze_batchnorm:
        _log.warning("BatchNorm's statistics are each process's own: torch synchronises them on GPUs only")
    average = WeightAverage(model, config.optim.ema_decay)
    if settings.channels_last:
        _channels_last(average.model)
    optimizer: Any = torch.optim.Adam(parameter_groups(model), lr=0.0, betas=(config.optim.beta1, config.optim.beta2))
    discriminator_optimizer: Any = None
    if discriminator is not None:
        discriminator.to(device)
        discriminator_optimizer = torch.optim.Adam(
            discriminator.parameters(), lr=0.0, betas=(config.optim.beta1, config.optim.beta2)
        )
    step, skipped = settings.first_step, 0
    if state is None and step >= last_step:
        raise FitError(f"run.first_step is {step}, but the stages have {last_step} steps: there is nothing to do")
    if state is not None:
        step, skipped = state.step, state.skipped
        average.model.load_state_dict(state.ema)
        optimizer.load_state_dict(state.optimizer)
        if discriminator is not None and discriminator_optimizer is not None and state.discriminator:
            discriminator.load_state_dict(state.discriminator)
            discriminator_optimizer.load_state_dict(state.discriminator_optimizer)
    optimizer = accelerator.prepare(optimizer)
    discriminator_optimizer = None if discriminator_optimizer is None else accelerator.prepare(discriminator_optimizer)
    if state is not None and state.scaler and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state.scaler)
    del state
    networks = {"detector": list(model.keypoint_detector.parameters()), "generator": list(model.generator.parameters())}

    backbone = None
    if config.loss.perceptual and any(stage.name == "full" for stage in stages):
        backbone = load_backbone(config.loss.backbone, config.loss.backbone_weights).to(device)
    pyramid = losses.Pyramid(config.loss.scales).to(device)
    objective = Objective(config.loss, backbone, pyramid, accelerator.autocast)
    guard = BatchNormGuard(model)
    shown = [rows[: config.log.sheet_rows] for rows in held_out_pairs(dataset, config.data.held_out_split, 64)]
    held_out = HeldOut(*(frames.to_pictures(frames.read(rows)) for rows in shown)) if len(shown[0]) else None
    journal = Journal(run, step, tensorboard=config.log.tensorboard) if main else None
    if main:
        (run / "config.toml").write_text(format_config(config))
    reader = Reader(sampler, frames)
    bad_in_row = 0
    current: str | None = None
    last_save = time.monotonic()
    totals = Totals()

    def save() -> None:
        scaler = accelerator.scaler
        facts["stage"] = stage_at(stages, max(0, step - 1)).name
        save_state(
            TrainState(
                step=step,
                skipped=skipped,
                model=model.state_dict(),
                ema=average.model.state_dict(),
                optimizer=optimizer.state_dict(),
                discriminator={} if discriminator is None else discriminator.state_dict(),
                discriminator_optimizer={} if discriminator_optimizer is None else discriminator_optimizer.state_dict(),
                scaler={} if scaler is None else scaler.state_dict(),
                config=config.to_dict(),
                facts=facts,
            ),
            run / CHECKPOINT,
        )

    # ---- Loop -------------------------------------------------------------------------------------------------------
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        stack.enter_context(reader)
        if journal is not None:
            stack.callback(journal.close)
        reason = "done"
        while step < last_step:
            stage = stage_at(stages, step)
            if stage.name != current:
                set_trainable(model, stage.config, freeze_batchnorm=settings.freeze_batchnorm)
                current = stage.name
            began = time.perf_counter()
            torch.manual_seed(mixed_seed(settings.seed, step, rank))  # the memory's noise
            plan, pictures = reader.take(step, stage.config, rank)
            source, driving = _faces(plan, frames.to_pictures(pictures), landmarks)
            source, driving = augment(source, driving, plan, _augmentation(config, stage.config))
            warp = equivariance_warp(plan.draws, config.loss.warp_affine, config.loss.warp_bend, device)
            if step + 1 < last_step:
                reader.ask(step + 1, stage_at(stages, step + 1).config, rank)
            fetched = time.perf_counter()

            # ---- Gradients ----------------------------------------------------------------------------------------
            guard.remember()
            outputs: Outputs
            if stage.name == "detector":
                disturbing = functools.partial(disturb, draws=plan.draws, share=config.augment.disturb_share)
                outputs = detector_outputs(
                    model, source.pictures, driving.pictures, warp, accelerator.autocast, disturbing
                )
            elif stage.name == "motion":
                outputs = motion_outputs(
                    model, source.pictures, driving.pictures, warp, accelerator.autocast, config.loss.warped_px
                )
            else:
                outputs = full_outputs(model, source.pictures, driving.pictures, warp, accelerator.autocast)
            joined = discriminator is not None and stage.name == "full" and step - stage.first >= config.loss.gan_after
            adversarial = _generator_terms(discriminator, outputs) if joined and discriminator is not None else {}
            terms = objective.terms(outputs, source, driving, warp, step, adversarial)
            rate = learning_rate(stage, step, settings.first_step)
            optimizer.zero_grad()
            accelerator.backward(terms.total)
            average_gradients(accelerator, list(itertools.chain(*networks.values())))
            accelerator.unscale_gradients(optimizer)
            norms = {name: clip_gradients(parameters, config.optim.clip_norm) for name, parameters in networks.items()}
            discriminator_loss = terms.total.new_zeros(())
            if joined and discriminator is not None and discriminator_optimizer is not None:
                discriminator_loss = _discriminator_loss(discriminator, outputs)
                discriminator_optimizer.zero_grad()
                accelerator.backward(discriminator_loss)
                average_gradients(accelerator, list(discriminator.parameters()))
                accelerator.unscale_gradients(discriminator_optimizer)
                norms["discriminator"] = clip_gradients(list(discriminator.parameters()), config.optim.clip_norm)
            # One number for all processes, so that all of them leave the step out, or stop, together.
            wish = float(signals.received is not None or _over(started, max_minutes))
            agreed = torch.stack((terms.total.detach() + discriminator_loss.detach(), terms.total.new_tensor(wish)))
            if processes > 1:
                agreed = accelerator.reduce(agreed, "sum")
            # The only place in a step where the host waits for a GPU.
            loss, wishes, *lengths = torch.cat((agreed, torch.stack(list(norms.values())))).tolist()
            good = all(map(math.isfinite, (loss, *lengths)))
            if good or accelerator.scaler is not None:  # the scaler leaves a bad step out itself, and learns from it
                for some_optimizer in (optimizer, discriminator_optimizer if joined else None):
                    if some_optimizer is not None:
                        for group in some_optimizer.param_groups:
                            group["lr"] = rate * part_rate(stage.config, group.get("part", ""))
                        some_optimizer.step()
            if good:
                average.update(step)
                bad_in_row = 0
                totals.add({"total": terms.total, **terms.weighted, **terms.readings})
                totals.add({f"gradient_{name}": norm for name, norm in norms.items()})
                if joined:
                    totals.add({"discriminator": discriminator_loss})
            else:
                guard.put_back()
                skipped, bad_in_row = skipped + 1, bad_in_row + 1
                _log.warning("step %d left out: its loss or gradient is not finite (%d in a row)", step, bad_in_row)
            step += 1
            totals.time(fetched - began, time.perf_counter() - fetched)

            # ---- Status -------------------------------------------------------------------------------------------
            if step % config.log.every == 0 or step == last_step:
                line = totals.take(accelerator)
                pairs = stage.config.batch * processes
                line |= {"learning_rate": rate, "skipped": skipped, "pairs_per_s": pairs * 1000 / line["step_ms"]}
                facts["last"] = {"step": step, **line}
                if journal is not None:
                    journal.write(step, stage.name, line)
            if bad_in_row > settings.max_bad_steps:
                raise FitError(
                    f"{bad_in_row} steps in a row had a loss or gradient that is not finite, the last one {step - 1}. "
                    f"The run stops; {run / CHECKPOINT} is the state of the last save. Try a lower learning rate, "
                    "fp32 in place of a shorter precision, or look for broken frames in the data"
                )

            # ---- Snapshot -----------------------------------------------------------------------------------------
            finished = step == last_step
            every = config.log.sheet_every
            if main and every and held_out is not None and (step % every == 0 or finished or step == 1):
                assert journal is not None
                journal.sheet(step, stage.name, average.model, held_out)

            # ---- Checkpoint ---------------------------------------------------------------------------------------
            stopping = wishes > 0
            late = time.monotonic() - last_save > 60 * config.log.checkpoint_minutes
            if finished or stopping or late or step % config.log.checkpoint_every == 0:
                if main:
                    save()  # also after bad steps: they change nothing
                last_save = time.monotonic()
            if stopping and not finished:
                reason = signals.received or "time"
                break
    accelerator.wait_for_everyone()
    accelerator.end_training()
    _log.info("%s at step %d of %d; the state is in %s", reason, step, last_step, run / CHECKPOINT)
    return FitResult(step, reason, run / CHECKPOINT)


def take_weights(model: Mcnet, name_or_path: str) -> dict[str, Any]:
    """Copy another model's weights wherever name and shape agree, and log what was taken and what was not.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    given = load_model(name_or_path)
    theirs, ours = given.state_dict(), model.state_dict()
    taken = [key for key in ours if key in theirs and theirs[key].shape == ours[key].shape]
    left = [key for key in ours if key not in taken]
    unused = [key for key in theirs if key not in taken]
    model.load_state_dict({key: theirs[key] for key in taken}, strict=False)
    _log.info("took %d of %d tensors from %s", len(taken), len(ours), name_or_path)
    if left:
        _log.info("fresh (no tensor of that name and shape there): %s", ", ".join(_groups(left)))
    return {
        "from": given.info.name,
        "content_hash": given.info.content_hash,
        "taken": len(taken),
        "fresh": _groups(left),
        "unused": len(unused),
    }


def _groups(keys: list[str]) -> list[str]:
    """Modules instead of single tensors, each once."""
    return list(dict.fromkeys(key.rpartition(".")[0] for key in keys))


def _check_same_run(config: FitConfig, dataset: Dataset, state: TrainState, run: Path) -> None:
    """Refuse to go on with another network, seed or data; anything else may change, and is logged."""
    changed = differences(state.config, config.to_dict())
    fatal = [str(change) for change in changed if change.key.startswith("model.") or change.key in _OF_THE_RUN]
    before = state.facts["data"]["fingerprint"]
    if before != dataset.fingerprint:
        fatal.append(f"the data's fingerprint: {before} -> {dataset.fingerprint}")
    if fatal:
        raise FitError(
            f"{run / CHECKPOINT} is of another run: {'; '.join(fatal)}. Use another run folder; run.initial can take "
            "the weights of a model exported from this one"
        )
    for change in changed:
        _log.warning("changed since the last call: %s", change)
    _log.info("resuming %s at step %d", run, state.step)


def _data_facts(dataset: Dataset, sampler: PairSampler, split: str) -> dict[str, Any]:
    """What a model's card tells of the data that it learned from."""
    licences = Counter(clip.licence or NO_LICENCE for clip in dataset.clips if clip.split == split)
    return {
        "fingerprint": dataset.fingerprint,
        "clips": len(sampler.clips),
        "clip_identities": sampler.clips.identities,
        "stills": len(sampler.stills),
        "packs_of_photos": len(sampler.photos),
        "licences": dict(sorted(licences.items())),
        "frames": sum(clip.frames for clip in dataset.clips),
    }


def _channels_last(model: nn.Module) -> None:
    """Convolutions only: the memory's five-dimensional kernels have no such layout."""
    for convolution in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it


def _over(started: float, max_minutes: float | None) -> bool:
    return max_minutes is not None and time.monotonic() - started > 60 * max_minutes


def _augmentation(config: FitConfig, stage: StageConfig) -> AugmentConfig:
    share = config.augment.similarity_share * stage.similarity
    return dataclasses.replace(config.augment, similarity_share=share)


def _faces(plan: PairPlan, pictures: Tensor, landmarks: LandmarkStore) -> tuple[Faces, Faces]:
    batch = len(plan.source)
    return (
        Faces(pictures[:batch], *landmarks.read(plan.source)),
        Faces(pictures[batch:], *landmarks.read(plan.driving)),
    )


def _generator_terms(discriminator: Discriminator, outputs: Outputs) -> dict[str, Tensor]:
    """The generator's side: the discriminator's weights get no gradient from it."""
    assert outputs.prediction is not None
    points = outputs.driving.value.detach()
    discriminator.requires_grad_(False)
    with torch.no_grad():
        real_features, _ = discriminator(outputs.target, points)
    fake_features, fake_scores = discriminator(outputs.prediction, points)
    discriminator.requires_grad_(True)
    return {
        "gan": losses.gan_generator(fake_scores),
        "feature_matching": losses.feature_matching(real_features, fake_features),
    }


def _discriminator_loss(discriminator: Discriminator, outputs: Outputs) -> Tensor:
    """The discriminator's side: prediction and keypoints get no gradient from it."""
    assert outputs.prediction is not None
    points = outputs.driving.value.detach()
    # One pass for both: InstanceNorm keeps samples apart.
    _, scores = discriminator(torch.cat((outputs.target, outputs.prediction.detach())), torch.cat((points, points)))
    real, fake = scores.chunk(2)
    return losses.gan_discriminator(real, fake)
