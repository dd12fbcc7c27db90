"""The window speaks the user's language; what the pipeline says stays English in logs and reports."""

import pickle
from collections.abc import Iterator

import pytest
from PyQt6.QtCore import QLocale, QTranslator
from PyQt6.QtWidgets import QApplication

from app.errors import CameraError
from app.ui.languages import CONTEXT, chosen_language, clause, full_sentence, spoken, tr
from mcnet.errors import UserError, sentence
from mcnet.phrases import Phrase, listed, phrase

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
