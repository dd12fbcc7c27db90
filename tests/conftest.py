"""What holds for every test."""

import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcnet.signals import STOPPING

# Before torch is imported, and for all processes that tests start: OpenMP's threads sleep while they wait. `make test`
# runs three processes on two cores, and a thread that spins keeps its core from the others. (A call wants the next
# frame soon instead; what the commands set for that, they leave to whoever has set this.)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Whoever has oneDNN take the processor for an older one means OpenVINO too, which has a limit of its own beside that of
# its oneDNN, and fails where they differ.
if "ONEDNN_MAX_CPU_ISA" in os.environ:
    os.environ.setdefault("OV_CPU_MAX_ISA", os.environ["ONEDNN_MAX_CPU_ISA"])


TWO_PROCESSORS = "os.sched_getaffinity", lambda _: {0, 1}
"""What a test file or a test of the app has patched: what is on from the first start hangs on how many there are."""


# Settings that files make as they are read, other conftests before there are tests, are those of a machine that has two
# processors, as in tests/app.
_while_read = pytest.MonkeyPatch()
_while_read.setattr(*TWO_PROCESSORS, raising=False)


@pytest.fixture(autouse=True, scope="session")
def _measured_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the commands measure of this machine, they measure once for all tests; and leave the user's file alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))  # of who signs, among others
        yield


@pytest.fixture(scope="session")
def _fastest_known(_measured_apart: None) -> None:
    """For tests that start the app or a command as people do, and look at something else than what runs it best.

    A calm machine measures that for the first of them alone. On one that is busy, as with the other processes of
    `make test`, each would measure for five seconds of a processor's time and remember nothing.
    """
    from tests.fastest import know

    know()


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `_compiled_once` keeps them, and where processes that tests start may (`tests/compiled.py`)."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="module")
def _compiled_once(graphs: Path) -> Iterator[None]:
    """For files whose many tests only use a network: OpenVINO reads what it compiled for one of them before, which
    takes half as long. Those that are about the compiled network itself (`mcnet/engine`) compile it every time.
    """
    if importlib.util.find_spec("openvino") is None:
        yield
        return
    from mcnet.openvino_import import ov
    from tests.compiled import core_that_keeps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ov, "Core", core_that_keeps(graphs))
        yield


@pytest.fixture
def without_skin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mouths and lids that are drawn are seen by themselves."""
    monkeypatch.setattr("mcnet.media.skin.DrawnSkin.drawn", lambda _, rgb, __: rgb)


@pytest.fixture(autouse=True, scope="module")
def _threads_as_before() -> Iterator[None]:
    """No file leaves its number of threads to the next one, which would compute on one where it means to on many."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if torch and (left := torch.get_num_threads()) != before:
        torch.set_num_threads(before)
        pytest.fail(f"got torch's number of threads left at {left}, expected {before} as before: restore it")


def pytest_collection_finish() -> None:
    """Spare the collector what lasts to the end: modules, torch's some hundred thousand objects, and the tests."""
    _while_read.undo()
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Let plain pytest read the options in pyproject.toml that belong to plugins.

    A machine with a GPU often has torch and pytest and can install nothing. Strict configuration would end there with
    "Unknown config option", although the network's tests need neither plugin.
    """
    for plugin, option in (("pytest-qt", "qt_api"), ("timeout", "timeout")):
        if not pluginmanager.hasplugin(plugin):
            parser.addini(option, f"of the plugin {plugin}, which is not installed here")


@pytest.fixture
def _signals_are_heard() -> Iterator[None]:
    """For tests that send a signal: processes that they start react to it as in a terminal.

    A suite that is started by `&` in a script, by nohup or by some CI ignores some, and so does all that it starts.
    A handler, other than SIG_IGN, is not inherited: children get the default.
    """
    before = {number: signal.signal(number, signal.SIG_DFL) for number in STOPPING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
