"""Nothing is reported to anybody."""

import importlib.util
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the openvino extra is not installed")
def test_openvino_sends_no_usage_statistics() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, timeout=120, encoding="utf-8"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
