import errno
import os
from pathlib import Path

import av.error
import pytest

from mcnet.files import cause_and_remedy, free_name


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room on the disk"),
        (errno.EDQUOT, "make room: what you may use of the disk is used up"),
        (errno.EFBIG, "choose a disk that takes larger files, or make it shorter"),
        (errno.EROFS, "choose another place"),
        (errno.EIO, "choose another place"),
    ],
)
def test_why_a_file_could_not_be_written(number: int, remedy: str) -> None:
    said = f"{os.strerror(number)}; {remedy}"
    assert cause_and_remedy(OSError(number, os.strerror(number))) == said
    assert cause_and_remedy(av.error.FFmpegError(number, os.strerror(number))) == said


def test_what_no_other_place_would_help() -> None:
    external = int.from_bytes(b"EXT ", "little")  # FFmpeg's numbers of its own are four letters
    encoder = av.error.FFmpegError(external, "Generic error in an external library")
    assert cause_and_remedy(encoder) == "Generic error in an external library"
    assert cause_and_remedy(OSError("it was removed meanwhile")) == "it was removed meanwhile"


def test_a_free_name(tmp_path: Path) -> None:
    for name in ("a.mp4", "a-2.mp4", "a-3.mp4"):
        assert free_name(tmp_path / "a.mp4") == tmp_path / name
        (tmp_path / name).touch()
