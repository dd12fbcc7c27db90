"""What training exports is chosen in the window, with its card; what is in training is read as it learns."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from PyQt6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from app.pipeline import tiers
from app.pipeline.animation.live_engine import EngineFactory
from app.pipeline.events import EngineReady
from app.ui.main_window import MainWindow
from app.ui.parts import real_parts
from mcnet.engine import Engine
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import FakePipeline, World
from tests.app.ui.test_run_settings import choose, settle
from tests.training.conftest import heads, one_thread, tiny_config
from training.__main__ import main
from training.fit.loop import fit

__all__ = ["heads"]


class MakingPipeline(FakePipeline):
    """Makes the engines that it is asked for, as the inference thread does."""

    def use_engine(self, factory: object, model: str) -> None:
        engine = cast(Engine, cast(EngineFactory, factory)())
        engine.settle()  # its backend is made ready on a thread
        self.models.append(model)
        self.tell(EngineReady(engine.model_name, "cpu", engine.choice.reason, 0.1, asked=model, keeps_reference=True))


@pytest.fixture
def window(
    open_window: OpenWindow, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, qtbot: QtBot
) -> MainWindow:
    """A window whose models are real, and whose pipeline, cameras and portraits are not."""
    real = real_parts()
    monkeypatch.setattr(tiers, "measured_file", lambda: tmp_path / "tiers.json")
    monkeypatch.setattr("tests.app.ui.fakes.FakePipeline", MakingPipeline)
    fakes = world.parts
    monkeypatch.setattr(
        world,
        "parts",
        lambda: replace(
            fakes(), examine_model=real.examine_model, read_card=real.read_card, model_stamp=real.model_stamp
        ),
    )
    opened = open_window()
    world.pipeline.prove()
    qtbot.waitUntil(lambda: opened.session.models.card_of == "starter", timeout=30_000)
    return opened


@pytest.fixture(scope="module")
def run_folder(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    with one_thread():
        fit(tiny_config(heads, log={"checkpoint_every": 1}), folder)
    return folder


def test_an_exported_model_is_chosen_with_its_card(
    window: MainWindow, world: World, run_folder: Path, tmp_path: Path, qtbot: QtBot
) -> None:
    assert "Figures: L1 of copying" in window.controls.run.card.text()
    out = tmp_path / "exported"
    assert main(["export", str(run_folder), str(out)]) == 0
    choose(window.controls.run.model_choice, "A folder…")
    dialog = window.findChild(QFileDialog)
    assert dialog is not None
    dialog.fileSelected.emit(str(out))
    dialog.close()
    qtbot.waitUntil(lambda: bool(window.messages.messages), timeout=30_000)
    assert window.messages.messages[0].text.startswith("exported: It has no card with figures")
    window.messages.action_button.click()
    settle(window, qtbot, world, 2)
    world.pipeline.prove()
    run = window.controls.run
    qtbot.waitUntil(lambda: "Licence: CC BY 4.0; not stated for some" in run.card.text(), timeout=30_000)
    assert "Figures: not measured" in run.card.text()
    assert run.model_choice.currentText() == "exported"
    assert not run.read_button.isHidden()


def test_a_run_that_learns_is_opened_and_followed(
    window: MainWindow, world: World, heads: Path, run_folder: Path, qtbot: QtBot
) -> None:
    session = window.session
    session.choose_model(str(run_folder))
    settle(window, qtbot, world, 2)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: "Still learning: step 4 of 4" in window.controls.run.card.text(), timeout=30_000)
    fit(tiny_config(heads, full={"steps": 3}), run_folder)
    session.models.look_again()
    qtbot.waitUntil(lambda: "Still learning: step 5 of 5" in window.controls.run.card.text(), timeout=30_000)
    qtbot.waitUntil(lambda: world.pipeline.models == [str(run_folder)], timeout=30_000)
    assert session.chain.model.done


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_garbage_leaves_the_window_as_it_was(
    window: MainWindow, world: World, content: bytes, tmp_path: Path, qtbot: QtBot
) -> None:
    for name in ("a.safetensors", "a.pth.tar", "model.safetensors"):
        (tmp_path / name).write_bytes(content)
        window.controls.run.set_model(tmp_path / name)
        qtbot.waitUntil(lambda: bool(window.messages.messages), timeout=30_000)
        assert window.messages.messages[0].key == "model"
        window.messages.dismiss()
    window.controls.run.set_model(tmp_path)  # a folder with garbage in it
    qtbot.waitUntil(lambda: bool(window.messages.messages), timeout=30_000)
    assert len(world.pipelines) == 1
    assert window.session.settings.model == "starter"
