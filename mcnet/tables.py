"""Plain nested values, as TOML and JSON have them, to frozen dataclasses; unknown keys are errors that name the key."""

import dataclasses
import sys
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from mcnet.errors import UserError
from mcnet.phrases import listed, offered, phrase

T = TypeVar("T")

_LONGEST_SHOWN = 80


class TableError(UserError, ValueError):
    """A key that is not known, or a value that cannot be."""


def shown(value: object) -> str:
    """A value as a message shows it, which is to be read: not all of a long one."""
    try:
        said = repr(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        return phrase("a number of thousands of digits")
    return said if len(said) <= _LONGEST_SHOWN else f"{said[:_LONGEST_SHOWN]}…"


def build(cls: type[T], values: Mapping[str, Any], *, what: str) -> T:
    """Build a dataclass, whose fields may be dataclasses, literals, tuples of one type and plain values.

    Keys that are missing take the field's default; a whole number serves where a float is wanted; a dataclass that is
    built already stays as it is.

    Args:
        cls: the dataclass.
        values: nested plain values.
        what: what a key is called in messages, as "setting".

    Raises:
        TableError: a key is unknown, or a value is of another kind; the message names it. What the dataclass itself
            raises about a value goes through.
    """
    return _table(cls, values, "", what)


def salvage(cls: type[T], values: Mapping[str, Any], *, what: str, instead: T | None = None) -> tuple[T, list[str]]:
    """Build a dataclass of what is good in the values; for the rest it has its defaults.

    Args:
        cls: the dataclass; every field has a default, and what it requires of a value concerns that value alone.
        values: nested plain values.
        what: what a key is called in messages, as "setting".
        instead: has what takes the place of a value that cannot be, and of what a table lacks that has an unknown key,
            which may be meant for it; None: defaults do, as where there is no value.

    Returns:
        The dataclass, and a complaint about each key that is unknown and each value that cannot be.
    """
    return _salvaged(cls, values, "", what, instead)


def lacks_by_mistake(cls: type[Any], values: Mapping[str, Any]) -> bool:
    """Whether a dataclass' keys that the values lack may be there, misspelt: one of the values' keys is unknown."""
    return bool(values.keys() - {field.name for field in dataclasses.fields(cls)})


def _salvaged(
    cls: type[T], values: Mapping[str, Any], prefix: str, what: str, instead: T | None
) -> tuple[T, list[str]]:
    kinds = typing.get_type_hints(cls)
    good: dict[str, Any] = {}
    complaints: list[str] = []
    for name, value in values.items():
        kind, key = kinds.get(name), f"{prefix}{name}"
        if kind is None:
            complaints.append(phrase("unknown {what} {key}", what=what, key=key))
            continue
        other = None if instead is None else getattr(instead, name)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
            good[name], within = _salvaged(kind, value, f"{key}.", what, other)
            complaints += within
            continue
        try:
            good[name] = _value(kind, value, key, what)
            cls(**{name: good[name]})  # the dataclass has its own say about each value
        except UserError as error:
            good.pop(name, None)
            if instead is not None:
                good[name] = other
            complaints.append(str(error))
    if instead is not None and lacks_by_mistake(cls, values):
        good |= {name: getattr(instead, name) for name in kinds.keys() - values.keys()}
    return cls(**good), complaints


def _table(cls: type[T], values: Mapping[str, Any], prefix: str, what: str) -> T:
    kinds = typing.get_type_hints(cls)
    if unknown := sorted(set(values) - set(kinds)):
        raise TableError(
            phrase(
                "unknown {what} {prefix}{unknown}; the known ones are {kinds}",
                what=what,
                prefix=prefix,
                unknown=unknown[0],
                kinds=offered(kinds, unknown[0]),
            )
        )
    return cls(**{name: _value(kinds[name], value, f"{prefix}{name}", what) for name, value in values.items()})


def _value(kind: Any, value: Any, key: str, what: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if isinstance(value, kind):  # type: ignore[arg-type]
            return value
        if not isinstance(value, Mapping):
            raise TableError(
                phrase("{what} {key}: got {value}, expected a table of values", what=what, key=key, value=shown(value))
            )
        assert isinstance(kind, type)
        return _table(kind, value, f"{key}.", what)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise TableError(
                phrase(
                    "{what} {key}: got {value}, expected {allowed}",
                    what=what,
                    key=key,
                    value=shown(value),
                    allowed=listed(map(str, get_args(kind)), "or"),
                )
            )
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise TableError(
                phrase("{what} {key}: got {value}, expected a list", what=what, key=key, value=shown(value))
            )
        return tuple(_value(get_args(kind)[0], item, key, what) for item in value)
    if kind is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if type(value) is not kind:
        raise TableError(
            phrase(
                "{what} {key}: got {value}, expected {kind}", what=what, key=key, value=shown(value), kind=kind.__name__
            )
        )
    return value
