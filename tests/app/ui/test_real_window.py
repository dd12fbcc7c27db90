"""The real window with the real pipeline on a real X server, where there is one to be had."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcnet.media.images import read_rgb

FOLDER = Path("out/screenshots")


@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="no xvfb-run: apt-get install xvfb xauth, to look at it")
def test_the_window_shows_an_animated_portrait(graphs: Path) -> None:
    """Leaves its pictures in out/screenshots, to be looked at."""
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    command = [sys.executable, "-m", "tests.app.ui.screenshot", "--quick", str(FOLDER)]
    if importlib.util.find_spec("openvino") is not None:
        command += ["--compiled", str(graphs)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, encoding="utf-8")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    assert "PREVIEW | " in answer.stdout
    starting, live = (read_rgb(FOLDER / f"{name}.png") for name in ("0-starting", "1-first-launch-dark"))
    assert starting.shape == live.shape == (720, 1180, 3)
    differing = np.abs(starting.astype(int) - live).max(axis=2) > 40
    assert differing[100:350, 300:600].mean() > 0.5, "the portrait has taken the slate's place"
