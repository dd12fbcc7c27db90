"""Everything that a resume needs, in one bundle, written so that a failure leaves the one before."""

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcnet.errors import UserError
from mcnet.files import replacing
from mcnet.generator import Mcnet

FORMAT = "mcnet-training/3"
_BEFORE = "mcnet-training/2"
"""Had one discriminator, of whole pictures; all else is the same."""
CHECKPOINT = "checkpoint.pt"


class StateError(UserError, ValueError):
    """A checkpoint that cannot be written or read; the message says what to do."""


@dataclasses.dataclass
class TrainState:
    """The bundle. Random numbers need no place in it: they follow from the seed and the step (training.draws)."""

    step: int
    """Steps done in all stages together; the next one is number `step`, from 0."""
    skipped: int
    """Steps that were left out, since a loss or gradient was not finite."""
    model: dict[str, Tensor]
    """The network's state dict."""
    ema: dict[str, Tensor]
    """The same, averaged over the steps."""
    optimizer: dict[str, Any]
    discriminator: dict[str, Tensor]
    """Of all discriminators (`training.fit.discriminator.Adversaries`); empty while none plays."""
    discriminator_optimizer: dict[str, Any]
    scaler: dict[str, Any]
    """Of the fp16 gradient scaler; else empty."""
    config: dict[str, Any]
    """The configuration of the run, as `FitConfig.to_dict`."""
    facts: dict[str, Any]
    """What a model card needs: the data's fingerprint and counts, the stage, the last figures."""


def save_state(state: TrainState, path: Path) -> None:
    """Write a checkpoint in one step: a failure leaves the file that was there.

    Raises:
        StateError: it cannot be written, for instance since the disk is full.
    """
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            torch.save({"format": FORMAT, **{f.name: getattr(state, f.name) for f in dataclasses.fields(state)}}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch wraps what its file object raises
        kept = f"the previous checkpoint {path} is unchanged" if path.is_file() else "there is no earlier checkpoint"
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise StateError(
            f"the checkpoint cannot be written ({reason}); {kept}. Make room, then run the same command to go on"
        ) from error


def load_state(path: Path, device: torch.device | str = "cpu") -> TrainState:
    """Read a checkpoint.

    Raises:
        StateError: it is damaged, or none of ours.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # whether it reads is what counts
            values = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise StateError(f"{path} cannot be read ({error.strerror or error}): take a copy, or start anew") from error
    except Exception as error:  # a damaged pickle makes torch's reader fail in many ways, and all mean the same
        raise StateError(
            f"{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; take a copy, or "
            "move it away to start anew"
        ) from error
    names = {field.name for field in dataclasses.fields(TrainState)}
    form = values.pop("format", None) if isinstance(values, dict) else None
    if form not in (FORMAT, _BEFORE) or set(values) != names:
        raise StateError(
            f"{path} is no training checkpoint of this version: got format {form!r}, expected {FORMAT} or {_BEFORE}; "
            "move it away, or choose another run folder"
        )
    state = TrainState(**values)
    if form == _BEFORE:
        state.discriminator = {f"whole.{name}": value for name, value in state.discriminator.items()}
    return state


class WeightAverage:
    """An exponential moving average of a model's weights and BatchNorm statistics.

    Args:
        model: whose; the average starts as a copy.
        decay: what it keeps of itself per step; (1 + n) / (10 + n) in step n while that is less.
    """

    def __init__(self, model: Mcnet, decay: float) -> None:
        self.model = Mcnet(model.config).eval().requires_grad_(False)
        self.model.load_state_dict(model.state_dict())
        self.model.to(next(model.parameters()).device)
        self._decay = decay
        self._pairs = _float_pairs(model, self.model)

    @torch.no_grad()
    def update(self, step: Tensor, good: Tensor) -> None:
        """Move towards the model's weights after step `step`, (), from 0; not if that was not `good`, a () bool."""
        share = torch.where(good, 1 - ((1 + step) / (10 + step)).clamp(max=self._decay), 0.0)
        current, averaged = self._pairs
        changes = torch._foreach_sub(current, averaged)
        torch._foreach_mul_(changes, share)
        torch._foreach_add_(averaged, changes)


def _float_pairs(model: nn.Module, average: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The floating-point parameters and buffers of two networks, in the same order.

    They are the tensors themselves and no state dicts' views of them: those stay behind when a network is converted to
    another memory layout.
    """
    current, averaged = ({**dict(each.named_parameters()), **dict(each.named_buffers())} for each in (model, average))
    keys = [key for key, value in current.items() if value.is_floating_point()]
    return [current[key] for key in keys], [averaged[key] for key in keys]


class BatchNormGuard:
    """Puts BatchNorm's running statistics back as they were before a step that turned out bad.

    A forward pass changes them before anybody knows whether its loss is finite.

    Args:
        model: those of its BatchNorms that learn statistics now are watched.
    """

    def __init__(self, model: nn.Module) -> None:
        learning = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        self._current = [buffer for module in learning for buffer in module.buffers()]
        self._kept = [buffer.clone() for buffer in self._current]

    @torch.no_grad()
    def remember(self) -> None:
        """Before a step."""
        for kept, current in zip(self._kept, self._current, strict=True):
            kept.copy_(current)

    @torch.no_grad()
    def put_back(self, good: Tensor) -> None:
        """After a step, if it was not `good`, a () bool."""
        for kept, current in zip(self._kept, self._current, strict=True):
            current.copy_(torch.where(good, current, kept))
