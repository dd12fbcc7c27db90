"""Models are looked at before anything depends on them."""

import json
import os
from pathlib import Path

import pytest
import torch

from app.pipeline import tiers
from app.pipeline.models import card_of, examine_model, stamp_of, stamp_while_learning
from app.words import card_lines, learning_words
from mcnet.bench.tiers import Tier, Timing, remember, ways
from mcnet.checkpoint import save_model
from mcnet.config import McnetConfig
from mcnet.engine import EngineOptions, Way, open_model
from mcnet.errors import UserError
from mcnet.generator import Mcnet
from mcnet.model_file import CheckpointError, ModelInfo, bundled_models

TORCH = Way("cpu", "fp32", "torch")


@pytest.fixture(autouse=True)
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that remembers what was measured, a test's own."""
    path = tmp_path / "tiers.json"
    monkeypatch.setattr(tiers, "measured_file", lambda: path)
    return path


def written(path: Path, **training: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(len(training))
    model = Mcnet(McnetConfig.named("tiny"), ModelInfo("small one", training=training))
    save_model(model, path)
    return path


def test_the_bundled_model_speaks_for_itself() -> None:
    report = examine_model("starter", "cpu", "fp32")
    assert report.warnings == ()
    assert report.card is not None
    assert report.card.bundled
    assert report.frame_ms is None
    lines = card_lines(report.card, None)
    figures = json.loads(bundled_models()["starter"].with_suffix(".json").read_text(encoding="utf-8"))["evaluation"][
        "figures"
    ]
    said = f"Figures: L1 of copying {figures['l1_of_copying']:.0%}, AKD of copying {figures['akd_of_copying']:.0%}"
    assert any(line.startswith(said) for line in lines)
    assert lines[-1] == "Speed here: not measured yet"


def test_a_model_is_ready_to_be_made_where_it_was_measured(tmp_path: Path, remembered: Path) -> None:
    path = written(tmp_path / "mine" / "model.safetensors", steps=7)
    model, options = open_model(path), EngineOptions(device="cpu", precision="fp32")
    remember(Tier(Timing(TORCH, 12.5)), model, options, remembered)
    report = examine_model(str(path.parent), "cpu", "fp32")
    assert len(report.warnings) == 2  # no figures, and no licence
    engine = report.make()
    assert engine.model_name == "small one"
    assert card_lines(report.card, report.frame_ms)[-1] in (
        "Speed here: 12.5 ms per frame, measured",
        "Speed here: not measured yet",  # where something else is worth trying, torch's figure is no answer
    )


def test_what_was_measured_of_its_like_serves_if_it_can(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors")
    model = open_model(path)
    way = ways(model, EngineOptions(device="cpu"))[0]
    engine = examine_model(str(path), "cpu", "auto", Tier(Timing(way, 10.0))).make()
    assert engine.choice.reason
    int8 = Tier(Timing(Way("cpu", "int8", "openvino"), 10.0))  # its ranges were not measured: that cannot serve
    assert examine_model(str(path), "cpu", "auto", int8).make().model_name == "small one"


@pytest.mark.parametrize("content", [b"", b"garbage", os.urandom(4096), b"\xff" * 16])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth.tar", "a.jpg", "folder/model.safetensors"])
def test_garbage_is_refused_in_a_sentence(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    for model in {str(path), str(path.parent if path.parent != tmp_path else path)}:
        with pytest.raises(UserError):
            examine_model(model, "cpu", "auto")


def test_folders_that_hold_no_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        examine_model(str(tmp_path), "cpu", "auto")
    with pytest.raises(CheckpointError, match="got neither a file, a folder nor a bundled name"):
        examine_model(str(tmp_path / "nothing"), "cpu", "auto")


def test_weights_that_are_damaged_are_refused_though_their_header_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors")
    content = bytearray(path.read_bytes())
    content[-4:] = b"\0\0\xc0\x7f"  # a NaN
    path.write_bytes(content)
    assert card_of(str(path)) is not None
    with pytest.raises(CheckpointError, match="is damaged"):
        examine_model(str(path), "cpu", "auto")


def test_the_authors_files_have_no_card(tmp_path: Path) -> None:
    path = tmp_path / "a.pth.tar"
    path.write_bytes(b"")
    assert card_of(str(path)) is None
    assert card_lines(None, 20.0)[0].startswith("No card")


def test_a_file_of_ours_has_its_card_whatever_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "own.safetensors").rename(tmp_path / "own")
    card = card_of(str(path))
    assert card is not None
    assert card.name == "small one"


def test_only_a_run_that_learns_has_successors(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors")
    assert stamp_while_learning(str(tmp_path)) is None
    path.unlink()
    latest = written(tmp_path / "latest.safetensors", steps=5, of_steps=9, last={"predicted_of_copied": 0.5})
    before = stamp_while_learning(str(tmp_path))
    assert before == stamp_of(str(latest))
    written(latest, steps=6)  # replaced in one step, by a file of its own
    assert stamp_while_learning(str(tmp_path)) != before
    latest.unlink()
    with pytest.raises(CheckpointError):
        stamp_while_learning(str(tmp_path))


def test_what_is_said_of_a_run_that_learns(tmp_path: Path) -> None:
    path = written(tmp_path / "latest.safetensors", steps=5, of_steps=9, last={"predicted_of_copied": 0.5})
    card = card_of(str(path))
    assert card is not None
    assert learning_words(card) == "Still learning: step 5 of 9, L1 of copying, of what it learns from 50%"
    assert card.warnings() == []
    bare = card_of(str(written(path)))
    assert bare is not None
    assert learning_words(bare) == "Still learning: step unknown"
