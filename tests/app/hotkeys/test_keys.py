import pytest

from app.errors import AppError
from app.hotkeys.keys import KeyCombination, parse_key


@pytest.mark.parametrize(
    ("text", "keysym", "virtual_key", "trigger"),
    [
        ("Ctrl+Alt+0", "0", 0x30, "CTRL+ALT+0"),
        ("Alt+Ctrl+s", "s", 0x53, "CTRL+ALT+s"),
        ("Pause", "Pause", 0x13, "Pause"),
        ("F12", "F12", 0x7B, "F12"),
        ("Meta+Shift+PgUp", "Prior", 0x21, "SHIFT+LOGO+Prior"),
    ],
)
def test_keys_have_their_names_everywhere(text: str, keysym: str, virtual_key: int, trigger: str) -> None:
    key = parse_key(text)
    assert (key.keysym, key.virtual_key, key.trigger) == (keysym, virtual_key, trigger)
    assert parse_key(str(key)) == key


def test_modifiers_are_in_one_order() -> None:
    assert parse_key("Alt+Ctrl+S") == KeyCombination(("Ctrl", "Alt"), "S")


@pytest.mark.parametrize(
    "text", ["", "+", "Ctrl+", "Ctrl+Ctrl+0", "Hyper+0", "Ctrl+é", "Ctrl+00", "F25", "Ctrl+K, Ctrl+S"]
)
def test_what_is_no_key_is_told(text: str) -> None:
    with pytest.raises(AppError, match=r"key: got '.*', expected a letter, a digit"):
        parse_key(text)


@pytest.mark.parametrize("text", ["0", "Shift+A", "Space", "Shift+Home"])
def test_a_key_that_writes_is_not_taken_from_everybody(text: str) -> None:
    with pytest.raises(AppError, match="alone would be taken from whatever you write"):
        parse_key(text)
