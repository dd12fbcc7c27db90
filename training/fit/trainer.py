"""One optimiser step, from the drawing of pairs to the average of weights, without a wait for the device.

Everything that a step decides is decided on the device: which pairs, which random changes, whether its loss is finite,
and so whether it counts. The host only launches, and on a GPU that alone can be the slowest part: a step is hundreds of
small operations. So on one GPU with its frames in memory the step is recorded as a CUDA graph after a few that ran
eagerly, and replayed with the step's number and learning rates written to where the recording reads them.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mcnet.dense_motion import DenseMotion
from mcnet.generator import Mcnet
from mcnet.pose import LinearMap
from training.fit import losses
from training.fit.augment import Faces, augment, disturb, equivariance_warp
from training.fit.config import AugmentConfig, FitConfig, StageConfig
from training.fit.discriminator import Adversaries, Discriminator
from training.fit.measured import measured
from training.fit.moving import Mover
from training.fit.objective import (
    Objective,
    Outputs,
    detector_outputs,
    full_outputs,
    motion_outputs,
    with_crops,
    with_second_look,
)
from training.fit.processes import Processes
from training.fit.running import Totals, clip_gradients, mixed_seed
from training.fit.sampler import PairPlan, PairSampler
from training.fit.stages import Stage, learning_rate, parameter_groups, part_rate, set_trainable
from training.fit.state import BatchNormGuard, TrainState, WeightAverage
from training.fit.stores import FrameStore, LandmarkStore

_log = logging.getLogger(__name__)

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Takes what launches operations on fixed tensors, without running it; gives what launches the same ones again."""
EAGER_STEPS = 3
"""Of each kind, before it is recorded: the optimiser's state, caches and libraries' work spaces are made in them."""


class Standing(NamedTuple):
    """What the device has counted.

    Attributes:
        skipped: steps that were left out in the run.
        in_row: how many of them followed one another at most, since this was asked last.
        last: the number of the last one; -1: none in this call.
    """

    skipped: int
    in_row: int
    last: int


class Trainer:
    """What learns, and the step by which it does.

    Args:
        config: of the run.
        model: the network, on its device.
        adversaries: likewise; None where none plays.
        backbone: of the perceptual term; None where there is none.
        sampler: draws pairs, where the frames are read by row.
        frames: pictures by row.
        landmarks: likewise.
        processes: those of the run.
        capture: records a step; None: steps are not recorded.
        mover: moves sources in space; None where the configuration moves none.
        linear_jacobians: the run's map from places to jacobians, where pairs take it.
        teacher: whose dense motion the network's is to become; it rests. None: nobody's.
    """

    def __init__(
        self,
        config: FitConfig,
        model: Mcnet,
        adversaries: Adversaries | None,
        backbone: nn.Module | None,
        sampler: PairSampler,
        frames: FrameStore,
        landmarks: LandmarkStore,
        processes: Processes,
        capture: Capture | None = None,
        mover: Mover | None = None,
        linear_jacobians: LinearMap = (),
        teacher: DenseMotion | None = None,
    ) -> None:
        self.model = model
        self.average = WeightAverage(model, config.optim.ema_decay)
        self.totals = Totals()
        self._config = config
        self._adversaries = adversaries
        self._sampler, self._frames, self._landmarks = sampler, frames, landmarks
        self._processes = processes
        self._capture = capture
        self._mover = mover
        self._linear_jacobians = linear_jacobians
        self._teacher = teacher
        self._device = device = processes.device
        precision = config.run.precision
        self._autocast = functools.partial(
            torch.autocast,
            device.type,
            dtype=torch.float16 if precision == "fp16" else torch.bfloat16,
            enabled=precision != "fp32",
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._objective = Objective(
            config.loss, backbone, losses.Pyramid(config.loss.scales).to(device), self._autocast
        )
        self.optimizer = self._adam(parameter_groups(model))
        self.discriminator_optimizer = None if adversaries is None else self._adam(adversaries.parameters())
        self._networks = {
            "detector": list(model.keypoint_detector.parameters()),
            "generator": list(model.generator.parameters()),
        }
        self._guard = BatchNormGuard(model)
        self._stage: str | None = None
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._skipped, self._in_row, self._most_in_row = (torch.zeros_like(self._step) for _ in range(3))
        self._last_bad = torch.full_like(self._step, -1)
        # Of one kind of step: one stage, with or without discriminator. A recording holds as much memory as a step.
        self._kind = "", False
        self._launched = 0
        self._recorded: Callable[[], None] | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def _adam(self, parameters: Any) -> torch.optim.Adam:
        """Fused, since only that can leave a step out on the device; its rates are tensors, which a recording reads."""
        optim = self._config.optim
        optimizer = torch.optim.Adam(
            parameters,
            lr=0.0,
            betas=(optim.beta1, optim.beta2),
            fused=True,
            capturable=self._device.type == "cuda",
        )
        self._own_rates(optimizer)
        return optimizer

    def _own_rates(self, optimizer: torch.optim.Adam) -> None:
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros((), device=self._device)

    def load(self, state: TrainState) -> None:
        """Go on from a checkpoint; the model's own weights were loaded before."""
        self.average.model.load_state_dict(state.ema)
        self._load_optimizer(self.optimizer, state.optimizer)
        if self._adversaries is not None and self.discriminator_optimizer is not None and state.discriminator:
            theirs, ours = state.discriminator.keys(), self._adversaries.state_dict().keys()
            self._adversaries.load_state_dict(
                {name: state.discriminator[name] for name in theirs & ours}, strict=theirs == ours
            )
            if theirs == ours:
                self._load_optimizer(self.discriminator_optimizer, state.discriminator_optimizer)
            else:
                _log.warning("other discriminators play than in the last call: their optimiser begins afresh")
        if state.scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(state.scaler)
        self._skipped.fill_(state.skipped)

    def _load_optimizer(self, optimizer: torch.optim.Adam, state: dict[str, Any]) -> None:
        optimizer.load_state_dict(state)
        self._own_rates(optimizer)
        for group in optimizer.param_groups:
            group["capturable"] = self._device.type == "cuda"  # the checkpoint may come from another device
        for parameter, moments in optimizer.state.items():
            for name, moment in moments.items():
                if moment.dim():  # the fused kernel takes memory as it lies, so moments have to lie as weights do
                    moments[name] = torch.empty_like(parameter).copy_(moment)

    def state(self, step: int, skipped: int, facts: dict[str, Any]) -> TrainState:
        """What a resume needs."""
        adversaries, their_optimizer = self._adversaries, self.discriminator_optimizer
        return TrainState(
            step=step,
            skipped=skipped,
            model=self.model.state_dict(),
            ema=self.average.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            discriminator={} if adversaries is None else adversaries.state_dict(),
            discriminator_optimizer={} if their_optimizer is None else their_optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            config=self._config.to_dict(),
            facts=facts,
        )

    def standing(self) -> Standing:
        """What was left out; waits for the device."""
        counts = torch.stack((self._skipped, self._most_in_row, self._last_bad)).tolist()
        self._most_in_row.copy_(self._in_row)
        return Standing(*counts)

    def begin(self, stage: Stage) -> None:
        """Let learn what learns in a stage; nothing where it has begun."""
        if stage.name != self._stage:
            set_trainable(self.model, stage.config, freeze_batchnorm=self._config.run.freeze_batchnorm)
            self._guard = BatchNormGuard(self.model)
            self._stage = stage.name

    def launch(
        self,
        stage: Stage,
        step: int,
        read: tuple[PairPlan, Tensor] | None = None,
        *,
        recorded: bool = True,
        time_share: float = 0.0,
    ) -> float:
        """Ask the device for a step of a stage that has begun.

        Args:
            stage: the step's.
            step: its number in the run.
            read: its plan and frames, where they do not lie on the device; else it finds them itself.
            recorded: whether a recording may take the place of its operations.
            time_share: of the stage's time that is over, for a rate that decays by it.

        Returns:
            The learning rate.
        """
        rate = learning_rate(stage, step, self._config.run.first_step, time_share)
        for optimizer in (self.optimizer, self.discriminator_optimizer):
            for group in () if optimizer is None else optimizer.param_groups:
                group["lr"].fill_(rate * part_rate(stage.config, group.get("part", "")))
        self._step.fill_(step)
        joined = (
            self._adversaries is not None and stage.name == "full" and step - stage.first >= self._config.loss.gan_after
        )
        torch.manual_seed(mixed_seed(self._config.run.seed, step, self._processes.rank))  # the memory's noise
        if (stage.name, joined) != self._kind:
            self._kind = stage.name, joined
            self._launched, self._recorded = 0, None
        self._launched += 1
        recorded = recorded and read is None
        if recorded and self._capture is not None and self._launched > EAGER_STEPS and self._recorded is None:
            self._record(stage.config, self._capture)
        if recorded and self._recorded is not None:
            self._recorded()
        else:
            with self._aside():
                self._compute(stage.config, stage.name, joined, read)
        return rate

    def _record(self, stage: StageConfig, capture: Capture) -> None:
        name, joined = self._kind
        try:
            with self.totals.paused():
                self._recorded = capture(lambda: self._compute(stage, name, joined, None))
        except RuntimeError as error:
            _log.warning("steps are launched one operation at a time: recording them failed: %s", error)
            self._capture = None

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """A stream of its own for steps that may come before a recording, as PyTorch asks for."""
        if self._capture is None or self._stream is None:
            yield
            return
        before = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            yield
        before.wait_stream(self._stream)

    def _compute(self, stage: StageConfig, name: str, joined: bool, read: tuple[PairPlan, Tensor] | None) -> None:
        """The step: reads `_step` and the optimisers' rates, changes all else in place."""
        config, model, autocast = self._config, self.model, self._autocast
        # ---- Pairs ------------------------------------------------------------------------------------------------
        if read is None:
            plan = self._sampler.plan(self._step, stage.batch, self._processes.rank, stage.stills)
            read = plan, self._frames.read(torch.cat((plan.source, plan.driving)))
        plan, pictures = read[0].to(self._device), self._frames.to_pictures(read[1])
        source, driving = self._faces(plan, pictures)
        in_space = None
        if self._mover is not None:
            source, in_space = self._mover(source, plan, config.augment)
        source, driving = augment(source, driving, plan, self._augmentation(stage), in_space)
        warp = equivariance_warp(plan.draws, config.loss.warp_affine, config.loss.warp_bend)

        # ---- Gradients --------------------------------------------------------------------------------------------
        self._guard.remember()
        places = measured(source, driving, config.data, plan.draws, self._linear_jacobians)
        outputs: Outputs
        if name == "detector":
            disturbing = functools.partial(disturb, draws=plan.draws, share=config.augment.disturb_share)
            outputs = detector_outputs(model, source.pictures, driving.pictures, warp, autocast, disturbing)
        elif name == "motion":
            outputs = motion_outputs(
                model, source.pictures, driving.pictures, warp, autocast, config.loss.warped_px, places, self._teacher
            )
        else:
            outputs = full_outputs(model, source.pictures, driving.pictures, warp, autocast, places, self._teacher)
            if config.loss.crops or config.loss.crops_perceptual or config.loss.crops_gan:
                outputs = with_crops(outputs, driving, config.loss.crop_px)
            if config.loss.picture_openings:
                outputs = with_second_look(outputs, model, autocast)
        shown = [] if self._adversaries is None or not joined else _shown(self._adversaries, outputs)
        terms = self._objective.terms(outputs, source, driving, warp, self._step, _generator_terms(shown))
        if shown and config.loss.gan_share:
            terms = terms.balanced(config.loss.gan_share, model.generator.final.weight, self._processes.sum)
        self.optimizer.zero_grad()
        self.scaler.scale(terms.total).backward()  # type: ignore[no-untyped-call]
        self._processes.average_gradients(list(itertools.chain(*self._networks.values())))
        self.scaler.unscale_(self.optimizer)
        norms = {each: clip_gradients(them, config.optim.clip_norm) for each, them in self._networks.items()}
        loss = terms.total.detach()
        figures = {"total": loss, **terms.weighted, **terms.readings}
        if shown and self._adversaries is not None and self.discriminator_optimizer is not None:
            discriminator_loss = _discriminator_loss(shown)
            self.discriminator_optimizer.zero_grad()
            discriminator_loss.backward()  # type: ignore[no-untyped-call]
            self._processes.average_gradients(list(self._adversaries.parameters()))
            for each in shown:  # one that judges more pictures has a longer gradient, which is no reason to cut both
                norms[f"{each.prefix}discriminator"] = clip_gradients(
                    list(each.discriminator.parameters()), config.optim.clip_norm
                )
            figures["discriminator"] = discriminator_loss.detach()
            loss = loss + discriminator_loss.detach()
        figures |= {f"gradient_{each}": norm for each, norm in norms.items()}

        # ---- Weights ----------------------------------------------------------------------------------------------
        # All processes leave a step out together.
        good = torch.isfinite(self._processes.sum(torch.stack((loss, *norms.values())))).all()
        self._apply(self.optimizer, good)
        if joined and self.discriminator_optimizer is not None:
            self._apply(self.discriminator_optimizer, good)
        if self.scaler.is_enabled():
            self.scaler.update()
        self._guard.put_back(good)
        self.average.update(self._step, good)
        self.totals.add(figures, good)
        self._skipped += ~good
        self._in_row.copy_(torch.where(good, 0, self._in_row + 1))
        self._most_in_row.copy_(torch.maximum(self._most_in_row, self._in_row))
        self._last_bad.copy_(torch.where(good, self._last_bad, self._step))

    @staticmethod
    def _apply(optimizer: torch.optim.Adam, good: Tensor) -> None:
        """A step of the optimiser, or none: its kernel looks at what a gradient scaler would have told it.

        On a CPU that kernel takes memory as it lies and checks nothing: gradients have to lie as their weights do.
        """
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
        optimizer.found_inf = (~good).float()  # type: ignore[attr-defined] # see torch.amp.GradScaler.step
        optimizer.step()

    def _augmentation(self, stage: StageConfig) -> AugmentConfig:
        augmenting = self._config.augment
        return dataclasses.replace(augmenting, similarity_share=augmenting.similarity_share * stage.similarity)

    def _faces(self, plan: PairPlan, pictures: Tensor) -> tuple[Faces, Faces]:
        batch = len(plan.source)
        return (
            Faces(pictures[:batch], *self._landmarks.read(plan.source)),
            Faces(pictures[batch:], *self._landmarks.read(plan.driving)),
        )


class _Shown(NamedTuple):
    """What a discriminator is shown: real and fake pictures, driving keypoints in them, how much each counts."""

    prefix: str
    discriminator: Discriminator
    real: Tensor
    fake: Tensor
    points: Tensor
    weights: Tensor | float


def _shown(adversaries: Adversaries, outputs: Outputs) -> list[_Shown]:
    """What is shown to each discriminator that plays. Keypoints get no gradient from it."""
    shown = []
    if adversaries.whole is not None:
        assert outputs.prediction is not None
        points = outputs.driving.value.detach()
        shown.append(_Shown("", adversaries.whole, outputs.target, outputs.prediction, points, 1.0))
    if adversaries.crops is not None:
        assert outputs.crops is not None
        predicted, wanted, points, weights = outputs.crops
        shown.append(_Shown("crops_", adversaries.crops, wanted, predicted, points, weights))
    return shown


def _generator_terms(shown: list[_Shown]) -> dict[str, Tensor]:
    """The generator's side: the discriminators' weights get no gradient from it."""
    terms = {}
    for prefix, discriminator, real, fake, points, weights in shown:
        discriminator.requires_grad_(False)
        try:
            with torch.no_grad():
                real_features, _ = discriminator(real, points)
            fake_features, fake_scores = discriminator(fake, points)
        finally:
            discriminator.requires_grad_(True)
        terms[f"{prefix}gan"] = losses.gan_generator(fake_scores, weights)
        terms[f"{prefix}feature_matching"] = losses.feature_matching(real_features, fake_features, weights)
    return terms


def _discriminator_loss(shown: list[_Shown]) -> Tensor:
    """The discriminators' side: predictions get no gradient from it."""
    terms = []
    for _, discriminator, real, fake, points, weights in shown:
        # One pass for both: InstanceNorm keeps samples apart.
        _, scores = discriminator(torch.cat((real, fake.detach())), torch.cat((points, points)))
        of_real, of_fake = scores.chunk(2)
        terms.append(losses.gan_discriminator(of_real, of_fake, weights))
    return torch.stack(terms).sum()
