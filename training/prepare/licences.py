"""Licences that people wrote into `manifest.csv`, kept for calls that leave out their clips."""

import csv
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mcnet.files import replacing
from training.data import DataError
from training.prepare.labels import key_of

_log = logging.getLogger(__name__)


class Stated(NamedTuple):
    """What is stated of a clip.

    Attributes:
        source: the label of its source.
        licence: in the user's words; empty where none is stated.
        stamp: of the source's content; empty where an earlier version wrote it down, which noted none.
    """

    source: str
    licence: str
    stamp: str = ""


class Licences:
    """What is stated by hand, for each clip.

    A clip that nobody has seen in a manifest, as one that was cut by other rules, has the licence that all the clips of
    its source have. Nothing that was stated of one source is said of another one that has its name.

    Args:
        manifest: `manifest.csv` of the call before, if there is one. What it says counts for more than what is kept.
        kept: the file in which statements are kept, of every clip that ever stood in a manifest.

    Raises:
        DataError: one of the files cannot be read.
    """

    def __init__(self, manifest: Path, kept: Path) -> None:
        self._kept = kept
        before = _read_kept(kept)
        last = {
            key: stated._replace(stamp=before[key].stamp) if key in before else stated
            for key, stated in _read_manifest(manifest).items()
        }
        self._stated = {**before, **last}
        self._of_sources = {**_by_source(self._stated.values()), **_by_source(last.values())}

    def of(self, key: str, source: str, stamp: str) -> str:
        """The licence of a clip, by its key and its source's label and stamp; empty where none is stated."""
        stated = self._stated.get(key)
        if stated is not None and stated.stamp in {"", stamp}:
            return stated.licence
        licences = self._of_sources.get((source, stamp), set()) | self._of_sources.get((source, ""), set())
        return next(iter(licences)) if len(licences) == 1 else ""

    def take_over(self, clips: Mapping[str, Stated]) -> None:
        """Take what a manifest says that was just written, and drop what was stated of other content of its sources."""
        stamps = {stated.source: stated.stamp for stated in clips.values()}
        dropped = [
            key
            for key, stated in self._stated.items()
            if stated.stamp not in {"", stamps.get(stated.source, stated.stamp)}
        ]
        if sources := sorted({self._stated[key].source for key in dropped if self._stated[key].licence}):
            _log.warning(
                "what was stated of %s is not taken over: there is other content of that name now; state its licence "
                "in manifest.csv",
                ", ".join(sources),
            )
        for key in dropped:
            del self._stated[key]
        self._stated.update(clips)

    def keep(self) -> None:
        """Write down all of them.

        Raises:
            OSError: they cannot be written.
        """
        values = {key: stated._asdict() for key, stated in sorted(self._stated.items())}
        with replacing(self._kept) as partial:
            partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _by_source(statements: Iterable[Stated]) -> dict[tuple[str, str], set[str]]:
    licences: dict[tuple[str, str], set[str]] = {}
    for stated in statements:
        licences.setdefault((stated.source, stated.stamp), set()).add(stated.licence)
    return licences


def _read_manifest(manifest: Path) -> dict[str, Stated]:
    if not manifest.is_file():
        return {}
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            return {
                key_of(row["file"]): Stated(row["source"], row["licence"].strip())
                for row in csv.DictReader(file)
                if row.get("licence") is not None
            }
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f"cannot read {manifest}, whose licence column is kept: {error}; mend it or put it away"
        ) from error


def _read_kept(path: Path) -> dict[str, Stated]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(key): Stated(str(stated["source"]), str(stated["licence"]), str(stated.get("stamp", "")))
            for key, stated in values.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {path}, which keeps the licences that were written by hand: {error}; mend it, or put it away "
            "and see that manifest.csv states all of them"
        ) from error
