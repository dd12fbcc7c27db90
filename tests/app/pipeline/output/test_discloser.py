"""Which models a file is said to come from, and that nothing about signing reaches who writes."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.pipeline.events import Undisclosed
from app.pipeline.output.discloser import Discloser
from mcnet.disclosure import Generated, ModelUsed, SigningFiles

ONE, TWO = ModelUsed("one", "01"), ModelUsed("two", "02")


def test_a_recording_names_the_models_of_its_own_time() -> None:
    signed: list[Generated] = []

    def begin(path: Path, said: Generated, files: SigningFiles, tell: Callable[[Path, str], None]) -> threading.Thread:
        assert files == SigningFiles()
        signed.append(said)
        tell(path, "")
        thread = threading.Thread(target=lambda: None)
        thread.start()
        return thread

    told: list[Undisclosed] = []
    discloser = Discloser(SigningFiles, told.append, begin)
    discloser.recording()(Path("slate.mp4"), True)  # no model: no picture was generated
    early = discloser.recording()
    discloser.uses("one", "01")
    discloser.uses("one", "01")
    late = discloser.recording()
    discloser.uses("two", "02")
    later = discloser.recording()
    for disclose in (early, late, later):
        disclose(Path("x.mp4"), disclose is late)
    discloser.wait()
    assert [said.models for said in signed] == [(ONE, TWO), (ONE, TWO), (TWO,)]
    assert [said.composite for said in signed] == [False, True, False]
    assert told == []


def test_what_cannot_begin_is_told_and_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def begin(*_: object) -> threading.Thread:
        raise OSError("out of processes")

    told: list[Undisclosed] = []
    discloser = Discloser(SigningFiles, told.append, begin)
    discloser.uses("one", "01")
    discloser.recording()(Path("x.mp4"), False)
    discloser.wait()
    assert told == [Undisclosed("x.mp4", "no process could be started for it (out of processes)")]
    assert "Content Credentials of x.mp4" in caplog.text


def test_nothing_is_signed_where_nobody_wants_it(tmp_path: Path) -> None:
    begun: list[object] = []

    def begin(*what: object) -> threading.Thread:
        begun.append(what)
        return threading.Thread(target=lambda: None)

    discloser = Discloser(lambda: None, lambda _: None, begin)
    discloser.uses("one", "01")
    stale = tmp_path / "x.c2pa"  # of a recording that was there before
    stale.write_bytes(b"... io.github.mcnet_avatar.generation ...")
    discloser.recording()(tmp_path / "x.webm", False)
    assert begun == []
    assert not stale.exists()
