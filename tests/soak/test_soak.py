"""That the soak sees a leak, and only a leak; the soak itself runs on demand: `make soak`."""

from pathlib import Path

import numpy as np
import pytest

from app.pipeline.camera_spec import CameraSpec
from app.pipeline.output.output_frame import Composed
from app.pipeline.state import State
from mcnet.media.images import read_rgb
from tests.media.videos import counted, make_video
from tests.soak.samples import Sample, complaints, growth, sample, save_plot
from tests.soak.stand_ins import Footage, Watching


def hour(**per_hour: float) -> list[Sample]:
    """An hour that begins with loading, with noise and the peaks of faults, and grows as is said."""
    noise = np.random.default_rng(3)
    samples = []
    for at_s in np.arange(0.0, 3600.0, 5.0):
        peak = 1.0 if at_s % 300 < 20 else 0.0
        flat = {
            "rss_mb": 900 - 300 * np.exp(-at_s / 120) + 10 * noise.normal() + 80 * peak,
            "files": 40 + 5 * peak,
            "threads": 30 + noise.integers(0, 2) + 3 * peak,
            "age_ms": 0.0 if peak else 50 + 8 * noise.normal(),
        }
        grown = {name: value + per_hour.get(name, 0.0) * at_s / 3600 for name, value in flat.items()}
        samples.append(Sample(float(at_s), **{name: float(value) for name, value in grown.items()}))
    return samples


def test_a_flat_hour_with_faults_is_flat() -> None:
    assert complaints(hour()) == []


@pytest.mark.parametrize(
    ("field", "per_hour", "said"),
    [("rss_mb", 90.0, "memory"), ("files", 8.0, "open files"), ("threads", 8.0, "threads"), ("age_ms", 60.0, "age")],
)
def test_what_leaks_is_named(field: str, per_hour: float, said: str) -> None:
    samples = hour(**{field: per_hour})
    (complaint,) = complaints(samples)
    assert complaint.startswith(said)
    assert growth(samples, field) == pytest.approx(0.75 * per_hour, rel=0.15)


def test_the_process_is_sampled_and_the_plot_is_drawn(tmp_path: Path) -> None:
    one = sample(1.0, 40.0)
    with (tmp_path / "open").open("w"):
        assert sample(1.0, 40.0).files == one.files + 1
    assert one.rss_mb > 10
    assert one.threads >= 1
    flat, leaking = tmp_path / "flat.png", tmp_path / "leaking.png"
    save_plot(flat, hour(), [(600.0, "camera gone")], "an hour")
    save_plot(leaking, hour(rss_mb=900), [(600.0, "camera gone")], "an hour")
    pictures = [read_rgb(path) for path in (flat, leaking)]
    assert pictures[0].shape == pictures[1].shape == (800, 900, 3)
    assert (pictures[0][40:230] != pictures[1][40:230]).any()
    assert (pictures[0][-380:] == pictures[1][-380:]).mean() > 0.99  # threads and age are the same ones


def test_a_camera_frame_that_gets_out_is_seen(tmp_path: Path) -> None:
    footage = Footage(make_video(tmp_path / "camera.mp4", counted(4, (320, 240)), fps=30))
    camera = footage(CameraSpec("device", 0))
    frame = camera.read()
    camera.close()
    sink = Watching()
    sink.send(Composed(0, 0.0, State.LIVE, np.full((720, 1280, 3), 120, np.uint8), fresh=True))
    assert sink.leaks == 0
    sink.send(Composed(0, 0.0, State.LIVE, frame, fresh=True))
    assert (sink.pictures, sink.leaks) == (2, 1)
