"""The window speaks the user's language; what the pipeline says stays English in logs and reports."""

import ast
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, get_args
from xml.etree import ElementTree

import pytest
from PyQt6.QtCore import QLocale, Qt, QTranslator
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.__main__ import build_parser
from app.errors import CameraError
from app.pipeline.events import Undisclosed
from app.pipeline.state import State
from app.settings import AppSettings, ControlSettings, Language, kept_language, load_settings
from app.ui.folders import Folders
from app.ui.languages import CONTEXT, LANGUAGES, chosen_language, clause, full_sentence, speak, spoken, tr
from app.ui.main_window import MainWindow
from app.ui.messages import Message
from app.ui.recordings import Recordings
from app.ui.remote import Remote
from app.ui.status import STAGES
from app.ui.worker import Worker
from mcnet.errors import UserError, sentence
from mcnet.phrases import Phrase, listed, packed, phrase, unpacked
from tests.app.ui.conftest import OpenWindow
from tests.app.ui.fakes import World, plain
from tests.languages import ROOT, TRANSLATED, renew, ts_file

TEXTS: dict[str, str | tuple[str, str]] = {
    "no camera at {path}: {advice}": "an {path} ist keine Kamera: {advice}",
    "plug one in": "schließen Sie eine an",
    "{first}; {then}": "{first} und {then}",
    "{number}%": "{number} %",
    "{n} frames": ("{n} Bild", "{n} Bilder"),
}


class German(QTranslator):
    """Knows a few texts."""

    def translate(  # type: ignore[override] # None says that there is none
        self, context: str | None, source: str | None, disambiguation: str | None = None, n: int = -1
    ) -> str | None:
        found = TEXTS.get(source or "") if context == CONTEXT else None
        return found[int(n != 1)] if isinstance(found, tuple) else found


@pytest.fixture
def german(qapp: QApplication) -> Iterator[None]:
    translator = German()
    before = QLocale()
    QLocale.setDefault(QLocale("de_DE"))
    qapp.installTranslator(translator)
    yield
    qapp.removeTranslator(translator)
    QLocale.setDefault(before)


def no_camera() -> str:
    return phrase("no camera at {path}: {advice}", path="/dev/video7", advice=phrase("plug one in"))


def test_a_phrase_is_its_english_text_wherever_nobody_translates() -> None:
    text = no_camera()
    assert text == "no camera at /dev/video7: plug one in"
    assert f"{text}" == text
    assert phrase("{n} frames", one="{n} frame", n=1) == "1 frame"
    assert phrase("{n} frames", one="{n} frame", n=0) == "0 frames"
    assert phrase("{{}} of {share:.0%}", share=0.25) == "{} of 25%"
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c"], "or") == "a or b or c"
    assert listed([]) == ""
    assert spoken("C:\\{not a place}") == "C:\\{not a place}"


@pytest.mark.usefixtures("german")
def test_a_phrase_is_said_in_the_users_language_with_all_that_is_in_it() -> None:
    assert spoken(no_camera()) == "an /dev/video7 ist keine Kamera: schließen Sie eine an"
    assert spoken(listed([phrase("plug one in"), "data"], ";")) == "schließen Sie eine an und data"
    assert full_sentence(phrase("plug one in")) == "schließen Sie eine an."
    assert clause("Done.") == "Done"
    assert tr("nobody has translated this") == "nobody has translated this"


@pytest.mark.usefixtures("german")
def test_numbers_are_written_as_in_the_users_language() -> None:
    assert tr("{rate:g} Hz", rate=29.97) == "29,97 Hz"
    assert tr("{share:.0%}", share=0.25) == "25 %"
    assert tr("{n} frames", one="{n} frame", n=1) == "1 Bild"
    assert tr("{n} frames", one="{n} frame", n=3) == "3 Bilder"


@pytest.mark.usefixtures("german")
def test_an_error_keeps_its_phrase_through_other_errors_and_processes() -> None:
    error = CameraError(no_camera())
    again = CameraError(str(error))
    across = pickle.loads(pickle.dumps(sentence(again)))
    assert isinstance(across, Phrase)
    assert across == "no camera at /dev/video7: plug one in"
    assert spoken(across) == "an /dev/video7 ist keine Kamera: schließen Sie eine an"
    wrapped = UserError(phrase("no camera at {path}: {advice}", path="x", advice=error))
    assert spoken(str(wrapped)) == "an x ist keine Kamera: an /dev/video7 ist keine Kamera: schließen Sie eine an"


@pytest.mark.usefixtures("german")
def test_a_phrase_outlives_a_file() -> None:
    again = unpacked(json.loads(json.dumps(packed(no_camera()))))
    assert again == no_camera()
    assert spoken(again) == "an /dev/video7 ist keine Kamera: schließen Sie eine an"
    assert unpacked(packed(phrase("{n} frames", one="{n} frame", n=1))) == "1 frame"
    assert unpacked("plain") == "plain"
    damages: list[Any] = [None, 3, [], {"template": "a"}, packed(no_camera()) | {"fields": {}}]
    for damaged in damages:
        with pytest.raises(ValueError, match="expected a text"):
            unpacked(damaged)


@pytest.mark.usefixtures("german")
def test_why_something_failed_is_said_in_the_users_language(qtbot: QtBot) -> None:
    worker = Worker("test")
    told: list[Message] = []
    recordings = Recordings(Folders(), None, None, None, None, lambda: False)  # type: ignore[arg-type]
    recordings.told.connect(told.append)
    recordings.hear(Undisclosed("a.mp4", phrase("plug one in")))
    assert "schließen Sie eine an." in told[0].text

    def refuse(*_: object) -> NoReturn:
        raise UserError(phrase("plug one in"))

    remote = Remote(worker, refuse, ControlSettings(on=True), None, lambda _: None, lambda: None)  # type: ignore[arg-type, return-value]
    remote.open()
    qtbot.waitUntil(lambda: bool(remote.failure))
    assert remote.failure == "schließen Sie eine an"
    assert worker.stop(5.0)


@pytest.mark.parametrize(
    ("choice", "wished", "language"),
    [
        ("de", ["fr-FR"], "de"),
        ("system", ["nb-NO", "de-AT", "en-GB"], "de"),
        ("system", ["pt-PT"], "pt_BR"),
        ("system", ["es-419"], "es"),
        ("system", ["zh-Hans-SG"], "zh_CN"),
        ("system", ["zh-TW", "ja-JP"], "ja"),
        ("system", ["nb-NO"], "en"),
        ("system", [], "en"),
    ],
)
def test_the_language_follows_the_choice_or_else_the_system(choice: str, wished: list[str], language: str) -> None:
    assert chosen_language(choice, wished) == language


def test_every_language_can_be_chosen() -> None:
    assert get_args(Language) == ("system", *LANGUAGES)
    assert build_parser().parse_args(["--language", "pt_BR"]).language == "pt_BR"
    assert {path.stem for path in ts_file("de").parent.glob("*.qm")} == {ts_file(one).stem for one in TRANSLATED}


def test_the_choice_is_kept_and_takes_effect_with_the_next_start(
    open_window: OpenWindow, qapp: QApplication, tmp_path: Path
) -> None:
    window = open_window(AppSettings(portrait="fake_1"))
    controls, path = window.controls, tmp_path / "settings.toml"
    assert kept_language(path) == "system"
    assert controls.language.currentText() == "As the system"
    assert not controls.language_note.isVisible()
    controls.language.setCurrentIndex(controls.language.findText("Deutsch"))
    controls.language.activated.emit(controls.language.currentIndex())
    assert controls.language_note.isVisible()
    assert controls.language_note.text() == "The language changes at the next start of the app."
    assert window.action_bar.live_button.text() == "Go live"
    window.close()
    settings, complaint = load_settings(path)
    assert complaint is None
    assert settings.window.language == kept_language(path) == "de"
    for damaged in ("[window]\nlanguage = 7\n", "[window]\nlanguage = 'tlh'\n", "window = 1\n", "["):
        path.write_text(damaged, encoding="utf-8")
        assert kept_language(path) == "system"

    installed = speak(qapp, "de")
    try:
        window = open_window(settings)
        assert window.action_bar.live_button.text() == "Live gehen"
        assert window.controls.language.currentText() == "Deutsch"
        assert not window.controls.language_note.isVisible()
        assert window.missing.startswith("Es fehlt: ")
    finally:
        for translator in installed:
            qapp.removeTranslator(translator)
        QLocale.setDefault(QLocale("en_US"))


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated_as_the_sources_have_it_now(
    language: str, tmp_path: Path, qapp: QApplication, request: pytest.FixtureRequest
) -> None:
    current = renew(language, tmp_path).read_text(encoding="utf-8")
    assert current == ts_file(language).read_text(encoding="utf-8"), "make languages renews the translations"
    translator = QTranslator()
    assert translator.load(str(ts_file(language).with_suffix(".qm")))
    qapp.installTranslator(translator)
    request.addfinalizer(lambda: qapp.removeTranslator(translator))
    root = ElementTree.fromstring(current.partition("<!DOCTYPE TS>")[2])
    for message in root.iter("message"):
        source, meaning = message.findtext("source", ""), message.findtext("comment", "")
        translation = message.find("translation")
        assert translation is not None
        assert translation.get("type") is None, f"{source} is not translated"
        forms = [form.text or "" for form in translation.findall("numerusform")] or [translation.text or ""]
        assert len(forms) == (1 if not message.get("numerus") or language in ("ja", "zh_CN") else 2), source
        for number, form in enumerate(forms, start=1):
            assert qapp.translate(CONTEXT, source, meaning, number) == form, "make languages compiles it"
            for part in (r"\{(\w+)", r"[{}]", r"&\w", ";;", r"\*\.\w+", "`[^`]+`", r"\n"):
                assert sorted(re.findall(part, form)) == sorted(re.findall(part, source)), f"{form}: {part} of {source}"


# Whose errors the window shows; the others' reach only the command line, or tell us what only we can get wrong.
SHOWN = (
    *sorted((ROOT / "app" / "pipeline").rglob("*.py")),
    *(ROOT / "app" / "ui" / name for name in ("microphone.py", "microphone_process.py", "recordings.py")),
    *(ROOT / "app" / name for name in ("presets.py", "settings.py")),
    *(ROOT / "mcnet" / name for name in ("model_file.py", "tables.py")),
    *(ROOT / "mcnet" / "media" / name for name in ("colours.py", "images.py", "portraits.py", "scene.py", "video.py")),
    *sorted((ROOT / "mcnet" / "disclosure").glob("*.py")),
)
OURS = re.compile(r"\b(App|Camera|Sink|Media|Checkpoint|Table|Disclosure|_NoVideo)Error$")
ENGLISH = ("--size", "--fps")
"""The beginnings of the few that only the command line can cause."""


def test_every_error_that_the_window_shows_is_a_phrase() -> None:
    plain_texts = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.args[0])[:70]}"
        for path in SHOWN
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and OURS.search(ast.unparse(node.func)) and node.args
        if isinstance(node.args[0], ast.JoinedStr | ast.Constant | ast.BinOp)
        if not ast.unparse(node.args[0]).strip("f'\"").startswith(ENGLISH)
    ]
    assert plain_texts == [], "write them as phrase(...), see CONTRIBUTING.md"


def test_every_sentence_that_is_answered_or_advised_is_a_phrase() -> None:
    """As why a camera cannot be opened, of which an error is made elsewhere."""
    plain_texts = [
        f"{path.relative_to(ROOT)}:{text.lineno}: {ast.unparse(text)[:70]}"
        for path in SHOWN
        if "pipeline" in path.parts and path.stem != "doctor"  # whose language is English
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for text in _answered_or_advised(node)
        if any(re.search("[a-z]+ [a-z]+ [a-z]+", words) for words in _words_of(text))
    ]
    assert plain_texts == [], "write them as phrase(...), see CONTRIBUTING.md"


def _answered_or_advised(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Return) and node.value is not None:
        yield node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fix" and node.args:
        yield node.args[0]


def _words_of(text: ast.expr) -> list[str]:
    """What stands in a text as it is, not at its places."""
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def test_no_list_and_no_lone_word_in_a_text_is_english() -> None:
    """What stands at the places of a text is said in the user's language as well, conjunctions and "none" included."""
    found = [
        f"{path.relative_to(ROOT)}:{part.lineno}: {ast.unparse(part)[:70]}"
        for package in ("app", "mcnet")
        for path in sorted((ROOT / package).rglob("*.py"))
        for values in _fields_of_texts(ast.parse(path.read_text(encoding="utf-8")))
        for value in values
        for part in _said_in_english(value)
    ]
    assert found == [], "join by listed(...), and mark single words by phrase(...), see CONTRIBUTING.md"


def _fields_of_texts(module: ast.Module) -> Iterator[list[ast.expr]]:
    """Of each call of `phrase` and `tr`, what is at the text's places: expressions, and what their names stand for."""
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        assigned: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                assigned.setdefault(node.targets[0].id, []).append(node.value)
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("phrase", "tr"):
                given = [keyword.value for keyword in call.keywords if keyword.arg not in ("one", "meaning")]
                names = [value.id for value in given if isinstance(value, ast.Name)]
                yield given + [one for name in names for one in assigned.get(name, [])]


def _said_in_english(value: ast.expr) -> Iterator[ast.expr]:
    """Parts of what stands at a place that are English words: joined names, and what is said where there are none."""
    choices: list[ast.expr] = []
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "join":
        joint = value.func.value
        if isinstance(joint, ast.Constant) and re.search(r"[,;]|[a-z]", str(joint.value)):
            yield value
    elif isinstance(value, ast.BoolOp):
        choices = value.values
    elif isinstance(value, ast.IfExp):
        choices = [value.body, value.orelse]
    for choice in choices:
        if isinstance(choice, ast.Constant):
            if isinstance(choice.value, str) and re.fullmatch(r"[a-z( ]{3}[a-z) ,'-]*", choice.value):
                yield choice
        else:
            yield from _said_in_english(choice)


def test_every_stage_that_is_timed_has_a_name_in_the_statistics() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "app" / "pipeline").rglob("*.py"))
    timed = set(re.findall(r'(?:watch\.timed|watch\.done|meter\.stage)\("([^"]+)"', sources))
    assert "render" in timed
    assert timed == set(STAGES)


def test_a_picture_is_the_same_in_whichever_direction_texts_are_read(proven: MainWindow, world: World) -> None:
    picture = plain(width=64, height=36)
    picture[:, :32] = (255, 0, 0)
    world.pipeline.show(State.LIVE, picture)
    preview = proven.preview
    proven.performer.hide()
    seen = []
    for direction in (Qt.LayoutDirection.LeftToRight, Qt.LayoutDirection.RightToLeft):
        proven.setLayoutDirection(direction)
        preview.setLayoutDirection(direction)
        QApplication.processEvents()
        place, image = preview.picture_rect(), preview.grab().toImage()
        y = round(place.center().y())
        seen.append([image.pixelColor(round(place.left() + share * place.width()), y).name() for share in (0.25, 0.75)])
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]
