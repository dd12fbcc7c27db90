"""Strengths of the motion by name, and those that each portrait was last moved with; kept as TOML between runs."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.errors import AppError
from app.settings import EXPRESSION_PARTS, MOTION_PARTS, LiveSettings, set_aside, write_private
from mcnet.tables import salvage

VERSION = 1
"""Of the file's format."""
STANDARD = "Standard"
"""Name of the preset that is always there: every strength at 100 %."""
LONGEST_NAME = 40
MOST_PRESETS = 50
_MOST_PORTRAITS = 300
_NAMES = ("motion_strength", "expression_strength", *(f"{part}_strength" for part in MOTION_PARTS + EXPRESSION_PARTS))


@dataclass(frozen=True)
class Strengths:
    """How strongly each part of a performer's motion is taken over; fields, ranges and defaults as of `LiveSettings`.

    This is what suits a portrait. What suits the camera, the performer or the call, as framing, smoothing, mirroring
    and the kind of motion, is no part of it: another portrait changes none of these.
    """

    motion_strength: float = 1.0
    expression_strength: float = 1.0
    turn_strength: float = 1.0
    nod_strength: float = 1.0
    tilt_strength: float = 1.0
    shift_strength: float = 1.0
    nearness_strength: float = 1.0
    lids_strength: float = 1.0
    mouth_strength: float = 1.0
    brows_strength: float = 1.0

    def __post_init__(self) -> None:
        self.over(LiveSettings())  # which checks the ranges

    @classmethod
    def of(cls, live: LiveSettings) -> "Strengths":
        """Those in force."""
        return cls(**{name: getattr(live, name) for name in _NAMES})

    def over(self, live: LiveSettings) -> LiveSettings:
        """The settings with these strengths.

        Raises:
            AppError: one is out of its range.
        """
        return dataclasses.replace(live, **dataclasses.asdict(self))


@dataclass(frozen=True)
class Presets:
    """All that is kept; each change makes a new one.

    Attributes:
        named: strengths by the names that the user gave, in the order of saving.
        last: what each portrait was last moved with, by the portrait's key, the latest last.
    """

    named: Mapping[str, Strengths] = field(default_factory=lambda: MappingProxyType({}))
    last: Mapping[str, Strengths] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that can be applied: `STANDARD`, then the user's own."""
        return (STANDARD, *self.named)

    def get(self, name: str) -> Strengths:
        """The preset of that name, whatever its capitals.

        Raises:
            AppError: there is none.
        """
        found = self._known(name)
        if found is None:
            raise AppError(f"preset: got {name!r}, expected one of {', '.join(self.names)}")
        return Strengths() if found == STANDARD else self.named[found]

    def name_of(self, strengths: Strengths) -> str:
        """The name of the preset with these strengths, or ""."""
        known = {STANDARD: Strengths(), **self.named}
        return next((name for name, one in known.items() if one == strengths), "")

    def saved(self, name: str, strengths: Strengths) -> "Presets":
        """With these strengths under a name; a preset that bears it already takes them over.

        Raises:
            AppError: the name cannot be used, or there are too many.
        """
        name = _usable(name)
        known = self._known(name)
        if known == STANDARD:
            raise AppError(f"preset: {STANDARD} stays as it is: choose another name")
        if known is None and len(self.named) >= MOST_PRESETS:
            raise AppError(f"preset: there are {MOST_PRESETS} already, expected no more: delete one first")
        return dataclasses.replace(self, named=MappingProxyType({**self.named, known or name: strengths}))

    def renamed(self, before: str, name: str) -> "Presets":
        """With a preset under another name, in its place.

        Raises:
            AppError: there is no such preset of the user's, or the name cannot be used or is another one's.
        """
        name, known = _usable(name), self._own(before)
        if self._known(name) not in (None, known):
            raise AppError(f"preset: {self._known(name)} is there already: choose another name, or delete it first")
        named = {name if one == known else one: strengths for one, strengths in self.named.items()}
        return dataclasses.replace(self, named=MappingProxyType(named))

    def without(self, name: str) -> "Presets":
        """Without a preset.

        Raises:
            AppError: there is no such one of the user's.
        """
        known = self._own(name)
        named = {one: strengths for one, strengths in self.named.items() if one != known}
        return dataclasses.replace(self, named=MappingProxyType(named))

    def with_last(self, portrait: str, strengths: Strengths) -> "Presets":
        """With what a portrait was last moved with; of too many portraits the earliest is forgotten."""
        last = {key: one for key, one in self.last.items() if key != portrait} | {portrait: strengths}
        for key in list(last)[: max(0, len(last) - _MOST_PORTRAITS)]:
            del last[key]
        return dataclasses.replace(self, last=MappingProxyType(last))

    def _known(self, name: str) -> str | None:
        wanted = " ".join(name.split()).casefold()
        return next((one for one in self.names if one.casefold() == wanted), None)

    def _own(self, name: str) -> str:
        known = self._known(name)
        if known is None or known == STANDARD:
            own = ", ".join(self.named) or "none yet"
            raise AppError(f"preset: got {name!r}, expected one of your own: {own}")
        return known


def _usable(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise AppError(f"preset: got {name!r} for a name, expected 1 to {LONGEST_NAME} characters")
    return name


def load_presets(path: Path) -> tuple[Presets, str | None]:
    """Read the presets: what is good is taken, what is not is named, and the file is then kept aside.

    Returns:
        The presets, and what to tell the user, or None where all went well.

    Raises:
        AppError: the file is there and cannot be read, or is of a later version of the app; it is left as it is, and
            is not to be written over.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Presets(), None
    except OSError as error:
        raise AppError(f"cannot read the presets in {path}: {error}; check its permissions, or move it away") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        kept = set_aside(path, str(error), "presets")
        return Presets(), f"The presets could not be read ({error}). There are none for now; {kept}."
    version = values.pop("version", None)
    if isinstance(version, int) and version > VERSION:
        raise AppError(
            f"cannot read the presets in {path}: they are of format {version}, this app knows formats up to {VERSION}; "
            "use a newer app, or move the file away"
        )
    complaints = [] if version == VERSION else [f"version: got {version!r}, expected {VERSION}"]
    named = _sets(values.pop("named", {}), "named", complaints)
    last = _sets(values.pop("last", {}), "last", complaints)
    complaints += [f"unknown key {key}" for key in values]
    presets = Presets(last=MappingProxyType(last))
    for name, strengths in named.items():
        try:
            presets = presets.saved(name, strengths)
        except AppError as error:
            complaints.append(str(error))
    if not complaints:
        return presets, None
    said = "; ".join(complaints)
    kept = set_aside(path, said, "presets")
    try:
        save_presets(path, presets)  # or the next start would find none at all
    except AppError as error:
        kept = f"{kept}; {error}"
    return presets, f"Not all presets could be used: {said}. All others are there; {kept}."


def _sets(values: Any, what: str, complaints: list[str]) -> dict[str, Strengths]:
    if not isinstance(values, Mapping):
        complaints.append(f"{what}: got {values!r}, expected a table of presets")
        return {}
    sets: dict[str, Strengths] = {}
    for name, one in values.items():
        if not isinstance(one, Mapping):
            complaints.append(f"{what}.{name}: got {one!r}, expected a table of strengths")
            continue
        sets[name], wrong = salvage(Strengths, one, what="strength")
        complaints += [f"{what}.{name}: {complaint}" for complaint in wrong]
    return sets


def save_presets(path: Path, presets: Presets) -> None:
    """Write the presets in one step.

    Raises:
        AppError: the place cannot be written.
    """
    values = {
        "version": VERSION,
        "named": {name: dataclasses.asdict(one) for name, one in presets.named.items()},
        "last": {key: dataclasses.asdict(one) for key, one in presets.last.items()},
    }
    write_private(path, values, "presets")
