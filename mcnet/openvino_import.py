"""OpenVINO, imported without its usage statistics.

As it comes, `import openvino` sends an event to its makers over the network (package openvino_telemetry). A program
that looks through somebody's webcam shall send nothing anywhere, so that package is barred beforehand; OpenVINO then
uses its own stub of it.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402

__all__ = ["op", "ov"]
