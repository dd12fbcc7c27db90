"""Texts are UTF-8 wherever they are read and written, whatever the locale says.

Where neither LANG nor LC_ALL is set, Qt has the process ask the C library, whose answer is ASCII; on Windows it is a
code page. A file or program whose text is not ASCII then cannot be read, on some machines only.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("app", "mcnet", "training", "packaging", "tests", "assets")


def leaves_it_to_the_locale(call: ast.Call) -> bool:
    """Whether a call reads or writes text without saying in which encoding."""
    said = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    if "encoding" in said or None in said or not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr == "read_text":
        return not call.args
    if call.func.attr == "write_text":
        return len(call.args) == 1
    started = isinstance(call.func.value, ast.Name) and call.func.value.id == "subprocess"
    return started and (said.get("text") is True or said.get("universal_newlines") is True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_has_its_encoding(folder: str) -> None:
    files = [file for file in (ROOT / folder).rglob("*.py") if "build" not in file.parts]
    left = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and leaves_it_to_the_locale(node)
    ]
    assert not left


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("file.read_text()", True),
        ("file.read_text('utf-8')", False),
        ("file.read_text(encoding='utf-8')", False),
        ("file.write_text(words)", True),
        ("file.write_text(words, 'utf-8')", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.Popen(command, text=True, encoding='utf-8')", False),
        ("subprocess.run(command)", False),
    ],
)
def test_what_it_looks_for(written: str, left: bool) -> None:
    (expression,) = ast.parse(written).body
    assert isinstance(expression, ast.Expr)
    assert isinstance(expression.value, ast.Call)
    assert leaves_it_to_the_locale(expression.value) == left
