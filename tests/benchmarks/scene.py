"""What a scene costs per frame: `python -m tests.benchmarks.scene`.

Each step by itself, with OpenCV on one thread as the app has it, the ways of composing in turn. A step's own processor
time is told besides the time that passed: on a machine that is not quiet only the former means anything. The engine's
share, which several threads compute, is the time that passed. "Around": with what a photograph shows around the
portrait that is as wide as the output, in whose place there is the portrait, mirrored at its edges.
"""

import argparse
import dataclasses
import functools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from app.pipeline.output.compositor import Compositor
from app.pipeline.output.output_frame import Person
from app.pipeline.output.sinks import OutputFormat
from app.settings import LiveSettings
from mcnet.bench.measure import machine_name
from mcnet.engine import DeviceChoice, Engine, EngineOptions, open_model
from mcnet.media.bundled import bundled_faces
from mcnet.media.images import write_rgb
from mcnet.media.matte import cut_frame, cut_out
from mcnet.media.surroundings import SEEN_IN_CALLS, Margins, Surrounded, around_animated
from tests.media.videos import GRID


@dataclasses.dataclass
class Spent:
    """Milliseconds of each time that a step was done."""

    passed: list[float] = dataclasses.field(default_factory=list)
    own: list[float] = dataclasses.field(default_factory=list)

    def time(self, step: Callable[[], object]) -> None:
        """Do it once."""
        passed, own = time.perf_counter(), time.thread_time()
        step()
        self.own.append(1000 * (time.thread_time() - own))
        self.passed.append(1000 * (time.perf_counter() - passed))

    def quartile(self, of: str) -> float:
        """The first one: what it takes where little is in the way."""
        return float(statistics.quantiles(getattr(self, of), n=4)[0])


def main() -> None:
    """Measure, print a table, and end with a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scene", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="of every step (default: 40)")
    parser.add_argument("--engine", action="store_true", help="also the engine's flow, which needs a quiet machine")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    faces = bundled_faces(256, portraits=1, frames=4)
    engine = Engine(open_model("starter"), EngineOptions(device="cpu", precision="fp32"))
    places = faces.source_meshes[0][list(engine.keypoint_landmarks), :2]
    cache = engine.set_source(faces.sources[0], places)
    driving = engine.detect(faces.driving[1], faces.driving_meshes[1][list(engine.keypoint_landmarks), :2])
    (avatar,), flow = engine.render_with_flow(driving)
    matte = cut_out(faces.sources[0])
    spent: dict[str, Spent] = {}

    def measured(name: str, step: Callable[[], object]) -> None:
        spent.setdefault(name, Spent()).time(step)

    person = Person(cut_frame(matte, avatar, flow.deformation[0], flow.occlusion[0]), matte.plate)
    usual = LiveSettings(surroundings=False, cut_out=False)
    margins = Margins(*(round(256 * share) for share in SEEN_IN_CALLS))
    borders = (margins.top, margins.bottom, margins.left, margins.right)
    photograph = np.asarray(cv2.copyMakeBorder(faces.sources[0], *borders, cv2.BORDER_REFLECT), np.uint8)
    wide = Surrounded(photograph, margins)
    wide_matte = cut_out(photograph, margins)
    around = around_animated(wide, avatar, flow.deformation[0])
    around_person = Person(cut_frame(wide_matte, around, flow.deformation[0], flow.occlusion[0]), wide_matte.plate)
    with tempfile.TemporaryDirectory() as folder:
        write_rgb(Path(folder) / "sea.png", np.full((1080, 1920, 3), 90, np.uint8))
        ways = {
            "compose, nothing cut out": usual,
            "compose, own": dataclasses.replace(usual, cut_out=True, background="own"),
            "compose, blur": dataclasses.replace(usual, cut_out=True),
            "compose, colour": dataclasses.replace(usual, cut_out=True, background="colour"),
            "compose, picture": dataclasses.replace(
                usual, cut_out=True, background="image", background_image=str(Path(folder) / "sea.png")
            ),
            "compose, video": dataclasses.replace(usual, cut_out=True, background="video", background_video=str(GRID)),
            "compose, transparent": dataclasses.replace(usual, cut_out=True, background="alpha"),
        }
        compositors = {name: (Compositor(OutputFormat()), Compositor(OutputFormat())) for name in ways}
        for name, settings in ways.items():  # each keeps its background
            for compositor in compositors[name]:
                while compositor.reads_background(settings):
                    time.sleep(0.01)
            compositors[name][0].compose(avatar, settings, person)
            compositors[name][1].compose(around, settings, around_person, margins=margins)
        for _ in range(args.rounds):
            measured("cut the person out", lambda: cut_frame(matte, avatar, flow.deformation[0], flow.occlusion[0]))
            measured("what is around", lambda: around_animated(wide, avatar, flow.deformation[0]))
            measured(
                "cut the person out, around",
                lambda: cut_frame(wide_matte, around, flow.deformation[0], flow.occlusion[0]),
            )
            for name, settings in ways.items():
                one, other = compositors[name]
                measured(name, functools.partial(one.compose_layers, avatar, settings, person))
                with_margins = functools.partial(other.compose_layers, margins=margins)
                measured(f"{name}, around", functools.partial(with_margins, around, settings, around_person))
            if args.engine:
                measured("render", lambda: engine.render(driving))
                measured("render with flow", lambda: engine.render_with_flow(driving))
        for compositor in compositors["compose, video"]:
            compositor.close()
        for _ in range(max(4, args.rounds // 8)):
            measured("make the matte, once per portrait", lambda: cut_out(faces.sources[0]))
    assert cache is engine.source
    machine = machine_name(DeviceChoice.of(EngineOptions("cpu", "fp32")), has_openvino=True)
    load = os.getloadavg()[0]
    print(f"{machine}; output 1280x720; load {load:.1f}; first quartiles of {args.rounds} rounds, ms:")
    print(f"{'':36} {'passed':>8} {'own':>6}")
    for name, times in spent.items():
        print(f"{name:36} {times.quartile('passed'):8.2f} {times.quartile('own'):6.2f}")
    result = {name: [times.quartile("passed"), times.quartile("own")] for name, times in spent.items()}
    print(json.dumps({"machine": machine, "load": load, "ms": result}))


if __name__ == "__main__":
    main()
