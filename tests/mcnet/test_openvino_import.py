"""Nothing is reported to anybody, and nobody spins until it is ready."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the openvino extra is not installed"
)

PROBE = """
import socket, sys

def no_network(*_):
    raise AssertionError("something asked for the network")

socket.socket.connect = no_network
socket.getaddrinfo = no_network
import mcnet.engine.openvino_backend
from openvino.tools.ovc import telemetry_utils
assert sys.modules["openvino_telemetry"] is None
print(telemetry_utils.tm.__name__)
"""


def test_openvino_sends_no_usage_statistics() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, timeout=120, encoding="utf-8"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


READY = """
import sys, threading
import openvino

asked = []

class Core(openvino.Core):
    def get_property(self, *words):
        asked.append(words)
        if "broken" in sys.argv:
            raise RuntimeError("no plugin for processors")
        return super().get_property(*words)

openvino.Core = Core
found = []

def first_use():
    from mcnet.openvino_import import ov
    found.append((ov, len(asked)))

threads = [threading.Thread(target=first_use) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == [(openvino, 1)] * 4, found
"""


@pytest.mark.parametrize("way", ["whole", "broken"])
def test_its_threads_are_ready_before_several_use_them(way: str) -> None:
    """Two that use it first at the same moment would spin for each other."""
    ran = subprocess.run(
        [sys.executable, "-c", READY, way], capture_output=True, text=True, check=False, timeout=120, encoding="utf-8"
    )
    assert ran.returncode == 0, ran.stderr
