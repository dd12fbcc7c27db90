"""A package that is not there is told in a sentence, by how the app was installed."""

import importlib
import subprocess
import sys
from collections.abc import Callable

import pytest

import app.__main__
import mcnet.__main__
import training.__main__
from mcnet.errors import sentence
from mcnet.packages import lack_of, missing_package, told_missing


def not_importable(name: str) -> ModuleNotFoundError:
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(name)
    return caught.value


@pytest.mark.parametrize(
    ("module", "pip", "bundle"),
    [
        ("torch", "(pip install torch)", "an installation by pip has"),
        ("cv2", "(pip install opencv-python)", "install the app again"),
        ("openvino", '(pip install "mcnet-avatar[openvino]")', "install the app again"),
    ],
)
def test_what_to_do_depends_on_the_installation(
    module: str, pip: str, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lack_of(module).endswith(pip)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert bundle in lack_of(module)
    assert "pip install" not in lack_of(module)


def test_only_others_packages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    lack = missing_package(not_importable("av"))
    assert lack == "the package av is not installed (pip install av); in a clone, `make setup` installs every package"
    assert missing_package(ModuleNotFoundError(name="av.error")) == sentence(not_importable("av")) == lack
    assert told_missing(not_importable("av")) == lack
    for bug in ("mcnet.nothing", "app.nothing", "numpy.nothing", "json.nothing"):
        assert missing_package(not_importable(bug)) is None
        with pytest.raises(ModuleNotFoundError, match=r"nothing"):
            told_missing(not_importable(bug))
        assert sentence(not_importable(bug)).startswith("ModuleNotFoundError: ")
    assert missing_package(ImportError("libGL.so.1: cannot open shared object file", name="cv2")) is None


def _mcnet(run: Callable[[object], int], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("mcnet.commands.bench.run", run)
    return mcnet.__main__.main(["bench"])


def _avatar(run: Callable[[object], int], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("app.headless.run_headless", run)
    return app.__main__.main(["--headless"])


def _ctl(run: Callable[[object], int], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("app.control.client.Connection", lambda *_: None)
    monkeypatch.setattr("app.control.client._run", lambda app, _: run(app))
    return app.__main__.main(["ctl", "--port", "1", "watch"])


def _train(run: Callable[[object], int], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(training.__main__, "_fit", run)
    return training.__main__.main(["fit", "tiny"])


@pytest.mark.parametrize(
    ("command", "status", "before"),
    [
        (_mcnet, 1, "mcnet bench: "),
        (_avatar, 1, "mcnet-avatar: "),
        (_ctl, 1, "mcnet-avatar ctl: "),
        (_train, 2, "mcnet-train: "),
    ],
)
def test_each_command_says_it_in_one_line(
    command: Callable[[Callable[[object], int], pytest.MonkeyPatch], int],
    status: int,
    before: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "nowhere_to_be_found", None)
    missing = "nowhere_to_be_found"

    def run(_: object) -> int:
        importlib.import_module(missing)
        return 0

    assert command(run, monkeypatch) == status
    said = capsys.readouterr().err
    assert said.startswith(f"{before}the package {missing} is not installed (pip install {missing})")
    assert said.count("\n") == 1
    missing = "mcnet.nothing"
    with pytest.raises(ModuleNotFoundError):  # a bug
        command(run, monkeypatch)


def test_an_opencv_that_is_not_there_is_no_library_of_the_systems() -> None:
    code = "import sys; sys.modules['cv2'] = None; import mcnet.media"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.stderr.splitlines()[-1].startswith(
        "mcnet.media.errors.MediaError: the package cv2 is not installed (pip install opencv-python)"
    )
