"""A run in the open: curves, time left, and what it has learned so far, for the app to open."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import training.fit.journal
from mcnet.checkpoint import load_model
from mcnet.model_card import LATEST_FILE, read_card
from mcnet.model_file import CheckpointError
from tests.training.conftest import tiny_config
from training.fit.curves import draw_curves, panels
from training.fit.journal import time_words
from training.fit.loop import fit
from training.fit.state import load_state

ROWS = [
    {"step": 10, "stage": "motion", "total": 4.0, "warped": 3.0, "occlusion": 1.0, "warped_of_copied": 0.9,
     "gradient_detector": 9.0, "step_ms": 10.0, "pairs_per_s": 20.0, "occlusion_mean": 0.5},
    {"step": 20, "stage": "motion", "total": 2.0, "warped": 1.5, "occlusion": 0.5, "warped_of_copied": 0.7,
     "gradient_detector": 9.0, "step_ms": 10.0, "pairs_per_s": 22.0, "occlusion_mean": 0.5},
    {"step": 20, "stage": "motion", "held_out_warped_of_copied": 0.8},
    {"step": 30, "stage": "full", "total": 5.0, "l1": 5.0, "warped_of_copied": 0.6, "predicted_of_copied": 0.65,
     "step_ms": 50.0, "pairs_per_s": 4.0},
]  # fmt: skip


def test_what_the_curves_show() -> None:
    loss, shares, speed = panels(ROWS)
    assert list(loss.curves) == ["total", "l1", "warped", "occlusion"]  # the largest term first
    assert loss.curves["total"] == [(10, 4.0), (20, 2.0), (30, 5.0)]
    assert shares.curves["held out: warped"] == [(20, 0.8)]
    assert shares.curves["predicted"] == [(30, 0.65)]
    assert speed.curves["pairs per second"][-1] == (30, 4.0)


def test_curves_are_drawn_and_a_torn_line_does_no_harm(tmp_path: Path) -> None:
    stats, picture = tmp_path / "stats.jsonl", tmp_path / "curves.png"
    stats.write_text(json.dumps(ROWS[0]) + "\n", encoding="utf-8")
    assert not draw_curves(stats, picture)
    assert not picture.exists()
    stats.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + '{"step": 4', encoding="utf-8")
    assert draw_curves(stats, picture)
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.shape == (3 * 240, 960, 3)
    loss = drawn[34:206, 64:710].reshape(-1, 3)
    assert (loss == (180, 119, 31)).all(1).sum() > 50  # the total's colour, in OpenCV's order


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            {
                "step_ms": 90.0,
                "data_ms": 0.0,
                "compute_ms": 90.0,
                "other_ms": 10.0,
                "pairs_per_s": 123.4,
                "stage_left_s": 30.0,
            },
            "123 pairs/s (computing 90%, saving 10%), 30 s left in this stage",
        ),
        (
            {
                "step_ms": 100.0,
                "data_ms": 25.0,
                "compute_ms": 75.0,
                "other_ms": 0.0,
                "pairs_per_s": 2.0,
                "stage_left_s": 600.0,
            },
            "2 pairs/s (computing 75%, waiting for pictures 25%), 10 min left in this stage",
        ),
        (
            {
                "step_ms": 1.0,
                "data_ms": 0.0,
                "compute_ms": 1.0,
                "other_ms": 0.0,
                "pairs_per_s": 2.0,
                "stage_left_s": 9e4,
            },
            "2 pairs/s (computing 100%), 25.0 h left in this stage",
        ),
    ],
)
def test_where_the_time_goes(line: dict[str, float], said: str) -> None:
    assert time_words(line) == said


def test_what_was_learned_so_far_can_be_opened(heads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "mine"
    with caplog.at_level(logging.INFO, logger="training"):
        fit(tiny_config(heads, log={"checkpoint_every": 2}), run)
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [round(line["stage_left_s"] / (line["step_ms"] + line["other_ms"]) * 1000) for line in lines] == [1, 0, 1, 0]
    assert any("left in this stage" in message for message in caplog.messages)
    assert (run / "curves.png").is_file()
    card = read_card(run / LATEST_FILE)
    assert (card.name, card.steps, card.training["of_steps"], card.learning) == ("mine", 4, 4, True)
    assert card.training["stage"] == "full"
    shown = load_model(run).state_dict()
    averaged = load_state(run / "checkpoint.pt").ema
    assert all(torch.equal(shown[key], averaged[key]) for key in shown if not key.endswith("num_batches_tracked"))
    assert not list(run.glob(".*"))  # nothing half-written is left


def test_a_file_that_cannot_be_written_costs_a_warning(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise CheckpointError("cannot write a model: no space left on device")

    monkeypatch.setattr(training.fit.journal, "save_model", full)
    with caplog.at_level(logging.WARNING, logger="training"):
        assert fit(tiny_config(heads), tmp_path).reason == "done"
    assert any("cannot be shown: cannot write a model" in message for message in caplog.messages)
    assert load_state(tmp_path / "checkpoint.pt").step == 4


def test_sheets_figures_go_with_what_was_learned(heads: Path, tmp_path: Path) -> None:
    fit(tiny_config(heads, log={"sheet_every": 4, "sheet_rows": 1}), tmp_path)
    held_out = read_card(tmp_path / LATEST_FILE).training["held_out"]
    assert held_out["step"] == 4
    assert np.isfinite(held_out["held_out_predicted_of_copied"])
