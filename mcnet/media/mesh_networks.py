"""What runs the face mesh's networks: OpenVINO where it is installed, otherwise OpenCV.

Both read the same files and compute in float32; their answers differ by rounding alone.
"""

import functools
import importlib.util
import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)

Runtime = Literal["auto", "openvino", "opencv"]
"""What computes: "auto" is OpenVINO on x86-64 where it is installed and works, otherwise OpenCV."""


class Network(Protocol):
    """One network, ready to run. It belongs to one thread."""

    def run(self, picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Compute.

        Args:
            picture: (H, W, C) float32.

        Returns:
            The outputs that were asked for, each (h, w, c) float32. They may be overwritten by the next run.
        """
        ...


class NetworkLoader(Protocol):
    """Reads a TensorFlow Lite file."""

    def __call__(self, path: Path, outputs: Sequence[str]) -> Network:
        """Load the network of a file; `outputs` names the tensors that `run` is to return, in that order."""
        ...


class OpenCvNetwork:
    """A network in OpenCV's dnn module, on OpenCV's own threads."""

    def __init__(self, path: Path, outputs: Sequence[str]) -> None:
        # OpenCV 5's new engine returns only the last of several outputs; the classic one returns all of them.
        self._network = cv2.dnn.readNetFromTFLite(str(path), cv2.dnn.ENGINE_CLASSIC)
        self._outputs = list(outputs)

    def run(self, picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self._network.setInput(np.ascontiguousarray(picture.transpose(2, 0, 1))[None])
        answers = self._network.forward(self._outputs)
        return [np.ascontiguousarray(answer[0].transpose(1, 2, 0), np.float32) for answer in answers]


class OpenVinoNetwork:
    """A network in OpenVINO, on one thread: the calling one, so that the animation keeps its own.

    Raises:
        ImportError: openvino is not installed.
        RuntimeError: OpenVINO cannot read or compile the file.
    """

    def __init__(self, path: Path, outputs: Sequence[str]) -> None:
        self._request = _compiled(path).create_infer_request()
        self._picture = self._request.get_input_tensor().data[0]
        self._answers = [self._request.get_tensor(name).data[0] for name in outputs]

    def run(self, picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self._picture[:] = picture
        self._request.infer(share_outputs=True)
        return [_last_channels(answer) for answer in self._answers]


@functools.cache
def _compiled(path: Path) -> Any:
    """The `ov.CompiledModel` of a file, made once per process: it takes some tenths of a second.

    Networks of one file have requests of their own, and with them tensors of their own. Where two threads ask at the
    same moment, one waits for the other.
    """
    from mcnet.openvino_import import ov

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 would move landmarks by whole pixels
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    core = ov.Core()
    model = core.read_model(path)
    for result in model.get_results():
        # A file's maps have channels last, which OpenVINO makes of its own order in two steps and `run` in one.
        turn = result.input_value(0).get_node()
        if turn.get_type_name() == "Transpose":
            names = result.input_value(0).get_names()
            turn.input_value(0).get_tensor().set_names(names)
            result.input(0).replace_source_output(turn.input_value(0))
    model.validate_nodes_and_infer_types()
    return core.compile_model(model, "CPU", settings)


def _last_channels(answer: NDArray[np.float32]) -> NDArray[np.float32]:
    """(c, h, w) -> (h, w, c)."""
    channels, height, width = answer.shape
    rows = np.asarray(cv2.transpose(answer.reshape(channels, height * width)), np.float32)
    return rows.reshape(height, width, channels)


def loader_of(runtime: Runtime) -> NetworkLoader:
    """What loads networks for a runtime; with "auto", OpenCV steps in where OpenVINO fails.

    Args:
        runtime: what to compute with.
    """
    if runtime == "opencv" or (runtime == "auto" and not _has_fast_openvino()):
        return OpenCvNetwork
    return OpenVinoNetwork if runtime == "openvino" else _load_with_fallback


def _has_fast_openvino() -> bool:
    """Whether OpenVINO is installed, on a kind of processor on which it was measured to be faster than OpenCV."""
    return platform.machine() in ("x86_64", "AMD64") and importlib.util.find_spec("openvino") is not None


def _load_with_fallback(path: Path, outputs: Sequence[str]) -> Network:
    try:
        return OpenVinoNetwork(path, outputs)
    except (ImportError, RuntimeError) as error:
        _LOG.warning("OpenVINO does not load %s (%s); OpenCV computes it instead", path.name, error)
        return OpenCvNetwork(path, outputs)
