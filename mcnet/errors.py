"""What people can cause, apart from what only we can."""

import logging

from mcnet.packages import missing_package
from mcnet.phrases import phrase

_CV_NO_MEMORY = -4


class UserError(Exception):
    """Base of every error whose message is meant for people: what was got, what was expected, what to do."""


def sentence(error: Exception) -> str:
    """What to tell people of an error: our own messages as they are, others with their type."""
    if isinstance(error, ImportError) and (lack := missing_package(error)):
        return lack
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def log_failure(logger: logging.Logger, what: str, error: Exception) -> None:
    """Note an error that people are told elsewhere: with its traceback; what they can mend, only where debugging.

    Args:
        logger: of the module that handles it.
        what: failed.
        error: told by its `sentence`.
    """
    mendable = isinstance(error, UserError) or (isinstance(error, ImportError) and missing_package(error) is not None)
    logger.log(logging.DEBUG if mendable else logging.ERROR, "%s", what, exc_info=error)


def told(error: OSError) -> str:
    """What to tell people of a failure of the file system: what failed, and for which file."""
    cause = error.strerror or error
    if error.filename is None:
        return phrase("cannot use the file: {cause}; check its name and its folder", cause=cause)
    return phrase(
        "cannot use the file {path}: {cause}; check its name and its folder", path=error.filename, cause=cause
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was no memory, or none on the GPU. OpenCV tells it by an error of its own, torch by its text."""
    torchs = isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
    opencvs = type(error).__module__ == "cv2" and getattr(error, "code", 0) == _CV_NO_MEMORY
    return isinstance(error, MemoryError) or torchs or opencvs
