"""The thread that cuts portraits out."""

import os
import subprocess
import sys
import textwrap

import pytest

from app.pipeline.animation.cutting_out import Cutter
from app.pipeline.portraits import Portrait

_ENDS_WHILE_CUTTING = """
    import sys, time
    from pathlib import Path
    from app.pipeline.animation import cutting_out
    from app.pipeline.portraits import PortraitStore, load_portrait

    def cut_out(*_):
        time.sleep(float(sys.argv[1]))
        print("cut out")

    cutting_out.cut_out = cut_out
    cutting_out._AT_EXIT_S = float(sys.argv[2])
    cutting_out.Cutter(None).begin(load_portrait("woman_1", PortraitStore(Path("nowhere"))), 8)
    print("the end")
"""


@pytest.mark.parametrize(
    ("takes_s", "patience_s", "said"), [(0.3, 60.0, ["the end", "cut out"]), (600.0, 0.3, ["the end"])]
)
def test_pythons_own_end_waits_for_a_portrait_and_not_for_ever(
    takes_s: float, patience_s: float, said: list[str]
) -> None:
    """Torn out of OpenCV's code its thread would abort the process; one that hangs there would keep it."""
    words = [sys.executable, "-c", textwrap.dedent(_ENDS_WHILE_CUTTING), str(takes_s), str(patience_s)]
    done = subprocess.run(words, capture_output=True, check=False, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stdout.splitlines()) == (0, said), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
@pytest.mark.parametrize("error", [PermissionError, ValueError])
def test_a_priority_that_is_forbidden_keeps_nobody_from_being_cut_out(
    woman: Portrait, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    forbidden: list[int] = []

    def forbid(*_: int) -> None:
        forbidden.append(1)
        raise error

    monkeypatch.setattr(os, "setpriority", forbid)
    cutter = Cutter(None)
    cutting = cutter.begin(woman, 256)
    assert cutting.wait(20)
    cutter.close()
    assert forbidden
    assert cutting.matte is not None
