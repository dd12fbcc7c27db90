import subprocess
import sys
from pathlib import Path

import pytest

from assets import ROOT
from mcnet.media.errors import MediaError
from mcnet.media.portraits import bundled_portraits, find_portrait


def test_a_portrait_is_named_by_its_file_or_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_portrait("woman_1") == ROOT / "portraits" / "woman_1.jpg"
    assert set(bundled_portraits()) == {path.stem for path in (ROOT / "portraits").iterdir()}
    Path("woman_1").touch()
    Path("me ").touch()
    assert find_portrait("woman_1") == Path("woman_1")  # a file goes first
    assert find_portrait("me ") == Path("me ")
    assert find_portrait("mine", {"mine": Path("there.png")}) == Path("there.png")
    for text, message in (
        ("nobody", r"no portrait 'nobody': got neither a file nor a known name \(man_1, "),
        ("~nobody/me.jpg", "got neither a file"),
        (300 * "x", "got neither a file"),
    ):
        with pytest.raises(MediaError, match=message):
            find_portrait(text)


def test_threads_may_import_the_package_from_different_sides() -> None:
    """Python ends a deadlock of imports by an error; there is none if the package imports no module of its own."""
    code = "import mcnet.media, sys; print([name for name in sys.modules if name.startswith('mcnet.media.')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert run.stdout == "[]\n"
