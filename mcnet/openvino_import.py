"""OpenVINO, imported without its usage statistics, and ready for several threads.

As it comes, `import openvino` sends an event to its makers over the network (package openvino_telemetry). A program
that looks through somebody's webcam shall send nothing anywhere, so that package is barred beforehand; OpenVINO then
uses its own stub of it.

Who needs its threads first looks at each of the processor's cores in turn (TBB's topology); who needs them meanwhile
spins and yields until that is done. On a busy machine Linux may let the one spin and the other wait for minutes (seen
with 6.18, at the start of the window). An import is one thread's work, for which others sleep, so it is done here.
"""

import contextlib
import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402

with contextlib.suppress(RuntimeError):  # no such plugin: what asks for it later is told
    ov.Core().get_property("CPU", "FULL_DEVICE_NAME")

__all__ = ["op", "ov"]
