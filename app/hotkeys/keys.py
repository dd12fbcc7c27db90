"""Combinations of keys, as settings and Qt write them, and what X11, the portals and Windows call them."""

from dataclasses import dataclass

from app.errors import AppError
from mcnet.phrases import phrase

MODIFIERS = ("Ctrl", "Alt", "Shift", "Meta")
_WRITE_NOTHING = frozenset({*(f"F{number}" for number in range(1, 25)), "Pause", "ScrollLock", "Print"})
_NAMED = {
    "Pause": ("Pause", 0x13),
    "ScrollLock": ("Scroll_Lock", 0x91),
    "Print": ("Print", 0x2C),
    "Ins": ("Insert", 0x2D),
    "Del": ("Delete", 0x2E),
    "Home": ("Home", 0x24),
    "End": ("End", 0x23),
    "PgUp": ("Prior", 0x21),
    "PgDown": ("Next", 0x22),
    "Space": ("space", 0x20),
    **{f"F{number}": (f"F{number}", 0x6F + number) for number in range(1, 25)},
}


@dataclass(frozen=True)
class KeyCombination:
    """A key and what is held down with it.

    Attributes:
        modifiers: of `MODIFIERS`, in that order.
        key: a letter or digit, or as Qt writes it: `F9`, `Pause`, `PgUp`.
    """

    modifiers: tuple[str, ...]
    key: str

    def __str__(self) -> str:
        return "+".join((*self.modifiers, self.key))

    @property
    def keysym(self) -> str:
        """The key's name in X11."""
        return _NAMED[self.key][0] if self.key in _NAMED else self.key.lower()

    @property
    def virtual_key(self) -> int:
        """The key's number on Windows."""
        return _NAMED[self.key][1] if self.key in _NAMED else ord(self.key)

    @property
    def trigger(self) -> str:
        """As the desktops' specification of shortcuts writes it."""
        names = {"Ctrl": "CTRL", "Alt": "ALT", "Shift": "SHIFT", "Meta": "LOGO"}
        return "+".join((*(names[modifier] for modifier in self.modifiers), self.keysym))


def parse_key(text: str) -> KeyCombination:
    """A combination as `Ctrl+Alt+0` or `Pause`.

    A key that writes something has to have Ctrl, Alt or Meta with it: it is taken away from every other program.

    Raises:
        AppError: it is none, or one that others need.
    """
    *modifiers, key = text.split("+")
    key = key.upper() if len(key) == 1 else key
    known = key in _NAMED or (len(key) == 1 and key.isascii() and key.isalnum())
    if not known or len(set(modifiers)) < len(modifiers) or not set(modifiers) <= set(MODIFIERS):
        raise AppError(
            phrase(
                "key: got {key}, expected a letter, a digit, F1 to F24, Pause, ScrollLock, Print, Ins, Del, Home, End, "
                "PgUp, PgDown or Space, with Ctrl, Alt, Shift or Meta, such as Ctrl+Alt+0",
                key=repr(text[:40]),
            )
        )
    if key not in _WRITE_NOTHING and not set(modifiers) & {"Ctrl", "Alt", "Meta"}:
        raise AppError(
            phrase(
                "key: {key} alone would be taken from whatever you write: choose it with Ctrl, Alt or Meta, or a key "
                "such as Pause or F9",
                key=text,
            )
        )
    return KeyCombination(tuple(modifier for modifier in MODIFIERS if modifier in modifiers), key)
