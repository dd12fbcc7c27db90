"""What a run writes about itself: statistics as JSON lines and for TensorBoard, and sample sheets."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mcnet.checkpoint import save_model
from mcnet.files import replacing
from mcnet.generator import Mcnet
from mcnet.model_card import LATEST_FILE
from mcnet.model_file import CheckpointError, ModelInfo
from training.fit.curves import draw_curves
from training.fit.losses import picture_l1
from training.fit.sheets import HeldOut, sample_sheet, write_png

_log = logging.getLogger(__name__)
STATS, CURVES = "stats.jsonl", "curves.png"
SHEETS, EVENTS = "sheets", "tensorboard"
"""Folders."""


class Journal:
    """Writes a run's `stats.jsonl`, `tensorboard/`, `sheets/`, `curves.png` and `latest.safetensors`.

    Args:
        run: the run's folder.
        step: where the run goes on; lines and sheets of later steps, which a run that was killed may have left, are
            dropped.
        tensorboard: whether to write event files.
    """

    def __init__(self, run: Path, step: int, *, tensorboard: bool) -> None:
        self._run = run
        self._stats = run / STATS
        self._sheets = run / SHEETS
        if self._stats.is_file():
            lines = self._stats.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            with replacing(self._stats) as partial:
                partial.write_text("".join(line for line in lines if _step(line) <= step), encoding="utf-8")
        else:
            self._stats.touch()  # so that it is there, however soon the run stops
        for later, sheet in _sheets(run).items():
            if later > step:
                sheet.unlink()
        self._events: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter

                self._events = SummaryWriter(str(run / EVENTS), purge_step=step)
            except ImportError:
                _log.info("tensorboard is not installed: %s has the same figures", self._stats)
            except UnicodeEncodeError:
                _log.info("tensorboard takes no folder whose name is no text: %s has the same figures", self._stats)

    def write(self, step: int, stage: str, line: dict[str, float]) -> None:
        """One line of statistics; said with how long the stage goes on, and where its time goes."""
        rounded = {name: float(f"{value:.6g}") for name, value in line.items()}
        with self._stats.open("a") as file:
            file.write(json.dumps({"step": step, "stage": stage, **rounded}) + "\n")
        if self._events is not None:
            for name, value in line.items():
                self._events.add_scalar(f"{stage}/{name}", value, step)
        shares = [f"{what} {line[key]:.0%} of copying" for what, key in _SHARES if key in line]
        _log.info(
            "step %d %s: loss %.4f, %s, occlusion %.2f, %s",
            step,
            stage,
            line.get("total", float("nan")),
            ", ".join(shares) or "no step counted",
            line.get("occlusion_mean", float("nan")),
            time_words(line),
        )

    @torch.inference_mode()
    def sheet(self, step: int, stage: str, model: Mcnet, pairs: HeldOut) -> dict[str, float]:
        """A sample sheet of the averaged weights, and their figures on its pairs, which it returns by name."""
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
        return shares

    def publish(self, model: Mcnet, card: dict[str, Any]) -> None:
        """Put what was learned so far where the app can open it, and the curves beside it.

        A file is replaced in one step, so that nobody reads half of one. What cannot be written costs a warning and
        not the run.

        Args:
            model: the averaged weights.
            card: the facts that go with them.
        """
        before = model.info
        model.info = ModelInfo(name=self._run.resolve().name, training=card)
        try:
            save_model(model, self._run / LATEST_FILE)
            draw_curves(self._stats, self._run / CURVES)
        except (CheckpointError, OSError, ImportError) as error:
            _log.warning("what was learned so far cannot be shown: %s", error)
        finally:
            model.info = before

    def close(self) -> None:
        """Flush and close the event files."""
        if self._events is not None:
            self._events.close()
            self._events = None


def newest_sheet(run: Path, step: int) -> Path | None:
    """The last sample sheet of a run until a step; None where it has drawn none.

    Args:
        run: its folder.
        step: of the weights that the sheet goes with: a later one is of others.
    """
    sheets = {drawn: sheet for drawn, sheet in _sheets(run).items() if drawn <= step}
    return sheets[max(sheets)] if sheets else None


def _sheets(run: Path) -> dict[int, Path]:
    """A run's sample sheets, by their steps."""
    return {int(sheet.stem): sheet for sheet in (run / SHEETS).glob("*.png") if sheet.stem.isdecimal()}


def time_words(line: Mapping[str, float]) -> str:
    """How fast a run is, where its time goes, and how long the stage goes on, for people."""
    whole_ms = line["step_ms"] + line["other_ms"]
    parts = {"computing": line["compute_ms"], "waiting for pictures": line["data_ms"], "saving": line["other_ms"]}
    spent = ", ".join(
        f"{name} {taken_ms / whole_ms:.0%}" for name, taken_ms in parts.items() if taken_ms > 0.005 * whole_ms
    )
    minutes = line["stage_left_s"] / 60
    left = (
        f"{minutes / 60:.1f} h" if minutes >= 100 else f"{minutes:.0f} min" if minutes >= 2 else f"{60 * minutes:.0f} s"
    )
    return f"{line['pairs_per_s']:.3g} pairs/s ({spent}), {left} left in this stage"


_SHARES = (("warped", "warped_of_copied"), ("predicted", "predicted_of_copied"))


def _step(line: str) -> int:
    """The step of a line; a torn last line (a full disk, a kill) counts as beyond the end."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62
