"""Texts for people that can be said in another language later, where somebody knows which.

A phrase is a string: in English, as logs, reports and the command line have it. It also keeps what it was made of, so
that the window can say it in the user's language (`app.ui.languages`). `python -m tests.languages` finds every call of
`phrase` and of the window's `tr` in the sources, which is why their texts are literals.
"""

import difflib
from collections.abc import Callable, Iterable
from functools import reduce
from string import Formatter
from typing import Any, Literal, Self


class Filling(Formatter):
    """Puts values at a template's places."""

    def fill(self, template: str, fields: dict[str, int | float | str]) -> str:
        """The template with `fields` at its places. Most have none, and there are hundreds in a window."""
        return self.vformat(template, (), fields) if "{" in template or "}" in template else template


_FILLING = Filling()


class Phrase(str):
    """An English text that remembers its template and what stands at the template's places.

    `str` of one is itself, so that an error made of one, and an error made of that error's words, keep it; an f-string
    with one in it is a plain string, which is why texts are never put together by f-strings or `+`.

    Attributes:
        template: with places such as `{path}`.
        one: the English template for an `n` of 1, where that differs; "" where nothing is counted.
        meaning: tells equal templates of different meanings apart; "" usually.
        fields: numbers, strings and phrases for the places.
    """

    __slots__ = ("fields", "meaning", "one", "template")
    template: str
    one: str
    meaning: str
    fields: dict[str, int | float | str]

    def __new__(cls, template: str, one: str, meaning: str, fields: dict[str, int | float | str]) -> Self:
        said = one if one and fields["n"] == 1 else template
        made = super().__new__(cls, _FILLING.fill(said, fields))
        made.template, made.one, made.meaning, made.fields = template, one, meaning, fields
        return made

    def __str__(self) -> str:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.template, self.one, self.meaning, self.fields)


def phrase(template: str, /, *, one: str = "", meaning: str = "", **fields: object) -> str:
    """Make a text for people, a `Phrase`.

    Args:
        template: a literal, whole sentence or name, with named places as of `str.format`; braces are written twice.
        one: a literal, how it is said of one, where `template` says it of the number `n`.
        meaning: a literal for translators, where the same English has several meanings.
        fields: what stands at the places. Of what is neither a number nor a text its words are taken, an error's too.
    """
    return Phrase(template, one, meaning, kept_fields(fields))


def kept_fields(fields: dict[str, object]) -> dict[str, int | float | str]:
    """What a phrase keeps of what stands at its places: numbers, and everything else as its words."""
    return {name: value if isinstance(value, int | float) else str(value) for name, value in fields.items()}


def packed(text: str) -> Any:
    """A text as JSON has it, from which `unpacked` makes it again, a phrase included."""
    if not isinstance(text, Phrase):
        return text
    fields = {name: packed(value) if isinstance(value, str) else value for name, value in text.fields.items()}
    return {"template": text.template, "one": text.one, "meaning": text.meaning, "fields": fields}


def unpacked(plain: Any) -> str:
    """The text of what `packed` made.

    Raises:
        ValueError: it made no such thing.
    """
    if isinstance(plain, str):
        return plain
    try:
        template, one, meaning = (str(plain[name]) for name in ("template", "one", "meaning"))
        fields = {
            name: value if isinstance(value, int | float) else unpacked(value)
            for name, value in plain["fields"].items()
        }
        return Phrase(template, one, meaning, fields)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"got {plain!r}, expected a text") from error


def listed(texts: Iterable[str], by: Literal[",", ";", ".", "and", "or"] = ",") -> str:
    """Several texts in one; "" for none.

    Args:
        texts: each as it stands alone.
        by: what stands between them.
    """
    return reduce(_PAIRS[by], texts) if (texts := list(texts)) else ""


def offered(known: Iterable[str], got: str, shown: str | None = None) -> str:
    """The names that there are, for the end of a sentence that refuses another one; "" for none.

    Args:
        known: all of them.
        got: what was written in place of one; where it is nearly one of them, that one is proposed.
        shown: how they are said, where each says more than its name.
    """
    names = list(known)
    by_spelling = {name.casefold(): name for name in names}
    shown = listed(names) if shown is None else shown
    for spelling in difflib.get_close_matches(got.casefold(), by_spelling, n=1):
        return phrase("{names}; did you mean {nearest}?", names=shown, nearest=by_spelling[spelling])
    return shown


_PAIRS: dict[str, Callable[[str, str], str]] = {
    ",": lambda first, then: phrase("{first}, {then}", first=first, then=then),
    ";": lambda first, then: phrase("{first}; {then}", first=first, then=then),
    ".": lambda first, then: phrase("{first}. {then}", first=first, then=then),
    "and": lambda first, then: phrase("{first} and {then}", first=first, then=then),
    "or": lambda first, then: phrase("{first} or {then}", first=first, then=then),
}
