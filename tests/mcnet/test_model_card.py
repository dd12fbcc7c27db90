"""Cards of models: read from headers and from what lies beside, never crashing on garbage."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mcnet.checkpoint import load_model, save_model
from mcnet.config import McnetConfig
from mcnet.generator import Mcnet
from mcnet.model_card import CardError, licence_of, licences_of, model_file, read_card, summary_of
from mcnet.model_file import CheckpointError, ModelFile, ModelInfo, bundled_models, find_model

EVALUATION: dict[str, Any] = {
    "split": "test",
    "clips": 20,
    "people": 15,
    "pairs": 100,
    "method": "measured",
    "figures": {"l1_of_copying": 0.6, "akd_of_copying": 0.1},
}


def written(path: Path, **training: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(Mcnet(McnetConfig.named("tiny")), path)
    model = load_model(path)
    model.info = ModelInfo(name="small one", training=training)
    save_model(model, path)
    return path


def test_a_header_says_what_a_model_is(tmp_path: Path) -> None:
    licences = {"CC BY 4.0": 3, "not stated": 2}
    path = written(tmp_path / "a.safetensors", steps=7, data={"licences": licences}, evaluation=EVALUATION)
    card = read_card(path)
    assert (card.name, card.steps, card.config) == ("small one", 7, McnetConfig.named("tiny"))
    assert card.parameters == sum(
        value.numel() for key, value in load_model(path).state_dict().items() if not key.endswith("num_batches_tracked")
    )
    assert card.licence == "CC BY 4.0; not stated for some"
    assert card.evaluation is not None
    assert card.evaluation.figures == EVALUATION["figures"]
    assert (card.evaluation.clips, card.evaluation.people, card.evaluation.split) == (20, 15, "test")
    assert card.warnings() == []
    assert not card.learning


def test_what_a_file_says_of_itself_steers_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    said = {"data": {"licences": {"CC0\x1b]0;mine\x07": 1}}, "evaluation": {**EVALUATION, "split": "te\u202est\n"}}
    model = Mcnet(McnetConfig.named("tiny"))
    model.info = ModelInfo(name="\x1b[2Jмини  model\n" + "x" * 10_000, training=said)
    save_model(model, path)
    card = read_card(path)
    assert card.name == ModelFile.read(path).info.name
    assert card.name.startswith("\N{REPLACEMENT CHARACTER}[2Jмини model x")
    assert len(card.name) < 1100
    assert card.licence == "CC0\N{REPLACEMENT CHARACTER}]0;mine\N{REPLACEMENT CHARACTER}"
    assert card.evaluation is not None
    assert card.evaluation.split == "te\N{REPLACEMENT CHARACTER}st"


def test_a_model_without_a_card_is_told(tmp_path: Path) -> None:
    warnings = read_card(written(tmp_path / "a.safetensors")).warnings()
    assert len(warnings) == 2
    assert "no card with figures" in warnings[0]
    assert "licence" in warnings[1]


def test_a_model_that_is_worse_than_copying_is_told(tmp_path: Path) -> None:
    bad = {**EVALUATION, "figures": {"l1_of_copying": 1.25}}
    path = written(tmp_path / "a.safetensors", evaluation=bad, data={"licences": {"MIT": 1}})
    [warning] = read_card(path).warnings()
    assert "worse than showing the portrait as it is" in warning
    assert "125%" in warning


def test_a_card_of_other_weights_is_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors", evaluation=EVALUATION, data={"licences": {"MIT": 1}})
    card: dict[str, Any] = {"format": "mcnet-model/1", "content_hash": "0" * 64, "licence": "CC0", "evaluation": None}
    (tmp_path / "config.json").write_text(json.dumps(card), encoding="utf-8")
    read = read_card(path)
    assert read.foreign
    assert read.licence == "MIT"
    assert read.warnings() == ["The card beside model.safetensors is of other weights: do not trust what it says."]
    card |= {"content_hash": read.content_hash, "evaluation": {**EVALUATION, "figures": {"akd_of_copying": 0.2}}}
    (tmp_path / "config.json").write_text(json.dumps(card), encoding="utf-8")
    read = read_card(path)
    assert (read.foreign, read.licence) == (False, "CC0")
    assert read.evaluation is not None
    assert read.evaluation.figures == {"akd_of_copying": 0.2}


@pytest.mark.parametrize("card", ["", "{", "[]", "null", '{"format": "other"}', "[" * 100_000, "9" * 5000])
def test_garbage_beside_a_model_is_no_card(card: str, tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(card, encoding="utf-8")
    assert read_card(path).evaluation is None


@pytest.mark.parametrize(
    "figures",
    [None, [], {"l1_of_copying": "good"}, {"l1_of_copying": True}, {"other": 1.0}, {"l1_of_copying": 10**400}],
)
def test_figures_that_are_none_are_left_out(figures: object, tmp_path: Path) -> None:
    assert read_card(written(tmp_path / "a.safetensors", evaluation={"figures": figures})).evaluation is None
    assert read_card(written(tmp_path / "a.safetensors", evaluation=figures)).evaluation is None


def of_header(header: object, tail: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0",
        b"\xff" * 8,
        os.urandom(1000),
        of_header(b"{nonsense"),
        of_header(b"\xff\xfe{}"),
        of_header([1, 2]),
        of_header({}),
        of_header({"a": 3}),
        of_header({"a": {"data_offsets": "ab", "shape": []}}),
        of_header({"__metadata__": {"format": "pt"}}),
        of_header({"__metadata__": []}),
        of_header({"__metadata__": {"format": "mcnet-avatar/1"}}),
        of_header({"__metadata__": {"format": "mcnet-avatar/1", "config": "3", "training": "{}", "name": "a"}}),
        of_header({"__metadata__": {"format": "mcnet-avatar/1"}, "a": {"shape": [2], "data_offsets": [0, 8]}}),
        of_header(b"[" * 100_000),
        of_header(b"9" * 5000),
        of_header({"__metadata__": {"format": "mcnet-avatar/1", "config": "[" * 100_000}}),
    ],
)
def test_garbage_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.safetensors"
    path.write_bytes(content)
    with pytest.raises(CardError, match=r"garbage\.safetensors"):
        read_card(path)


def test_a_file_that_was_cut_short_is_told_without_reading_it_all(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(CardError, match=f"got {len(whole) - 10} bytes, expected {len(whole)}"):
        read_card(path)
    with pytest.raises(CardError, match="No such file"):
        read_card(tmp_path / "nothing.safetensors")


def test_a_folder_holds_a_model_or_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"got neither model\.safetensors nor latest\.safetensors"):
        model_file(tmp_path)
    with pytest.raises(CheckpointError, match="holds no model"):
        find_model(tmp_path)
    latest = written(tmp_path / "latest.safetensors")
    assert find_model(tmp_path) == latest
    assert read_card(latest).learning
    model = written(tmp_path / "model.safetensors")
    assert find_model(str(tmp_path)) == model
    assert load_model(tmp_path).config == McnetConfig.named("tiny")


def test_every_bundled_model_has_figures_and_a_licence() -> None:
    for path in bundled_models().values():
        card = read_card(path, bundled=True)
        assert not card.foreign
        assert card.evaluation is not None
        assert card.evaluation.figures["l1_of_copying"] < 1
        assert card.licence
        assert card.readme == path.with_suffix(".md")
        assert card.warnings() == []


def test_licences_are_told_briefly() -> None:
    assert licence_of({}) == licence_of({"data": 3}) == licence_of({"data": {"licences": {"not stated": 4}}}) == ""
    many = dict.fromkeys(("MIT", "CC0", "CC BY 4.0", "BSD", "Apache-2.0"), 1)
    assert licence_of({"data": {"licences": many}}) == "MIT, CC0, CC BY 4.0 and 2 more"


def test_a_part_of_which_nothing_is_noted_has_no_licence() -> None:
    data = {"licences": {"MIT": 4}}
    for part in ({"from": "old", "content_hash": "x"}, {"from": "old", "licences": {}}):
        for name in ("initial", "teacher"):
            assert licence_of({"data": data, name: part}) == "MIT; not stated for some"
    assert licence_of({"data": data, "initial": {}}) == "MIT"
    assert licence_of({"data": data, "initial": {"licences": licences_of({"initial": {"from": "old"}})}}) == (
        "MIT; not stated for some"  # along a chain
    )


def test_a_summary_is_of_what_people_get() -> None:
    figures = {"l1_of_copying": 0.6, "akd_of_copying": None, "mouth_correlation": 0.8, "pairs": 100, "psnr": 24.0}
    evaluation = {
        "format": "mcnet-evaluation/2",
        "options": {"split": "test"},
        "data": {"clips": 20, "people": 15},
        "self": {"measured": figures, "warp": {"l1_of_copying": 0.7}},
    }
    summary = summary_of(evaluation)
    assert summary["figures"] == {"l1_of_copying": 0.6, "mouth_correlation": 0.8}
    assert (summary["method"], summary["pairs"]) == ("measured", 100)
    damaged: list[Any] = [{}, {**evaluation, "self": {}}, {**evaluation, "format": "x"}, {**evaluation, "data": 3}, []]
    for one in damaged:
        with pytest.raises(CardError):
            summary_of(one)
