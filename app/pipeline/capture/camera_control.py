"""Keeps a camera running: opens it without blocking anybody, watches it, tries again, and switches without a gap."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import CameraError
from app.pipeline.camera_spec import CameraSpec
from app.pipeline.capture.camera import Camera, CameraFormat
from app.pipeline.capture.camera_frame import CameraFrame, Played
from app.pipeline.capture.track_camera import TrackCamera
from app.pipeline.events import CameraDark, CameraFailed, CameraLit, CameraOpened, Event
from mcnet.errors import UserError, log_failure, sentence
from mcnet.phrases import phrase

logger = logging.getLogger(__name__)

_WATCH_S = 0.05
_LAST_JOIN_S = 0.1
_MOST_HUNG = 3
"""So many reads of one device may hang in its driver; each keeps a thread."""
_FLAT_LEVELS = 12
_SAMPLED = (slice(None, None, 16), slice(None, None, 16))


@dataclass(frozen=True)
class CameraTimes:
    """How patient the supervisor is, in seconds."""

    open_s: float = 10.0
    """Until an opened device must have given its first frame."""
    stall_s: float = 2.0
    """Without a frame, a running camera counts as stalled; one that is slower by itself has twice its own time."""
    frozen_s: float = 5.0
    """With identical frames, a device counts as frozen: real sensors are never quite still."""
    first_retry_s: float = 0.5
    """Before the first new try; doubled each time."""
    longest_retry_s: float = 8.0
    release_s: float = 10.0
    """A camera that was told to end keeps its device from being opened again for so long; then a driver is taken to
    hang in it for good."""
    healthy_s: float = 5.0
    """A camera that ran for so long starts from the first wait again when it fails."""


def _differ(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two pictures differ anywhere; where they do, as nearly always, few of their pixels tell."""
    return not (np.array_equal(one[_SAMPLED], other[_SAMPLED]) and np.array_equal(one, other))


class _Session:
    """One camera from opening to closing, on a thread of its own: a blocked driver call blocks nobody else.

    The thread is a daemon: one that never comes back from the driver is left behind.
    """

    def __init__(
        self,
        number: int,
        spec: CameraSpec,
        open_camera: Callable[[CameraSpec], Camera | TrackCamera],
        deliver: Callable[["_Session", NDArray[np.uint8] | Played, float], None],
    ) -> None:
        self.spec = spec
        self.format: CameraFormat | None = None
        self.name, self.device = spec.name, spec.key
        self.started_s = time.monotonic()
        self.last_frame_s: float | None = None
        self.next_s = 0.0
        self.changed_s = self.started_s
        self.flat = False
        self.error: str | None = None
        self.is_device = False
        self.told_s: float | None = None
        self._open_camera = open_camera
        self._deliver = deliver
        self._camera: Camera | TrackCamera | None = None
        self._stop = threading.Event()
        self._latest: NDArray[np.uint8] | None = None
        self._step_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"camera {number} ({spec.name})", daemon=True)
        self._thread.start()

    @property
    def identity(self) -> str:
        """What tells the camera from others, over runs too. In doubt it is another one: a number or a path alone is
        given to whatever is plugged in next.
        """
        spec = self.spec
        return f"{spec.kind} {spec.device} {spec.path or spec.address} {self.name}"

    @property
    def ended(self) -> bool:
        """Whether the thread is through, and the device with it."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Ask for the end; harmless when called again."""
        self.told_s = time.monotonic()
        self._stop.set()
        if self._camera is not None:
            self._camera.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; returns whether it came."""
        self._thread.join(timeout_s)
        return self.ended

    def _run(self) -> None:
        try:
            camera = self._open_camera(self.spec)
        except UserError as error:
            self.error = str(error)
            return
        except Exception as error:  # whatever a driver's binding may raise is this camera's failure, not the app's
            log_failure(logger, f"opening {self.spec.name}", error)
            self.error = phrase("{name} cannot be opened: {reason}", name=self.spec.name, reason=sentence(error))
            return
        self._camera = camera
        try:
            self.name, self.format, self.is_device = camera.name, camera.format, camera.is_device
            self._step_s = self.next_s = 1 / camera.format.fps_hz
            while not self._stop.is_set():
                self._take(camera.read())
        except CameraError as error:
            if not self._stop.is_set():
                self.error = str(error)
        except Exception as error:
            log_failure(logger, f"reading {self.name}", error)
            self.error = phrase("{name} failed: {reason}", name=self.name, reason=sentence(error))
        finally:
            camera.close()

    def _take(self, read: NDArray[np.uint8] | Played) -> None:
        now_s = time.monotonic()
        if self._stop.is_set():
            return
        if self.last_frame_s is not None:  # the shorter of two, so that a single halt makes no slow camera
            step_s = now_s - self.last_frame_s
            self._step_s, self.next_s = step_s, min(self._step_s, step_s)
        if isinstance(read, Played):  # a drawing is neither dark nor frozen
            self.changed_s = self.last_frame_s = now_s
            self._deliver(self, read, now_s)
            return
        rgb = read
        if self._latest is None or _differ(rgb, self._latest):
            self._latest, self.changed_s = rgb, now_s
            sampled = np.ascontiguousarray(rgb[_SAMPLED])
            self.flat = int(sampled.max()) - int(sampled.min()) < _FLAT_LEVELS
        self.last_frame_s = now_s
        self._deliver(self, rgb, now_s)


class CameraControl:
    """Supervises cameras on a thread of its own.

    Args:
        deliver: takes every frame of the camera in use, on that camera's thread.
        emit: told what happens.
        open_camera: opens one; blocks as long as the driver does.
        times: how patient to be.
        before: of the run before, whose cameras may hang in a driver still: their devices are waited for.
    """

    def __init__(
        self,
        deliver: Callable[[CameraFrame], None],
        emit: Callable[[Event], None],
        open_camera: Callable[[CameraSpec], Camera | TrackCamera],
        times: CameraTimes | None = None,
        before: "CameraControl | None" = None,
    ) -> None:
        self._deliver = deliver
        self._emit = emit
        self._open_camera = open_camera
        self._times = times or CameraTimes()
        self._wishes: queue.SimpleQueue[tuple[CameraSpec | None, int]] = queue.SimpleQueue()
        self._wish_number = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._frame_id = 0
        self._numbers = 0
        self._active: _Session | None = None
        self._candidate: _Session | None = None
        self._worked: CameraSpec | None = None
        self._dark: _Session | None = None
        self._waiting: tuple[float, CameraSpec] | None = None
        self._old: list[_Session] = []
        self._before = before
        self._backoff_s = self._times.first_retry_s

    def set_camera(self, spec: CameraSpec | None, wish: int) -> None:
        """Wish for a camera, or for none; any thread.

        Args:
            spec: which one.
            wish: number of this wish. Every event carries the number of the newest one that was heard of.
        """
        self._wishes.put((spec, wish))

    def request_stop(self) -> None:
        """Ask `run` to end; any thread."""
        self._stop.set()

    def run(self) -> None:
        """The thread's body; that of the run before has ended."""
        before, self._before = self._before, None
        self._old = [] if before is None else before.hanging()
        try:
            while not self._stop.wait(_WATCH_S):
                while not self._wishes.empty():
                    self._wish(*self._wishes.get())
                self._watch_candidate()
                self._watch_active()
                self._open_what_waits()
        finally:
            self._drop_active()
            self._drop_candidate()
            for session in self._old:
                session.join(_LAST_JOIN_S)

    def left_behind(self) -> list[str]:
        """Cameras that have been told to end and have not, those of runs before included."""
        return [session.name for session in self.hanging()]

    def hanging(self) -> list[_Session]:
        """Likewise, for the control that comes next."""
        older = [] if self._before is None else self._before.hanging()
        return older + [session for session in self._old if not session.ended]

    def _open_what_waits(self) -> None:
        """Open the waiting camera once it is due and our own sessions have released its device, which allows one user.

        A read that never returns never releases it. The device is then opened beside it, for it may be another one by
        now, plugged in again; a few times, and after that the user is told, again and again, until one has returned.
        """
        self._old = [session for session in self._old if not session.ended]
        if self._waiting is None or self._candidate is not None:
            return
        due_s, spec = self._waiting
        now_s = time.monotonic()
        if now_s < due_s:
            return
        if spec.has_one_user:
            users = [session for session in self._old if session.device == spec.key]
            if any(now_s - (session.told_s or now_s) < self._times.release_s for session in users):
                return
            if len(users) >= _MOST_HUNG:
                message = phrase(
                    "{name} does not answer: {users} attempts to read it hang in its driver; {remedy}, or choose "
                    "another camera",
                    name=users[-1].name,
                    users=len(users),
                    remedy=spec.remedy,
                )
                self._try_again(users[-1], message, self._times.longest_retry_s)
                return
        self._waiting = None
        self._numbers += 1
        self._candidate = _Session(self._numbers, spec, self._open_camera, self._take)

    def _take(self, session: _Session, read: NDArray[np.uint8] | Played, now_s: float) -> None:
        """On a session's thread: only the camera in use is heard."""
        with self._lock:
            if session is not self._active:
                return
            played = read if isinstance(read, Played) else None
            rgb = read.rgb if isinstance(read, Played) else read
            frame = CameraFrame(self._frame_id, now_s, rgb, session.device, session.identity, played, session.next_s)
            self._frame_id += 1
        self._deliver(frame)

    def _wish(self, spec: CameraSpec | None, number: int) -> None:
        self._wish_number = number
        self._waiting = None
        self._backoff_s = self._times.first_retry_s
        self._drop_candidate()
        active = self._active
        if spec is None:
            self._worked = None
            self._drop_active()
            return
        if active is not None and active.device == spec.key:
            # One device cannot be opened twice: let go first, and come back to the old way if the new one fails.
            self._drop_active()
        self._waiting = (time.monotonic(), spec)

    def _drop_candidate(self) -> None:
        candidate, self._candidate = self._candidate, None
        self._retire(candidate)

    def _drop_active(self) -> None:
        with self._lock:
            active, self._active = self._active, None
        self._retire(active)

    def _retire(self, session: _Session | None) -> None:
        if session is not None:
            session.stop()
            self._old.append(session)

    def _watch_candidate(self) -> None:
        candidate = self._candidate
        if candidate is None:
            return
        if candidate.last_frame_s is not None and candidate.format is not None:
            self._candidate, self._worked = None, candidate.spec
            with self._lock:
                old, self._active = self._active, candidate
            self._retire(old)
            form = candidate.format
            self._emit(
                CameraOpened(
                    candidate.spec, self._wish_number, candidate.name, form.width_px, form.height_px, form.fps_hz
                )
            )
            return
        waited_s = time.monotonic() - candidate.started_s
        if candidate.error is None and candidate.ended:
            candidate.error = phrase("{name} ended without a frame", name=candidate.name)
        if candidate.error is None and waited_s < self._times.open_s:
            return
        message = candidate.error or (
            phrase(
                "{name} gave no frame within {seconds:g} s: {remedy}, or choose another camera",
                name=candidate.name,
                seconds=self._times.open_s,
                remedy=candidate.spec.remedy,
            )
        )
        self._drop_candidate()
        self._candidate_failed(candidate, message)

    def _candidate_failed(self, candidate: _Session, message: str) -> None:
        if self._active is not None:
            self._fail(candidate, message, kept=self._active.spec, kept_name=self._active.name)
            self._dark = None  # whoever wished for another camera has to hear of this one's darkness anew
        elif self._worked is not None and self._worked != candidate.spec:
            self._fail(candidate, message, kept=self._worked, kept_name=self._worked.name)
            self._waiting = (time.monotonic(), self._worked)
        else:
            self._worked = None
            self._try_again(candidate, message)

    def _try_again(self, failed: _Session, message: str, wait_s: float | None = None) -> None:
        wait_s = self._backoff_s if wait_s is None else wait_s
        self._backoff_s = min(self._times.longest_retry_s, 2 * self._backoff_s)
        self._waiting = (time.monotonic() + wait_s, failed.spec)
        self._fail(failed, message, retry_s=wait_s)

    def _fail(
        self,
        failed: _Session,
        message: str,
        *,
        kept: CameraSpec | None = None,
        kept_name: str = "",
        retry_s: float | None = None,
    ) -> None:
        self._emit(CameraFailed(failed.spec, self._wish_number, failed.name, message, kept, kept_name, retry_s))

    def _watch_active(self) -> None:
        active = self._active
        if active is None or active.last_frame_s is None:
            return
        now_s = time.monotonic()
        frozen = active.is_device and now_s - active.changed_s > self._times.frozen_s
        if active.error is not None or active.ended:
            message = active.error or phrase(
                "{name} has ended; plug it in again, or choose another camera", name=active.name
            )
        elif now_s - active.last_frame_s > (patience_s := max(self._times.stall_s, 2 * active.next_s)):
            message = phrase(
                "{name} has given no frame for {seconds:g} s; it is opened anew. If that does not help, "
                "{remedy}, or choose another camera",
                name=active.name,
                seconds=round(patience_s, 1),
                remedy=active.spec.remedy,
            )
        elif frozen and active.flat:
            self._tell_of_darkness(active)
            return
        elif frozen:
            message = phrase(
                "{name} has given the very same picture for {seconds:g} s: it is frozen and is opened anew. If "
                "that does not help, plug it in again",
                name=active.name,
                seconds=self._times.frozen_s,
            )
        else:
            if self._dark is active and not frozen:
                self._dark = None
                self._emit(CameraLit(active.spec, self._wish_number, active.name))
            return
        if now_s - active.started_s > self._times.healthy_s:
            self._backoff_s = self._times.first_retry_s
        self._drop_active()
        self._worked = None
        if self._candidate is None and self._waiting is None:
            self._try_again(active, message)
        else:
            self._fail(active, message)

    def _tell_of_darkness(self, active: _Session) -> None:
        """A closed shutter gives one flat picture for ever: no reason to open the camera anew."""
        if self._dark is not active:
            self._dark = active
            self._emit(CameraDark(active.spec, self._wish_number, active.name))
