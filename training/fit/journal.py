"""What a run writes about itself: statistics as JSON lines and for TensorBoard, and sample sheets."""

import json
import logging
from pathlib import Path
from typing import Any

import torch

from mcnet.generator import Mcnet
from training.fit.losses import picture_l1
from training.fit.sheets import HeldOut, sample_sheet, write_png

_log = logging.getLogger(__name__)
STATS = "stats.jsonl"


class Journal:
    """Writes a run's `stats.jsonl`, `tensorboard/` and `sheets/`.

    Args:
        run: the run's folder.
        step: where the run goes on; lines of later steps, which a run that was killed may have left, are dropped.
        tensorboard: whether to write event files.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool) -> None:
        self._stats = run / STATS
        self._sheets = run / "sheets"
        if self._stats.is_file():
            lines = [line for line in self._stats.read_text().splitlines(keepends=True) if _step(line) <= step]
            self._stats.write_text("".join(lines))
        self._events: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                _log.info("tensorboard is not installed: %s has the same figures", self._stats)
            else:
                self._events = SummaryWriter(str(run / "tensorboard"), purge_step=step)

    def write(self, step: int, stage: str, line: dict[str, float]) -> None:
        """One line of statistics."""
        rounded = {name: float(f"{value:.6g}") for name, value in line.items()}
        with self._stats.open("a") as file:
            file.write(json.dumps({"step": step, "stage": stage, **rounded}) + "\n")
        if self._events is not None:
            for name, value in line.items():
                self._events.add_scalar(f"{stage}/{name}", value, step)
        shares = [f"{what} {line[key]:.0%} of copying" for what, key in _SHARES if key in line]
        _log.info(
            "step %d %s: loss %.4f, %s, occlusion %.2f, %.0f ms (%.0f of them data)",
            step,
            stage,
            line.get("total", float("nan")),
            ", ".join(shares) or "no step counted",
            line.get("occlusion_mean", float("nan")),
            line["step_ms"],
            line["data_ms"],
        )

    @torch.inference_mode()
    def sheet(self, step: int, stage: str, model: Mcnet, pairs: HeldOut) -> None:
        """A sample sheet of the averaged weights, and their figures on its pairs."""
        self._sheets.mkdir(exist_ok=True)
        decoded = stage == "full"
        sheet = sample_sheet(model, pairs, decoded=decoded)
        write_png(self._sheets / f"{step:07d}.png", sheet)
        copied = warped = predicted = 0.0
        for source, driving, (seen, _) in zip(
            pairs.source[:, None], pairs.driving[:, None], pairs.seen_by(model), strict=True
        ):
            copied += float(picture_l1(source, driving))
            warped += float(picture_l1(seen.warped.picture, driving))
            predicted += float(picture_l1(seen.prediction, driving))
        shares = {"held_out_warped_of_copied": warped / max(copied, 1e-9)}
        if decoded:
            shares["held_out_predicted_of_copied"] = predicted / max(copied, 1e-9)
        with self._stats.open("a") as file:
            file.write(json.dumps({"step": step, "stage": stage, **shares}) + "\n")
        if self._events is not None:
            self._events.add_image("sheet", sheet, step, dataformats="HWC")
            for name, value in shares.items():
                self._events.add_scalar(f"{stage}/{name}", value, step)
        _log.info("step %d sheet: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in shares.items()))

    def close(self) -> None:
        """Flush and close the event files."""
        if self._events is not None:
            self._events.close()
            self._events = None


_SHARES = (("warped", "warped_of_copied"), ("predicted", "predicted_of_copied"))


def _step(line: str) -> int:
    """The step of a line; a torn last line (a full disk, a kill) counts as beyond the end."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62
