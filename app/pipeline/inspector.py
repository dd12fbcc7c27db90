"""The inside of the network, watched live: a process of its own computes single frames once more, by the plain network.

It is a process so that it shares neither Python's lock nor torch's threads with the live path, and so that all that it
needed is free once it ends. It has one thread and the lowest priority, and never touches a GPU.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import AppError
from app.pipeline.models import stamp_of
from mcnet.engine import resized, why_no_torch
from mcnet.errors import log_failure, sentence
from mcnet.inspection import LiveView
from mcnet.phrases import phrase
from mcnet.processes import start_process

if TYPE_CHECKING:
    from mcnet.inspection.seen import Seen

logger = logging.getLogger(__name__)

_NICENESS = 19
_IDLE_PRIORITY_CLASS = 0x40


class Posed(NamedTuple):
    """How the avatar was moved by one frame: all that the network needs to make the picture once more.

    Attributes:
        square: (S, S, 3) uint8 RGB, the portrait as it was cropped; the model sees it at its own size.
        source_value: (K, 2) xy in [-1, 1], the portrait's own keypoints.
        source_jacobian: (K, 2, 2).
        driving_value: (K, 2), those that it took.
        driving_jacobian: (K, 2, 2).
        measured: whether a face mesh measured them, and not the model.
        fingerprint: of the model that did it, as `Engine.fingerprint`: the hash of its weights, a slash, its precision.
    """

    square: NDArray[np.uint8]
    source_value: NDArray[np.float64]
    source_jacobian: NDArray[np.float64]
    driving_value: NDArray[np.float64]
    driving_jacobian: NDArray[np.float64]
    measured: bool
    fingerprint: str


class Request(NamedTuple):
    """What is to be drawn.

    Attributes:
        posed: the frame.
        views: of it.
        point: whose attention is shown, x and y as shares of the picture.
        size_px: height of the pictures.
    """

    posed: Posed
    views: tuple[LiveView, ...]
    point: tuple[float, float]
    size_px: int


class Drawn(NamedTuple):
    """What was drawn.

    Attributes:
        pictures: (H, W, 3) uint8 RGB, one per view; none of a frame that other weights made than the model's file has.
        busy_s: how long a core was busy with it.
    """

    pictures: Sequence[NDArray[np.uint8]]
    busy_s: float


class InspectorProcess:
    """Draws what is asked for, one request at a time, in a process that starts with the first one.

    Its methods may be called on any thread, `close` also while another one waits in `draw`, which then fails.

    Args:
        model: a bundled name, or a file.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._process: SpawnProcess | None = None
        self._connection: Connection[Any, Any] | None = None
        self._closed = False
        self._starting = threading.Lock()

    def draw(self, request: Request) -> Drawn:
        """Draw a frame. Blocks: the first time until the model is loaded.

        Raises:
            AppError: the model cannot be loaded, torch is not installed, or the process ended.
        """
        if self._connection is None:
            self._start()
        assert self._connection is not None
        try:
            self._connection.send(request)
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise AppError(
                phrase(
                    "the process that looks inside the network has ended, perhaps for want of memory; close the view "
                    "and open it again"
                )
            ) from error
        if isinstance(answer, str):
            raise AppError(answer)
        assert isinstance(answer, Drawn)
        return answer

    def close(self) -> None:
        """Have the process ended, without waiting for its end; harmless when called again."""
        self._closed = True
        threading.Thread(target=self._end, name="end of the inspector", daemon=True).start()

    def _end(self) -> None:
        with self._starting:  # one that is just being started is waited for here, too
            process, self._process = self._process, None
        if process is not None:
            process.kill()  # it keeps nothing
            process.join()

    def _start(self) -> None:
        if lack := why_no_torch():
            raise AppError(
                phrase("the view into the network is the plain network's, which is torch's, and {lack}", lack=lack)
            )
        with self._starting:
            if self._closed:
                raise AppError(phrase("the view into the network was closed; open it again"))
            self._process, self._connection = start_process(_serve, self.model, name="mcnet-inspector")


def _serve(connection: "Connection[Any, Any]", model_name: str) -> None:
    """The process: answers requests until nobody asks any more."""
    step_back()
    with contextlib.suppress(EOFError, OSError), connection:
        try:
            import torch

            torch.set_num_threads(1)
            artist = Artist(model_name)
        except Exception as error:  # whatever it is, whoever asks is told
            connection.recv()
            connection.send(sentence(error))
            return
        while True:
            request = connection.recv()
            try:
                began_s = time.process_time()
                pictures = artist.draw(request)
                connection.send(Drawn(pictures, time.process_time() - began_s))
            except Exception as error:
                log_failure(logger, "inspector", error)
                connection.send(sentence(error))


def step_back() -> None:
    """Give this process the lowest priority that the system has: it gets what nobody else wants."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), _IDLE_PRIORITY_CLASS)
    else:
        os.nice(_NICENESS)


class Artist:
    """What the process runs: the plain model, and the source that was asked about last.

    Args:
        model_name: as `InspectorProcess` takes it.

    Raises:
        CheckpointError: it cannot be loaded.
    """

    def __init__(self, model_name: str) -> None:
        self._name = model_name
        self._load()

    def _load(self) -> None:
        from mcnet.checkpoint import load_model
        from mcnet.model_file import content_hash

        self._stamp = stamp_of(self._name)
        self._model = load_model(self._name)
        self._weights = content_hash(self._model.state_dict())
        self._source: Posed | None = None

    def draw(self, request: Request) -> list[NDArray[np.uint8]]:
        """One picture per view; see `Drawn`."""
        from mcnet.inspection.live import draw

        wanted = request.posed.fingerprint.partition("/")[0]
        if wanted != self._weights and self._stamp != stamp_of(self._name):  # a run that learns replaces its file
            self._load()
        if wanted != self._weights:  # the engine has not taken the new ones yet, or another model is on its way
            return []
        seen, border = self.see(request.posed), self._model.config.border
        return [draw(view, seen, border, request.point, request.size_px) for view in request.views]

    def see(self, posed: Posed) -> "Seen":
        """The frame, computed once more."""
        import torch

        from mcnet.arrays import Keypoints
        from mcnet.inspection.seen import see
        from mcnet.model_file import driven_as_trained
        from mcnet.pictures import to_picture

        def keypoints(value: NDArray[np.float64], jacobian: NDArray[np.float64]) -> Keypoints:
            return Keypoints(*(torch.from_numpy(array[None].astype(np.float32)) for array in (value, jacobian)))

        with torch.inference_mode():
            if self._source is None or not _same_source(self._source, posed):
                source = keypoints(posed.source_value, posed.source_jacobian)
                square = resized(posed.square, self._model.config.size_px)
                picture = to_picture(torch.from_numpy(square[None]))
                self._cache = self._model.generator.encode_source(picture, source)
                self._source = posed
            driving = keypoints(posed.driving_value, posed.driving_jacobian)
            if posed.measured:
                driving = driven_as_trained(self._model.info, driving, self._cache.keypoints)
            return see(self._model, self._cache, driving)


def _same_source(one: Posed, other: Posed) -> bool:
    pairs = (
        (one.square, other.square),
        (one.source_value, other.source_value),
        (one.source_jacobian, other.source_jacobian),
    )
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)
