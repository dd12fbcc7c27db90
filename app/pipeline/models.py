"""Models that can animate: their cards, whether they can be used, and whether a running training has new ones."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from app.pipeline.tiers import engine_of, known_speed
from mcnet.bench.tiers import Tier
from mcnet.engine import Engine, open_model
from mcnet.model_card import LATEST_FILE, ModelCard, is_safetensors, read_card
from mcnet.model_file import CheckpointError, bundled_models, find_model
from mcnet.phrases import phrase


class ModelReport(NamedTuple):
    """A model that was looked at and can be used.

    Attributes:
        model: as it was named: bundled name, file or folder.
        card: what is said of it; None of the authors' files, which have none.
        warnings: what speaks against it, a sentence each.
        frame_ms: what a frame was measured to take here; None where it was not.
        stamp: tells its file apart from what may take its place.
        make: makes its engine, on the thread that will call it.
    """

    model: str
    card: ModelCard | None
    warnings: tuple[str, ...]
    frame_ms: float | None
    stamp: tuple[int, ...]
    make: Callable[[], Engine]


def card_of(model: str) -> ModelCard | None:
    """What is said of a model; None of the authors' files.

    Raises:
        CardError, CheckpointError: there is no such model, or its file is none.
    """
    path = find_model(model)
    if not is_safetensors(path):
        return None
    return read_card(path, bundled=path in bundled_models().values())


def examine_model(model: str, device: str, precision: str, like: Tier | None = None) -> ModelReport:
    """Look at a model, and read its weights, so that it is known to be usable before anything depends on it.

    Args:
        model: bundled name, file or folder.
        device: as `EngineOptions.device`.
        precision: as `EngineOptions.precision`.
        like: what was measured of a model of the same kind, as of the same run a while ago.

    Raises:
        CardError, CheckpointError, EngineError: it cannot be used; the message says why.
    """
    stamp = stamp_of(model)
    card = card_of(model)
    loaded = open_model(model)
    tier = known_speed(loaded, device, precision)
    warnings = card.warnings() if card is not None else [_PICKLED]
    frame_ms = None if tier is None else tier.best.frame_ms
    make = functools.partial(engine_of, loaded, device, precision, like)
    return ModelReport(model, card, tuple(warnings), frame_ms, stamp, make)


_PICKLED = phrase(
    "It is a pickled checkpoint without a card: it is read without running code, but nobody tells how good it is "
    "or under which licence it may be used."
)


def stamp_while_learning(model: str) -> tuple[int, ...] | None:
    """`stamp_of` a run that still learns, whose file is replaced now and then; None of other models.

    Raises:
        CheckpointError: there is none.
    """
    return stamp_of(model) if find_model(model).name == LATEST_FILE else None


def stamp_of(model: str) -> tuple[int, ...]:
    """Tells a model's file apart from one that takes its place.

    Raises:
        CheckpointError: there is none.
    """
    path = find_model(model)
    try:
        facts = path.stat()
    except OSError as error:
        raise CheckpointError(
            phrase("{path} cannot be read: {cause}", path=path, cause=error.strerror or error)
        ) from error
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
