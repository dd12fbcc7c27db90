"""The headless app over looping footage, with random faults and portrait switches: `python -m tests.soak --minutes 60`.

Fails where memory, open files, threads or the pictures' age grow, where the avatar does not come back after a fault,
and where a sink gets anything of a camera's picture.
"""

import argparse
import dataclasses
import itertools
import json
import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from app.pipeline.camera_spec import CameraSpec
from app.pipeline.events import Event
from app.pipeline.output.recorder import RecorderSink
from app.pipeline.output.sinks import OutputFormat
from app.pipeline.pipeline import Pipeline
from app.pipeline.portraits import PortraitStore, bundled_portraits
from app.pipeline.state import State
from app.pipeline.tiers import make_engine
from app.settings import LiveSettings
from tests.benchmarks.chain import webcam_pictures
from tests.media.videos import make_video
from tests.soak.samples import LIMITS, Sample, complaints, growth, sample, save_plot
from tests.soak.stand_ins import BadSink, Faulty, Footage, Watching

_EVERY_S = 1.0
_BACK_WITHIN_S = 60.0
_STOP_S = 10.0
_PAUSE_S = (1.0, 4.0)


class Soak:
    """A pipeline as the headless app makes it, and what can be done to it.

    Args:
        folder: for footage, recordings and encoded portraits.
        footage: a video in place of the bundled one, or None.
        seed: of the choice of faults.

    Attributes:
        faults: when which one began, in seconds since the start.
        lost: after which faults the avatar did not come back.
        events: how many of each kind were told.
    """

    def __init__(self, folder: Path, footage: Path | None, args: argparse.Namespace) -> None:
        video = footage or make_video(folder / "camera.mp4", webcam_pictures(), fps=args.fps)
        self.footage, self.engine, self.sink = Footage(video), Faulty(), Watching()
        self.events: Counter[str] = Counter()
        self.faults: list[tuple[float, str]] = []
        self.lost: list[str] = []
        self.over = threading.Event()
        self._folder = folder
        self._chance = random.Random(args.seed)
        self._settings = LiveSettings()
        self._recordings = itertools.count(1)
        store = PortraitStore(folder / "portraits")
        self._portraits = [store.prepare(entry) for entry in bundled_portraits()]
        self.began_s = time.monotonic()
        self.pipeline = Pipeline(
            lambda: self.engine.around(make_engine(args.model, args.device, args.precision)),
            settings=self._settings,
            output=OutputFormat(),
            on_event=self._hear,
            source_cache=folder / "sources",
            camera_opener=self.footage,
        )
        self.pipeline.add_sink(self.sink)
        self.pipeline.set_portrait(self._portraits[0])
        self.pipeline.set_camera(CameraSpec("device", 0))

    def drive(self) -> None:
        """Until it is over: wait for the avatar, do something to it, undo that, and wait again."""
        self._come_back("the start")
        for name, fault in self._chosen():
            if self.over.wait(self._chance.uniform(*_PAUSE_S)):
                return
            self.faults.append((time.monotonic() - self.began_s, name))
            fault()
            self._come_back(name)
            if self.over.is_set():
                return

    def _chosen(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """All of them in a random order, over and over."""
        kinds: list[tuple[str, Callable[[], None]]] = [
            *((f"camera {kind}", self._camera(kind, seconds)) for kind, seconds in _CAMERA_S.items()),
            *((f"engine {kind}", self._engine(kind)) for kind in ("exception", "NaN", "slow")),
            *((f"sink {kind}", self._bad_sink(kind)) for kind in ("busy", "gone")),
            *[("portrait", self._switch)] * 4,
            *[("settings", self._change)] * 2,
            ("panic key", self._panic),
            ("recording", self._record),
            ("calibration", self.pipeline.calibrate),
            ("restart", self._restart),
        ]
        while True:
            self._chance.shuffle(kinds)
            yield from kinds

    def _come_back(self, fault: str) -> None:
        deadline_s = time.monotonic() + _BACK_WITHIN_S
        while self.pipeline.state is not State.LIVE and not self.over.wait(0.05):
            if time.monotonic() > deadline_s:
                self.lost.append(f"{fault} ({self.pipeline.state})")
                return

    def _camera(self, kind: str, seconds: float) -> Callable[[], None]:
        def fault() -> None:
            self.footage.fault = kind
            self.over.wait(seconds)
            self.footage.fault = ""
            self.over.wait(0.5)

        return fault

    def _engine(self, kind: str) -> Callable[[], None]:
        def fault() -> None:
            self.engine.fault = kind
            self.over.wait(1.5)
            self.engine.fault = ""
            self.over.wait(0.5)

        return fault

    def _bad_sink(self, kind: str) -> Callable[[], None]:
        def fault() -> None:
            self.pipeline.add_sink(BadSink(kind))
            self.over.wait(1.0)
            self.pipeline.remove_sink(kind)

        return fault

    def _switch(self) -> None:
        self.pipeline.set_portrait(self._chance.choice(self._portraits))
        self.over.wait(1.0)

    def _change(self) -> None:
        self._settings = dataclasses.replace(
            self._settings,
            mirror_output=self._chance.random() < 0.5,
            smoothing=self._chance.random(),
            zoom=self._chance.uniform(0.8, 1.2),
            motion_strength=self._chance.uniform(0.5, 1.5),
            background=self._chance.choice(("blur", "colour")),
        )
        self.pipeline.update(self._settings)

    def _panic(self) -> None:
        self.pipeline.update(dataclasses.replace(self._settings, slate=True))
        self.over.wait(1.0)
        self.pipeline.update(self._settings)
        self.over.wait(0.2)

    def _record(self) -> None:
        path = self._folder / f"{next(self._recordings)}.mp4"
        sink = RecorderSink(path)
        self.pipeline.add_sink(sink)
        self.over.wait(3.0)
        self.pipeline.remove_sink(sink.name)
        self.over.wait(1.0)
        path.unlink(missing_ok=True)

    def _restart(self) -> None:
        self.pipeline.stop(_STOP_S)
        self.pipeline.start()

    def _hear(self, event: Event) -> None:
        self.events[type(event).__name__] += 1


_CAMERA_S = {"gone": 3.0, "hangs": 4.0, "frozen": 8.0, "garbage": 2.0, "wrong shape": 2.0, "dark": 2.0}
"""For how long each fault of a camera lasts."""


def main() -> int:
    """Run, print a line per minute, and leave `soak.png` and `soak.json`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="default: 10")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of faults (default: 0)")
    parser.add_argument("--footage", type=Path, help="a video of a face in place of the bundled one")
    parser.add_argument("--fps", type=int, default=30, help="of the bundled footage, for a busy machine (default: 30)")
    parser.add_argument("--model", default="starter", help="default: starter")
    parser.add_argument("--device", default="auto", help="default: auto")
    parser.add_argument("--precision", default="auto", help="default: auto")
    parser.add_argument("--out", type=Path, default=Path("out/soak"), help="folder of the results (default: out/soak)")
    args = parser.parse_args()
    if not Path("/proc/self/task").is_dir():
        parser.error("there is no /proc here, which the figures come from: run it on Linux")
    logging.disable(logging.ERROR)  # the faults are logged as they should be, and there are thousands
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        soak = Soak(Path(folder), args.footage, args)
        samples = run(soak, 60 * args.minutes)
    return tell(soak, samples, args.out)


def run(soak: Soak, seconds: float) -> list[Sample]:
    """Sample once per second while another thread does its worst."""
    driver = threading.Thread(target=soak.drive, name="soak")
    samples: list[Sample] = []
    soak.pipeline.start()
    driver.start()
    minute = 0
    try:
        while (at_s := time.monotonic() - soak.began_s) < seconds and driver.is_alive():
            samples.append(sample(at_s, soak.pipeline.stats().age_ms.p50))
            if at_s >= 60 * (minute + 1):
                minute += 1
                print(f"{minute} min: {_line(samples[-1])}; {len(soak.faults)} faults", flush=True)
            time.sleep(_EVERY_S)
    finally:
        soak.over.set()
        driver.join(_BACK_WITHIN_S)
        soak.pipeline.stop(_STOP_S)
    return samples


def tell(soak: Soak, samples: list[Sample], out: Path) -> int:
    """Write the results; returns the exit status."""
    wrong = complaints(samples)
    wrong += [f"the avatar did not come back within {_BACK_WITHIN_S:g} s after {fault}" for fault in soak.lost]
    if soak.sink.leaks:
        wrong.append(f"{soak.sink.leaks} pictures show something of a camera's frame, expected none")
    if not soak.faults:
        wrong.append("no fault was tried: the avatar never came, or the time was too short")
    title = f"{samples[-1].at_s / 60:.1f} min, {len(soak.faults)} faults, {soak.sink.pictures} pictures"
    save_plot(out / "soak.png", samples, soak.faults, title)
    report = {
        "minutes": round(samples[-1].at_s / 60, 2),
        "faults": Counter(name for _, name in soak.faults),
        "events": soak.events,
        "pictures": soak.sink.pictures,
        "leaks": soak.sink.leaks,
        "growth": {limit.field: round(growth(samples, limit.field), 2) for limit in LIMITS},
        "wrong": wrong,
        "samples": [[round(value, 1) for value in one] for one in samples],
    }
    (out / "soak.json").write_text(json.dumps(report) + "\n", encoding="utf-8")
    print(f"{title}; growth after the warm-up: {report['growth']}")
    print(f"look at {out / 'soak.png'}")
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


def _line(one: Sample) -> str:
    return f"{one.rss_mb:.0f} MB, {one.files:.0f} files, {one.threads:.0f} threads, {one.age_ms:.0f} ms"


if __name__ == "__main__":
    sys.exit(main())
