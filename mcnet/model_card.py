"""What is known of a model's file before it is loaded: its header, and the card that lies beside it.

A model is a `.safetensors` file of ours, with its card beside it if there is one (`NAME.json`), or a folder as model
hubs have it: `model.safetensors`, `config.json` (the same card), `README.md`, and pictures. The folder of a run that
still learns has `latest.safetensors` instead. Nothing here reads a weight or needs torch.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcnet.config import ConfigError, McnetConfig
from mcnet.errors import UserError
from mcnet.phrases import listed, phrase

FORMAT = "mcnet-avatar/1"
"""Of the weights' file; its header says so."""
CARD_FORMAT = "mcnet-model/1"
MODEL_FILE, LATEST_FILE = "model.safetensors", "latest.safetensors"
CONFIG_FILE, README_FILE = "config.json", "README.md"
FIGURES = ("l1_of_copying", "akd_of_copying", "mouth_correlation", "lids_correlation")
"""The figures of `mcnet-train evaluate` that a card has, of the method that people get."""
_MOST_HEADER_BYTES = 100_000_000  # what safetensors itself accepts
_OF_TORCH = (b"PK\x03\x04", b"\x80\x02")
_LICENCES_NAMED = 3
_NOT_STATED = "not stated"
_LONGEST_TEXT = 1000


class CardError(UserError, ValueError):
    """A file that is no model of ours, or a damaged one; the message says what was found and what to do."""


@dataclass(frozen=True)
class Evaluation:
    """How a model did on clips that it had not learned from.

    Attributes:
        figures: by name, of `FIGURES`; what could not be measured is missing.
        split: of the clips.
        clips: how many.
        people: in them.
    """

    figures: Mapping[str, float]
    split: str = ""
    clips: int = 0
    people: int = 0


@dataclass(frozen=True)
class ModelCard:
    """What a model's file, and what lies beside it, say of it.

    Attributes:
        path: the weights' file.
        name: of the model.
        content_hash: of its weights, as the header has it.
        config: of its network.
        parameters: numbers in its file.
        training: facts of its training.
        licence: of the data that it learned from, for people; "" where nothing is stated.
        evaluation: its figures; None where nobody measured it.
        foreign: the card beside it is of other weights, so that nothing was taken from it.
        bundled: it ships with the project.
    """

    path: Path
    name: str
    content_hash: str
    config: McnetConfig
    parameters: int
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    evaluation: Evaluation | None = None
    foreign: bool = False
    bundled: bool = False

    @property
    def learning(self) -> bool:
        """Whether it is what a run has learned so far, and is replaced while that goes on."""
        return self.path.name == LATEST_FILE

    @property
    def steps(self) -> int | None:
        """Steps of its training; None where nothing is said."""
        steps = self.training.get("steps")
        return steps if type(steps) is int else None

    @property
    def readme(self) -> Path | None:
        """What there is to read about it, in prose."""
        beside = self.path.with_suffix(".md") if self.path.name != MODEL_FILE else self.path.with_name(README_FILE)
        return beside if beside.is_file() else None

    def warnings(self) -> list[str]:
        """What speaks against using it, a sentence each; nothing of what ships with the project."""
        if self.bundled:
            return []
        said = []
        if self.foreign:
            said.append(
                phrase("The card beside {name} is of other weights: do not trust what it says.", name=self.path.name)
            )
        copied = None if self.evaluation is None else self.evaluation.figures.get("l1_of_copying")
        if copied is not None and copied >= 1:
            said.append(
                phrase(
                    "It is worse than showing the portrait as it is: its pictures are off by {copied:.0%} of what "
                    "that would be.",
                    copied=copied,
                )
            )
        if self.learning:
            return said
        if self.evaluation is None:
            said.append(
                phrase(
                    "It has no card with figures: nobody has told how good it is (mcnet-train evaluate measures it)."
                )
            )
        if not self.licence:
            said.append(phrase("Nothing says under which licence it may be used."))
        return said


def model_file(folder: Path) -> Path:
    """The weights' file of a model's folder, or of the folder of a run that learns.

    Raises:
        CardError: there is none.
    """
    for name in (MODEL_FILE, LATEST_FILE):
        if (folder / name).is_file():
            return folder / name
    raise CardError(
        phrase(
            "{folder} holds no model: got neither {model_file} nor {latest_file}, expected a folder that "
            "`mcnet-train export` wrote, or that of a run that has saved what it learned",
            folder=folder,
            model_file=MODEL_FILE,
            latest_file=LATEST_FILE,
        )
    )


def is_safetensors(path: Path) -> bool:
    """Whether a file is one of safetensors', by its beginning, or by its name where that tells nothing.

    Both begin otherwise: a safetensors file with how long its header is, in 8 bytes, and the header, which is JSON; one
    of torch's as an archive, or as a pickle does.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(9)
    except OSError:  # whoever reads it says why it cannot be read
        begins = b""
    if begins[8:] == b"{" and int.from_bytes(begins[:8], "little") <= _MOST_HEADER_BYTES:
        return True
    return path.suffix.lower() == ".safetensors" and not begins.startswith(_OF_TORCH)


def read_card(path: Path, *, bundled: bool = False) -> ModelCard:
    """Read what is said of a model; its weights are not read.

    Args:
        path: a safetensors file of ours.
        bundled: it ships with the project.

    Raises:
        CardError: it cannot be read, is no such file, or is cut short.
    """
    header = _read_header(path)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        got = metadata.get("format") if isinstance(metadata, dict) else None
        raise CardError(
            phrase(
                "{path} is not a model of ours: got format {got} in its header, expected {format}",
                path=path,
                got=repr(got),
                format=repr(FORMAT),
            )
        )
    try:
        config = McnetConfig.from_dict(_object(json.loads(metadata["config"])))
        training = _object(json.loads(metadata["training"]))
        name, content_hash = fit_to_show(str(metadata["name"])), str(metadata["content_hash"])
        parameters = sum(math.prod(tensor["shape"]) for tensor in header.values())
    except (ConfigError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CardError(
            phrase(
                "{path} has a header that cannot be used: {error}; a newer version may have written it",
                path=path,
                error=error,
            )
        ) from error
    beside = _read_beside(path)
    foreign = bool(beside) and beside.get("content_hash") != content_hash
    said = {} if foreign else beside
    evaluation = said.get("evaluation", training.get("evaluation"))
    return ModelCard(
        path=path,
        name=name,
        content_hash=content_hash,
        config=config,
        parameters=parameters,
        training=training,
        licence=_text(said.get("licence")) or licence_of(training),
        evaluation=_evaluation(evaluation),
        foreign=foreign,
        bundled=bundled,
    )


def fit_to_show(text: str) -> str:
    """What a file says of itself, as a terminal or a window may show it: a line, without codes that would steer them,
    and not all of a long one.
    """
    shown = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(shown.split())
    )


def licences_of(training: Mapping[str, Any]) -> dict[str, int]:
    """The licences of all data that a model learned from, with the clips of each: of its own data, as `fit` notes them,
    and of that of the models that it began with and was taught by. Of one of which nothing is noted, they are not
    stated, of nobody knows how many clips: 0.
    """
    every: dict[str, int] = {}
    for part in ("data", "initial", "teacher"):
        noted = training.get(part)
        if not isinstance(noted, Mapping) or not noted:
            continue
        licences = noted.get("licences")
        for licence, clips in (licences if isinstance(licences, Mapping) and licences else {_NOT_STATED: 0}).items():
            # One and the same clips may be in the data of both.
            every[str(licence)] = max(every.get(str(licence), 0), clips if type(clips) is int else 0)
    return every


def licence_of(training: Mapping[str, Any]) -> str:
    """The licences of the data, for people; "" where nothing was stated."""
    licences = licences_of(training)
    stated = [fit_to_show(licence) for licence in licences if licence != _NOT_STATED]
    if not stated:
        return ""
    more = len(stated) - _LICENCES_NAMED
    words = listed(stated[:_LICENCES_NAMED])
    if more > 0:
        words = phrase("{licences} and {more} more", licences=words, more=more)
    return words if len(stated) == len(licences) else phrase("{licences}; not stated for some", licences=words)


def summary_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What a card has of what `mcnet-train evaluate --json` wrote.

    Args:
        evaluation: that file's content.

    Raises:
        CardError: it is something else.
    """
    try:
        if evaluation["format"] != "mcnet-evaluation/2":
            raise CardError(
                phrase(
                    "got figures of format {evaluation}, expected 'mcnet-evaluation/2'",
                    evaluation=repr(evaluation["format"]),
                )
            )
        method = next(iter(evaluation["self"]))  # what people get comes first
        figures = {name: evaluation["self"][method].get(name) for name in FIGURES}
        return {
            "method": method,
            "split": str(evaluation["options"]["split"]),
            "clips": int(evaluation["data"]["clips"]),
            "people": int(evaluation["data"]["people"]),
            "pairs": int(evaluation["self"][method]["pairs"]),
            "figures": {name: float(value) for name, value in figures.items() if value is not None},
        }
    except CardError:  # which is a ValueError
        raise
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise CardError(
            phrase(
                "the figures lack {error}, or have something else in its place: expected what `mcnet-train evaluate "
                "--json` wrote",
                error=error,
            )
        ) from error


def _read_header(path: Path) -> dict[str, Any]:
    """The JSON at the beginning of a safetensors file: its tensors by name, and `__metadata__`."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
                raise CardError(
                    phrase("{path} is no whole safetensors file: it may be truncated, or something else", path=path)
                )
            header = json.loads(file.read(length))
    except CardError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) else phrase("its header is no JSON")
        raise CardError(
            phrase("{path} is no safetensors file that can be read ({said}): get it again", path=path, said=said)
        ) from error
    if not isinstance(header, dict):
        raise CardError(phrase("{path} is no safetensors file: its header is no table", path=path))
    try:
        end = max((tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"), default=0)
        whole = 8 + length + end == size
    except (KeyError, TypeError, IndexError) as error:
        raise CardError(phrase("{path} is no safetensors file: its header lists no tensors", path=path)) from error
    if not whole:
        raise CardError(
            phrase(
                "{path} is cut short: got {size} bytes, expected {end}; get it again",
                path=path,
                size=size,
                end=8 + length + end,
            )
        )
    return header


def _read_beside(path: Path) -> dict[str, Any]:
    """The card beside a model's file; nothing where there is none, or none that can be read."""
    beside = path.with_name(CONFIG_FILE) if path.name == MODEL_FILE else path.with_suffix(".json")
    try:
        values = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) and values.get("format") == CARD_FORMAT else {}


def _evaluation(values: object) -> Evaluation | None:
    """What a card says of figures; None where it cannot be used."""
    if not isinstance(values, Mapping) or not isinstance(values.get("figures"), Mapping):
        return None
    figures = {
        name: float(value)
        for name, value in values["figures"].items()
        if name in FIGURES and type(value) in (int, float) and abs(value) <= sys.float_info.max  # so is no NaN
    }
    if not figures:
        return None
    counts = [values.get(name) for name in ("clips", "people")]
    clips, people = (count if type(count) is int else 0 for count in counts)
    return Evaluation(figures, _text(values.get("split")), clips, people)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("a table of values is something else")
    return value


def _text(value: object) -> str:
    return fit_to_show(value) if isinstance(value, str) else ""
