"""Keeps the translations current: `make languages` runs `python -m tests.languages`.

Finds every text that the sources mark by `phrase` or `tr`, renews `app/ui/translations/*.ts` by it with PyQt6's own
lupdate, and compiles them with Qt's lrelease, which comes with the extra `languages` of pyproject.toml. A text that is
new or was changed is left untranslated there, for Qt Linguist or an editor; one that is used no longer goes.
"""

import ast
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from app.ui.languages import CONTEXT, LANGUAGES, TRANSLATIONS

ROOT = Path(__file__).resolve().parent.parent
TRANSLATED = tuple(language for language in LANGUAGES if language != "en")
_MARKS = ("phrase", "tr")


class Marked(NamedTuple):
    """A text that a source marks.

    Attributes:
        text: in English, its template.
        meaning: that tells it apart, or "".
        counted: whether it has forms for numbers.
        place: file and line.
    """

    text: str
    meaning: str
    counted: bool
    place: str


def ts_file(language: str) -> Path:
    """A language's translations, as translators edit them."""
    return TRANSLATIONS / f"mcnet-avatar_{language}.ts"


@functools.cache
def marked_texts() -> list[Marked]:
    """Every marked text of the app and of what it stands on, once each, by its English."""
    found: dict[tuple[str, str], Marked] = {}
    for package in ("app", "mcnet"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for marked in _in_source(path):
                found.setdefault((marked.text, marked.meaning), marked)
    return [found[key] for key in sorted(found)]


def _in_source(path: Path) -> Iterator[Marked]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _MARKS:
            continue
        place = f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        text, meaning = _literal(node.args[0], place), _literal(given.get("meaning"), place)
        yield Marked(text, meaning, "one" in given, place)


def _literal(node: ast.expr | None, place: str) -> str:
    if node is None:
        return ""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise SystemExit(
            f"{place}: got {ast.unparse(node)}, expected a literal text: what is in it goes into its places"
        )
    return node.value


def renew(language: str, folder: Path) -> Path:
    """Write a language's .ts file as it should be now into a folder.

    What Qt's file format says of places in the sources is left out: it would change with every line that is added.
    """
    from PyQt6.lupdate.source_file import SourceFile
    from PyQt6.lupdate.translation_file import TranslationFile
    from PyQt6.lupdate.translations import Context, Message

    path = folder / ts_file(language).name
    if ts_file(language).is_file() and path != ts_file(language):
        shutil.copyfile(ts_file(language), path)
    source, context = SourceFile(filename="app"), Context(CONTEXT)
    context.messages = [Message("app", 0, one.text, one.meaning, one.counted) for one in marked_texts()]
    source.contexts.append(context)
    translations = TranslationFile(str(path), no_obsolete=True, no_summary=True, verbose=False)
    translations.update(source)
    translations.write()
    tree = ElementTree.parse(path)
    root = tree.getroot()
    root.set("language", language)
    root.set("sourcelanguage", "en")
    for message in root.iter("message"):
        for location in message.findall("location"):
            message.remove(location)
    for group in root.iter("context"):
        messages = sorted(
            group.findall("message"), key=lambda one: (one.findtext("source", ""), one.findtext("comment", ""))
        )
        for message in messages:
            group.remove(message)
        group.extend(messages)
    ElementTree.indent(root, "    ")
    text = ElementTree.tostring(root, encoding="unicode")
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE TS>\n{text}\n', encoding="utf-8", newline="\n")
    return path


def compile_all() -> None:
    """Make the .qm files that the window reads.

    Raises:
        SystemExit: Qt's compiler is not there, or refuses one.
    """
    beside = Path(sys.executable).parent
    lrelease = next(
        (
            found
            for name in ("pyside6-lrelease", "lrelease", "lrelease-qt6")
            if (found := shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}"))
        ),
        None,
    )
    if lrelease is None:
        raise SystemExit(
            "there is no lrelease: make languages installs it (pyside6-essentials); Debian: qt6-l10n-tools"
        )
    for language in TRANSLATED:
        source = ts_file(language)
        command = [lrelease, "-silent", str(source), "-qm", str(source.with_suffix(".qm"))]
        subprocess.run(command, check=True)


def main() -> None:
    for language in TRANSLATED:
        renew(language, TRANSLATIONS)
    compile_all()
    for language in TRANSLATED:
        root = ElementTree.parse(ts_file(language)).getroot()
        left = sum(one.get("type") == "unfinished" for one in root.iter("translation"))
        print(f"{ts_file(language).name}: {len(list(root.iter('message')))} texts, {left} to translate")


if __name__ == "__main__":
    main()
