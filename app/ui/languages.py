"""The window's language: which there are, which is in use, and how a text is said in it."""

from pathlib import Path
from typing import Any

from PyQt6.QtCore import QCoreApplication, QLibraryInfo, QLocale, QTranslator

from mcnet.phrases import Filling, Phrase, kept_fields

CONTEXT = "mcnet-avatar"
TRANSLATIONS = Path(__file__).parent / "translations"
LANGUAGES = {
    "en": "English",
    "de": "Deutsch",
    "es": "Español",
    "fr": "Français",
    "pt_BR": "Português (Brasil)",
    "ja": "日本語",
    "zh_CN": "简体中文",
}
"""Each by its own name, in the order in which the window offers them."""


def tr(template: str, /, *, one: str = "", meaning: str = "", **fields: object) -> str:
    """A text of the window in the user's language; everything as of `mcnet.phrases.phrase`.

    It is looked up when it is called: a text that is made earlier than that, as at a module's top level, is a `phrase`.
    """
    return _said(template, one, meaning, kept_fields(fields))


def spoken(text: str) -> str:
    """A text as it is shown: a phrase in the user's language, with numbers as they are written there."""
    return _said(text.template, text.one, text.meaning, text.fields) if isinstance(text, Phrase) else text


def _said(template: str, one: str, meaning: str, fields: dict[str, int | float | str]) -> str:
    number = int(fields["n"]) if one else -1
    said = QCoreApplication.translate(CONTEXT, template, meaning, number)
    if number == 1 and said == template:
        said = one
    return _FILLING.fill(said, fields)


def capital(text: str) -> str:
    """The text with a capital at its start, for one that begins a line."""
    return f"{(said := spoken(text))[:1].upper()}{said[1:]}"


def clause(words: str) -> str:
    """Words of an error as a part of a longer sentence: without a full stop at their end."""
    return spoken(words).rstrip(".。")


def full_sentence(words: str) -> str:
    """Words that stand within sentences usually, as one of their own; a name at their start stays as it is written."""
    return tr("{words}.", meaning="a whole sentence", words=clause(words))


class _Spoken(Filling):
    """Formats the places of a template in the user's language."""

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:
        value = super().get_value(key, args, kwargs)
        return spoken(value) if isinstance(value, str) else value

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, float) and format_spec.endswith("%"):
            return tr("{number}%", meaning="percent", number=self.format_field(100 * value, f"{format_spec[:-1]}f"))
        written = str(super().format_field(value, format_spec))
        return written.replace(".", QLocale().decimalPoint()) if isinstance(value, float) else written


_FILLING = _Spoken()


def chosen_language(choice: str, wished: list[str] | None = None) -> str:
    """The language that a choice comes to.

    Args:
        choice: a key of `LANGUAGES`, or "system".
        wished: what the user has told the system, the first one first, as "pt-BR"; None: asks the system.

    Returns:
        A key of `LANGUAGES`: the first wish that there is, if only in another country's form, or English.
    """
    if choice != "system":
        return choice if choice in LANGUAGES else "en"
    for wish in QLocale.system().uiLanguages() if wished is None else wished:
        locale = QLocale(wish)
        for language in LANGUAGES:
            if QLocale(language).language() == locale.language() and _script_is_ours(language, locale):
                return language
    return "en"


def _script_is_ours(language: str, wished: QLocale) -> bool:
    """Whoever reads traditional Chinese is not given the simplified."""
    return language != "zh_CN" or wished.script() == QLocale.Script.SimplifiedHanScript


def speak(app: QCoreApplication, choice: str) -> list[QTranslator]:
    """Have the window say everything in a language from now on; what is shown already stays as it is.

    Args:
        app: Qt's.
        choice: as of `chosen_language`.

    Returns:
        What was installed for it, and lasts until it is removed again; nothing for English.
    """
    language = chosen_language(choice)
    system = QLocale.system()
    # A country's own way to write numbers stays, where it is the language's.
    QLocale.setDefault(system if system.language() == QLocale(language).language() else QLocale(language))
    installed = []
    for name, folder in (
        (f"qtbase_{language}", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath)),
        (f"mcnet-avatar_{language}", str(TRANSLATIONS)),
    ):
        translator = QTranslator(app)
        if translator.load(name, folder):
            app.installTranslator(translator)
            installed.append(translator)
    return installed
