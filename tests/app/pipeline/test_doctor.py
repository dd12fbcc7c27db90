import errno
import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from app.__main__ import main
from app.pipeline import doctor, tiers
from app.pipeline.capture import cameras
from app.pipeline.capture.camera import CameraInfo
from app.pipeline.doctor import Fix, VirtualCameraReport, as_text, check_up, examine_settings
from app.pipeline.events import UnusedGpu
from app.pipeline.output.virtual_camera_report import LinuxProbe
from app.places import settings_file
from app.settings import AppSettings, save_settings
from mcnet import engine
from mcnet.bench.tiers import Tier, Timing
from mcnet.engine import Way
from mcnet.media.errors import MediaError
from mcnet.media.faces import FaceFinder
from tests.app.linux_machine import LinuxMachine
from tests.media.videos import GRID

NO_PIPEWIRE = VirtualCameraReport("missing", "", "PipeWire is not installed.", (Fix("Install it", "apt"),))


@pytest.fixture
def machine(tmp_path: Path) -> LinuxMachine:
    return LinuxMachine(tmp_path / "machine").add(0, "HD Webcam").add_loopback(10)


def look(machine: LinuxMachine) -> VirtualCameraReport:
    return LinuxProbe(machine.devices, "6.1.0").examine(None)


def measured(frame_ms: float) -> Tier:
    return Tier(Timing(Way("cpu", "fp32", "torch"), frame_ms))


def diagnose(model: str = "starter") -> str:
    return as_text(check_up(model))


class TestDiagnosis:
    @pytest.fixture(autouse=True)
    def _well(self, monkeypatch: pytest.MonkeyPatch, machine: LinuxMachine) -> None:
        monkeypatch.setattr(cameras, "list_cameras", lambda: [CameraInfo("HD Webcam", "/dev/video0")])
        monkeypatch.setattr(doctor, "examine_virtual_camera", lambda: look(machine))
        monkeypatch.setattr(doctor, "examine_pipewire", lambda: VirtualCameraReport("ready", "", "PipeWire is well."))
        monkeypatch.setattr(doctor, "VideoDevices", lambda: machine.devices)
        monkeypatch.setattr(tiers, "unused_gpus", tuple)
        monkeypatch.setattr("mcnet.bench.tiers.remembered", lambda *_, **__: None)

    def test_all_is_well(self) -> None:
        text = diagnose()
        assert text.startswith("mcnet-avatar ")
        assert "torch 2." in text
        assert [line.partition(":")[0] for line in text.splitlines()[3:]] == [
            "[ok] Cameras",
            "[ok] Virtual camera",
            "[ok] PipeWire camera",
            "[ok] Device",
            "[ok] Model",
            "[ok] Face finder",
        ]
        assert "HD Webcam (/dev/video0)." in text
        assert "starter (256 x 256 pixels" in text
        assert "Not measured on this machine yet: the first start does it." in text

    def test_what_was_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tier = Tier(Timing(Way("cpu", "bf16", "torch"), 43.2), (Timing(Way("cpu", "fp32", "torch"), 61.0),))
        monkeypatch.setattr("mcnet.bench.tiers.remembered", lambda *_, **__: tier)
        text = diagnose()
        assert "Measured: a frame of the model takes 43.2 ms on cpu in bf16 with torch (" in text
        assert "in bf16 (measured to be the fastest here)" in text

    def test_what_is_missing_comes_with_the_fix(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        bare = LinuxMachine(tmp_path / "bare").install_module()
        monkeypatch.setattr(cameras, "list_cameras", list)
        monkeypatch.setattr(doctor, "examine_virtual_camera", lambda: look(bare))
        monkeypatch.setattr(doctor, "examine_pipewire", lambda: NO_PIPEWIRE)
        text = diagnose("no such model")
        assert "[!!] Virtual camera" in text
        assert "[!!] Cameras: None was found.\n     1. Plug one in" in text
        assert "     1. Load the module:\n          sudo modprobe v4l2loopback devices=1 " in text
        assert "     2. Have it at every start of the system:\n          echo v4l2loopback" in text
        assert "[!!] Model: no model" in text

    def test_a_gpu_that_is_idle_is_missing_only_where_the_processor_is_too_slow(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tiers, "unused_gpus", lambda: (UnusedGpu("an NVIDIA GPU", "so"),))
        monkeypatch.setattr("mcnet.bench.tiers.remembered", lambda *_, **__: measured(40.0))
        text = diagnose()
        assert "[ok] Device: cpu" in text
        assert ". an NVIDIA GPU is there, but is not used: so.\n     1. Install torch for your GPU" in text
        monkeypatch.setattr("mcnet.bench.tiers.remembered", lambda *_, **__: measured(140.0))
        assert "[!!] Device: cpu" in (text := diagnose())
        assert "https://pytorch.org" in text
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        assert "pip install" not in (text := diagnose())
        assert "an installation from source" in text

    def test_nothing_makes_use_of_one_that_the_engine_does_not_know(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tiers, "unused_gpus", lambda: (UnusedGpu("an AMD GPU", "so", usable=False),))
        monkeypatch.setattr("mcnet.bench.tiers.remembered", lambda *_, **__: measured(140.0))
        text = diagnose()
        assert "[ok] Device: cpu" in text
        assert ". an AMD GPU is there, but is not used: so.\n[ok] Model" in text

    def test_what_is_asked_for_is_looked_at(self) -> None:
        for asked, told in (
            ({"device": "tpu"}, "[!!] Device: device: got 'tpu', expected"),
            ({"device": "cpu", "precision": "fp16"}, "[!!] Device: precision: got fp16 on the CPU"),
            ({"device": "cpu", "precision": "fp32"}, ", as asked, in fp32"),
            ({"camera": str(GRID)}, f"[ok] Camera: {GRID} gives 360 x 288 at 25 frames per second."),
            ({"camera": "nowhere.mp4"}, "[!!] Camera: camera: got 'nowhere.mp4', and there is no such file"),
            ({"model": "nothing", "precision": "int8"}, "[ok] Device: "),
        ):
            assert told in as_text(check_up(**{"model": "starter", **asked}))

    def test_the_fix_is_for_what_is_asked_and_lacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = importlib.util.find_spec
        openvino, torch = (
            "     1. Install OpenVINO:\n",
            "     1. Install torch for your GPU, and its driver: https://pytorch",
        )
        for missing, system, asked, fix in (
            ({"openvino"}, "Linux", {"device": "gpu"}, openvino),
            ({"openvino"}, "Linux", {"device": "cpu", "precision": "int8"}, openvino),
            ({"openvino"}, "Linux", {"device": "tpu"}, None),
            ({"openvino"}, "Linux", {"device": "cuda:x"}, None),
            ({"openvino"}, "Linux", {"device": "mps"}, None),
            ({"openvino"}, "Linux", {"device": "cpu", "precision": "fp16"}, None),
            ({"openvino"}, "Linux", {"device": "cuda"}, torch),
            ({"openvino", "torch"}, "Linux", {"device": "auto"}, openvino),
            ({"torch"}, "Linux", {"device": "cuda"}, torch),
            ({"torch"}, "Linux", {"device": "mps"}, None),
            ({"torch"}, "Darwin", {"device": "mps"}, torch),
            ({"torch"}, "Darwin", {"device": "cuda"}, None),
            (set[str](), "Linux", {"device": "cuda:1"}, torch),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(
                    importlib.util,
                    "find_spec",
                    lambda name, missing=missing: None if name in missing else real(name),
                )
                patch.setattr("mcnet.engine.device.why_no_torch_for_gpus", lambda: "torch is a build without CUDA")
                patch.setattr("platform.system", lambda system=system: system)
                text = as_text(check_up("starter", **asked))
                device = text[text.index("[!!] Device") :].partition("\n[")[0]
                assert fix in device if fix else "1." not in device, (missing, system, asked, device)
                patch.setattr(sys, "frozen", True, raising=False)
                text = as_text(check_up("starter", **asked))
                device = text[text.index("[!!] Device") :].partition("\n[")[0]
                bundles = {openvino: "1. Install the app again", torch: "1. For this GPU, use an installation from"}
                assert bundles[fix] in device if fix else "1." not in device, (missing, system, asked, device)

    def test_a_gpu_that_is_not_there_beside_one_that_is_needs_no_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mcnet.engine.device.why_no_cuda", lambda index: "there is no GPU 1" if index else None)
        text = as_text(check_up("starter", device="cuda:1"))
        assert "[!!] Device: device: got 'cuda:1', but there is no GPU 1; use --device cpu (or auto)" in text
        assert "Install torch" not in text

    def test_why_is_told_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
        monkeypatch.setattr(engine.device, "_why_no_openvino_package", lambda: None)
        text = diagnose()
        assert ", because torch is not installed, in " in text
        assert ". openvino computes.\n" in text
        assert ". openvino computes: torch is not installed.\n" in as_text(check_up("starter", device="cpu"))

    def test_idle_gpus_are_not_looked_for_where_a_device_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tiers, "unused_gpus", lambda: (UnusedGpu("an NVIDIA GPU", "so"),))
        monkeypatch.setattr("mcnet.bench.tiers.remembered", lambda *_, **__: measured(140.0))
        monkeypatch.setattr(engine.device, "_why_no_openvino_package", lambda: None)
        assert "[!!] Device: cpu" in diagnose()
        text = as_text(check_up("starter", device="cpu"))
        assert "[ok] Device: cpu" in text
        assert "NVIDIA" not in text
        monkeypatch.setattr("mcnet.bench.tiers.remembered", lambda *_, **__: None)  # it may be quick enough
        assert "[ok] Device: cpu" in diagnose()

    @pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is missing here")
    def test_it_says_what_computes_or_that_nothing_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, missing = importlib.util.find_spec, {"openvino"}
        assert ". openvino computes: " in diagnose()
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else real(name))
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        text = diagnose()
        assert "[ok] Device: cpu" in text
        assert ". torch computes: the package openvino is not installed" in text
        assert "     1. Install OpenVINO, which computes about twice as fast as torch on a processor:\n" in text
        assert '          pip install "mcnet-avatar[openvino]"\n' in text
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        assert "Install OpenVINO" not in diagnose()  # it would not be taken
        missing.add("torch")
        text = diagnose()
        assert "[!!] Device: backend: torch has to compute, but the package torch is not installed" in text
        assert "     1. Install OpenVINO" in text

    def test_a_package_that_is_missing_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def lacking() -> None:
            raise ModuleNotFoundError(name="nowhere_to_be_found")

        monkeypatch.setattr(cameras, "list_cameras", lacking)
        text = diagnose()
        assert "[!!] Cameras: the package nowhere_to_be_found is not installed (pip install nowhere_to_be" in text
        assert "[ok] Face finder" in text

    @pytest.mark.skipif(sys.platform != "linux", reason="PipeWire is Linux's")
    def test_one_kind_of_virtual_camera_is_enough(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        bare = LinuxMachine(tmp_path / "bare").install_module()
        with monkeypatch.context() as patch:
            patch.setattr(doctor, "examine_pipewire", lambda: NO_PIPEWIRE)
            text = diagnose()
        assert "[ok] Virtual camera" in text
        assert "[ok] PipeWire camera: PipeWire is not installed.\n     1. Install it:\n          apt" in text
        monkeypatch.setattr(doctor, "examine_virtual_camera", lambda: look(bare))
        text = diagnose()
        assert "[ok] PipeWire camera: PipeWire is well." in text
        assert "[ok] Virtual camera: " in text
        assert "sudo modprobe v4l2loopback" in text
        monkeypatch.setattr(doctor, "examine_pipewire", lambda: NO_PIPEWIRE)
        text = diagnose()
        assert "[!!] Virtual camera: " in text
        assert "[!!] PipeWire camera: " in text

    def test_a_camera_that_is_not_permitted(self, machine: LinuxMachine) -> None:
        machine.add(1, "Locked", error=errno.EACCES)
        assert "[!!] Cameras: HD Webcam (/dev/video0). You may not use /dev/video1." in diagnose()

    def test_a_face_finder_that_is_damaged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(FaceFinder, "find", lambda *_: [])
        assert "[!!] Face finder: It sees 0 faces in a bundled portrait, expected 1." in diagnose()

    def test_an_opencv_that_does_not_load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(name: str) -> None:
            raise MediaError(f"OpenCV does not load for {name}: apt-get install libgl1")

        monkeypatch.setattr(importlib, "import_module", broken)
        assert diagnose().endswith("[!!] OpenCV: OpenCV does not load for mcnet.media: apt-get install libgl1.\n")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ("starter_light", "gpu", "fp16", "kept.mp4")),
        (
            ["--model", "starter", "--device", "cpu", "--precision", "fp32", "--camera", "0"],
            ("starter", "cpu", "fp32", "0"),
        ),
    ],
)
def test_it_looks_at_what_is_named_else_at_what_is_kept(
    options: list[str], expected: tuple[str | None, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looked_at: list[tuple[str | None, ...]] = []
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings_file().parent.mkdir(parents=True)
    kept = AppSettings(model="starter_light", device="gpu", precision="fp16", camera="kept.mp4")
    save_settings(settings_file(), kept)

    def look(*asked: str | None) -> tuple[()]:
        looked_at.append(asked)
        return ()

    monkeypatch.setattr(doctor, "check_up", look)
    main(["--doctor", *options])
    assert looked_at == [expected]


def test_all_cameras_are_looked_at_where_none_is_kept_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked_at: list[str | None] = []
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def look(*asked: str | None) -> tuple[()]:
        looked_at.append(asked[-1])
        return ()

    monkeypatch.setattr(doctor, "check_up", look)
    main(["--doctor"])
    assert looked_at == [None]


@pytest.mark.parametrize(
    ("text", "model", "said"),
    [
        ("model = 'mine'\nzoom = 3\n", "mine", "Not all settings could be used: unknown setting zoom. All others are"),
        ("model = [", "starter", "The settings could not be read (Invalid"),
    ],
)
def test_what_is_wrong_with_the_settings_is_told_and_left(tmp_path: Path, text: str, model: str, said: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    settings, finding = examine_settings(path)
    assert (settings.model, finding.part, finding.good) == (model, "Settings", False)
    assert finding.sentence.startswith(said)
    assert finding.sentence.endswith("the file stays as it is.")
    assert finding.fixes[0].text.startswith(f"Correct that in {path}, or start mcnet-avatar")
    assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_settings_that_cannot_be_read_are_a_finding_as_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "check_up", lambda model, *_: (doctor.Finding("Model", True, f"{model}."),))
    monkeypatch.setattr("app.places.settings_file", lambda: tmp_path)
    assert main(["--doctor"]) == 1
    said = capsys.readouterr().out
    assert f"[!!] Settings: cannot read the settings in {tmp_path}: " in said
    assert "[ok] Model: starter." in said
    path = tmp_path / "settings.toml"
    assert examine_settings(path) == (AppSettings(), doctor.Finding("Settings", True, "None are kept yet."))
    save_settings(path, AppSettings(model="mine"))
    assert examine_settings(path)[1] == doctor.Finding("Settings", True, f"{path}.")
