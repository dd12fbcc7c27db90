"""The whole chain, camera to sink, as a user runs it: `python -m tests.benchmarks.chain`.

Each run is a fresh process of `mcnet-avatar --headless` without a device: a file stands in for the camera, and pictures
go nowhere. The ways of running it take turns, so that their ratios hold on a machine whose speed wanders.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mcnet.bench.measure import machine_name
from mcnet.engine import DeviceChoice, EngineOptions
from mcnet.media.video import open_driving
from tests.media.videos import GRID, make_video

_GRACE_S = 60


def main() -> None:
    """Measure, print a table, and end with a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.chain", description=__doc__)
    parser.add_argument("--precision", nargs="+", default=["auto"], help="ways to run it, in turn (default: auto)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--seconds", type=float, default=20, help="of a run (default: 20)")
    parser.add_argument("--camera-fps", type=int, default=30, help="frames per second of the camera (default: 30)")
    parser.add_argument("--model", default="starter", help="default: starter")
    args = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {precision: [] for precision in args.precision}
    with tempfile.TemporaryDirectory() as folder:
        camera = make_video(Path(folder) / "camera.mp4", webcam_pictures(), fps=args.camera_fps)
        for turn in range(args.rounds):
            for precision in args.precision:
                runs[precision].append(run(camera, precision, args.model, args.seconds, Path(folder)))
                print(f"{turn + 1}/{args.rounds} {precision:5} {described(runs[precision][-1])}", flush=True)
    has_openvino = importlib.util.find_spec("openvino") is not None
    machine = machine_name(DeviceChoice.of(EngineOptions("cpu", "fp32")), has_openvino=has_openvino)
    print(f"\n{machine}; camera 640x480 at {args.camera_fps}, output 1280x720 at 30; medians of {args.rounds} runs:")
    print(f"{'':9} {'frames/s':>8} {'age p50':>8} {'p95':>5} {'first animated frame':>21}")
    for precision, reports in runs.items():
        fps, median, p95, first = (
            statistics.median(values)
            for values in zip(
                *((r["fps"], r["age_ms"]["p50"], r["age_ms"]["p95"], first_animated_s(r)) for r in reports), strict=True
            )
        )
        print(f"{precision:9} {fps:8.1f} {median:5.0f} ms {p95:5.0f} {first:19.1f} s")
    print(json.dumps({"machine": machine, "runs": runs}))


def webcam_pictures() -> list[NDArray[np.uint8]]:
    """The bundled clip as a webcam of 640x480 shows it: enlarged, with black sides."""
    pictures = []
    for rgb in open_driving(GRID):
        picture = np.zeros((480, 640, 3), np.uint8)
        picture[:, 20:620] = cv2.resize(rgb, (600, 480), interpolation=cv2.INTER_CUBIC)
        pictures.append(picture)
    return pictures


def run(camera: Path, precision: str, model: str, seconds: float, folder: Path) -> dict[str, Any]:
    """One run's report; caches and settings are the run's own, but for the encoded source of the runs before."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "app", "--headless", "--camera", str(camera), "--source", "woman_1"]
    command += ["--model", model, "--precision", precision, "--seconds", str(seconds), "--report", str(report)]
    homes = {name: str(folder / name) for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    done = subprocess.run(
        command,
        env={**os.environ, **homes},
        check=False,
        capture_output=True,
        timeout=seconds + _GRACE_S,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return result


def first_animated_s(report: dict[str, Any]) -> float:
    """Seconds from the start of the pipeline to the first frame that moved the avatar."""
    return next((float(state["at_s"]) for state in report["states"] if state["state"] == "live"), float("nan"))


def described(report: dict[str, Any]) -> str:
    """A run in one line."""
    stages = ", ".join(f"{name} {spread['p50']:.1f}" for name, spread in report["stage_ms"].items())
    age = report["age_ms"]
    return f"{report['backend']} {report['fps']:5.1f} frames/s, age {age['p50']:.0f} ({age['p95']:.0f}) ms; {stages}"


if __name__ == "__main__":
    main()
