"""With OpenVINO on a CPU nothing imports torch, and a machine that has none lacks nothing live."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.errors import AppError
from app.pipeline.inspector import InspectorProcess, Posed, Request
from assets import ROOT
from mcnet import CheckpointError, Engine, EngineError, EngineOptions, ModelFile, open_model
from mcnet.bench.tiers import Tier, Timing
from mcnet.engine import Way
from mcnet.engine.device import DeviceChoice, automatic_backend
from mcnet.media.video import open_driving
from mcnet.model_file import content_hash, find_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra `openvino` is not installed"
)

CLIP = ROOT / "driving" / "grid_bbaf2n.mpg"
ABSENT, PRESENT = "sys.modules['torch'] = None", "pass"
"""What a process does first: see to it that `import torch` fails, or leave torch to whoever wants it."""


def run(first: str, then: str, home: Path, graphs: Path | None = None) -> str:
    """A process of its own with an empty home; what it says in the end.

    With `graphs`, OpenVINO reads what another process compiled, and leaves there what it compiles.
    """
    if graphs is not None:
        first += f"\nfrom pathlib import Path\nfrom tests.compiled import keep\nkeep(Path({str(graphs)!r}))"
    code = f"import sys\n{first}\n{then}\nloaded = sorted(n for n in sys.modules if n.split('.')[0] == 'torch')\n"
    code += "assert sys.modules.get('torch') is None, loaded"
    homes = {name: str(home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
    environment = {**os.environ, **homes, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("torch", [ABSENT, PRESENT], ids=["absent", "present"])
def test_animate(torch: str, tmp_path: Path, graphs: Path) -> None:
    output = tmp_path / "out.mp4"
    arguments = ["animate", "--source", "woman_1", "--driving", str(CLIP), "--output", str(output), "--max-frames", "5"]
    arguments += ["--background", "green"]
    said = run(
        torch,
        f"from mcnet.__main__ import main\nassert main({[*arguments, '--device', 'cpu']!r}) == 0",
        tmp_path,
        graphs,
    )
    assert "with openvino" in said
    frames = list(open_driving(output))
    assert len(frames) == 5
    assert frames[0][80:200, 100:156].std() > 20  # a face, and no single colour
    assert np.abs(frames[0][20:80, :16].astype(int) - (0, 255, 0)).max() < 20


@pytest.mark.parametrize("torch", [ABSENT, PRESENT], ids=["absent", "present"])
def test_the_app_without_a_window(torch: str, tmp_path: Path, graphs: Path) -> None:
    output = tmp_path / "out.mp4"
    arguments = ["--headless", "--camera", str(CLIP), "--sink", f"file:{output}", "--frames", "5"]
    arguments += ["--device", "cpu", "--precision", "fp32", "--give-up-s", "250", "--background", "own"]
    arguments += ["--size", "640x360", "--calibration-s", "0.2"]
    run(torch, f"from app.__main__ import main\nassert main({arguments!r}) == 0", tmp_path, graphs)
    assert output.stat().st_size > 10_000


@pytest.mark.parametrize("torch", [ABSENT, PRESENT], ids=["absent", "present"])
def test_the_window(torch: str, tmp_path: Path, graphs: Path) -> None:
    code = f"""
from pathlib import Path
from PyQt6.QtCore import QTimer
from app.ui.application import WindowOptions, run_window
from app.ui.main_window import MainWindow

def watch(window, event):
    timer = QTimer(window, interval=50)
    timer.timeout.connect(lambda: window.close() if window.session.backend else None)
    timer.start()

MainWindow.showEvent = watch
kept = Path({str(tmp_path / "s.toml")!r})
assert run_window(WindowOptions(camera={str(CLIP)!r}, device='cpu', precision='fp32', settings_path=kept)) == 0
"""
    run(torch, code, tmp_path, graphs)


def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))


@pytest.mark.parametrize(
    "words",
    [
        ["bench"],
        ["convert", str(find_model("starter")), "out.safetensors"],
        ["inspect", "--source", "woman_1", "--driving", str(CLIP), "--output", "out"],
    ],
    ids=lambda words: words[0],
)
def test_commands_that_take_torch_say_so(words: list[str], tmp_path: Path) -> None:
    said = run(ABSENT, f"from mcnet.__main__ import main\nassert main({words!r}) == 1", tmp_path)
    lack = "the package torch is not installed (pip install torch); in a clone, `make setup` installs every package"
    assert said == f"mcnet {words[0]}: {lack}\n"
    said = run(
        f"{ABSENT}\nsys.frozen = True", f"from mcnet.__main__ import main\nassert main({words!r}) == 1", tmp_path
    )
    assert said == f"mcnet {words[0]}: the bundle has no torch (an installation by pip has)\n"


def test_what_would_take_torch_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_torch(monkeypatch)
    released = tmp_path / "00000099-checkpoint.pth.tar"
    released.write_bytes(b"whatever")
    with pytest.raises(
        CheckpointError, match=r"file of torch's, and the package torch is not installed.*mcnet convert"
    ):
        open_model(released)
    starter = open_model("starter")
    with pytest.raises(EngineError, match="backend: torch has to compute, but the package torch is not installed"):
        Engine(starter, EngineOptions(device="cpu", backend="torch"))
    with pytest.raises(EngineError, match="got 'cuda', but the package torch is not installed"):
        Engine(starter, EngineOptions(device="cuda"))


def test_the_view_into_the_network_says_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    no_torch(monkeypatch)
    value, jacobian = np.zeros((5, 2)), np.zeros((5, 2, 2))
    posed = Posed(np.zeros((8, 8, 3), np.uint8), value, jacobian, value, jacobian, True, "")
    with pytest.raises(AppError, match="which is torch's, and the package torch is not installed"):
        InspectorProcess("starter").draw(Request(posed, ("flow",), (0.5, 0.5), 64))


def test_openvino_that_fails_has_nobody_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    no_torch(monkeypatch)
    monkeypatch.setattr("mcnet.engine.openvino_backend.OpenVinoBackend", broken)
    engine = Engine(open_model("starter"), EngineOptions(device="cpu"))
    with pytest.raises(EngineError, match=r"openvino cannot be used: libtbb.*torch is not installed.*nothing else"):
        engine.settle()


def test_without_torch_openvino_computes_on_other_processors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(open_model("starter"), EngineOptions(device="cpu", precision="fp32"))
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert automatic_backend(engine.choice, None)[0] == "torch"
    no_torch(monkeypatch)
    assert automatic_backend(engine.choice, None) == ("openvino", "torch is not installed")


def test_what_is_said_to_have_been_measured_was_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The precisions were, what computes was not: there is one. Why there is no GPU has nothing to do with either."""
    no_torch(monkeypatch)
    bf16, fp32 = (Timing(Way("cpu", precision, "openvino"), 20.0) for precision in ("bf16", "fp32"))
    options = Tier(bf16, (fp32,)).over(EngineOptions())
    choice = DeviceChoice.of(options)
    assert automatic_backend(choice, options.measured) == ("openvino", "torch is not installed")
    device, _, precision = choice.reason.rpartition(", in ")
    assert device.endswith(", because torch is not installed")
    assert precision == "bf16 (measured to be the fastest here)"
    alone = Tier(bf16).over(EngineOptions())
    assert "measured" not in DeviceChoice.of(alone).reason
    assert automatic_backend(choice, alone.measured) == ("openvino", "torch is not installed")


def test_weights_that_are_missing_are_named() -> None:
    whole = ModelFile.read(find_model("starter"))
    weights = {key: weight for key, weight in whole.weights.items() if key != "generator.final.weight"}
    lacking = ModelFile(whole.config, whole.info, weights)
    with pytest.raises(
        CheckpointError, match=r"does not hold the network it should: generator\.final\.weight: got nothing"
    ):
        Engine(lacking, EngineOptions(device="cpu", precision="fp32", backend="openvino"))


@pytest.mark.parametrize("torch", [ABSENT, PRESENT], ids=["absent", "present"])
def test_weights_of_another_shape_are_named(torch: str, tmp_path: Path) -> None:
    """One output channel less would be a broadcast in OpenVINO; a whole channel less of the input a failure in C++."""
    code = """
import numpy as np
from mcnet import CheckpointError, Engine, EngineOptions, ModelFile, open_model
whole = open_model('starter')
for cut, got in ((np.s_[:1], '1x16x3x3'), (np.s_[:, 1:], '3x15x3x3')):
    weights = dict(whole.weights)
    weights['generator.final.weight'] = weights['generator.final.weight'][cut]
    try:
        Engine(ModelFile(whole.config, whole.info, weights), EngineOptions(device='cpu'))
    except CheckpointError as error:
        assert f'model starter does not hold the network it should: generator.final.weight: got {got}, ' in str(error)
        assert 'expected 3x16x3x3. Convert' in str(error)
    else:
        raise AssertionError(got)
"""
    run(torch, code, tmp_path)


def test_both_read_the_same_weights() -> None:
    from mcnet.checkpoint import load_model

    stored = open_model("starter")
    plain = load_model("starter").state_dict()
    assert stored.hash_in_float32 == content_hash(plain)
    for key, weight in stored.weights.items():
        np.testing.assert_array_equal(weight.astype(np.float32), plain[key].numpy())
