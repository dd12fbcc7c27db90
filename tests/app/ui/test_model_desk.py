"""Models are looked at before they are used, changed while a call watches, and read again while they learn."""

from pathlib import Path

import pytest
from PyQt6.QtGui import QDesktopServices
from PyQt6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from app.pipeline.events import EngineReady, ModelRefused, StageFailed
from app.pipeline.state import State
from app.settings import RECENT_MODELS, load_settings
from app.ui.main_window import MainWindow
from app.ui.model_desk import label_of
from app.ui.parts import WindowOptions
from app.ui.run_settings import RunSettings
from mcnet.model_file import CheckpointError
from tests.app.ui.fakes import World, card, measured
from tests.app.ui.test_run_settings import choose, settle


@pytest.fixture
def run(proven: MainWindow) -> RunSettings:
    return proven.controls.run


def texts(window: MainWindow) -> list[str]:
    return [message.text for message in window.messages.messages]


def entries(run: RunSettings) -> list[str]:
    return [run.model_choice.itemText(row) for row in range(run.model_choice.count())]


def test_the_card_of_the_model_in_use_is_shown(run: RunSettings, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: "Figures" in run.card.text())
    assert run.card.text().splitlines() == [
        "256 px, 0.12 M parameters",
        "Licence: CC BY 4.0",
        "Figures: L1 of copying 59%, AKD of copying 11% (20 clips that it never saw)",
        "Speed here: not measured yet",
    ]
    assert run.read_button.isHidden()


def test_a_good_model_is_used_at_once_and_remembered(
    proven: MainWindow, run: RunSettings, world: World, options: WindowOptions, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    world.cards[str(folder)] = card(folder / "model.safetensors")
    choose(run.model_choice, "A folder…")
    dialog = proven.findChild(QFileDialog)
    assert dialog is not None
    assert dialog.fileMode() is QFileDialog.FileMode.Directory
    dialog.fileSelected.emit(str(folder))
    dialog.close()
    settle(proven, qtbot, world, 2)
    assert world.pipeline.made_from.model == str(folder)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: proven.session.settings.recent_models == (str(folder),))
    assert entries(run) == ["starter", "starter_light", "mine", "Another file…", "A folder…"]
    choose(run.model_choice, "starter")
    settle(proven, qtbot, world, 3)
    assert entries(run)[:3] == ["starter", "starter_light", "mine"]
    proven.close()
    kept, _ = load_settings(options.settings_path)
    assert (kept.model, kept.recent_models) == ("starter", (str(folder),))


def test_at_most_so_many_are_remembered(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    for number in range(RECENT_MODELS + 2):
        world.cards[f"m{number}.safetensors"] = card(Path(f"m{number}.safetensors"))
        proven.session.choose_model(f"m{number}.safetensors")
        settle(proven, qtbot, world, number + 2)
        world.pipeline.prove()
        qtbot.waitUntil(lambda number=number: proven.session.settings.recent_models[:1] == (f"m{number}.safetensors",))  # type: ignore[misc]
    assert len(proven.session.settings.recent_models) == RECENT_MODELS


def test_what_speaks_against_a_model_is_told_first(
    proven: MainWindow, run: RunSettings, world: World, qtbot: QtBot
) -> None:
    world.cards["bad.safetensors"] = card(Path("bad.safetensors"), good=False)
    run.set_model("bad.safetensors")
    qtbot.waitUntil(lambda: bool(proven.messages.messages))
    [message] = proven.messages.messages
    assert (message.key, message.tone, message.action) == ("model", "warning", "Use it all the same")
    assert message.text.startswith("bad: It has no card with figures")
    assert "licence" in message.text
    assert len(world.pipelines) == 1
    assert run.model_choice.currentText() == "starter"
    proven.messages.action_button.click()
    settle(proven, qtbot, world, 2)
    assert world.pipeline.made_from.model == "bad.safetensors"


def test_what_cannot_be_used_is_refused_and_nothing_changes(
    proven: MainWindow, run: RunSettings, world: World, qtbot: QtBot
) -> None:
    world.model_errors["garbage.safetensors"] = CheckpointError("garbage.safetensors is no whole safetensors file")
    run.set_model("garbage.safetensors")
    qtbot.waitUntil(lambda: bool(proven.messages.messages))
    assert texts(proven) == ["garbage.safetensors is no whole safetensors file"]
    qtbot.wait(50)
    assert len(world.pipelines) == 1
    assert world.pipeline.models == []
    assert proven.session.settings.model == "starter"
    assert run.model_choice.isEnabled()


def test_of_two_that_are_chosen_quickly_the_second_counts(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    for name in ("one.safetensors", "two.safetensors"):
        world.cards[name] = card(Path(name))
        proven.session.choose_model(name)
    settle(proven, qtbot, world, 2)
    qtbot.waitUntil(lambda: not proven.session.busy)
    assert world.pipeline.made_from.model == "two.safetensors"
    assert len(world.pipelines) == 2


def test_while_a_call_watches_the_model_is_changed_in_its_place(live: MainWindow, world: World, qtbot: QtBot) -> None:
    run = live.controls.run
    assert run.model_choice.isEnabled()
    assert not run.size_choice.isEnabled()
    world.cards["other.safetensors"] = card(Path("other.safetensors"))
    world.speeds["other.safetensors"] = 21.25
    run.set_model("other.safetensors")
    qtbot.waitUntil(lambda: world.pipeline.models == ["other.safetensors"])
    assert len(world.pipelines) == 1
    assert live.session.settings.model == "starter"  # until it has taken over
    world.pipeline.take_over()
    qtbot.waitUntil(lambda: live.session.settings.model == "other.safetensors")
    qtbot.waitUntil(lambda: live.session.models.card_of == "other.safetensors")
    assert run.model_choice.currentText() == "other"
    assert run.card.text().endswith("Speed here: 21.2 ms per frame, measured")
    assert live.session.live
    world.pipeline.tell(measured(30.0))  # of the one in use
    qtbot.waitUntil(lambda: run.card.text().endswith("Speed here: 30 ms per frame, measured"))
    live.session.choose_model("starter")
    qtbot.waitUntil(lambda: world.pipeline.models[-1] == "starter")
    world.pipeline.take_over()
    qtbot.waitUntil(lambda: live.session.models.card_of == "starter")
    assert run.card.text().endswith("Speed here: not measured yet")
    live.session.choose_model("other.safetensors")
    qtbot.waitUntil(lambda: world.pipeline.models[-1] == "other.safetensors")
    world.pipeline.take_over()
    qtbot.waitUntil(lambda: live.session.models.card_of == "other.safetensors")
    assert run.card.text().endswith("Speed here: 21.2 ms per frame, measured")  # what is remembered beyond the window
    assert live.session.settings.recent_models[0] == "other.safetensors"
    assert "other animates the portrait now." in texts(live)


def test_a_model_that_fails_in_a_call_leaves_the_one_before(live: MainWindow, world: World, qtbot: QtBot) -> None:
    world.cards["other.safetensors"] = card(Path("other.safetensors"))
    live.session.choose_model("other.safetensors")
    qtbot.waitUntil(lambda: bool(world.pipeline.models))
    world.pipeline.tell(ModelRefused("other.safetensors", "the model gives NaN."))
    qtbot.waitUntil(lambda: bool(live.messages.messages))
    assert texts(live) == ["other cannot be used: the model gives NaN. starter goes on."]
    assert (live.session.live, live.session.settings.model) == (True, "starter")
    assert live.session.chain.model.done


def test_a_model_that_cannot_be_loaded_gives_way_to_the_last_good_one(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    world.cards["other.safetensors"] = card(Path("other.safetensors"))
    proven.session.choose_model("other.safetensors")
    settle(proven, qtbot, world, 2)
    world.pipeline.tell(StageFailed("model", "out of memory."))
    settle(proven, qtbot, world, 3)
    assert world.pipeline.made_from.model == "starter"
    assert texts(proven) == ["other cannot be used: out of memory. starter is back."]
    world.pipeline.prove()
    qtbot.waitUntil(lambda: proven.session.chain.model.done)
    assert proven.session.settings.model == "starter"
    # Where the last good one fails as well, that is told as any fault, and is not tried for ever.
    world.pipeline.tell(StageFailed("model", "the disk is gone."))
    qtbot.waitUntil(lambda: proven.session.chain.model.failed)
    assert len(world.pipelines) == 3


def test_a_run_that_learns_is_read_again_when_it_has_learned_more(
    proven: MainWindow, run: RunSettings, world: World, qtbot: QtBot, tmp_path: Path
) -> None:
    folder = str(tmp_path / "runs" / "mine")
    latest = Path(folder) / "latest.safetensors"
    world.cards[folder] = card(latest, good=False, steps=100, of_steps=900, last={"warped_of_copied": 0.71})
    world.stamps[folder] = (1, 1, 1)
    run.set_model(folder)  # nobody is asked: that it has no figures yet goes without saying
    settle(proven, qtbot, world, 2)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: "step 100 of 900" in run.card.text())
    assert "Still learning: step 100 of 900, warped L1 of copying, of what it learns from 71%" in run.card.text()
    desk = proven.session.models
    looked = len(world.looked_at)
    desk.look_again()
    qtbot.waitUntil(lambda: not proven.session.busy)
    assert len(world.looked_at) == looked  # nothing new: its weights are not read again
    world.cards[folder] = card(
        latest, good=False, steps=200, of_steps=900, held_out={"held_out_warped_of_copied": 0.65}
    )
    world.stamps[folder] = (2, 1, 1)
    desk.look_again()
    qtbot.waitUntil(lambda: world.pipeline.models == [folder])
    assert len(world.pipelines) == 2  # in its place, whether a call watches or not
    assert "Still learning: step 200 of 900, warped L1 of copying 65%." in texts(proven)
    world.pipeline.take_over()
    qtbot.waitUntil(lambda: "step 200 of 900" in run.card.text())
    assert proven.session.settings.model == folder


def test_a_run_whose_file_is_damaged_is_told_once_and_the_last_one_stays(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    world.cards["run"] = card(Path("run/latest.safetensors"), good=False, steps=100)
    world.stamps["run"] = (1, 1, 1)
    proven.session.choose_model("run")
    settle(proven, qtbot, world, 2)
    world.pipeline.prove()
    desk = proven.session.models
    qtbot.waitUntil(lambda: desk.card_of == "run")
    world.stamps["run"] = (2, 1, 1)
    world.model_errors["run"] = CheckpointError("run/latest.safetensors is cut short")
    for _ in range(3):
        desk.look_again()
        qtbot.waitUntil(lambda: not proven.session.busy)
    assert [text for text in texts(proven) if "cut short" in text] == [
        "What the run has learned since cannot be used: run/latest.safetensors is cut short. What it had learned "
        "before goes on."
    ]
    assert world.pipeline.models == []
    assert proven.session.state is State.LIVE
    del world.model_errors["run"]
    desk.look_again()
    qtbot.waitUntil(lambda: world.pipeline.models == ["run"])


def test_another_model_ends_the_watch(proven: MainWindow, world: World, qtbot: QtBot) -> None:
    world.cards["run"] = card(Path("run/latest.safetensors"), good=False, steps=100)
    world.stamps["run"] = (1, 1, 1)
    proven.session.choose_model("run")
    settle(proven, qtbot, world, 2)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: proven.session.models.card_of == "run")
    proven.session.choose_model("starter")
    settle(proven, qtbot, world, 3)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: proven.session.models.card_of == "starter")
    world.stamps["run"] = (2, 1, 1)
    proven.session.models.look_again()
    qtbot.waitUntil(lambda: not proven.session.busy)
    assert world.pipeline.models == []


@pytest.fixture
def learning(live: MainWindow, world: World, qtbot: QtBot) -> MainWindow:
    """A call that watches a model which still learns."""
    world.cards["run"] = card(Path("run/latest.safetensors"), good=False, steps=100)
    world.cards["other"] = card(Path("other.safetensors"))
    world.stamps["run"] = (1, 1, 1)
    live.session.choose_model("run")
    qtbot.waitUntil(lambda: world.pipeline.models == ["run"])
    world.pipeline.take_over()
    qtbot.waitUntil(lambda: live.session.models.card_of == "run")
    return live


def test_what_a_run_learns_does_not_undo_a_choice(learning: MainWindow, world: World, qtbot: QtBot) -> None:
    session = learning.session
    session.choose_model("other")
    qtbot.waitUntil(lambda: world.pipeline.models == ["run", "other"])
    world.stamps["run"] = (2, 1, 1)
    session.models.look_again()
    qtbot.waitUntil(lambda: not session.busy)
    world.pipeline.tell(EngineReady("run", "cpu", "once more", 0.1, asked="run"))  # it had learned just before
    qtbot.waitUntil(lambda: session.engine == "once more")
    qtbot.waitUntil(lambda: not session.busy)
    session.models.look_again()
    qtbot.waitUntil(lambda: not session.busy)
    assert world.pipeline.models == ["run", "other"]
    world.pipeline.take_over()
    qtbot.waitUntil(lambda: session.models.card_of == "other")
    assert session.settings.model == "other"


def test_a_run_is_watched_again_where_another_model_is_refused(
    learning: MainWindow, world: World, qtbot: QtBot
) -> None:
    session = learning.session
    session.choose_model("other")
    qtbot.waitUntil(lambda: world.pipeline.models == ["run", "other"])
    world.stamps["run"] = (2, 1, 1)  # while the other one was tried
    world.pipeline.tell(ModelRefused("other", "out of memory."))
    qtbot.waitUntil(lambda: bool(learning.messages.messages))
    qtbot.waitUntil(lambda: not session.busy)
    session.models.look_again()
    qtbot.waitUntil(lambda: world.pipeline.models == ["run", "other", "run"])


def test_what_a_look_at_a_model_of_before_fails_with_is_not_told(
    learning: MainWindow, world: World, qtbot: QtBot
) -> None:
    session = learning.session
    world.stamps["run"] = (2, 1, 1)
    world.model_errors["run"] = CheckpointError("run/latest.safetensors is cut short")
    session.models.look_again()
    session.models.stop()
    qtbot.waitUntil(lambda: not session.busy)
    assert world.looked_at[-1] == "run"
    assert not any("cut short" in text for text in texts(learning))


def test_what_a_run_learns_while_its_engine_is_made_is_not_passed_over(
    learning: MainWindow, world: World, qtbot: QtBot
) -> None:
    session, models = learning.session, world.pipeline.models
    for number in (2, 3):
        world.stamps["run"] = (number, 1, 1)
        session.models.look_again()
        qtbot.waitUntil(lambda number=number: len(models) == number)  # type: ignore[misc]
        world.stamps["run"] = (number, 9, 9)  # while the engine is made
        world.pipeline.take_over()
        qtbot.waitUntil(lambda: not session.busy)
        qtbot.wait(20)
        qtbot.waitUntil(lambda: not session.busy)
        session.models.look_again()
        qtbot.waitUntil(lambda number=number: len(models) == number + 1)  # type: ignore[misc]
        models.pop()
    assert set(models) == {"run"}


def test_what_a_run_learns_while_its_first_engine_is_made_is_not_passed_over(
    proven: MainWindow, world: World, qtbot: QtBot
) -> None:
    world.cards["run"] = card(Path("run/latest.safetensors"), good=False, steps=100)
    world.stamps["run"] = (1, 1, 1)
    proven.session.choose_model("run")
    settle(proven, qtbot, world, 2)
    world.stamps["run"] = (2, 1, 1)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: proven.session.models.card_of == "run")
    proven.session.models.look_again()
    qtbot.waitUntil(lambda: world.pipeline.models == ["run"])


def test_what_is_written_about_a_model_can_be_read(
    proven: MainWindow, run: RunSettings, world: World, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    (tmp_path / "README.md").write_text("about it", encoding="utf-8")
    world.cards["mine"] = card(tmp_path / "model.safetensors")
    run.set_model("mine")
    settle(proven, qtbot, world, 2)
    world.pipeline.prove()
    qtbot.waitUntil(lambda: not run.read_button.isHidden())
    run.read_button.click()
    assert opened == [str(tmp_path / "README.md")]


def test_models_are_called_by_their_files_or_folders() -> None:
    names = [label_of(model) for model in ("starter", "/a/b.safetensors", "/a/runs/mine", "/a/m.v2", "x.pth.tar")]
    assert names == ["starter", "b", "mine", "m.v2", "x.pth.tar"]
    assert label_of("/a/mine/model.safetensors") == label_of("/a/mine/latest.safetensors") == "mine"
