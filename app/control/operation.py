"""What the server wants of the app, and what those have in common that give it."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from app.control.protocol import ChoosePortrait, Command, RefusedError, Switch
from app.pipeline.stats import Stats
from mcnet.phrases import offered

Answer = dict[str, Any]


class Operator(Protocol):
    """Does in the app what was asked from outside. Every method may be called on any thread, and none waits."""

    def panic(self) -> None:
        """Show the slate with the next picture, whatever else is going on."""
        ...

    def perform(self, command: Command) -> "Future[Answer]":
        """Do it where the app does such things; the answer is the command's, and fails with what cannot be done."""
        ...

    def stats(self) -> Stats:
        """How the pipeline does."""
        ...


def switched(to: Switch, now: bool) -> bool:
    """What a switch that stands at `now` is to become."""
    return not now if to == "toggle" else to == "on"


def find_portrait(portraits: Mapping[str, str], wanted: ChoosePortrait, current: str) -> str:
    """The id of the portrait that is meant.

    Args:
        portraits: names by id, in the gallery's order.
        wanted: by an id, a name in any case, or a step from the current one.
        current: the id of the one that is chosen, or "".

    Raises:
        RefusedError: there is none such, or more than one of that name.
    """
    ids = list(portraits)
    if wanted.step and ids:
        at = ids.index(current) if current in portraits else 0
        return ids[(at + wanted.step) % len(ids)]
    if wanted.name in portraits:
        return wanted.name
    named = [one for one, name in portraits.items() if name.casefold() == wanted.name.casefold()]
    if len(named) == 1:
        return named[0]
    got = f"portrait: got {wanted.name[:60]!r}"
    if named:
        raise RefusedError("not_found", f"{got}, as several are called; use the id of one: {', '.join(named)}")
    known = ", ".join(f"{one} ({name})" if one != name else one for one, name in portraits.items())
    offer = offered([*portraits, *portraits.values()], wanted.name, known or "it is empty")
    raise RefusedError("not_found", f"{got}, expected one of the gallery: {offer}")
