"""`mcnet-train export` to a folder that model hubs know."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest

from mcnet.__main__ import main as mcnet
from mcnet.bench.measure import open_model
from mcnet.checkpoint import load_model
from mcnet.config import McnetConfig
from mcnet.model_card import read_card
from mcnet.model_file import CheckpointError, ModelInfo
from tests.media.videos import GRID
from tests.training.conftest import one_thread, tiny_config
from training.__main__ import main
from training.fit.journal import newest_sheet
from training.fit.loop import fit
from training.fit.model_folder import check_folder, readme


@pytest.fixture(scope="module")
def run(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with one_thread():
        fit(tiny_config(heads, log={"sheet_every": 4, "sheet_rows": 1}), folder)
    return folder


def figures_of(content_hash: str, **figures: float | None) -> dict[str, Any]:
    """As `evaluate --json` writes them, as far as a card looks at them."""
    return {
        "format": "mcnet-evaluation/2",
        "model": {"name": "x", "content_hash": content_hash},
        "options": {"split": "test"},
        "data": {"size_px": 256, "clips": 1, "people": 1},
        "self": {"detected": {"pairs": 3, **figures}, "copy": {"pairs": 3}},
    }


def test_a_folder_has_all_that_hubs_and_people_look_for(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine-v1.2"
    assert main(["export", str(run), str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "config.json", "README.md", "sheet.png"}
    assert cv2.imread(str(out / "sheet.png")) is not None
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert McnetConfig.from_dict(config["config"]) == load_model(out).config
    assert config["content_hash"] == load_model(out).info.content_hash
    card = read_card(out / "model.safetensors")
    assert (card.name, card.foreign, card.evaluation) == ("mine-v1.2", False, None)
    assert card.licence == "CC BY 4.0; not stated for some"
    assert card.readme == out / "README.md"
    text = (out / "README.md").read_text(encoding="utf-8")
    front = text.split("---\n")[1]
    assert "license: other" in front  # of several licences none is the model's
    assert "model-index" not in front
    assert "| CC BY 4.0 | 2 |" in text
    assert "Not measured." in text
    assert "![What it makes of people](sheet.png)" in text


def test_the_sheet_of_a_folder_is_of_its_weights(run: Path, heads: Path, tmp_path: Path) -> None:
    """A run that was killed may have drawn what its checkpoint knows nothing of; it goes with it when that goes on."""
    again = shutil.copytree(run, tmp_path / "run")
    ours = sorted((again / "sheets").glob("*.png"))[-1]
    assert ours.name == "0000004.png"
    later = again / "sheets" / "0000009.png"
    shutil.copyfile(again / "sheets" / "0000001.png", later)
    assert newest_sheet(again, 3) == again / "sheets" / "0000001.png"
    assert newest_sheet(again, 0) is None
    assert main(["export", str(again), str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / "sheet.png").read_bytes() == ours.read_bytes()
    fit(tiny_config(heads, log={"sheet_every": 4, "sheet_rows": 1}), again)
    assert not later.exists()
    assert ours.exists()


def test_a_sheet_that_is_no_picture_leaves_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.png").write_text("no picture", encoding="utf-8")
    for sheet, message in (("notes.png", "is no PNG"), ("gone.png", "cannot read the sheet")):
        assert main(["export", str(run), str(tmp_path / "out"), "--sheet", str(tmp_path / sheet)]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_figures_are_not_written_over_what_is_measured(
    run: Path, heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = tmp_path / "model", Path(shutil.copytree(heads, tmp_path / "data"))
    assert main(["export", str(run), str(model)]) == 0
    before = {file: file.read_bytes() for folder in (model, data) for file in folder.iterdir()}
    for place in (data / "dataset.json", data / "landmarks.npz", model / "config.json", model / "README.md"):
        assert main(["evaluate", str(model), str(data), "--json", str(place)]) == 2
        assert f"it would write over what {'DATA' if data in place.parents else 'MODEL'} (" in capsys.readouterr().err
    assert {file: file.read_bytes() for folder in (model, data) for file in folder.iterdir()} == before


def test_figures_go_into_card_header_and_front_matter(run: Path, tmp_path: Path) -> None:
    weights, out, figures = tmp_path / "a.safetensors", tmp_path / "a", tmp_path / "figures.json"
    assert main(["export", str(run), str(weights), "--half"]) == 0
    content_hash = load_model(weights).info.content_hash
    figures.write_text(json.dumps(figures_of(content_hash, l1_of_copying=0.71, akd_of_copying=None)), encoding="utf-8")
    assert main(["export", str(run), str(out), "--half", "--figures", str(figures)]) == 0
    card = read_card(out / "model.safetensors")
    assert card.evaluation is not None
    assert (card.evaluation.figures, card.evaluation.clips) == ({"l1_of_copying": 0.71}, 1)
    assert card.content_hash == content_hash
    text = (out / "README.md").read_text(encoding="utf-8")
    assert '- {type: l1_of_copying, name: "L1, of copying the source", value: 0.71}' in text
    assert "| L1, of copying the source | 71.0% |" in text
    # A single file has them too, and a folder of before is replaced.
    assert main(["export", str(run), str(weights), "--half", "--figures", str(figures)]) == 0
    alone = read_card(weights).evaluation
    assert alone is not None
    assert alone.figures == {"l1_of_copying": 0.71}
    assert main(["export", str(run), str(out)]) == 0
    assert read_card(out / "model.safetensors").evaluation is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "it is no JSON"),
        ("{}", "the figures lack 'format'"),
        (json.dumps(figures_of("0" * 64, l1_of_copying=0.5)), "the figures are of weights 000000000000, expected"),
    ],
)
def test_figures_of_something_else_are_refused(
    content: str, message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, out = tmp_path / "figures.json", tmp_path / "out"
    figures.write_text(content, encoding="utf-8")
    assert main(["export", str(run), str(out), "--figures", str(figures)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_nothing_of_somebody_elses_is_replaced(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["export", str(run), str(tmp_path)]) == 2
    assert "has other files in it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(CheckpointError, match="is a file"):
        check_folder(tmp_path / "notes.txt")
    with pytest.raises(CheckpointError, match=r"got suffix '\.pth', expected \.safetensors, or a folder's name"):
        check_folder(tmp_path / "x.pth")
    check_folder(tmp_path / "new")


@pytest.mark.parametrize(("licence", "hub"), [("CC BY 4.0", "cc-by-4.0"), ("mit", "mit"), ("my own words", "other")])
def test_one_licence_is_told_as_hubs_spell_it(licence: str, hub: str) -> None:
    info = ModelInfo("a", "0" * 64, {"data": {"licences": {licence: 3}}})
    front = readme(McnetConfig.named("tiny"), info, sheet=False).split("---\n")[1]
    assert re.search(r"^license: (.*)$", front, re.MULTILINE).group(1) == hub  # type: ignore[union-attr]
    assert ("license_name" in front) == (hub == "other")


@pytest.mark.parametrize("part", ["initial", "teacher"])
def test_hubs_are_told_no_licence_where_that_of_a_part_is_unknown(part: str) -> None:
    """As of the bundled starter, whose licences stand in what is published with it."""
    info = ModelInfo("a", "0" * 64, {"data": {"licences": {"mit": 3}}, part: {"from": "starter"}})
    text = readme(McnetConfig.named("tiny"), info, sheet=False)
    assert text.startswith('---\nlicense: other\nlicense_name: "mit; not stated for some"\n')
    assert "starter.\n\nIts file notes nothing about the licence of its data: see what was published with it." in text
    chain = {"data": {"licences": {"mit": 3}}, part: {"from": "b", "licences": {"mit": 3, "not stated": 0}}}
    text = readme(McnetConfig.named("tiny"), ModelInfo("a", "0" * 64, chain), sheet=False)
    assert "license: other" in text
    assert "| not stated | unknown |" in text


def test_the_offline_commands_take_a_folder(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", str(run), str(out)]) == 0
    picture = tmp_path / "frames"
    where = ["--source", "woman_1", "--driving", str(GRID), "--output", str(picture), "--device", "cpu"]
    assert mcnet(["animate", "--model", str(out), *where, "--precision", "fp32", "--max-frames", "2"]) == 0
    assert len(list(picture.glob("*.png"))) == 2
    assert open_model(str(out))[1]  # `mcnet bench` takes it, too
