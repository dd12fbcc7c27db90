"""Licences that people wrote into `manifest.csv`, kept for calls that leave out their clips."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mcnet.files import replacing
from training.data import DataError
from training.prepare.labels import key_of


class _Stated(NamedTuple):
    source: str
    licence: str


class Licences:
    """What is stated by hand, for each clip.

    A clip that nobody has seen in a manifest, as one that was cut by other rules, has the licence that all the clips of
    its source have.

    Args:
        manifest: `manifest.csv` of the call before, if there is one. What it says counts for more than what is kept.
        kept: the file in which statements are kept, of every clip that ever stood in a manifest.

    Raises:
        DataError: one of the files cannot be read.
    """

    def __init__(self, manifest: Path, kept: Path) -> None:
        self._kept = kept
        last = _read_manifest(manifest)
        self._stated = {**_read_kept(kept), **last}
        self._of_sources = {**_by_source(self._stated.values()), **_by_source(last.values())}

    def of(self, key: str, source: str) -> str:
        """The licence of a clip, by its key and its source's label; empty where none is stated."""
        if (stated := self._stated.get(key)) is not None:
            return stated.licence
        licences = self._of_sources.get(source, set())
        return next(iter(licences)) if len(licences) == 1 else ""

    def keep(self) -> None:
        """Write down all of them.

        Raises:
            OSError: they cannot be written.
        """
        values = {key: stated._asdict() for key, stated in sorted(self._stated.items())}
        with replacing(self._kept) as partial:
            partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _by_source(statements: Iterable[_Stated]) -> dict[str, set[str]]:
    licences: dict[str, set[str]] = {}
    for stated in statements:
        licences.setdefault(stated.source, set()).add(stated.licence)
    return licences


def _read_manifest(manifest: Path) -> dict[str, _Stated]:
    if not manifest.is_file():
        return {}
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            return {
                key_of(row["file"]): _Stated(row["source"], row["licence"].strip())
                for row in csv.DictReader(file)
                if row.get("licence") is not None
            }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"cannot read {manifest}, whose licence column is kept: {error}; mend it or put it away"
        ) from error


def _read_kept(path: Path) -> dict[str, _Stated]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): _Stated(str(stated["source"]), str(stated["licence"])) for key, stated in values.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {path}, which keeps the licences that were written by hand: {error}; mend it, or put it away "
            "and see that manifest.csv states all of them"
        ) from error
