"""Strengths of the motion by name, and what each portrait was last moved with and where it stood; kept as TOML."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

from app.errors import AppError
from app.settings import LEFT, LiveSettings, alone_beside, read_private, set_aside, set_aside_changed, write_private
from mcnet.phrases import listed, offered, phrase
from mcnet.tables import salvage, shown

T = TypeVar("T")

VERSION = 1
"""Of the file's format."""
STANDARD = "Standard"
"""Name of the preset that is always there: every strength at 100 %."""
LONGEST_NAME = 40
MOST_PRESETS = 50
_MOST_PORTRAITS = 300


@dataclass(frozen=True)
class _Kept:
    """Some of `LiveSettings`' fields, with its ranges and defaults."""

    def __post_init__(self) -> None:
        self.over(LiveSettings())  # which checks the ranges

    @classmethod
    def of(cls, live: LiveSettings) -> Self:
        """Those in force."""
        return cls(**{field.name: getattr(live, field.name) for field in dataclasses.fields(cls)})

    def over(self, live: LiveSettings) -> LiveSettings:
        """The settings with these.

        Raises:
            AppError: one is out of its range.
        """
        return dataclasses.replace(live, **dataclasses.asdict(self))


@dataclass(frozen=True)
class Strengths(_Kept):
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
    gaze_strength: float = 1.0
    mouth_strength: float = 1.0
    brows_strength: float = 1.0


@dataclass(frozen=True)
class Place(_Kept):
    """Where a portrait stands in the picture; fields, ranges and defaults as of `LiveSettings`.

    It suits how a portrait was cropped, and is no part of a preset: another portrait of that preset stays where it is.
    """

    portrait_size: float = 1.0
    portrait_x: float = 0.0
    portrait_y: float = 0.0


@dataclass(frozen=True)
class Presets:
    """All that is kept; each change makes a new one.

    Attributes:
        named: strengths by the names that the user gave, in the order of saving.
        last: what each portrait was last moved with, by the portrait's key, the latest last.
        places: where each portrait last stood, likewise.
    """

    named: Mapping[str, Strengths] = field(default_factory=lambda: MappingProxyType({}))
    last: Mapping[str, Strengths] = field(default_factory=lambda: MappingProxyType({}))
    places: Mapping[str, Place] = field(default_factory=lambda: MappingProxyType({}))

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
            raise AppError(
                phrase("preset: got {name}, expected one of {names}", name=repr(name), names=offered(self.names, name))
            )
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
            raise AppError(phrase("preset: {name} stays as it is: choose another name", name=STANDARD))
        if known is None and len(self.named) >= MOST_PRESETS:
            raise AppError(
                phrase("preset: there are {count} already, expected no more: delete one first", count=len(self.named))
            )
        return dataclasses.replace(self, named=MappingProxyType({**self.named, known or name: strengths}))

    def renamed(self, before: str, name: str) -> "Presets":
        """With a preset under another name, in its place.

        Raises:
            AppError: there is no such preset of the user's, or the name cannot be used or is another one's.
        """
        name, known = _usable(name), self._own(before)
        if self._known(name) not in (None, known):
            raise AppError(
                phrase(
                    "preset: {name} is there already: choose another name, or delete it first", name=self._known(name)
                )
            )
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
        return dataclasses.replace(self, last=_with_latest(self.last, portrait, strengths))

    def with_place(self, portrait: str, place: Place) -> "Presets":
        """With where a portrait last stood, likewise."""
        return dataclasses.replace(self, places=_with_latest(self.places, portrait, place))

    def merged(self, before: "Presets", theirs: "Presets") -> "Presets":
        """With what another window has kept since both were as before; where both changed the same, these hold.

        All of them stay, however many there are by then, and under names that differ in more than capitals.
        """
        return Presets(
            _told_apart(_merged(before.named, self.named, theirs.named).items()),
            _merged(before.last, self.last, theirs.last),
            _merged(before.places, self.places, theirs.places),
        )

    def _known(self, name: str) -> str | None:
        wanted = " ".join(name.split()).casefold()
        return next((one for one in self.names if one.casefold() == wanted), None)

    def _own(self, name: str) -> str:
        known = self._known(name)
        if known is None or known == STANDARD:
            own = offered(self.named, name) or phrase("none yet")
            raise AppError(phrase("preset: got {name}, expected one of your own: {own}", name=repr(name), own=own))
        return known


def _with_latest(kept: Mapping[str, T], portrait: str, one: T) -> Mapping[str, T]:
    latest = {key: other for key, other in kept.items() if key != portrait} | {portrait: one}
    return MappingProxyType(dict(list(latest.items())[-_MOST_PORTRAITS:]))


def _merged(before: Mapping[str, T], now: Mapping[str, T], theirs: Mapping[str, T]) -> Mapping[str, T]:
    if theirs in (before, now):
        return now
    changed = {key: one for key, one in now.items() if before.get(key) != one}
    gone = before.keys() - now.keys()
    return MappingProxyType({key: one for key, one in theirs.items() if key not in gone | changed.keys()} | changed)


def _told_apart(named: Iterable[tuple[str, T]]) -> Mapping[str, T]:
    """By name; a name that an earlier one bears, but for capitals, gets a number."""
    apart: dict[str, T] = {}
    taken = {STANDARD.casefold()}
    for name, one in named:
        numbered = (f"{name[: LONGEST_NAME - len(tail)]}{tail}" for tail in map(" {}".format, itertools.count(2)))
        free = next(other for other in itertools.chain([name], numbered) if other.casefold() not in taken)
        taken.add(free.casefold())
        apart[free] = one
    return MappingProxyType(apart)


def _usable(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise AppError(
            phrase(
                "preset: got {name} for a name, expected 1 to {most} characters", name=shown(name), most=LONGEST_NAME
            )
        )
    return name


_TABLES: dict[type[Any], str] = {Strengths: "strength", Place: "place"}
"""What a table of the file holds, by what is made of it."""


def load_presets(path: Path, *, mends: bool = True) -> tuple[Presets, str | None]:
    """Read the presets: what is good is taken, what is not is named, and the file is then kept aside.

    Args:
        path: of the file.
        mends: whether a damaged file is kept aside, and what is good written in its place; else it stays as it is.

    Returns:
        The presets, and what to tell the user, or None where all went well.

    Raises:
        AppError: the file is there and cannot be read, or is of a later version of the app; it is left as it is, and
            is not to be written over.
    """
    try:
        presets, complaints = _read(path, Presets())
    except FileNotFoundError:
        return Presets(), None
    except ValueError as error:
        kept = set_aside(path, str(error), phrase("presets")) if mends else LEFT
        said = phrase(
            "The presets could not be read ({error}). There are none for now; {kept}.", error=error, kept=kept
        )
        return Presets(), said
    if not complaints:
        return presets, None
    said = listed(complaints, ";")
    kept = _mended(path, presets, said) if mends else LEFT
    return presets, phrase("Not all presets could be used: {said}. All others are there; {kept}.", said=said, kept=kept)


def _read(path: Path, instead: Presets) -> tuple[Presets, list[str]]:
    """What is good in the file, what of `instead` takes the place of what is not, and a complaint about each such.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is no TOML.
        AppError: it cannot be read, or is of a later version of the app.
    """
    try:
        values = read_private(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AppError(
            phrase(
                "cannot read the presets in {path}: {error}; check its permissions, or move it away",
                path=path,
                error=error,
            )
        ) from error
    version = values.pop("version", None)
    if isinstance(version, int) and version > VERSION:
        raise AppError(
            phrase(
                "cannot read the presets in {path}: they are of format {version}, this app knows formats up to "
                "{known}; use a newer app, or move the file away",
                path=path,
                version=shown(version),
                known=VERSION,
            )
        )
    complaints = (
        []
        if version == VERSION
        else [phrase("version: got {version}, expected {known}", version=shown(version), known=VERSION)]
    )
    tables = _tables_of(instead)
    unknown = [key for key in values if key not in tables]
    if unknown:  # which may be one of those that are not there, misspelt
        values = tables | values
    named: list[tuple[str, Strengths]] = []
    for name, strengths in _sets(Strengths, values.get("named", {}), "named", complaints, instead.named).items():
        try:
            named.append((_usable(name), strengths))
        except AppError as error:
            complaints.append(str(error))
    last = _sets(Strengths, values.get("last", {}), "last", complaints, instead.last)
    places = _sets(Place, values.get("places", {}), "places", complaints, instead.places)
    complaints += [phrase("unknown key {key}", key=key) for key in unknown]
    return Presets(_told_apart(named), MappingProxyType(last), MappingProxyType(places)), complaints


def _mended(path: Path, presets: Presets, why: str) -> str:
    kept = set_aside(path, why, phrase("presets"))
    try:
        save_presets(path, presets)  # or the next start would find none at all
    except AppError as error:
        kept = phrase("{kept}; {error}", kept=kept, error=error)
    return kept


def _sets(kind: type[T], values: Any, what: str, complaints: list[str], instead: Mapping[str, T]) -> dict[str, T]:
    if not isinstance(values, Mapping):
        complaints.append(phrase("{what}: got {got}, expected a table of presets", what=what, got=shown(values)))
        return dict(instead)
    sets: dict[str, T] = {}
    for name, one in values.items():
        if not isinstance(one, Mapping):
            complaints.append(
                phrase("{what}.{name}: got {got}, expected a table", what=what, name=name, got=shown(one))
            )
            if name in instead:
                sets[name] = instead[name]
            continue
        sets[name], wrong = salvage(kind, one, what=_TABLES[kind], instead=instead.get(name))
        complaints += [
            phrase("{what}.{name}: {complaint}", what=what, name=name, complaint=complaint) for complaint in wrong
        ]
    return sets


def save_presets(path: Path, presets: Presets) -> None:
    """Write the presets in one step.

    Raises:
        AppError: the place cannot be written.
    """
    write_private(path, {"version": VERSION, **_tables_of(presets)}, phrase("presets"))


def _tables_of(presets: Presets) -> dict[str, Any]:
    """As plain nested values."""
    return {
        "named": {name: dataclasses.asdict(one) for name, one in presets.named.items()},
        "last": {key: dataclasses.asdict(one) for key, one in presets.last.items()},
        "places": {key: dataclasses.asdict(one) for key, one in presets.places.items()},
    }


def save_changes(path: Path, before: Presets, now: Presets) -> tuple[Presets, str | None]:
    """Write what has changed in this process, in one step: what another window has changed meanwhile stays.

    Args:
        path: of the file.
        before: as this process knew the file to be.
        now: all there are. They take the place of what cannot be used in the file, and of what a misspelt key may stand
            for, and the file is then kept aside; and of all of it where it is gone, or no TOML any more.

    Returns:
        What is kept now; and what to tell the user of what cannot be used, or None where all can.

    Raises:
        AppError: the place cannot be written, or has been written by a later version of the app, and stays.
    """
    with alone_beside(path):
        try:
            theirs, complaints = _read(path, now)
        except FileNotFoundError:
            theirs, complaints = now, []
        except ValueError as error:
            theirs, complaints = now, [str(error)]
        complaint = set_aside_changed(path, complaints, phrase("presets"))
        kept = now.merged(before, theirs)
        save_presets(path, kept)
    return kept, complaint
