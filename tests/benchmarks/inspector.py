"""What the dock with the inside of the network costs the live path: `python -m tests.benchmarks.inspector`.

The real window with the real pipeline, in a process of its own on a screen that nobody sees: a file stands in for the
camera, and pictures go nowhere. The dock is closed and open in turn, so that the figures hold on a machine whose speed
wanders. The first seconds after each change are not counted.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.app.ui.desk import PLATFORM
from tests.benchmarks.chain import webcam_pictures
from tests.media.videos import make_video

_WINDOW_S = 5.0
"""As `app.pipeline.stats` has it: the percentiles are of so many last seconds."""
_SETTLING_S = 4.0
_START_S = 120.0


def main() -> int:
    """Measure, print a table, and end with a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.inspector", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="of closed and open (default: 6)")
    parser.add_argument("--seconds", type=float, default=15, help="counted of each (default: 15)")
    parser.add_argument("--camera-fps", type=int, default=30, help="frames per second of the camera (default: 30)")
    parser.add_argument("--model", default="starter", help="default: starter")
    args = parser.parse_args()
    os.environ["QT_QPA_PLATFORM"] = PLATFORM  # before Qt asks
    # As `app.__main__`, before torch is imported.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            os.environ[name] = str(Path(folder) / name)
        camera = make_video(Path(folder) / "camera.mp4", webcam_pictures(), fps=args.camera_fps)
        return measure(camera, args.model, args.rounds, args.seconds)


def measure(camera: Path, model: str, rounds: int, seconds: float) -> int:
    from PyQt6.QtWidgets import QApplication

    from app.settings import AppSettings, WindowSettings
    from app.ui.main_window import MainWindow
    from app.ui.parts import WindowOptions, real_parts, without_virtual_camera
    from app.ui.session import Session
    from app.ui.theme import apply_theme, current_theme

    app = QApplication(sys.argv[:1])
    apply_theme(app, current_theme("dark"))
    settings = AppSettings(model=model, window=WindowSettings(checklist_done=True))
    session = Session(WindowOptions(camera=str(camera)), settings, without_virtual_camera(real_parts()))
    window = MainWindow(session)
    window.show()
    window.when_painted(session.start)
    drawn: list[float] = []
    session.insight.drawn.connect(lambda *_: drawn.append(session.insight.busy_s))

    def rest(length_s: float) -> None:
        until_s = time.monotonic() + length_s
        while time.monotonic() < until_s:
            app.processEvents()
            time.sleep(0.002)

    def inspect(shown: bool) -> None:
        session.set_window(replace(session.settings.window, show_inspector=shown))

    def wait(condition: Callable[[], bool], what: str) -> None:
        began_s = time.monotonic()
        while not condition():
            rest(0.1)
            if session.insight.failure or time.monotonic() - began_s > _START_S:
                sys.exit(
                    f"no {what} within {_START_S:.0f} s: {session.insight.failure or session.reason or 'no reason'}"
                )

    wait(lambda: session.state.shows_avatar, "avatar")
    rest(2 * _WINDOW_S)
    runs: dict[str, list[dict[str, Any]]] = {"closed": [], "open": []}
    for turn in range(rounds):
        for name in runs:
            inspect(name == "open")
            frames = len(drawn)
            if name == "open":  # the process starts, and loads the model
                wait(lambda frames=frames: len(drawn) > frames, "view of the inside")  # type: ignore[misc]
            rest(_SETTLING_S)
            frames = len(drawn)
            ages = []
            for _ in range(max(1, round(seconds / _WINDOW_S))):
                rest(_WINDOW_S)
                stats = session.stats()
                ages.append((stats.age_ms.p50, stats.age_ms.p95, stats.fps))
            middle, slow, fps = (statistics.median(values) for values in zip(*ages, strict=True))
            shown = (len(drawn) - frames) / (_WINDOW_S * len(ages))
            runs[name].append({"p50": middle, "p95": slow, "fps": fps, "views_per_s": shown})
            print(
                f"{turn + 1}/{rounds} {name:6} age {middle:.0f} (p95 {slow:.0f}) ms, {fps:.1f} frames/s; the dock "
                f"shows {shown:.2f} per second",
                flush=True,
            )
    window.close()
    ratios = [100 * (one["p95"] / other["p95"] - 1) for one, other in zip(runs["open"], runs["closed"], strict=True)]
    p95 = {name: statistics.median(run["p95"] for run in named) for name, named in runs.items()}
    busy_ms = 1000 * statistics.median(drawn)
    print(f"\np95 age, medians of {rounds} rounds: closed {p95['closed']:.0f} ms, open {p95['open']:.0f} ms")
    print(f"open over closed, by rounds: {statistics.median(ratios):+.1f} % ({min(ratios):+.1f} to {max(ratios):+.1f})")
    print(f"a frame of the dock keeps a core busy for {busy_ms:.0f} ms")
    print(json.dumps({"model": model, "runs": runs, "busy_ms": busy_ms}))
    if not window.ended:
        os._exit(0)  # what hangs in a driver or a model is not waited for
    return 0


if __name__ == "__main__":
    sys.exit(main())
